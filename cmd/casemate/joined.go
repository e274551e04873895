package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/mcp"
)

// joined are the sessions of the shims that this router serves, by the names
// that its operator gave them.
type joined struct {
	mu       sync.Mutex
	sessions map[string]*joinedSession
}

// A joinedSession ends with the last shim of it.
type joinedSession struct {
	id    casemate.SessionID
	shims map[string]int // by server
}

// serveShim serves the client behind a shim until it leaves: the tools of one
// server, under the names that the server has for them.
func (s *server) serveShim(ctx context.Context, f *os.File, in shimBody) error {
	if f == nil {
		return errors.New("no connection came with it")
	}
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return err
	}
	defer conn.Close()
	id := s.join(in)
	defer s.part(in, id)
	log := s.log().With("server", escapeLine(in.Server))
	r := &inSession{Router: told{s.router, s.console}, id: id}
	return mcp.ServeStdio(ctx, conn, conn, gateway.ServerView(r, in.Server), mcp.Options{Version: version(), Log: log})
}

// An inSession is a router whose first session is one that others share, and
// that ends with the last of them.
type inSession struct {
	gateway.Router
	id    casemate.SessionID
	given atomic.Bool
}

func (r *inSession) NewSession() casemate.SessionID {
	if r.given.CompareAndSwap(false, true) {
		return r.id
	}
	return r.Router.NewSession()
}

func (r *inSession) EndSession(id casemate.SessionID) {
	if id != r.id {
		r.Router.EndSession(id)
	}
}

// join counts one more shim of a session, which the first begins.
func (s *server) join(in shimBody) casemate.SessionID {
	j := &s.joined
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.sessions == nil {
		j.sessions = map[string]*joinedSession{}
	}
	one := j.sessions[in.Session]
	if one == nil {
		one = &joinedSession{s.router.NewSession(), map[string]int{}}
		j.sessions[in.Session] = one
	}
	one.shims[in.Server]++
	for base, variant := range in.Variants {
		s.router.Variant(one.id, base, variant)
	}
	return one.id
}

// part counts one shim less. When it returns and it was the last of its
// session, or of its server, the guests of that are gone.
func (s *server) part(in shimBody, id casemate.SessionID) {
	j := &s.joined
	j.mu.Lock()
	one := j.sessions[in.Session]
	one.shims[in.Server]--
	server := one.shims[in.Server] == 0
	if server {
		delete(one.shims, in.Server)
	}
	all := len(one.shims) == 0
	if all {
		delete(j.sessions, in.Session)
	}
	j.mu.Unlock()
	switch {
	case all:
		s.router.EndSession(id)
	case server:
		s.router.Leave(id, in.Server)
	}
}

// vary replaces variants of a session that shims joined.
func (s *server) vary(in variantsBody) error {
	s.joined.mu.Lock()
	defer s.joined.mu.Unlock()
	one := s.joined.sessions[in.Session]
	if one == nil {
		return nil // its last shim has just left
	}
	for base, variant := range in.Variants {
		if base == "" {
			return fmt.Errorf("a variant is of nothing")
		}
		s.router.Variant(one.id, base, variant)
	}
	return nil
}
