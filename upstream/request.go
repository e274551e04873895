package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/casemate/casemate"
)

// A Request is one request of the caller.
type Request struct {
	Method string
	Params json.RawMessage // an object, or nil
	Client casemate.Client // who made it; nil is nobody who can be asked

	// Part gets a result that is longer than 1 MiB while it comes, and Call then
	// returns none; nil gets none so. It was read as JSON so far, and may turn out
	// to be none. It may block; its error is Call's.
	Part func(b []byte) error
}

// A pending is a request that waits for its answer.
type pending struct {
	answer chan answer // of capacity 1
	client casemate.Client
	token  json.RawMessage // the caller's own, for progress
	order  uint64

	part  func([]byte) error // see Request.Part
	parts chan []byte
	took  chan struct{}
	done  chan struct{} // closed when nobody takes any more
	once  sync.Once
}

type answer struct {
	result json.RawMessage
	err    error
}

const maxRounds = 10 // of input requests

// Call sends one request, and blocks until it is answered. An error that the
// server answers is an *RPCError; ErrGone and ErrOutput are wrapped. When ctx
// is done, the server is told, and the error is ctx's. Progress reaches the
// request's client alone, with the progressToken of its own _meta.
func (s *Server) Call(ctx context.Context, r Request) (json.RawMessage, error) {
	switch r.Method {
	case "logging/setLevel":
		return s.level(ctx, r)
	case "resources/subscribe", "resources/unsubscribe":
		return s.subscribe(ctx, r)
	}
	if strings.HasPrefix(r.Method, "notifications/") {
		return json.RawMessage("{}"), s.notify(ctx, r.Method, r.Params)
	}
	params := r.Params
	for range maxRounds {
		result, err := s.ask(ctx, r, params)
		if err == errPassed {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if int64(len(result)) > s.o.Output+overhead {
			return nil, ErrOutput
		}
		next, err := s.inputs(ctx, r, result)
		if err != nil || next == nil {
			return result, err
		}
		params = next
	}
	return nil, fmt.Errorf("it asked for input more than %d times", maxRounds)
}

// Notify sends the server a notification of the client's.
func (s *Server) notify(ctx context.Context, method string, params json.RawMessage) error {
	params, err := single(params)
	if err != nil {
		return err
	}
	return s.send(ctx, &outgoing{b: request(0, method, params)})
}

// send hands m to the writer, and blocks while too much waits for it.
func (s *Server) send(ctx context.Context, m *outgoing) error {
	select {
	case s.out <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.gone:
		return fmt.Errorf("%w: %w", ErrGone, s.err)
	}
}

// ask sends one request and waits for its answer.
func (s *Server) ask(ctx context.Context, r Request, params json.RawMessage) (json.RawMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := &pending{answer: make(chan answer, 1), client: r.Client, part: r.Part, done: make(chan struct{})}
	if r.Part != nil {
		p.parts, p.took = make(chan []byte), make(chan struct{}, 1)
	}
	defer p.leave()
	var caps json.RawMessage // asked for without a lock
	if r.Method == discover || s.isStateless() {
		caps = s.capabilities(r.Client)
	}
	s.mu.Lock()
	if s.pending == nil {
		s.mu.Unlock()
		<-s.gone
		return nil, fmt.Errorf("%w: %w", ErrGone, s.err)
	}
	if len(s.pending)-len(s.listens) >= maxPending {
		s.mu.Unlock()
		return nil, &casemate.Error{Op: "call", Kind: casemate.Busy, Err: fmt.Errorf("%d requests wait for the server, which is the limit", maxPending), Fix: "try again when some are over"}
	}
	s.next++
	id := s.next
	p.order = id
	s.pending[id] = p
	params, err := s.meta(r, params, caps, id, p)
	s.mu.Unlock()
	defer s.forget(id)
	if err != nil {
		return nil, err
	}
	m := &outgoing{b: request(id, r.Method, params)}
	if err := s.send(ctx, m); err != nil {
		m.drop()
		return nil, err
	}
	a, err := s.wait(ctx, p)
	if err == nil {
		return a.result, a.err
	}
	s.forget(id)
	if !m.drop() && r.Method != "initialize" {
		s.abandon(id)
		why := "the caller does not wait any more"
		s.post(request(0, "notifications/cancelled", object([]member{{"requestId", json.RawMessage(strconv.FormatUint(id, 10))}, {"reason", quoted(why)}})))
	}
	return nil, err
}

func (s *Server) forget(id uint64) {
	s.mu.Lock()
	delete(s.pending, id)
	s.mu.Unlock()
}

// post sends a message without waiting; where too much waits already, the
// message is lost: the server does not read.
func (s *Server) post(b []byte) {
	select {
	case s.out <- &outgoing{b: b}:
	default:
		s.log.line([]byte("[casemate] the server does not read; a message to it was dropped"))
	}
}

// reserved are the keys of _meta that are ours to say.
const reserved = "io.modelcontextprotocol/"

// meta puts our own _meta into the params of a request; caps are what a
// stateless server is told of its client, and nil for others. s.mu is held.
func (s *Server) meta(r Request, params, caps json.RawMessage, id uint64, p *pending) (json.RawMessage, error) {
	params, err := single(params)
	if err != nil {
		return nil, err
	}
	if r.Client == nil && caps == nil && field(params, "_meta") == nil {
		return params, nil
	}
	if params == nil {
		params = json.RawMessage("{}")
	}
	in := field(params, "_meta")
	if in == nil {
		in = json.RawMessage("{}")
	}
	ms, err := members(in)
	if err != nil {
		return nil, fmt.Errorf("_meta: %w", err)
	}
	var out []member
	for _, m := range ms {
		switch {
		case m.key == "progressToken":
			p.token = m.value
		case strings.HasPrefix(m.key, reserved), strings.HasPrefix(m.key, "casemate/"):
		default:
			out = append(out, m)
		}
	}
	if r.Client != nil && p.token != nil {
		out = append(out, member{"progressToken", json.RawMessage(strconv.FormatUint(id, 10))})
	}
	if caps != nil {
		out = append(out,
			member{reserved + "protocolVersion", quoted(Stateless)},
			member{reserved + "clientInfo", s.about()},
			member{reserved + "clientCapabilities", caps})
		if s.state.Level != "" {
			out = append(out, member{reserved + "logLevel", quoted(s.state.Level)})
		}
	}
	if len(out) == 0 {
		return with(params, "_meta", nil), nil
	}
	return with(params, "_meta", object(out)), nil
}

// line takes one line of the server's output.
func (s *Server) line(b []byte, long bool, id string) {
	if long {
		if n, err := strconv.ParseUint(id, 10, 64); err == nil && s.deliver(n, answer{err: ErrOutput}) {
			return
		}
		s.unused("a message longer than the limit", b)
		return
	}
	e, err := parse(b)
	if err != nil {
		s.unused(err.Error(), b)
		return
	}
	s.mu.Lock()
	s.heard++
	s.mu.Unlock()
	switch {
	case e.name != "" && e.id != nil:
		s.requested(e)
	case e.name != "":
		s.notified(e)
	default:
		a := answer{result: e.result}
		if e.error != nil {
			a = answer{err: rpcError(e.error)}
		}
		n, err := strconv.ParseUint(string(e.id), 10, 64)
		if err != nil || !s.deliver(n, a) {
			s.unused("an answer to nothing", b)
		}
	}
}

// unused counts and logs a message that nobody can use.
func (s *Server) unused(why string, b []byte) {
	s.mu.Lock()
	s.unasked++
	s.mu.Unlock()
	s.skip(why, b)
}

// deliver hands an answer to whoever waits for it, once.
func (s *Server) deliver(id uint64, a answer) bool {
	s.mu.Lock()
	p := s.pending[id]
	delete(s.pending, id)
	if p != nil {
		s.junk, s.unasked = 0, 0
	} else {
		delete(s.unanswered, id)
	}
	s.mu.Unlock()
	if p != nil {
		p.answer <- a
	}
	return p != nil
}

func rpcError(raw json.RawMessage) error {
	e := &RPCError{Raw: raw, Message: str(raw, "message")}
	code, err := strconv.Atoi(string(field(raw, "code")))
	if err != nil {
		return errors.New("the server answered an error that is none")
	}
	e.Code = code
	return e
}

// notified takes a notification of the server.
func (s *Server) notified(e envelope) {
	s.mu.Lock()
	s.unasked++
	s.mu.Unlock()
	params := e.params
	switch e.name {
	case "notifications/progress":
		id, err := strconv.ParseUint(string(field(params, "progressToken")), 10, 64)
		s.mu.Lock()
		p := s.pending[id]
		s.mu.Unlock()
		if err != nil || p == nil || p.client == nil || p.token == nil {
			return
		}
		p.client.Notify(s.o.Run.Server, e.name, with(plain(params), "progressToken", p.token))
		return
	case "notifications/tools/list_changed":
		s.mu.Lock()
		s.stale = true
		s.mu.Unlock()
	case "notifications/cancelled":
		s.withdrawn(field(params, "requestId"))
		return
	case "notifications/message": // likely of what is being done
		if c := s.latest(); c != nil {
			c.Notify(s.o.Run.Server, e.name, plain(params))
			return
		}
	case "notifications/prompts/list_changed", "notifications/resources/list_changed", "notifications/resources/updated",
		"notifications/elicitation/complete":
	case "notifications/subscriptions/acknowledged":
		return
	default:
		s.skip("a notification of an unknown method", e.method)
		return
	}
	if s.hold(e) {
		return
	}
	params = plain(params)
	for _, c := range s.clients() {
		c.Notify(s.o.Run.Server, e.name, params)
	}
}

// plain is params without what is between the server and us, and without what
// has no one reading.
func plain(params json.RawMessage) json.RawMessage {
	if params == nil {
		return nil
	}
	ms, _ := members(field(params, "_meta")) // nil where it is none
	ms = slices.DeleteFunc(ms, func(m member) bool { return strings.HasPrefix(m.key, reserved) })
	if len(ms) == 0 {
		return with(params, "_meta", nil)
	}
	return with(params, "_meta", object(ms))
}

// clients are those that hear what the server says to nobody in particular:
// the attached, and where there are none, those that wait for an answer.
func (s *Server) clients() []casemate.Client {
	if all := s.attached(); len(all) > 0 {
		return all
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []casemate.Client
	for _, p := range s.pending {
		if p.client != nil {
			all = append(all, p.client)
		}
	}
	return all
}
