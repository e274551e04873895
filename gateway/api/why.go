package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

// perMinute is how many dry runs a caller may have: with more, a hijacked
// planner could feel its way along the rules.
const perMinute = 60

// A limiter counts the dry runs of each caller in the current minute.
type limiter struct {
	mu     sync.Mutex
	minute int64
	count  map[gateway.Caller]int
}

func (l *limiter) take(c gateway.Caller) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := time.Now().Unix() / 60; l.count == nil || m != l.minute {
		l.minute, l.count = m, map[gateway.Caller]int{}
	}
	l.count[c]++
	return l.count[c] <= perMinute
}

// why says what would be decided about a call: the effect, and an id by which
// the operator finds the reasons in the record.
func (a *API) why(w http.ResponseWriter, r *http.Request) {
	c := gateway.CredentialOf(r.Context())
	tool, session, args, err := readWhy(r)
	if err == nil && !a.asked.take(c.Name) {
		err = &casemate.Error{Op: "why", Kind: casemate.Busy, Err: fmt.Errorf("%d dry runs a minute is the limit of a caller", perMinute), Fix: "try again in a minute"}
	}
	if err != nil {
		fail(w, err)
		return
	}
	d := casemate.Decision{Effect: "deny"}
	t := a.find(c, tool)
	id, err := a.sessions.Peek(c.Name, session)
	switch {
	case t == nil:
		d.Reasons = []string{"there is no such tool for this caller"}
	case err != nil:
		d.Reasons = []string{err.Error()}
	default:
		d = *a.router.Why(r.Context(), casemate.Call{Session: id, Tool: tool, Arguments: args}).Decision
	}
	call := gateway.NewCall()
	rc := casemate.Receipt{Time: time.Now(), Event: "why", Call: call, Tool: casemate.ToolName(strings.ToValidUTF8(string(tool[:min(len(tool), 128)]), "\uFFFD")), Session: id, Decision: &d}
	if t != nil {
		rc.Digest = t.Digest()
	}
	if args != nil {
		sum := sha256.Sum256(args)
		rc.Args = casemate.Digest("sha256:" + hex.EncodeToString(sum[:]))
	}
	if err := a.record(rc); err != nil {
		fail(w, &casemate.Error{Op: "record", Kind: casemate.Internal, Err: err})
		return
	}
	w.Header().Set(receiptHeader, string(call))
	write(w, http.StatusOK, struct {
		ID      casemate.CallID   `json:"id"`
		Receipt casemate.CallID   `json:"receipt"`
		Tool    casemate.ToolName `json:"tool"`
		Effect  string            `json:"effect"` // allow, deny, ask
	}{call, call, tool, d.Effect})
}

// readWhy reads the question: of the query for GET, without arguments, else of
// the body. Without arguments it is about the tool alone.
func readWhy(r *http.Request) (tool casemate.ToolName, session string, args json.RawMessage, err error) {
	const fix = `send {"tool": NAME, "arguments": {…}, "session": NAME}, or GET /v1/why?tool=NAME`
	if r.Method == http.MethodPost {
		err = object(r, fix, map[string]func(json.RawMessage) bool{"tool": word(&tool, 1024), "session": word(&session, 1024), "arguments": arguments(&args)})
	} else {
		tool, session = casemate.ToolName(r.URL.Query().Get("tool")), r.URL.Query().Get("session")
	}
	if err == nil {
		err = sessionOf(r, &session)
	}
	if err == nil && (tool == "" || len(tool) > 1024) {
		err = invalid(fix, "tool: missing, or too long")
	}
	return tool, session, args, err
}
