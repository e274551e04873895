package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

func (a *API) start(w http.ResponseWriter, c gateway.Credential, t *casemate.Tool, q *request) {
	j, err := a.begin(c, t, q)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Location", "/v1/calls/"+string(j.id))
	a.seen(w, http.StatusAccepted, j)
}

// seen answers with what is known of a background call.
func (a *API) seen(w http.ResponseWriter, status int, j *job) {
	v := j.view()
	w.Header().Set(receiptHeader, string(v.Receipt))
	write(w, status, v)
}

// job finds the background call of a request, or answers.
func (a *API) job(w http.ResponseWriter, r *http.Request) *job {
	j, err := a.jobs.of(gateway.CallerOf(r.Context()), r.PathValue("id"))
	if err != nil {
		fail(w, err)
	}
	return j
}

func (a *API) listCalls(w http.ResponseWriter, r *http.Request) {
	list := struct {
		Calls []jobView `json:"calls"`
	}{[]jobView{}}
	for _, j := range a.jobs.list(gateway.CallerOf(r.Context())) {
		v := j.view()
		v.Outcome = nil // each is as large as a result may be
		list.Calls = append(list.Calls, v)
	}
	write(w, http.StatusOK, list)
}

func (a *API) getCall(w http.ResponseWriter, r *http.Request) {
	if j := a.job(w, r); j != nil {
		a.seen(w, http.StatusOK, j)
	}
}

// cancelCall kills a background call and answers when nothing of it is left.
func (a *API) cancelCall(w http.ResponseWriter, r *http.Request) {
	j := a.job(w, r)
	if j == nil {
		return
	}
	j.cancel()
	select {
	case <-j.over:
		a.seen(w, http.StatusOK, j)
	case <-r.Context().Done():
	}
}

// output sends what a background call prints, from an offset on: what is kept
// of it, and what comes until it is over, unless follow=0.
func (a *API) output(w http.ResponseWriter, r *http.Request) {
	j := a.job(w, r)
	if j == nil {
		return
	}
	at, follow, err := whence(r)
	if _, to := j.printed.span(); err == nil && at > to {
		err = invalid("ask for less", "offset: %d bytes were printed", to)
	}
	if err != nil {
		fail(w, err)
		return
	}
	s := newEvents(w)
	s.receipt(string(j.id))
	defer s.keep()()
	for {
		one, begins, ok := j.printed.next(r.Context(), at, follow)
		if begins > at && s.send("lost", strconv.FormatInt(begins, 10), span{at, begins}) != nil {
			return
		}
		if !ok {
			break
		}
		at = begins + int64(len(one.data))
		if s.send(nameOf(one.stream), strconv.FormatInt(at, 10), dataOf(one.data)) != nil {
			return
		}
	}
	if r.Context().Err() != nil {
		return
	}
	if !follow && j.running() {
		s.write([]byte(": more comes\n\n"))
		return
	}
	<-j.over // its output is
	s.send("outcome", "", j.view().Outcome)
}

// whence reads where a stream begins, from the query, or where a client that
// lost the connection goes on, and whether it waits for more.
func whence(r *http.Request) (at int64, follow bool, err error) {
	q := r.URL.Query()
	s := r.Header.Get("Last-Event-ID")
	if q.Has("offset") {
		s = q.Get("offset")
	}
	if s != "" {
		if at, err = strconv.ParseInt(s, 10, 64); err != nil || at < 0 {
			return 0, false, invalid("send a number of bytes", "offset: %.32q is none", s)
		}
	}
	switch q.Get("follow") {
	case "", "1":
		return at, true, nil
	case "0":
		return at, false, nil
	}
	return 0, false, invalid("send 0 or 1", "follow: it is neither 0 nor 1")
}

// stdin hands bytes to a background call, and blocks until its guest has
// taken them, or the call is over.
func (a *API) stdin(w http.ResponseWriter, r *http.Request) {
	j := a.job(w, r)
	if j == nil {
		return
	}
	closed := conflict(`begin a call with "background": true and "stdin": true`, "its standard input is not open")
	if j.input == nil {
		fail(w, closed)
		return
	}
	end := r.URL.Query().Get("end")
	if end != "" && end != "0" && end != "1" {
		fail(w, invalid("send 0 or 1", "end: it is neither 0 nor 1"))
		return
	}
	select {
	case j.input.turn <- struct{}{}:
		defer func() { <-j.input.turn }()
	case <-j.over:
		fail(w, closed)
		return
	case <-r.Context().Done():
		return
	}
	n, err := io.Copy(j.input.write, r.Body)
	switch {
	case errors.Is(err, errOver), errors.Is(err, io.ErrClosedPipe):
		fail(w, closed)
		return
	case err != nil:
		fail(w, invalid("send it again from there", "the body could not be read after %d bytes, which were taken", n))
		return
	}
	if end == "1" {
		j.input.write.Close()
	}
	a.seen(w, http.StatusOK, j)
}

// signals are those that may be sent, by name.
var signals = []string{"HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
	"STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS"}

func readSignal(to *int) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		if s, ok := text(raw); ok {
			s = strings.TrimPrefix(s, "SIG")
			for i, name := range signals {
				if name == s {
					*to = i + 1
				}
			}
			return *to > 0
		}
		return json.Unmarshal(raw, to) == nil && *to >= 1 && *to <= len(signals)
	}
}

// signal sends a signal to the processes of a background call. It does not
// wait for its effect.
func (a *API) signal(w http.ResponseWriter, r *http.Request) {
	j := a.job(w, r)
	if j == nil {
		return
	}
	const fix = `send {"signal": "TERM"}, or a number from 1 to 31`
	var e casemate.Event
	err := object(r, fix, map[string]func(json.RawMessage) bool{"signal": readSignal(&e.Signal)})
	switch {
	case err != nil:
	case e.Signal == 0:
		err = invalid(fix, "signal: missing")
	case j.events == nil:
		err = conflict("DELETE the call to end it", "only an exec or shell tool gets signals")
	case !j.running():
		err = conflict("GET the call: its outcome is there", "the call is over")
	default:
		select {
		case j.events <- e:
		default:
			err = &casemate.Error{Op: "signal", Kind: casemate.Busy, Err: fmt.Errorf("%d signals wait for it", cap(j.events)), Fix: "DELETE the call to end it"}
		}
	}
	if err != nil {
		fail(w, err)
		return
	}
	a.seen(w, http.StatusAccepted, j)
}
