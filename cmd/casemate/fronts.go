package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/api"
	"github.com/casemate/casemate/gateway/mcp"
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
	return mcp.ServeStdio(s.ctx, os.Stdin, os.Stdout, told{s.router, s.console}, mcp.Options{Version: version(), Log: s.log()})
}

// serveHTTP serves clients of the listener that was inherited.
func (s *server) serveHTTP(l net.Listener) error {
	r := told{s.router, s.console}
	sessions := gateway.NewSessions(r, 0)
	defer sessions.Close()
	h, err := gateway.Handler(gateway.Config{Token: s.settings.Token, Log: s.log()}, map[string]http.Handler{
		"/mcp": mcp.Handler(s.ctx, r, sessions, mcp.Options{Version: version(), Log: s.log()}),
		"/v1/": api.Handler(r, sessions),
	})
	if err != nil {
		return err
	}
	return gateway.Serve(s.ctx, l, h, streamGrace, s.log())
}
