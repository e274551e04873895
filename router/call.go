package router

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/nearest"
)

// A call is one call in flight.
type call struct {
	casemate.Call
	r       *Router
	cancel  context.CancelCauseFunc
	since   time.Time
	session *session
	tool    *tool
	pairs   []guest.Pair
	seat    *seat
	args    casemate.Digest
	inputs  []casemate.InputJSON
	out     *casemate.Outcome
	passed  hash.Hash // of a result that goes to Stream

	unstarted bool // no guest could be had for it, so that nothing of it ran
	intended  bool // its intent is recorded, or handed over to be
	refused   bool // the record was, so that nothing of it ran
	intent    *posted
	ending    *live // its guest, which ends after the caller has its answer
}

// Call runs one call and blocks until it is over. Cancelling ctx kills its
// sandbox, or, where that serves others too, tells the MCP server. It never
// returns nil.
func (r *Router) Call(ctx context.Context, c casemate.Call) *casemate.Outcome {
	c.Tool = casemate.ToolName(strings.ToValidUTF8(cut(string(c.Tool), 128), "\uFFFD"))
	c.Method = strings.ToValidUTF8(cut(c.Method, 128), "\uFFFD")
	if c.Key != "" {
		return r.callOnce(ctx, c)
	}
	return r.call(ctx, c).out
}

func (r *Router) call(ctx context.Context, c casemate.Call) *call {
	if c.ID == "" {
		c.ID = casemate.CallID(newID("c_"))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	k := &call{Call: c, r: r, cancel: cancel, since: time.Now(), out: &casemate.Outcome{Call: c.ID, Tool: c.Tool}}
	if err := r.enter(k); err != nil {
		err.Call = c.ID
		k.out.Error = casemate.JSON(err)
		r.mu.Lock()
		r.tally(k)
		r.mu.Unlock()
		return k
	}
	defer r.leave(k)
	err := k.do(ctx)
	if k.stale(err) {
		k.unstarted = false
		err = k.do(ctx) // once: with the tool that there is now
	}
	k.finish(err)
	return k
}

// stale says whether a call failed only because its tool was changed after it
// was looked up: no guest had any of it.
func (k *call) stale(err error) bool {
	if kind := casemate.KindOf(err); err == nil || !k.unstarted || kind != casemate.Denied && kind != casemate.Gone {
		return false
	}
	k.r.mu.Lock()
	defer k.r.mu.Unlock()
	t := k.r.tools[k.Tool]
	if k.tool.base() {
		t = k.r.tools[serverName(k.Tool)]
	}
	return t != nil && t.digest != k.tool.digest
}

// enter lets a call in, or says why not. Calls that are turned away here cost
// nothing, not even a record.
func (r *Router) enter(k *call) *casemate.Error {
	if !validID(k.ID) {
		k.out.Call, k.ID = "", ""
		return &casemate.Error{Op: "call", Kind: casemate.Invalid, Err: errors.New("the call's id is not \"c_\" and 26 of a-z2-7"), Fix: "leave it out"}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if k.Session != "" {
		if k.session = r.sessions[k.Session]; k.session == nil {
			return gone(k.Session)
		}
	}
	if err := r.room(k.bytes(), k.session != nil && k.session.busy == 0); err != nil {
		return err
	}
	if r.inflight[k.ID] != nil {
		return &casemate.Error{Op: "call", Kind: casemate.Invalid, Err: errors.New("a call with this id is running"), Fix: "leave the id out"}
	}
	r.inflight[k.ID] = k
	r.bytes += int64(k.bytes())
	if k.session != nil {
		k.session.busy++
		k.session.used = time.Now()
	}
	r.calls.Add(1)
	return nil
}

// crowded says whether n calls are too many for one more, of which the bound is
// most. One that is alone, the only call of its session, finds some room that the
// many calls of another cannot take.
func crowded(n, most int, alone bool) bool {
	return n >= 2*most || n >= most && !alone
}

// room says whether one more call fits in; r.mu is held.
func (r *Router) room(bytes int, alone bool) *casemate.Error {
	busy := func(format string, a ...any) *casemate.Error {
		return &casemate.Error{Op: "call", Kind: casemate.Busy, Err: fmt.Errorf(format, a...), Fix: "try again when some are over"}
	}
	if r.closed {
		return closedError()
	}
	if most := waitingInAll * r.cfg.Concurrency; crowded(len(r.inflight), most, alone) {
		return busy("%d calls run or wait, which is the limit", most)
	}
	if r.bytes+int64(bytes) > maxBytes {
		return busy("the arguments of the calls in flight are %s, which is the limit", size(maxBytes))
	}
	return nil
}

func validID(id casemate.CallID) bool {
	rest, ok := strings.CutPrefix(string(id), "c_")
	return ok && len(rest) == 26 && strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

func (r *Router) leave(k *call) {
	r.mu.Lock()
	r.tally(k)
	delete(r.inflight, k.ID)
	r.bytes -= int64(k.bytes())
	if k.session != nil {
		k.session.busy--
		k.session.used = time.Now()
	}
	r.mu.Unlock()
	r.calls.Done()
}

// do takes the call all the way, and returns what it ended with; the outcome
// but its error is filled in as it becomes known.
func (k *call) do(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &casemate.Error{Op: "call", Tool: k.Tool, Call: k.ID, Kind: casemate.Internal, Err: errors.New("a fault of the router ended the call"), Fix: "report it, with the record of the call"}
		}
	}()
	r := k.r
	if k.tool, err = r.lookup(k.Tool, k.Method != ""); err != nil {
		return err
	}
	if k.tool.refused == nil { // what cannot run is not looked at
		if k.pairs, err = k.tool.prepare(k.Call); err != nil {
			return err
		}
		sum := sha256.Sum256(k.Arguments)
		k.inputs = inputDigests(k.Inputs)
		k.args = casemate.Digest("sha256:" + hex.EncodeToString(sum[:]))
		k.out.Backend = k.tool.backend.Name()
	}
	if err := k.decide(); err != nil {
		return err
	}
	defer k.unbook()
	if err := k.intend(); err != nil {
		return err
	}
	if k.seat != nil && k.seat.many == nil {
		if err := await(ctx, k.seat.turn, k.Tool, "its guest, which serves one call of a session at a time"); err != nil {
			return err
		}
		r.seize(k.seat)
		defer r.release(k.seat)
	}
	for _, slots := range [...]*gate{k.tool.counts.slots, r.slots} {
		if err := slots.enter(ctx, k.Session, k.Tool); err != nil {
			return err
		}
		defer slots.leave()
	}
	if k.tool.Run.MCP != nil {
		return k.ask(ctx)
	}
	return k.run(ctx)
}

// decide asks for the decision, and books the call where it is allowed.
func (k *call) decide() error {
	r := k.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if k.session != nil && r.sessions[k.Session] != k.session {
		return gone(k.Session)
	}
	d, err := r.decide(k.tool, k.session, k.pairs)
	k.out.Decision = d
	if err != nil {
		return err
	}
	r.book(k.tool, k.session)
	if k.seat = r.seatOf(k.tool, k.session); k.seat != nil {
		k.seat.inside++
	}
	return nil
}

func (k *call) unbook() {
	k.r.mu.Lock()
	defer k.r.mu.Unlock()
	k.tool.counts.inside--
	if k.seat != nil {
		k.seat.inside--
	}
}

// lookup returns the tool, or the MCP server, of that name; the error names
// the nearest.
func (r *Router) lookup(name casemate.ToolName, server bool) (*tool, error) {
	r.mu.Lock()
	tools := r.tools // never changed, only replaced
	r.mu.Unlock()
	key := name
	if server {
		key = serverName(name)
	}
	if t := tools[key]; t != nil && t.base() == server {
		return t, nil
	}
	names := make([]string, 0, len(tools))
	for _, t := range tools {
		if t.base() == server {
			names = append(names, string(t.Name))
		}
	}
	slices.Sort(names)
	if server {
		return nil, &casemate.Error{Op: "call", Kind: casemate.Invalid, Err: fmt.Errorf("no MCP server is called %s", quote(string(name))), Fix: "name a server of the configuration"}
	}
	e := &casemate.Error{Op: "call", Kind: casemate.Invalid, Err: fmt.Errorf("no tool is called %s", quote(string(name))), Fix: "choose one of the list of tools"}
	if n := nearest.To(string(name), names); n != "" {
		e.Err = fmt.Errorf("no tool is called %s; the nearest is %s", quote(string(name)), n)
		e.Fix = "call " + n
	}
	return nil, e
}

// prepare decodes the arguments, once and for all that follows, and checks
// them against the schema.
func (t *tool) prepare(c casemate.Call) ([]guest.Pair, error) {
	raw := c.Arguments
	if err := t.checkStreams(c); err != nil {
		return nil, err
	}
	if err := t.checkLimits(c); err != nil {
		return nil, err
	}
	if err := t.checkInputs(c); err != nil {
		return nil, err
	}
	if c.Files != nil {
		return nil, checkFiles(t.Name, c.Files)
	}
	invalid := func(err error, fix string) error {
		return &casemate.Error{Op: "call", Tool: t.Name, Kind: casemate.Invalid, Err: err, Fix: fix}
	}
	if t.base() {
		if !slices.Contains(methods[:], c.Method) {
			return nil, invalid(fmt.Errorf("an MCP server is not asked by %s", quote(c.Method)), "ask by one of "+strings.Join(methods[:], ", "))
		}
		if len(raw) == 0 {
			return nil, nil
		}
	}
	v, _, err := decode(raw, true)
	if err != nil {
		return nil, invalid(fmt.Errorf("arguments: %w", err), "pass one JSON object of plain UTF-8 within the bounds")
	}
	args, ok := v.(map[string]any)
	if !ok {
		return nil, invalid(errors.New("arguments: not a JSON object"), "pass one JSON object")
	}
	if t.base() {
		return nil, nil
	}
	if err := t.schema.validate(args); err != nil {
		return nil, invalid(err, "pass the arguments that its parameters describe")
	}
	if t.Run.MCP != nil {
		if c.Meta == nil {
			return nil, nil
		}
		if v, _, err := decode(c.Meta, false); err != nil {
			return nil, invalid(fmt.Errorf("_meta: %w", err), "pass one JSON object of plain UTF-8 within the bounds")
		} else if _, ok := v.(map[string]any); !ok {
			return nil, invalid(errors.New("_meta: not a JSON object"), "pass one JSON object")
		}
		return nil, nil
	}
	if w := t.Run.Wasm; w != nil && w.Function != "" {
		b, err := encode(args)
		if err != nil || len(b) > guest.MaxCall-64 {
			return nil, invalid(errors.New("the arguments are longer than a guest is sent"), "pass less")
		}
		return []guest.Pair{{Key: guest.Arguments, Value: string(b)}}, nil
	}
	ps, err := pairsOf(args)
	if err != nil {
		return nil, invalid(err, "pass less")
	}
	return ps, nil
}

// cancelled is why ctx is done, as an error of the call.
func cancelled(ctx context.Context, t casemate.ToolName) *casemate.Error {
	if e, ok := errors.AsType[*casemate.Error](context.Cause(ctx)); ok {
		n := *e
		n.Tool = t
		return &n
	}
	return &casemate.Error{Op: "call", Tool: t, Kind: casemate.Cancelled, Err: errors.New("its caller went away")}
}
