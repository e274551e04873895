package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
)

func (a *app) serveCommand() *cobra.Command {
	var addrs []string
	c := &cobra.Command{
		Use:   "serve [--listen ADDR]…",
		Short: "Serve the tools: MCP on standard input and output, or over HTTP",
		Long: `Serve the tools to planners: MCP on standard input and output, until the
client closes it; or, with --listen, MCP at /mcp and the HTTP API beneath /v1/,
which /v1/openapi.json describes, with a bearer token: $CASEMATE_TOKEN, or one
that is kept in the state folder, or one of the callers that the configuration
lists. On a unix socket, which only its user reaches, none is needed. What was
called and what waits is at /metrics, as Prometheus reads it, for that token and
that socket alone. SIGHUP loads the configuration again, but for the callers;
SIGTERM and SIGINT let calls in flight finish for ten seconds.`,
		Args: noArgs,
		RunE: runs(func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), addrs) }),
	}
	c.Flags().StringArrayVar(&addrs, "listen", nil, "serve HTTP at `ADDR`, HOST:PORT, PORT (of 127.0.0.1) or unix:PATH, and no standard input; may be given again")
	return c
}

func (a *app) serve(ctx context.Context, addrs []string) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	l, err := a.loadListed(ctx)
	if err != nil {
		return err
	}
	o := startOptions{stdio: len(addrs) == 0}
	if !o.stdio {
		if o.token, err = a.token(l.state); err != nil {
			return err
		}
		if o.callers, err = credentials(l.Host.Callers); err != nil {
			return err
		}
		var end func()
		if o.http, end, err = listen(addrs); err != nil {
			return err
		}
		defer end()
	}
	if operator, remove, err := listenOperator(); err != nil {
		a.note("casemate stop, pool and tools --live will not reach this server: %v", err)
	} else {
		defer remove()
		o.operator = operator
	}
	h, err := a.start(ctx, l, o)
	if err != nil {
		return err
	}
	defer h.kill()
	if err := h.ctl.do(ctx, opReady, struct{}{}, nil); err != nil {
		// A client may have left before this was answered.
		select {
		case <-h.exited:
			if h.state.ExitCode() == 0 {
				return nil
			}
		case <-time.After(time.Second):
		}
		return err
	}
	for i, l := range o.http {
		at := "http://" + l.Addr().String()
		if path, ok := strings.CutPrefix(addrs[i], "unix:"); ok {
			at = "the socket " + path + " at http://localhost"
		}
		a.note("%s at %s/mcp, /v1/tools and /v1/calls", plural(h.tools(), "tool"), at)
	}
	w := newWatch()
	defer w.close()
	w.follow(h.plan.Guests)
	spawner := h.spawner.Gone()
	for {
		select {
		case <-spawner:
			// It ends in order only when the router did.
			select {
			case <-h.exited:
				spawner = nil
				continue
			case <-time.After(50 * time.Millisecond):
			}
			a.complain(&casemate.ErrorJSON{Kind: casemate.Internal, Message: "the spawner ended, and the calls that ran with it; another is started", Fix: "see what it said before, or what killed it"})
			if err := h.respawn(ctx); err != nil {
				return err
			}
			spawner = h.spawner.Gone()
		case <-h.exited:
			if code := h.state.ExitCode(); code != 0 {
				return &casemate.Error{Op: "router", Kind: casemate.Internal, Err: fmt.Errorf("the router ended: %v", h.state), Fix: "see what it said before; start casemate serve again"}
			}
			return nil
		case <-w.changed:
			if err := h.stale(ctx, w.take()); err != nil {
				a.note("what is parked could not be made anew: %v", err)
			}
			w.follow(h.plan.Guests) // a link may lead elsewhere now
		case <-w.pressed:
			h.ctl.do(ctx, opPressure, struct{}{}, nil) // an error is that the router is gone, which is seen
		case s := <-signals:
			if s == syscall.SIGHUP {
				a.reload(ctx, h)
				w.follow(h.plan.Guests)
				continue
			}
			// A second signal ends everything at once.
			signal.Reset(syscall.SIGTERM, os.Interrupt)
			h.stop()
			return nil
		}
	}
}

// reload loads the configuration again; a bad one changes nothing.
func (a *app) reload(ctx context.Context, h *host) {
	l, err := a.loadListed(ctx)
	if err == nil {
		err = a.restart(ctx, l, h)
	}
	if err != nil {
		a.complain(casemate.JSON(err))
		a.note("the configuration was not loaded again; the former one stays in force")
		return
	}
	a.note("the configuration was loaded again: %s", plural(h.tools(), "tool"))
}
