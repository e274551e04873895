// Package api is the HTTP API that SDKs and agents stand on which do not speak
// MCP. It is served behind the door of package gateway; openapi.json describes
// every route and is served with them.
//
//	GET    /v1/tools                    the caller's tools as OpenAI functions
//	POST   /v1/calls                    run one: answered, streamed, or in the background
//	GET    /v1/calls                    the caller's background calls
//	GET    /v1/calls/{id}               one of them
//	DELETE /v1/calls/{id}               cancel it
//	GET    /v1/calls/{id}/output        what it prints, as events
//	POST   /v1/calls/{id}/stdin         bytes for its standard input
//	POST   /v1/calls/{id}/signal        a signal for its processes
//	POST   /v1/sessions                 begin one
//	GET    /v1/sessions                 the caller's
//	GET    /v1/sessions/{id}            one of them
//	DELETE /v1/sessions/{id}            end it, with its running calls
//	GET    /v1/sessions/{id}/files      read a file, list a folder, or say what a file is
//	HEAD   /v1/sessions/{id}/files      say what a file is
//	PUT    /v1/sessions/{id}/files      write a file
//	DELETE /v1/sessions/{id}/files      remove one
//	POST   /v1/sessions/{id}/files      many of these at once
//	GET    /v1/why, POST /v1/why        what would be decided
//	GET    /v1/openapi.json             the description of all this
//
// # Calls
//
// A call is {"tool": NAME, "arguments": {…}, "session": NAME}; arguments may
// be the JSON text that the OpenAI API hands out, as a string. The session may
// be named by the Casemate-Session header instead; without any, the call has
// one of its own. Any other key is refused: a key that was ignored would be
// believed.
//
// With "key" the session runs the call once: the same key again, with the same
// tool and arguments, returns the recorded outcome; with others it is a
// conflict (409); and where nobody knows whether it ran, it answers unknown
// (409) and is never run again.
//
// The answer is the outcome with a status: done, or the kind of the error. The
// HTTP status says the same coarsely: 200 when the tool ran, however it ended.
// What a planner must not know is left out: the reasons of a decision, and what
// gateway.PlannerError and the folders of the host would tell. The call ends
// when the client hangs up.
//
// # Callers
//
// A tool that the credential of a request may not call does not exist for it.
// Sessions, background calls and their output are private to the caller.
//
// # Limits
//
// Background calls: 64 run at once, 32 of one caller; 128 are kept, running or
// over, for an hour; of each the last MiB of what it printed. Files: 256 in one
// request, whose answer holds 8 MiB of them; one alone has no bound but the
// sandbox's, and must be through within its tool's timeout; what was asked of a
// file is done though the client hangs up, but an upload that breaks off leaves
// no file. Dry runs: 60 a minute for each caller. An event is written within
// 30 seconds, or its stream ends, and the call with it.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/router"
)

// A Router is what the API needs of the router.
type Router interface {
	gateway.Router

	// Why decides about a call without running it.
	Why(context.Context, casemate.Call) *router.Why
}

// An API serves /v1/.
type API struct {
	ctx      context.Context // of background calls
	cancel   context.CancelFunc
	router   Router
	sessions *gateway.Sessions
	record   func(casemate.Receipt) error
	mux      *http.ServeMux
	jobs     jobs
	asked    limiter
}

// New makes the API; record keeps its dry runs. It must be closed.
func New(r Router, sessions *gateway.Sessions, record func(casemate.Receipt) error) *API {
	a := &API{router: r, sessions: sessions, record: record, mux: http.NewServeMux()}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.jobs.all = map[casemate.CallID]*job{}
	for pattern, rt := range a.routes() {
		a.mux.HandleFunc(pattern, strictly(rt))
	}
	return a
}

// Close cancels the background calls, and returns when they are over.
func (a *API) Close() {
	a.cancel()
	a.jobs.close()
}

// A route is served by one handler, and has these query parameters beside
// context, which the door reads.
type route struct {
	serve http.HandlerFunc
	query []string
}

// routes is every route; openapi.json has the same.
func (a *API) routes() map[string]route {
	file := []string{"path", "tool"}
	return map[string]route{
		"GET /v1/tools":                  {a.tools, nil},
		"POST /v1/calls":                 {a.call, nil},
		"GET /v1/calls":                  {a.listCalls, nil},
		"GET /v1/calls/{id}":             {a.getCall, nil},
		"DELETE /v1/calls/{id}":          {a.cancelCall, nil},
		"GET /v1/calls/{id}/output":      {a.output, []string{"offset", "follow"}},
		"POST /v1/calls/{id}/stdin":      {a.stdin, []string{"end"}},
		"POST /v1/calls/{id}/signal":     {a.signal, nil},
		"POST /v1/sessions":              {a.newSession, nil},
		"GET /v1/sessions":               {a.listSessions, nil},
		"GET /v1/sessions/{id}":          {a.getSession, nil},
		"DELETE /v1/sessions/{id}":       {a.endSession, nil},
		"GET /v1/sessions/{id}/files":    {a.getFile, append([]string{"list", "stat"}, file...)},
		"HEAD /v1/sessions/{id}/files":   {a.statFile, file},
		"PUT /v1/sessions/{id}/files":    {a.putFile, file},
		"DELETE /v1/sessions/{id}/files": {a.removeFile, file},
		"POST /v1/sessions/{id}/files":   {a.manyFiles, []string{"tool"}},
		"GET /v1/why":                    {a.why, []string{"tool", "session"}},
		"POST /v1/why":                   {a.why, nil},
		"GET /v1/openapi.json":           {describe, nil},
	}
}

// strictly serves a route whose query has only what it knows, each once.
func strictly(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			fail(w, invalid("escape it", "the query cannot be read"))
			return
		}
		for key, values := range q {
			if key != "context" && !slices.Contains(rt.query, key) || len(values) > 1 {
				fail(w, invalid("GET /v1/openapi.json describes every route", "query: %.64q is not known here, or is there twice", key))
				return
			}
		}
		rt.serve(w, r)
	}
}

// Streams says whether the body of a request is read as it comes, and not by
// the door: of standard input, of a form, and of a file that is larger than the
// door's bound, or of unknown length.
func Streams(r *http.Request) bool {
	switch {
	case !strings.HasPrefix(r.URL.Path, "/v1/"):
		return false
	case r.Method == http.MethodPut:
		return strings.HasSuffix(r.URL.Path, "/files") && (r.ContentLength < 0 || r.ContentLength > gateway.MaxBody)
	case r.Method == http.MethodPost:
		return strings.HasSuffix(r.URL.Path, "/stdin") || strings.HasSuffix(r.URL.Path, "/files") && mediaType(r) == "multipart/form-data"
	}
	return false
}

// ServeHTTP serves one request that passed the door.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, pattern := a.mux.Handler(r)
	if pattern == "" || r.Method == http.MethodHead && !strings.HasPrefix(pattern, http.MethodHead) {
		no := &refusal{header: http.Header{}, status: http.StatusMethodNotAllowed}
		if pattern == "" {
			h.ServeHTTP(no, r)
		}
		if allow := no.header.Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
		}
		e := casemate.Error{Op: "request", Kind: casemate.Invalid, Err: fmt.Errorf("there is no %s %.200q", r.Method, r.URL.Path), Fix: "GET /v1/openapi.json describes every route"}
		write(w, no.status, answer{Status: string(e.Kind), Error: problemOf(casemate.JSON(&e))})
		return
	}
	a.mux.ServeHTTP(w, r)
}

// A refusal learns the status by which the mux refuses.
type refusal struct {
	header http.Header
	status int
}

func (n *refusal) Header() http.Header         { return n.header }
func (n *refusal) Write(b []byte) (int, error) { return len(b), nil }
func (n *refusal) WriteHeader(status int)      { n.status = status }

// find returns the tool of that name where the caller may call it, else nil.
func (a *API) find(c gateway.Credential, name casemate.ToolName) *casemate.Tool {
	for _, t := range a.router.Tools() {
		if t.Name == name && c.May(name) {
			return t
		}
	}
	return nil
}

// httpStatus is what an error of a call is to HTTP: 200 where the tool ran.
func httpStatus(e *problem) int {
	if e == nil {
		return http.StatusOK
	}
	switch e.Kind {
	case casemate.Invalid:
		return http.StatusBadRequest
	case casemate.Denied:
		return http.StatusForbidden
	case casemate.Unsupported:
		return http.StatusNotImplemented
	case casemate.Busy:
		return http.StatusTooManyRequests
	case casemate.Gone:
		return http.StatusGone
	case casemate.Conflict, casemate.Unknown:
		return http.StatusConflict
	case casemate.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusOK // the tool ran: timeout, killed-by-limit, tool-failed, cancelled
}

// fail answers a request that became no call.
func fail(w http.ResponseWriter, err error) {
	a := failure(err)
	answered(w, httpStatus(a.Error), a)
}

func failure(err error) answer {
	e := problemOf(gateway.PlannerError(casemate.JSON(err)))
	return answer{Status: string(e.Kind), Error: e}
}

func invalid(fix, format string, a ...any) error {
	return &casemate.Error{Op: "request", Kind: casemate.Invalid, Err: fmt.Errorf(format, a...), Fix: fix}
}

func conflict(fix, what string) error {
	return &casemate.Error{Op: "request", Kind: casemate.Conflict, Err: errors.New(what), Fix: fix}
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(v) // an error means that the client is gone
}
