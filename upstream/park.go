package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/casemate/casemate"
)

const (
	maxHeld  = 16 // notifications of a parked server that its client is told later
	pingTime = 5 * time.Second
)

// Shape is what the server is told by the handshake, as text: two Options of
// the same server with the same shape give one and the same handshake.
func Shape(o Options) string {
	s := Server{o: o}
	caps, err := canonical(s.capabilities(nil))
	if err != nil { // it has more than one reading
		caps = s.capabilities(nil)
	}
	version := Stateful
	if o.Version >= Stateless {
		version = Stateless
	}
	return version + " " + string(caps)
}

// Prepare reads what the server lists and compares it with the tools as they
// were approved, by their names; a tool that is another one is found out again
// by Check. It is an error where the server cannot be parked: it does not list,
// or asked for more than can be kept for its client.
func (s *Server) Prepare(ctx context.Context, approved map[string][]byte) error {
	if err := s.ping(ctx); err != nil {
		return err
	}
	if _, err := s.list(ctx); err != nil {
		return err
	}
	for tool, raw := range approved {
		if err := s.Check(ctx, tool, json.RawMessage(raw)); err != nil && casemate.KindOf(err) != casemate.Denied {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spoiled {
		return errors.New("it asked for more than its client can be asked later")
	}
	return nil
}

// Adopt gives a server that was opened with Options.Parked to a client, once: o
// are options of the same shape. What the server asked meanwhile is asked now,
// and what it said is passed on. It has answered once more when Adopt returns, so
// that one which died while it was parked has had no request; that wraps ErrGone.
func (s *Server) Adopt(ctx context.Context, o Options) error {
	s.mu.Lock()
	if s.spoiled { // since Prepare
		s.mu.Unlock()
		return fmt.Errorf("%w: it asked for more than its client can be asked later", ErrGone)
	}
	s.o.Clients, s.o.State = o.Clients, o.State
	held := s.held
	s.held, s.parked = nil, false
	s.mu.Unlock()
	s.log.adopt(o.Log)
	close(s.adopted)
	for _, e := range held {
		s.notified(e)
	}
	if err := s.ping(ctx); err != nil {
		return err
	}
	return s.resume(ctx)
}

// ping waits until the server answers, whatever that is, for five seconds.
func (s *Server) ping(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	_, err := s.ask(short, Request{Method: "ping"}, nil)
	if _, answered := errors.AsType[*RPCError](err); answered {
		return nil
	}
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: it does not answer", ErrGone)
	}
	return err
}

// hold keeps what a parked server says until somebody is there to hear it.
func (s *Server) hold(e envelope) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.parked {
		return false
	}
	if len(s.held) < maxHeld {
		s.held = append(s.held, e)
	}
	return true
}

// attached are the clients that hear the server outside of calls.
func (s *Server) attached() []casemate.Client {
	s.mu.Lock()
	clients := s.o.Clients
	s.mu.Unlock()
	if clients == nil {
		return nil
	}
	return clients()
}

func (l *logger) adopt(to func(string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = to
}
