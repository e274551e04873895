package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/nearest"
	"github.com/casemate/casemate/pool"
)

// execName is what the one tool of casemate exec is called in records.
const execName = "exec"

// noTimeout is the time of a command whose profile states none: a router has
// no call without one.
const noTimeout = 100 * 365 * 24 * time.Hour

type execOptions struct {
	profile string
	cwd     string
	timeout time.Duration
	tty     bool
}

func (a *app) execCommand() *cobra.Command {
	var o execOptions
	c := &cobra.Command{
		Use:   "exec --profile PROFILE [-t] [--cwd DIR] [--timeout TIME] -- COMMAND [ARGUMENT …]",
		Short: "Run any command in a sandbox of that profile",
		Long: `Run any command in a sandbox of its own, with a profile of the configuration
(profiles: NAME: {…}). Its standard input, output and error are those of this
command, byte for byte, or a terminal of its own where standard input and
output are terminals. Nothing of this environment is passed on but what the
profile names. Signals are passed on; --timeout narrows the profile's timeout,
and without either there is none. What it wrote to its write grants is carried
out when it has ended; what was held back is said.

The exit status is that of the command; 128+N when signal N ended it, 124 when
its time was over, 126 when it cannot be executed and 127 when it is not in
the sandbox. An error of Casemate's own has its usual status (1 to 4) and a
line on standard error that begins with "casemate:".

Everything that the command started is gone when this command is, however
that ends. It ends when the command does, even if a child of that still holds
its output.`,
		Args: cobra.MinimumNArgs(1),
		RunE: runs(func(c *cobra.Command, args []string) error { return a.exec(c.Context(), o, args) }),
	}
	f := c.Flags()
	f.SetInterspersed(false) // what follows the command is the command's
	f.StringVar(&o.profile, "profile", "", "the `PROFILE` of the configuration that it gets (required)")
	f.StringVar(&o.cwd, "cwd", "", "its working folder `DIR` in the sandbox (default: the profile's)")
	f.DurationVar(&o.timeout, "timeout", 0, "end it after `TIME`, such as 30s")
	f.BoolVarP(&o.tty, "tty", "t", false, "give it a terminal though standard input or output is none")
	return c
}

// exec runs one command; the error it returns carries the exit status.
func (a *app) exec(ctx context.Context, o execOptions, argv []string) error {
	l, err := a.load()
	if err != nil {
		return err
	}
	t, err := l.execTool(o, argv)
	if err != nil {
		return err
	}
	c := *l.Config
	c.Tools = append(slices.DeleteFunc(slices.Clone(c.Tools), func(x *casemate.Tool) bool { return x.Name == t.Name }), t)
	l.Config = &c

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	term := a.terminal(o.tty)
	defer term.restore()
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	early := endEarly(signals, cancel)

	s, err := a.streams(term)
	if err != nil {
		return &casemate.Error{Op: "exec", Kind: casemate.Internal, Err: err}
	}
	h, err := a.start(ctx, l, startOptions{only: t.Name, pool: pool.Limits{Max: -1}, std: s.theirs})
	s.handed()
	if err == nil {
		defer h.kill()
		err = h.ctl.do(ctx, opReady, struct{}{}, nil)
	}
	early()
	if sig, ok := errors.AsType[signalled](context.Cause(ctx)); ok {
		return status(128 + int(sig))
	}
	if err != nil {
		return err
	}
	if err := term.raw(); err != nil {
		return &casemate.Error{Op: "exec", Kind: casemate.Internal, Err: err}
	}
	s.relay()
	stop := forward(ctx, h.ctl, signals, term)
	var out casemate.Outcome
	err = h.ctl.do(ctx, opExec, execBody{Tool: t.Name, Terminal: term.size()}, &out)
	stop()
	if err != nil {
		return err
	}
	h.stop()
	s.drain()
	term.restore()
	return a.ended(&out)
}

// execTool makes the tool of one command.
func (l *loaded) execTool(o execOptions, argv []string) (*casemate.Tool, error) {
	if o.profile == "" {
		return nil, invalid("exec", "casemate exec --profile PROFILE -- COMMAND", "no profile is named")
	}
	named, ok := l.Profiles[o.profile]
	if !ok {
		fix := "the configuration has them under profiles: NAME: {…}"
		if n := nearest.To(o.profile, slices.Collect(maps.Keys(l.Profiles))); n != "" {
			fix = "did you mean " + n + "?"
		}
		return nil, invalid("exec", fix, "there is no profile %q in %s", o.profile, l.File)
	}
	if named.Unsupported != nil {
		return nil, named.Unsupported
	}
	p := named.Profile
	if o.timeout < 0 {
		return nil, invalid("exec", "give a time such as 30s", "--timeout %s is below zero", o.timeout)
	}
	if !named.Timed {
		p.Timeout = noTimeout
	}
	if o.timeout > 0 {
		p.Timeout = min(p.Timeout, o.timeout)
	}
	if o.cwd != "" {
		if !filepath.IsAbs(o.cwd) || filepath.Clean(o.cwd) != o.cwd {
			return nil, invalid("exec", "name it as the sandbox sees it, such as /tmp", "--cwd %q is not a clean absolute path", o.cwd)
		}
		p.Cwd = o.cwd
	}
	p.Scope = casemate.ScopeCall
	if argv[0] == "" {
		return nil, invalid("exec", "name a program", "the command is empty")
	}
	var command []string
	for _, el := range argv {
		command = append(command, literal(el))
	}
	return &casemate.Tool{Name: execName, Description: "A command of the operator's.", Parameters: []byte(`{"type":"object","additionalProperties":false}`),
		Run: casemate.Run{Exec: &casemate.Exec{Command: command}}, Security: p.WithDefaults()}, nil
}

// literal is the element of a command that stands for s itself; see
// casemate.Element.
func literal(s string) string {
	if _, text := casemate.Element(s); text != s {
		return `\` + s
	}
	return s
}

// ended says what became of the command and returns its exit status.
func (a *app) ended(o *casemate.Outcome) error {
	for _, c := range o.Changes {
		switch c.Did {
		case "held":
			a.note("%s was not carried out: %s", escapeLine(c.Path), escapeLine(c.Why))
		case "conflict":
			a.note("%s was changed by another meanwhile; the command's version lies in %s", escapeLine(c.Path), escapeLine(c.Kept))
		}
	}
	if e := o.Error; e != nil {
		a.complain(e)
		switch e.Kind {
		case casemate.Timeout:
			return status(124)
		case casemate.Killed:
			return status(128 + int(syscall.SIGKILL))
		}
		return status(e.Kind.ExitStatus())
	}
	if o.Result == nil || o.Result.ExitCode == nil {
		return &casemate.Error{Op: "exec", Kind: casemate.Internal, Err: errors.New("the command has no exit status")}
	}
	for _, c := range o.Result.Content { // why it did not start; what it printed is not here
		if c.Type == "text" && c.Text != "" {
			a.note("%s", escapeLine(c.Text))
		}
	}
	if code := *o.Result.ExitCode; code != 0 {
		return status(code & 0xff)
	}
	return nil
}

// signalled is the signal that ended this command before there was anything
// to pass it on to.
type signalled syscall.Signal

func (s signalled) Error() string { return fmt.Sprintf("ended by signal %d", int(s)) }

// forwarded are the signals that a command gets from us, and the one that we
// take ourselves.
var forwarded = []os.Signal{
	unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGTSTP,
}

// endEarly lets the signals that end a command end this one, until the
// function that it returns is called.
func endEarly(signals <-chan os.Signal, cancel context.CancelCauseFunc) (stop func()) {
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				switch n := s.(syscall.Signal); n {
				case unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT:
					cancel(signalled(n))
				case unix.SIGTSTP:
					syscall.Kill(os.Getpid(), syscall.SIGSTOP)
				}
			}
		}
	}()
	return func() { close(done); <-gone }
}

// forward passes signals on to the command, in their order, until the function
// that it returns is called. One that stops (Ctrl-Z, where it is no key of the
// command's own terminal) stops this process, and with it what it copies: in a
// sandbox only its spawner stops and continues anything.
func forward(ctx context.Context, ctl *client, signals <-chan os.Signal, term *terminal) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			var e casemate.Event
			select {
			case <-ctx.Done():
				return
			case s := <-signals:
				e.Signal = int(s.(syscall.Signal))
			}
			switch syscall.Signal(e.Signal) {
			case unix.SIGTSTP:
				term.pause(func() { syscall.Kill(os.Getpid(), syscall.SIGSTOP) })
				fallthrough // its screen may be another one now
			case unix.SIGWINCH:
				if e = (casemate.Event{Size: term.size()}); e.Size == (casemate.Size{}) {
					continue
				}
			}
			ctl.do(ctx, opEvent, e, nil) // an error: it has ended
		}
	}()
	return func() { cancel(); <-gone }
}
