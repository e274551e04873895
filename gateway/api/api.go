// Package openai serves the tools over plain HTTP, for agents that speak the
// tool calls of the OpenAI API and not MCP:
//
//	GET    /v1/tools            the tools as OpenAI functions
//	POST   /v1/calls            run one
//	DELETE /v1/sessions/{name}  end a session, with its running calls
//
// A call is {"tool": NAME, "arguments": {…}, "session": NAME}; arguments may
// be the JSON text that the API hands out, as a string. The session may be
// named by the Casemate-Session header instead; without any, the call has one
// of its own. Any other key is refused: a key that was ignored would be
// believed.
//
// The answer is the outcome with a status: done, or the kind of the error. The
// HTTP status says the same coarsely: 200 when the tool ran, however it ended.
// What the planner must not know is left out; see gateway.PlannerError. The
// call ends when the client hangs up.
package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

// Handler serves /v1/, behind the door of package gateway.
func Handler(r gateway.Router, sessions *gateway.Sessions) http.Handler {
	h := &handler{r, sessions}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/tools", h.tools)
	mux.HandleFunc("POST /v1/calls", h.call)
	mux.HandleFunc("DELETE /v1/sessions/{name}", h.end)
	return mux
}

type handler struct {
	router   gateway.Router
	sessions *gateway.Sessions
}

type function struct {
	Name        casemate.ToolName `json:"name"`
	Description string            `json:"description,omitempty"`
	Parameters  json.RawMessage   `json:"parameters"`
	Strict      bool              `json:"strict"`
}

func (h *handler) tools(w http.ResponseWriter, _ *http.Request) {
	type item struct {
		Type     string   `json:"type"`
		Function function `json:"function"`
	}
	list := struct {
		Object string `json:"object"`
		Data   []item `json:"data"`
	}{"list", []item{}}
	for _, t := range h.router.Tools() {
		list.Data = append(list.Data, item{"function", function{t.Name, t.Description, t.Parameters, Strict(t.Parameters)}})
	}
	write(w, http.StatusOK, list)
}

// An answer is what a caller learns of a call.
type answer struct {
	Status  string              `json:"status"` // done, or the kind of the error
	Call    casemate.CallID     `json:"call,omitempty"`
	Tool    casemate.ToolName   `json:"tool,omitempty"`
	Backend string              `json:"backend,omitempty"`
	Result  *casemate.Result    `json:"result,omitempty"`
	Error   *casemate.ErrorJSON `json:"error,omitempty"`
	Usage   *casemate.UsageJSON `json:"usage,omitempty"`
	Changes []casemate.Change   `json:"changes,omitempty"` // without paths of the host
	Label   *casemate.Label     `json:"label,omitempty"`
}

func (h *handler) call(w http.ResponseWriter, r *http.Request) {
	c, name, err := request(r)
	if err != nil {
		fail(w, err)
		return
	}
	session, release, err := h.sessions.Use(gateway.CallerOf(r.Context()), name)
	if err != nil {
		fail(w, err)
		return
	}
	defer release()
	c.Session = session
	o := h.router.Call(r.Context(), c)
	a := answer{Status: "done", Call: o.Call, Tool: o.Tool, Backend: o.Backend, Result: o.Result, Error: gateway.PlannerError(o.Error), Usage: o.Usage, Label: o.Label}
	for _, ch := range o.Changes {
		a.Changes = append(a.Changes, casemate.Change{Path: ch.Path, Did: ch.Did, Why: ch.Why})
	}
	if a.Error != nil {
		a.Status = string(a.Error.Kind)
	}
	write(w, httpStatus(a.Error), a)
}

func invalid(format string, a ...any) error {
	return &casemate.Error{Op: "request", Kind: casemate.Invalid, Err: fmt.Errorf(format, a...),
		Fix: `send {"tool": NAME, "arguments": {…}, "session": NAME} with Content-Type: application/json`}
}

// request reads the one JSON object that a call is.
func request(r *http.Request) (c casemate.Call, session string, err error) {
	if t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(t), "application/json") {
		return c, "", invalid("the Content-Type is not application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, gateway.MaxBody+1))
	if err != nil || len(body) > gateway.MaxBody {
		return c, "", invalid("the body could not be read")
	}
	if err := gateway.Check(body); err != nil {
		return c, "", invalid("%w", err)
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		return c, "", invalid("the body is not an object")
	}
	var tool string
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		raw, ok := fields[key], true
		switch key {
		case "tool":
			tool, ok = text(raw)
		case "session":
			session, ok = text(raw)
			ok = ok && session != ""
		case "arguments":
			c.Arguments, ok = arguments(raw)
		default:
			return c, "", invalid("%.64q: there is no such key", key)
		}
		if !ok {
			return c, "", invalid("%s: it is of the wrong type, or empty", key)
		}
	}
	if tool == "" {
		return c, "", invalid("tool: missing")
	}
	c.Tool = casemate.ToolName(tool)
	if c.Arguments == nil {
		c.Arguments = json.RawMessage("{}")
	}
	if hs := r.Header.Values(gateway.SessionHeader); len(hs) > 0 {
		if len(hs) > 1 || hs[0] == "" || session != "" && session != hs[0] {
			return c, "", invalid("session: the %s header and the body name different sessions, or none", gateway.SessionHeader)
		}
		session = hs[0]
	}
	return c, session, nil
}

func text(raw json.RawMessage) (s string, ok bool) {
	return s, raw[0] == '"' && json.Unmarshal(raw, &s) == nil
}

// arguments are an object, or, as the OpenAI API has it, its JSON text. What
// is in the text is checked like the body.
func arguments(raw json.RawMessage) (json.RawMessage, bool) {
	if s, ok := text(raw); ok {
		raw = json.RawMessage(strings.TrimSpace(s))
		if gateway.Check(raw) != nil {
			return nil, false
		}
	}
	return raw, raw[0] == '{'
}

func (h *handler) end(w http.ResponseWriter, r *http.Request) {
	if !h.sessions.End(gateway.CallerOf(r.Context()), r.PathValue("name")) {
		fail(w, &casemate.Error{Op: "session", Kind: casemate.Gone, Err: errors.New("there is no such session of yours")})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func httpStatus(e *casemate.ErrorJSON) int {
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
	case casemate.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusOK // the tool ran: timeout, killed-by-limit, tool-failed, cancelled
}

func fail(w http.ResponseWriter, err error) {
	e := gateway.PlannerError(casemate.JSON(err))
	write(w, httpStatus(e), answer{Status: string(e.Kind), Error: e})
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(v) // an error means that the client is gone
}
