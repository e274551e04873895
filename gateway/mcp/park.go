package mcp

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// From 2026-07-28 on a server sends its client no requests. What it wants to
// ask stands in the result of the client's request (input_required), and the
// client sends that again, with the answers. Servers behind the router ask in
// the middle of a call, so that the call is parked until its client comes back.

// The bounds of parked calls.
const (
	maxParked = 256
	parkTime  = 5 * time.Minute
	gather    = 10 * time.Millisecond // for what is asked at the same time to be asked in one answer
	statePart = "casemate:"
)

var errClientAway = errors.New("the client did not come back with an answer")

// A running call goes on while its client is asked something.
type running struct {
	caller gateway.Caller
	tool   casemate.ToolName
	method string
	cancel context.CancelFunc
	done   chan *casemate.Outcome // of capacity 1
	asks   chan *question

	open  map[string]*question // that the client was asked; whoever has the call uses it
	next  int
	timer *time.Timer // set while it is parked
	out   *outbox

	mu     sync.Mutex
	to     route // of the request that waits
	token  json.RawMessage
	here   bool // some request waits
	told   func()
	answer *streamed // to it; nil where it is to be asked
	began  bool      // that did
}

// A question is one request of a server to the client.
type question struct {
	key    string // as the server names it; "" where it has no name
	method string
	params json.RawMessage
	answer chan json.RawMessage // of capacity 1; closed where there will be none
}

// run begins a call that its client can leave and come back to. release is
// called when it is over.
func (s *server) run(ctx context.Context, req sdk.Request, from *origin, version, server string, c casemate.Call, release func()) *running {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{caller: from.caller, tool: c.Tool, method: c.Method, cancel: cancel, done: make(chan *casemate.Outcome, 1),
		asks: make(chan *question), open: map[string]*question{}, out: newOutbox(ctx), told: func() {}}
	p := &peer{server: server, version: version, out: r.out, canAsk: r.ask, current: r.current, told: func() { r.mu.Lock(); told := r.told; r.mu.Unlock(); told() }}
	if caps, ok := metaOf(req)[sdk.MetaKeyClientCapabilities]; ok {
		p.caps = encode(caps)
	}
	p.logLevel, _ = metaOf(req)["io.modelcontextprotocol/logLevel"].(string)
	c.Client = p
	r.attach(from)
	if from.answer != nil && c.Method == "" {
		c.Stream = r
	}
	go func() {
		defer release()
		o := s.router.Call(ctx, c)
		if o.Error != nil && o.Error.Kind == casemate.Gone {
			s.lost(nil, c.Session)
		}
		r.done <- o
	}()
	return r
}

// ask is the peer's: it waits until the client has answered.
func (r *running) ask(ctx context.Context, key, method string, params json.RawMessage) (json.RawMessage, error) {
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	q := &question{key: key, method: method, params: params, answer: make(chan json.RawMessage, 1)}
	select {
	case r.asks <- q:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case a, ok := <-q.answer:
		if !ok {
			return nil, errClientAway
		}
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *running) current() (route, json.RawMessage, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.to, r.token, r.here
}

// wait waits on behalf of one request until the call is over, or asks.
func (s *server) wait(ctx context.Context, req sdk.Request, r *running, to route) (*casemate.Outcome, *rawResult, error) {
	stop := s.ticks(ctx, req)
	defer stop()
	r.mu.Lock()
	r.to, r.token, r.here, r.told = to, tokenOf(req), true, stop
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.here = false
		r.mu.Unlock()
	}()
	for asked := len(r.open) > 0; !asked; { // else not everything was answered
		select {
		case o := <-r.done:
			r.finish(o)
			r.out.flush(ctx)
			r.cancel()
			return o, nil, nil
		case <-ctx.Done():
			r.cancel()
			o := <-r.done
			r.finish(o)
			return o, nil, nil
		case q := <-r.asks:
			if asked = r.detach(); asked {
				r.note(q)
			} else {
				close(q.answer) // its answer is under way
			}
		}
	}
	more := time.NewTimer(gather)
	defer more.Stop()
	for {
		select {
		case q := <-r.asks:
			r.note(q)
			continue
		case <-more.C:
		}
		return s.park(r)
	}
}

// note gives a question the name by which the client answers it: the server's
// own where that is free.
func (r *running) note(q *question) {
	key := q.key
	for key == "" || len(key) > maxName || r.open[key] != nil {
		r.next++
		key = strconv.Itoa(r.next)
	}
	r.open[key] = q
}

// park keeps the call for the client to come back to.
func (s *server) park(r *running) (*casemate.Outcome, *rawResult, error) {
	key := rand.Text()
	var asked []member
	for id, q := range r.open {
		asked = append(asked, member{id, compose([]member{{"method", encode(q.method)}, {"params", q.params}})})
	}
	s.mu.Lock()
	full := len(s.parked) >= maxParked
	if !full {
		s.parked[key] = r
		r.timer = time.AfterFunc(parkTime, func() { s.abandon(key) })
	}
	s.mu.Unlock()
	if full {
		r.cancel()
		<-r.done
		return nil, nil, &casemate.Error{Op: "call", Kind: casemate.Busy, Err: errors.New("too many calls wait for their clients"), Fix: "try again when some are over"}
	}
	return nil, &rawResult{modern: true, raw: compose([]member{{"resultType", json.RawMessage(`"input_required"`)},
		{"inputRequests", compose(asked)}, {"requestState", encode(statePart + key)}})}, nil
}

// abandon ends a call whose client did not come back.
func (s *server) abandon(key string) {
	s.mu.Lock()
	r := s.parked[key]
	delete(s.parked, key)
	s.mu.Unlock()
	if r != nil {
		r.cancel()
	}
}

// end ends what no client comes back to any more.
func (s *server) end() {
	s.mu.Lock()
	all := s.parked
	s.parked = map[string]*running{}
	s.mu.Unlock()
	for _, r := range all {
		r.timer.Stop()
		r.cancel()
	}
	if s.common != nil {
		s.common.old.end(true)
		s.common.modern.end(true)
	}
}

// resume finds the call that a client comes back to, once, and gives it the
// answers.
func (s *server) resume(from *origin, state string, c casemate.Call, answers json.RawMessage) (*running, error) {
	key, ok := strings.CutPrefix(state, statePart)
	s.mu.Lock()
	r := s.parked[key]
	if ok = ok && r != nil && r.caller == from.caller && r.tool == c.Tool && r.method == c.Method; ok {
		delete(s.parked, key)
		r.timer.Stop()
	}
	s.mu.Unlock()
	if !ok {
		return nil, invalidParams("requestState is not one that this server gave for this request, or its time is over")
	}
	ms, err := members(answers)
	if err != nil {
		ms = nil
	}
	given := 0
	for _, m := range ms {
		if r.open[m.key] != nil {
			given++
		}
	}
	if given == len(r.open) {
		r.attach(from) // before the server may answer
	}
	for _, m := range ms {
		if q := r.open[m.key]; q != nil {
			q.answer <- m.value
			delete(r.open, m.key)
		}
	}
	return r, nil
}
