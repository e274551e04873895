package main

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/mcp"
	"github.com/casemate/casemate/gateway/openai"
)

// streamGrace is how long HTTP requests may still take when the router has
// answered every call.
const streamGrace = 2 * time.Second

// log writes what a front end has to say to the operator: warnings and worse.
func (s *server) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// serveStdio serves the MCP client at standard input and output until it
// leaves.
func (s *server) serveStdio() error {
	return mcp.ServeStdio(s.ctx, os.Stdin, os.Stdout, s.router, mcp.Options{Version: version(), Log: s.log()})
}

// serveHTTP serves clients of the listener that was inherited.
func (s *server) serveHTTP(l net.Listener) error {
	sessions := gateway.NewSessions(s.router, 0)
	defer sessions.Close()
	h, err := gateway.Handler(gateway.Config{Token: s.settings.Token, Log: s.log()}, map[string]http.Handler{
		"/mcp": mcp.Handler(s.ctx, s.router, sessions, mcp.Options{Version: version(), Log: s.log()}),
		"/v1/": openai.Handler(s.router, sessions),
	})
	if err != nil {
		return err
	}
	return gateway.Serve(s.ctx, l, h, streamGrace, s.log())
}
