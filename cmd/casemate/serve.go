package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
)

func (a *app) serveCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use:   "serve [--listen ADDR]",
		Short: "Serve the tools: MCP on standard input and output, or over HTTP",
		Long: `Serve the tools to planners: MCP on standard input and output, until the
client closes it; or, with --listen, MCP at /mcp, the OpenAI function schema
at /v1/tools and calls at /v1/calls, with a bearer token ($CASEMATE_TOKEN, or
one that is kept in the state folder). SIGHUP loads the configuration again;
SIGTERM and SIGINT let calls in flight finish for ten seconds.`,
		Args: noArgs,
		RunE: runs(func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), listen) }),
	}
	c.Flags().StringVar(&listen, "listen", "", "serve HTTP at `ADDR`, HOST:PORT or PORT (of 127.0.0.1), and no standard input")
	return c
}

func (a *app) serve(ctx context.Context, listen string) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	l, err := a.loadListed(ctx)
	if err != nil {
		return err
	}
	o := startOptions{stdio: listen == ""}
	if listen != "" {
		if o.token, err = a.token(l.state); err != nil {
			return err
		}
		if o.http, err = listenTCP(listen); err != nil {
			return err
		}
		defer o.http.Close()
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
	if o.http != nil {
		a.note("%s at http://%s/mcp, /v1/tools and /v1/calls", plural(len(h.serves.Tools), "tool"), o.http.Addr())
	}
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
		case s := <-signals:
			if s == syscall.SIGHUP {
				a.reload(ctx, h)
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
	a.note("the configuration was loaded again: %s", plural(len(h.serves.Tools), "tool"))
}

// listenTCP listens at HOST:PORT; without a host at the loopback address.
func listenTCP(addr string) (net.Listener, error) {
	const fix = "give HOST:PORT, such as 127.0.0.1:8080"
	if !strings.Contains(addr, ":") {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, invalid("serve", fix, "--listen %q: %v", addr, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: fmt.Errorf("port %s of %s is in use", port, host), Fix: "choose another port, or end what listens there (ss -ltnp shows it)"}
	case err != nil:
		if _, ok := errors.AsType[*os.SyscallError](err); !ok {
			return nil, invalid("serve", fix, "--listen %q: %v", addr, err)
		}
		return nil, &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: err, Fix: fix}
	}
	return l, nil
}

// minToken is the fewest characters of a token; the one we make has 26.
const minToken = 16

// token returns what HTTP clients have to show: CASEMATE_TOKEN, or a random
// one that the state folder keeps.
func (a *app) token(state string) (string, error) {
	if t, ok := os.LookupEnv("CASEMATE_TOKEN"); ok {
		if len(t) < minToken || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", invalid("serve", "use a long random one: openssl rand -hex 16", "CASEMATE_TOKEN is not %d or more printable characters without a space", minToken)
		}
		return t, nil
	}
	file := filepath.Join(state, "token")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.WriteString(rand.Text() + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: err, Fix: "make the state folder writable, or set CASEMATE_TOKEN"}
	}
	if fi, err := os.Lstat(file); err != nil || !fi.Mode().IsRegular() || fi.Mode().Perm()&0o077 != 0 {
		return "", &casemate.Error{Op: "serve", Kind: casemate.Denied, Err: fmt.Errorf("%s is not a file of mode 0600", file), Fix: "remove it: a new token is made"}
	}
	b, err := head(file, 1024)
	if err != nil {
		return "", &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: err}
	}
	t := strings.TrimSpace(string(b))
	if len(t) < minToken {
		return "", &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: fmt.Errorf("%s holds no token", file), Fix: "remove it: a new token is made"}
	}
	a.note("the bearer token is in %s", file)
	return t, nil
}
