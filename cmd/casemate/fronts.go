package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/api"
	"github.com/casemate/casemate/gateway/mcp"
	"github.com/casemate/casemate/gateway/metrics"
	"github.com/casemate/casemate/router"
)

// streamGrace is how long HTTP requests may still take when the router has
// answered every call.
const streamGrace = 2 * time.Second

// A told router is what the front ends have of the router: the planner is not
// told of a fault of ours, so that the operator is, also where no record of it
// can be kept (a full disk, a spawner that is gone).
type told struct {
	*router.Router
	console *console
}

func (t told) Call(ctx context.Context, c casemate.Call) *casemate.Outcome {
	o := t.Router.Call(ctx, c)
	if o.Error != nil && o.Error.Kind == casemate.Internal {
		t.console.note("call %s: %s", o.Call, escapeLine(o.Error.Message))
	}
	return o
}

// log writes what a front end has to say to the operator: warnings and worse.
func (s *server) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// serveStdio serves the MCP client at standard input and output until it
// leaves.
func (s *server) serveStdio() error {
	return mcp.ServeStdio(s.ctx, quick(os.Stdin), quick(os.Stdout), told{s.router, s.console}, mcp.Options{Version: version(), Log: s.log()})
}

// serveHTTP serves clients of the listeners that were inherited: all of them
// reach the same sessions.
func (s *server) serveHTTP(ls []net.Listener) error {
	r := told{s.router, s.console}
	sessions := gateway.NewSessions(r, 0)
	sessions.Keep(s.backend.Record, s.settings.Names)
	defer sessions.Close()
	calls := api.New(r, sessions, s.backend.Record)
	defer calls.Close()
	routes := map[string]http.Handler{
		"/mcp":     mcp.Handler(s.ctx, r, sessions, mcp.Options{Version: version(), Log: s.log()}),
		"/v1/":     calls,
		"/metrics": metrics.Handler(s.router.Status, version()),
	}
	c := gateway.Config{Token: s.settings.Token, Credentials: s.settings.Callers, Streams: api.Streams, Log: s.log()}
	door, err := gateway.Handler(c, routes)
	if err != nil {
		return err
	}
	c.Local = &gateway.Credential{Name: gateway.DefaultCaller}
	local, err := gateway.Handler(c, routes)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	ended := make(chan error, len(ls))
	for _, l := range ls {
		h := door
		if u, ok := l.(*net.UnixListener); ok {
			l, h = &ownListener{u, s.settings.Uid}, local
		}
		go func() { ended <- gateway.Serve(ctx, l, h, streamGrace, s.log()) }()
	}
	for range ls {
		if e := <-ended; e != nil {
			err = errors.Join(err, e)
			cancel()
		}
	}
	return err
}

// An ownListener accepts only what the user itself, or root, connected.
type ownListener struct {
	*net.UnixListener
	uid int
}

func (l *ownListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUid(c); err == nil && (uid == l.uid || uid == 0) {
			return c, nil
		}
		c.Close()
	}
}
