package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

func (a *app) runCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "run --name NAME -- COMMAND [ARGUMENT …]",
		Short: "Be an MCP server that casemate wrap has put in a sandbox, for the client that starts it",
		Long: `Be the MCP server NAME of your own configuration, on standard input and output,
for the client that starts it in the server's place. casemate wrap writes this
command into the client's configuration. COMMAND is what the client started
before; it has to be the one that was recorded, with the files that it had, or
nothing is started (exit status 3).

The server runs in a sandbox of its own behind a router that all such commands
of yours share: the first starts it, and it ends with the last. It keeps its
log in the state folder, as shared.log. The server gets those variables of this
environment that its profile names, and no others.`,
		Args: cobra.MinimumNArgs(1),
		RunE: runs(func(c *cobra.Command, args []string) error { return a.shim(c.Context(), name, args) }),
	}
	c.Flags().SetInterspersed(false)
	c.Flags().StringVar(&name, "name", "", "the `NAME` of the server in your configuration (required)")
	return c
}

// shim serves the client of one server through the shared router, until the
// client leaves; the error carries the exit status.
func (a *app) shim(ctx context.Context, name string, argv []string) error {
	if name == "" {
		return invalid("run", "casemate run --name NAME -- COMMAND", "no name is given")
	}
	// What a client leaves open is not the shared router's.
	unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)

	// The shared router looks for itself; this is so that what is refused here
	// starts nothing, and costs a client no waiting.
	l, err := a.loadOwn()
	if err != nil {
		return err
	}
	if err := l.may(name, argv); err != nil {
		return err
	}
	give := carries(os.Stdin) && carries(os.Stdout)
	if give {
		defer waitable(os.Stdin, os.Stdout)()
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ended <- a.serveClient(ctx, l.state, hello{shimProtocol, build(), name, argv, l.File}, give) }()
	select {
	case err := <-ended:
		return err
	case s := <-signals:
		return status(128 + int(s.(syscall.Signal))) // the connection closes with this process
	}
}

// serveClient joins the shared router, and gives it the client's ends, or relays
// between it and the client.
func (a *app) serveClient(ctx context.Context, state string, h hello, give bool) error {
	c, err := a.join(ctx, state, h)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := giveEnds(c, give); err != nil {
		return lost(state)
	}
	if give {
		word := make([]byte, 1)
		if n, _ := c.Read(word); n == 1 && word[0] == clientLeft {
			return nil
		}
		return lost(state)
	}
	left := make(chan struct{}) // closed when the client has closed its end
	go func() {
		io.Copy(c, os.Stdin)
		close(left)
		c.CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, c)
	if errors.Is(err, syscall.EPIPE) {
		return nil // the client is gone
	}
	select {
	case <-left:
		return nil
	default:
	}
	return lost(state)
}

// lost says that the shared router is gone.
func lost(state string) error {
	return &casemate.Error{Op: "run", Kind: casemate.Internal, Err: errors.New("the shared router ended the connection"),
		Fix: "see shared.log in " + state + "; start the server again in the client"}
}

// joinTime is how long a shim tries to find or start a shared router.
const joinTime = 30 * time.Second

// join connects to the shared router, which it starts where none runs, and
// returns when that serves the server of h. One that ends just then is
// replaced.
func (a *app) join(ctx context.Context, state string, h hello) (*net.UnixConn, error) {
	for end := time.Now().Add(joinTime); ; {
		c, err := dialShared()
		if errors.Is(err, errNoShared) {
			c, err = a.startShared(ctx, state)
		}
		if err != nil {
			return nil, err
		}
		err = a.introduce(c, h)
		if err == nil {
			return c, nil
		}
		c.Close()
		if !errors.Is(err, errHungUp) || time.Now().After(end) {
			return nil, err
		}
	}
}

// errHungUp is a shared router that ended before it answered.
var errHungUp = errors.New("the shared router hung up")

// introduce says who this is and waits until it is served.
func (a *app) introduce(c *net.UnixConn, h hello) error {
	if err := writeFrame(c, h); err != nil {
		return fmt.Errorf("%w: %w", errHungUp, err)
	}
	answered := false
	for {
		b, err := readFrame(c, maxAnswer)
		if err != nil {
			if !answered {
				return fmt.Errorf("%w: %w", errHungUp, err)
			}
			return &casemate.Error{Op: "run", Kind: casemate.Internal, Err: fmt.Errorf("the shared router ended: %w", err), Fix: "see shared.log in the state folder"}
		}
		answered = true
		var got shimAnswer
		if err := json.Unmarshal(b, &got); err != nil {
			return &casemate.Error{Op: "run", Kind: casemate.Internal, Err: err}
		}
		switch {
		case got.Error != nil:
			return remote(got.Error)
		case got.Ready:
			return nil
		case got.Pass != nil:
			v, err := pick(*got.Pass, os.LookupEnv)
			if err != nil {
				return err
			}
			if err := writeFrame(c, v); err != nil {
				return &casemate.Error{Op: "run", Kind: casemate.Internal, Err: err}
			}
		default:
			a.note("%s", got.Progress)
		}
	}
}
