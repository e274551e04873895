package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

// receiptHeader carries what the record of a call is found by.
const receiptHeader = "Casemate-Receipt"

// An answer is what a caller learns of a call.
type answer struct {
	Status   string              `json:"status"` // done, running, or the kind of the error
	Call     casemate.CallID     `json:"call,omitempty"`
	Receipt  string              `json:"receipt,omitempty"`
	Tool     casemate.ToolName   `json:"tool,omitempty"`
	Backend  string              `json:"backend,omitempty"`
	Decision *decision           `json:"decision,omitempty"`
	Result   *casemate.Result    `json:"result,omitempty"`
	Error    *problem            `json:"error,omitempty"`
	Enforced *casemate.Enforced  `json:"enforced,omitempty"`
	Usage    *casemate.UsageJSON `json:"usage,omitempty"`
	Changes  []casemate.Change   `json:"changes,omitempty"` // without paths of the host
	Label    *casemate.Label     `json:"label,omitempty"`
}

// A decision is one without its reasons, which are the operator's.
type decision struct {
	Effect string `json:"effect"`
}

// A problem is an error, and of files which.
type problem struct {
	casemate.ErrorJSON
	Code string `json:"code,omitempty"`
}

func problemOf(e *casemate.ErrorJSON) *problem {
	if e == nil {
		return nil
	}
	return &problem{ErrorJSON: *e}
}

func answerOf(o *casemate.Outcome) answer {
	a := answer{Status: "done", Call: o.Call, Receipt: cmp.Or(o.Receipt, string(o.Call)), Tool: o.Tool, Backend: o.Backend, Result: o.Result,
		Error: problemOf(gateway.PlannerError(o.Error)), Enforced: o.Enforced, Usage: o.Usage, Label: o.Label}
	if o.Decision != nil {
		a.Decision = &decision{o.Decision.Effect}
	}
	for _, ch := range o.Changes {
		a.Changes = append(a.Changes, casemate.Change{Path: ch.Path, Did: ch.Did, Why: ch.Why})
	}
	if a.Error != nil {
		a.Status = string(a.Error.Kind)
	}
	return a
}

// answered answers with what became of a call.
func answered(w http.ResponseWriter, status int, a answer) {
	if a.Receipt != "" {
		w.Header().Set(receiptHeader, a.Receipt)
	}
	if a.Error != nil && a.Error.Kind == casemate.Busy {
		w.Header().Set("Retry-After", "1")
	}
	write(w, status, a)
}

func (a *API) call(w http.ResponseWriter, r *http.Request) {
	q, err := readCall(r)
	if err != nil {
		fail(w, err)
		return
	}
	c := gateway.CredentialOf(r.Context())
	t := a.find(c, q.Tool)
	switch {
	case q.background && t != nil:
		a.start(w, c, t, q)
	case q.stream:
		a.stream(w, r, t, q)
	default:
		o, err := a.run(r.Context(), c, q)
		if err != nil {
			fail(w, err)
			return
		}
		ans := answerOf(o)
		answered(w, httpStatus(ans.Error), ans)
	}
}

// run runs one call in the session that its caller names, and blocks until it
// is over. An error means that there is no such session.
func (a *API) run(ctx context.Context, c gateway.Credential, q *request) (*casemate.Outcome, error) {
	id, release, err := a.sessions.Use(c.Name, q.session)
	if err != nil {
		return nil, err
	}
	defer release()
	q.Session, q.Settle = id, true // it tells what was used
	t := a.find(c, q.Tool)
	if t == nil && !c.All() {
		return a.hidden(ctx, q.Call), nil
	}
	if t != nil && q.session != "" && t.Security.Scope == casemate.ScopeSession {
		a.sessions.Called(c.Name, q.session, t.Name)
	}
	return a.router.Call(ctx, q.Call), nil
}

// hidden is the outcome of a call of a tool that does not exist for its
// caller, whether it does for others or not. It is recorded under a name that
// no tool can have.
func (a *API) hidden(ctx context.Context, c casemate.Call) *casemate.Outcome {
	o := a.router.Call(ctx, casemate.Call{ID: c.ID, Session: c.Session, Tool: "not listed: " + c.Tool, Arguments: c.Arguments})
	o.Tool = c.Tool
	if o.Error != nil && o.Error.Kind == casemate.Invalid {
		o.Error = casemate.JSON(&casemate.Error{Op: "call", Kind: casemate.Invalid, Err: fmt.Errorf("there is no tool %.80q", c.Tool), Fix: "GET /v1/tools lists them"})
	}
	return o
}

// stream runs a call and sends what it prints as it comes; the tool of an MCP
// server prints nothing.
func (a *API) stream(w http.ResponseWriter, r *http.Request, t *casemate.Tool, q *request) {
	q.ID = gateway.NewCall()
	s := newEvents(w)
	if t != nil && t.Run.MCP == nil {
		q.Output = func(stream int, b []byte) error {
			s.receipt(string(q.ID))
			err := s.print(stream, b)
			if q.Key != "" {
				return nil // others may wait for the same call; it ends when all hang up
			}
			return err
		}
	}
	defer s.close()
	defer s.keep()()
	o, err := a.run(r.Context(), gateway.CredentialOf(r.Context()), q)
	if err != nil {
		s.fail(err)
		return
	}
	ans := answerOf(o)
	s.receipt(ans.Receipt)
	s.send("outcome", "", ans) // an error means that the client is gone
}
