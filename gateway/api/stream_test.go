package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/gatewaytest"
)

// withShell is a server whose router has a tool "shell" too.
func withShell(t *testing.T) *server {
	r, back := gatewaytest.New(t)
	shell := &casemate.Tool{Name: "shell", Description: "Run a command.", Run: casemate.Run{Shell: &casemate.Shell{}},
		Parameters: json.RawMessage(`{"type":"object","properties":{"command":{"type":"string"}},"required":["command"]}`)}
	if err := r.Reload(append(gatewaytest.Tools(), shell), nil); err != nil {
		t.Fatal(err)
	}
	return serve(t, r, back, 0, nil)
}

// An event is one server-sent event.
type event struct {
	name, id, data string
}

// text is what an event of stdout or stderr holds.
func (e event) text(t *testing.T) string {
	t.Helper()
	var p struct {
		Text   *string
		Base64 []byte
	}
	if err := json.Unmarshal([]byte(e.data), &p); err != nil {
		t.Fatalf("%s: %v", e.data, err)
	}
	if p.Text != nil {
		return *p.Text
	}
	return string(p.Base64)
}

// A streaming is an answer that is read event by event.
type streaming struct {
	t    *testing.T
	res  *http.Response
	read *bufio.Scanner
}

func (s *server) stream(ctx context.Context, method, path, body string, headers ...string) *streaming {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { res.Body.Close() })
	in := bufio.NewScanner(res.Body)
	in.Buffer(nil, 4<<20)
	return &streaming{s.t, res, in}
}

// next is the next event; its name is "" at the end.
func (s *streaming) next() (e event) {
	for s.read.Scan() {
		line := s.read.Text()
		switch key, value, _ := strings.Cut(line, ": "); {
		case line == "" && e.name != "":
			return e
		case key == "event":
			e.name = value
		case key == "id":
			e.id = value
		case key == "data":
			e.data = value
		}
	}
	return event{}
}

// rest is what the events up to the outcome print, and the outcome.
func (s *streaming) rest() (printed string, outcome answer) {
	s.t.Helper()
	for {
		e := s.next()
		switch e.name {
		case "stdout", "stderr":
			printed += e.text(s.t)
		case "outcome":
			if err := json.Unmarshal([]byte(e.data), &outcome); err != nil {
				s.t.Fatal(err)
			}
			return printed, outcome
		case "":
			s.t.Fatal("the stream ended without an outcome")
		}
	}
}

func TestStreamedCalls(t *testing.T) {
	s := withShell(t)
	for _, c := range []struct{ body, accept string }{
		{`{"tool":"run","arguments":{"code":"print one\nprint é\nvalue v"}}`, "application/json;q=0.5, text/event-stream"},
		{`{"tool":"run","stream":true,"arguments":{"code":"print one\nprint é\nvalue v"}}`, "*/*"},
	} {
		st := s.stream(t.Context(), "POST", "/v1/calls", c.body, "Accept", c.accept)
		if got := st.res.Header.Get("Content-Type"); got != eventStream {
			t.Fatal(got)
		}
		printed, out := st.rest()
		if printed != "one\né\n" || out.Status != "done" || out.Receipt == "" || out.Receipt != st.res.Header.Get(receiptHeader) {
			t.Errorf("%q %+v", printed, out)
		}
	}
	// Both streams apart, standard input, and bytes that are no text.
	st := s.stream(t.Context(), "POST", "/v1/calls", `{"tool":"shell","stream":true,"stdin":"in\n","arguments":{"command":"cat\nerr bad\nprint x"}}`)
	var names []string
	for e := st.next(); e.name != ""; e = st.next() {
		names = append(names, e.name)
	}
	if fmt.Sprint(names) != "[stdout stderr stdout outcome]" {
		t.Error(names)
	}
	if got := dataOf([]byte("\xff")); got.Text != nil || string(got.Base64) != "\xff" {
		t.Errorf("%+v", got)
	}
	// What is wrong before it began is said by the status.
	if code, body := s.post(`{"tool":"run","stream":true,"session":"a b","arguments":{"code":"x"}}`); code != 400 || !strings.Contains(body, `"status":"invalid"`) {
		t.Errorf("%d %s", code, body)
	}
	// A call that does not exist for its caller ends like any.
	if _, out := s.stream(t.Context(), "POST", "/v1/calls", `{"tool":"nope","stream":true}`).rest(); out.Status != "invalid" {
		t.Errorf("%+v", out)
	}
}

func TestStreamHangUp(t *testing.T) {
	s := withShell(t)
	ctx, hangUp := context.WithCancel(t.Context())
	st := s.stream(ctx, "POST", "/v1/calls", `{"tool":"run","stream":true,"arguments":{"code":"print x\nsleep"}}`)
	if e := st.next(); e.name != "stdout" {
		t.Fatal(e)
	}
	s.back.Asleep(t, 1)
	hangUp()
	s.back.Asleep(t, 0)
}

// get decodes what a path answers.
func (s *server) get(method, path, body string, into any, headers ...string) int {
	s.t.Helper()
	code, got, err := s.do(context.Background(), method, path, body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(got), into); err != nil {
			s.t.Fatalf("%s %s: %d %q: %v", method, path, code, got, err)
		}
	}
	return code
}

func (s *server) begin(body string) jobView {
	s.t.Helper()
	var v jobView
	if code := s.get("POST", "/v1/calls", body, &v); code != 202 || v.Status != "running" && v.Outcome == nil {
		s.t.Fatalf("%s: %d %+v", body, code, v)
	}
	return v
}

// waited is what is known of a background call when it is over.
func (s *server) waited(v jobView) jobView {
	s.t.Helper()
	s.stream(s.t.Context(), "GET", "/v1/calls/"+string(v.Call)+"/output", "").rest()
	s.get("GET", "/v1/calls/"+string(v.Call), "", &v)
	return v
}

func TestBackgroundCalls(t *testing.T) {
	s := withShell(t)
	j := s.begin(`{"tool":"shell","background":true,"stdin":true,"arguments":{"command":"print begun\ncat\nsignal\nprint over"}}`)
	path := "/v1/calls/" + string(j.Call)
	st := s.stream(t.Context(), "GET", path+"/output", "")
	if e := st.next(); e.text(t) != "begun\n" || e.id != "6" {
		t.Fatal(e)
	}
	for _, in := range []string{"one ", "two ", "\xff"} {
		if code := s.get("POST", path+"/stdin", in, &jobView{}); code != 200 {
			t.Fatal(code)
		}
	}
	if code := s.get("POST", path+"/stdin?end=1", "three\n", &jobView{}); code != 200 {
		t.Fatal(code)
	}
	if code := s.get("POST", path+"/stdin", "four", nil); code != 409 {
		t.Errorf("after its end: %d", code)
	}
	if code := s.get("POST", path+"/signal", `{"signal":"SIGTERM"}`, &jobView{}); code != 202 {
		t.Fatal(code)
	}
	printed, out := st.rest()
	if printed != "one two \xffthree\nsignal 15\nover\n" || out.Status != "done" || out.Call != j.Call || out.Result.ExitCode == nil || *out.Result.ExitCode != 0 {
		t.Errorf("%q %+v", printed, out)
	}
	var v jobView
	if code := s.get("GET", path, "", &v); code != 200 || v.Status != "done" || v.Outcome == nil || v.Ended == nil || v.Output.To != int64(6+len(printed)) {
		t.Errorf("%d %+v", code, v)
	}
	// Again from an offset, and as a client does that lost the connection.
	for _, again := range []*streaming{s.stream(t.Context(), "GET", path+"/output?offset=6", ""), s.stream(t.Context(), "GET", path+"/output", "", "Last-Event-ID", "6")} {
		if got, out := again.rest(); got != printed || out.Status != "done" {
			t.Errorf("%q", got)
		}
	}
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/output?offset=999", "", 400},
		{"GET", "/output?offset=-1", "", 400},
		{"GET", "/output?follow=x", "", 400},
		{"POST", "/stdin?end=x", "", 400},
		{"POST", "/signal", `{"signal":"TERM"}`, 409},
		{"POST", "/signal", `{"signal":0}`, 400},
		{"POST", "/signal", `{"signal":32}`, 400},
		{"POST", "/signal", `{"signal":"RTMIN"}`, 400},
		{"POST", "/signal", `{}`, 400},
		{"DELETE", "", "", 200},
		{"PUT", "", "", 405},
	} {
		if got := s.get(c.method, path+c.path, c.body, nil); got != c.want {
			t.Errorf("%s %s %s: %d, want %d", c.method, c.path, c.body, got, c.want)
		}
	}
	var list struct{ Calls []jobView }
	if s.get("GET", "/v1/calls", "", &list); len(list.Calls) != 1 || list.Calls[0].Call != j.Call || list.Calls[0].Outcome != nil {
		t.Errorf("%+v", list)
	}
	for path, body := range map[string]string{"": "", "/output": "", "/stdin": "x", "/signal": `{"signal":"TERM"}`} {
		method := "POST"
		if body == "" {
			method = "GET"
		}
		for _, id := range []string{"c_aaaaaaaaaaaaaaaaaaaaaaaaaa", "x"} {
			if code := s.get(method, "/v1/calls/"+id+path, body, nil); code != 410 {
				t.Errorf("%s: %d", path, code)
			}
		}
		if code := s.get(method, "/v1/calls/"+string(j.Call)+path, body, nil, "Authorization", "Bearer the-token-of-the-reader"); code != 410 {
			t.Errorf("of another caller, %s: %d", path, code)
		}
	}
}

func TestBackgroundCallsAreCancelled(t *testing.T) {
	s := withShell(t)
	sleep := `{"tool":"run","background":true,"session":"s","arguments":{"code":"print x\nsleep"}}`
	one, two := s.begin(sleep), s.begin(sleep)
	s.back.Asleep(t, 2)
	var v jobView
	if code := s.get("DELETE", "/v1/calls/"+string(one.Call), "", &v); code != 200 || v.Status != "cancelled" {
		t.Errorf("%d %+v", code, v)
	}
	s.back.Asleep(t, 1)
	if code := s.get("GET", "/v1/calls/"+string(one.Call)+"/output?follow=0", "", nil); code != 200 {
		t.Error(code)
	}
	if code := s.get("DELETE", "/v1/sessions/s", "", nil); code != 204 {
		t.Error(code)
	}
	if _, out := s.stream(t.Context(), "GET", "/v1/calls/"+string(two.Call)+"/output", "").rest(); out.Status != "cancelled" {
		t.Errorf("after the end of its session: %+v", out)
	}
	s.back.Asleep(t, 0)
	if v := s.begin(sleep); s.waited(v).Status != "gone" {
		t.Error("a call of a session that is gone ran")
	}
	last := s.begin(`{"tool":"run","background":true,"arguments":{"code":"sleep"}}`)
	s.back.Asleep(t, 1)
	s.api.Close()
	if j, err := s.api.jobs.of(gateway.DefaultCaller, string(last.Call)); err != nil || j.view().Status != "cancelled" {
		t.Errorf("after the end of the API: %+v %v", j, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	p := &printed{}
	for i := range 40 {
		p.add(1+i%2, []byte(strings.Repeat(string(rune('a'+i%26)), 100_000)))
	}
	from, to := p.span()
	if to != 4_000_000 || to-from > keptOutput || to-from < keptOutput/2 {
		t.Fatal(from, to)
	}
	one, begins, ok := p.next(t.Context(), 0, false)
	if !ok || begins != from || len(one.data) == 0 {
		t.Error(begins, ok)
	}
	if _, begins, ok := p.next(t.Context(), to, false); ok || begins != to {
		t.Error("there is something behind the end")
	}
	for range 100_000 { // many small parts cost no more than few
		p.add(1, []byte("x"))
	}
	if len(p.parts) > 64 {
		t.Error(len(p.parts))
	}
	for i := range 100_000 { // nor by turns on both streams
		p.add(1+i%2, []byte("x"))
	}
	if len(p.parts) > keptParts {
		t.Error(len(p.parts))
	}
	if from, to := p.span(); to-from < keptParts/2 {
		t.Error(from, to)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go p.end()
	_, to = p.span()
	if _, _, ok := p.next(ctx, to, true); ok || ctx.Err() != nil {
		t.Error("the end wakes nobody")
	}
}

func TestTooManyBackgroundCalls(t *testing.T) {
	j := &jobs{all: map[casemate.CallID]*job{}}
	add := func(owner string, n int) (*job, error) {
		return j.add(&job{id: casemate.CallID(fmt.Sprint(owner, n)), owner: gateway.Caller(owner), over: make(chan struct{})})
	}
	for n := range maxRunning {
		owner := []string{"a", "b"}[n%2]
		if _, err := add(owner, n); err != nil {
			t.Fatal(n, err)
		}
	}
	for _, owner := range []string{"a", "c"} {
		if _, err := add(owner, 1000); casemate.KindOf(err) != casemate.Busy {
			t.Errorf("%s: %v", owner, err)
		}
	}
	for _, o := range j.all {
		o.ended, o.outcome = time.Now(), &answer{}
		close(o.over)
	}
	for n := range 3 * maxJobs {
		o, err := add("a", 2000+n)
		if err != nil {
			t.Fatal(err)
		}
		o.ended, o.outcome = time.Now(), &answer{}
		close(o.over)
	}
	if len(j.all) != maxJobs {
		t.Errorf("%d are kept", len(j.all))
	}
}

// TestOwnIsForgottenFirst: who begins background calls without end makes the API
// forget its own, and no other caller's.
func TestOwnIsForgottenFirst(t *testing.T) {
	s := jobs{all: map[casemate.CallID]*job{}}
	add := func(owner gateway.Caller) *job {
		j := &job{id: gateway.NewCall(), owner: owner, over: make(chan struct{})}
		if _, err := s.add(j); err != nil {
			t.Fatal(err)
		}
		j.outcome, j.ended = &answer{}, time.Now()
		close(j.over)
		s.running.Done()
		return j
	}
	theirs := add("other")
	for range 2 * maxJobs {
		add("greedy")
	}
	if _, err := s.of("other", string(theirs.id)); err != nil {
		t.Error(err)
	}
	if n := len(s.all); n > maxJobs {
		t.Errorf("%d are kept", n)
	}
	for range maxJobs { // of one who has none the oldest goes
		add(gateway.Caller(gateway.NewCall()))
	}
	if n := len(s.all); n > maxJobs {
		t.Errorf("%d are kept", n)
	}
}
