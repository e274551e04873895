package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"

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

// shim prepares to serve the client behind a shim: its session is there when
// it returns.
func (s *server) shim(m message) (serve func(context.Context) error, err error) {
	if m.file == nil {
		return nil, errors.New("no connection came with it")
	}
	defer m.file.Close()
	var in shimBody
	if err := json.Unmarshal(m.Body, &in); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(m.file)
	if err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("it is no connection of a shim")
	}
	id := s.join(in)
	return func(ctx context.Context) error { return s.serveShim(ctx, u, in, id) }, nil
}

// serveShim serves that client until it leaves: the tools of one server, under
// the names that the server has for them. Where the shim hands over its
// client's pipes they are read and written here, and the connection says only
// that either end is gone.
func (s *server) serveShim(ctx context.Context, conn *net.UnixConn, in shimBody, id casemate.SessionID) error {
	defer s.part(in, id)
	defer conn.Close()
	log := s.log().With("server", escapeLine(in.Server))
	view, o := gateway.ServerView(told{s.router, s.console}, in.Server), mcp.Options{Version: version(), Log: log, Session: id}
	ends, err := takeEnds(conn)
	if err != nil {
		return err
	}
	if ends == nil {
		return mcp.ServeStdio(ctx, conn, conn, view, o)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		conn.Read(make([]byte, 1)) // it says no more: this is its end, or ours
		cancel()
	}()
	err = mcp.ServeStdio(ctx, quick(ends[0]), quick(ends[1]), view, o)
	for _, f := range ends {
		f.Close()
	}
	if err == nil && s.ctx.Err() == nil {
		conn.Write([]byte{clientLeft}) // it may be gone
	}
	return err
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
