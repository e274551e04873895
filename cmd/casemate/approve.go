package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/internal/nearest"
)

func (a *app) approveCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "approve NAME [-- COMMAND [ARGUMENT …]]",
		Short: "Show what an MCP server lists otherwise than before, and approve it",
		Long: `Start the MCP server NAME in its sandbox, show in what its list of tools differs
from the one that was approved, and approve it where you say so. What it lists
is a stranger's text, which planners read as if it were yours: read it. Control
and invisible characters are shown escaped.

Of a server that casemate wrap put in a sandbox it shows, too, which of the
files that its command names have changed; COMMAND is another command for it.`,
		Args: cobra.MinimumNArgs(1),
		RunE: runs(func(c *cobra.Command, args []string) error {
			if len(args) > 1 && c.ArgsLenAtDash() != 1 {
				return invalid("approve", "casemate tools approve NAME -- COMMAND", "unexpected argument %q", args[1])
			}
			return a.approve(c.Context(), args[0], args[1:], yes)
		}),
	}
	c.Flags().BoolVar(&yes, "yes", false, "approve without asking, after you have read it elsewhere")
	return c
}

// approval is what changed of a server; also what --json prints.
type approval struct {
	Server   string          `json:"server"`
	Command  []string        `json:"command,omitempty"` // lines
	Identity []string        `json:"identity,omitempty"`
	Tools    []listingChange `json:"tools,omitempty"`
	Approved bool            `json:"approved"`

	Error *casemate.ErrorJSON `json:"error,omitempty"` // why it was not

	listing *catalog.Listing
	wrapped *catalog.Wrapped
}

func (a *app) approve(ctx context.Context, name string, argv []string, yes bool) error {
	l, err := a.loadServer(name)
	if err != nil {
		return err
	}
	ap := &approval{Server: name}
	if err := a.compareCommand(l, ap, argv); err != nil {
		return err
	}
	if err := a.compareListing(ctx, l, ap); err != nil {
		return err
	}
	changed := len(ap.Command)+len(ap.Identity)+len(ap.Tools) > 0
	if !a.console.json {
		for _, s := range ap.lines() {
			if err := a.line("%s", s); err != nil {
				return err
			}
		}
		if !changed {
			return a.line("%s is as it was approved", escapeLine(name))
		}
	}
	if changed && !yes {
		yes, err = a.confirm("Approve this?")
	}
	if changed && yes {
		err = l.UpdateLock(func(k *catalog.Lock) error {
			if ap.listing != nil {
				k.Servers = with(k.Servers, name, *ap.listing)
			}
			if ap.wrapped != nil {
				k.Wrapped = with(k.Wrapped, name, *ap.wrapped)
			}
			return nil
		})
		ap.Approved = err == nil
	}
	if changed && !ap.Approved && err == nil {
		err = &casemate.Error{Op: "approve", Kind: casemate.Denied, Err: errors.New("nothing was approved")}
	}
	if a.console.json {
		ap.Error = casemate.JSON(err)
		if e := a.object(ap); e != nil || err == nil {
			return e
		}
		return status(ap.Error.Kind.ExitStatus())
	}
	if err != nil {
		return err
	}
	return a.line("approved %s", escapeLine(name))
}

// loadServer loads the configuration that has the server of that name: the one
// that is in force here or else, where none was named, the user's own, which
// casemate run serves wherever it is started.
func (a *app) loadServer(name string) (*loaded, error) {
	has := func(l *loaded, err error) bool {
		if err != nil {
			return false
		}
		_, wrapped := l.Wrapped(name)
		return wrapped || l.Server(name) != nil
	}
	l, err := a.load()
	if has(l, err) || a.config != "" || os.Getenv("CASEMATE_CONFIG") != "" {
		return l, err
	}
	if own, e := a.loadOwn(); has(own, e) {
		return own, nil
	}
	return l, err
}

func with[V any](m map[string]V, k string, v V) map[string]V {
	m = maps.Clone(m)
	if m == nil {
		m = map[string]V{}
	}
	m[k] = v
	return m
}

// compareCommand compares a wrapped server's command and files with what was
// recorded.
func (a *app) compareCommand(l *loaded, ap *approval, argv []string) error {
	was, ok := l.Wrapped(ap.Server)
	if !ok && len(argv) > 0 {
		return invalid("approve", "leave the command out; it is the configuration's", "%s is no server that casemate wrap recorded", ap.Server)
	}
	if !ok {
		return nil
	}
	if len(argv) == 0 {
		argv = nil
	}
	now, err := l.Rewrapped(ap.Server, argv)
	if err != nil {
		return err
	}
	// Whoever is asked for a command is to say what it may touch: the profile
	// stands beside the command in the configuration.
	if t := l.Server(ap.Server); t != nil && !slices.Equal(now.Argv, was.Argv) && !slices.Equal(t.Run.MCP.Command, now.Argv) {
		return invalid("approve", fmt.Sprintf("write it as mcp.command of %s in %s, look at its security there, and run this again", ap.Server, l.File), "the configuration has another command for %s", ap.Server)
	}
	ap.Command = lineDiff(was.Argv, now.Argv)
	for _, f := range slices.Sorted(maps.Keys(now.Files)) {
		switch old, had := was.Files[f]; {
		case !had:
			ap.Command = append(ap.Command, "+ file "+f)
		case old != now.Files[f]:
			ap.Command = append(ap.Command, "~ file "+f+" has changed")
		}
	}
	for _, f := range slices.Sorted(maps.Keys(was.Files)) {
		if _, has := now.Files[f]; !has {
			ap.Command = append(ap.Command, "- file "+f)
		}
	}
	if len(ap.Command) > 0 {
		ap.wrapped = &now
	}
	return nil
}

// compareListing asks the server what it lists.
func (a *app) compareListing(ctx context.Context, l *loaded, ap *approval) error {
	t := l.Server(ap.Server)
	if t == nil {
		if _, ok := l.Wrapped(ap.Server); ok {
			return nil
		}
		var names []string
		for _, s := range l.Servers {
			names = append(names, string(s.Name))
		}
		fix := "casemate tools lists the tools and their servers"
		if n := nearest.To(ap.Server, names); n != "" {
			fix = "did you mean " + n + "?"
		}
		return invalid("approve", fix, "there is no MCP server %q in %s", ap.Server, l.File)
	}
	found, failed, err := a.list(ctx, l, []*casemate.Tool{withOwnValues(t)})
	if err != nil {
		return err
	}
	if e := failed[ap.Server]; e != nil {
		return e
	}
	now := found[ap.Server]
	was, _ := l.Recorded(ap.Server)
	if was.Digest == now.Digest {
		return nil
	}
	ap.listing = &now
	ap.Identity, ap.Tools = compareListings(was, now)
	if was.Command != "" && was.Command != now.Command {
		ap.Identity = append([]string{"~ its command is another than the one that was approved"}, ap.Identity...)
	}
	if len(ap.Identity)+len(ap.Tools) == 0 {
		ap.Identity = []string{"~ the order or the writing of its list"}
	}
	return nil
}

// withOwnValues is t with the values that this environment has of what each
// session's caller brings.
func withOwnValues(t *casemate.Tool) *casemate.Tool {
	u := *t
	u.Security.Env, u.Security.Pass = map[string]string{}, nil
	maps.Copy(u.Security.Env, t.Security.Env)
	for _, k := range t.Security.Pass {
		if v, ok := os.LookupEnv(k); ok {
			u.Security.Env[k] = v
		}
	}
	return &u
}

// lines are what a person reads.
func (ap *approval) lines() []string {
	var out []string
	add := func(head string, lines []string) {
		if len(lines) > 0 {
			out = append(out, head)
			for _, s := range lines {
				out = append(out, "  "+escapeLine(s))
			}
		}
	}
	add("command:", ap.Command)
	add("server:", ap.Identity)
	for _, t := range ap.Tools {
		add(fmt.Sprintf("tool %s is %s:", escapeLine(t.Name), t.Change), t.Lines)
	}
	return out
}

// confirm asks the person at the terminal; without one nobody can say yes.
func (a *app) confirm(question string) (bool, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false, &casemate.Error{Op: "approve", Kind: casemate.Denied, Err: errors.New("there is no terminal to ask at, and nothing was approved"), Fix: "read what changed, then run it at a terminal, or with --yes"}
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	s, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return false, nil // the end of the input is no yes
	}
	s = strings.ToLower(strings.TrimSpace(s))
	return s == "y" || s == "yes", nil
}
