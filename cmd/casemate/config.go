package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/internal/nearest"
	"github.com/casemate/casemate/pool"
)

// loaded is a configuration that the operator answers for.
type loaded struct {
	*catalog.Config
	state string // folder of its records
}

// load finds the configuration, checks it, and refuses one that merely lies
// in the working folder until the user has trusted it. Nothing is started,
// dialled or run before it returns.
func (a *app) load() (*loaded, error) {
	own, err := stateFolder("")
	if err != nil {
		return nil, err
	}
	path, trusted, err := a.find()
	if err != nil {
		return nil, err
	}
	opt := a.options(own, trusted)
	var c *catalog.Config
	if trusted {
		c, err = catalog.Load(path, opt)
	} else {
		c, err = catalog.Trust{Dir: trustFolder(own)}.Load(path, opt)
	}
	if err != nil {
		return nil, err
	}
	if err := c.CheckLock(); err != nil {
		return nil, err
	}
	for _, w := range c.Warnings {
		a.note("%s", w)
	}
	l := &loaded{Config: c, state: own}
	if c.Host.State != "" {
		if l.state, err = stateFolder(c.Host.State); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (a *app) find() (path string, trusted bool, err error) {
	cwd, err := os.Getwd()
	if err != nil {
		return "", false, invalid("load", "change to a folder that exists, or use --config", "the working folder: %w", err)
	}
	user, err := os.UserConfigDir()
	if err != nil {
		user = "" // neither HOME nor XDG_CONFIG_HOME: there is no file of the user's
	}
	return catalog.Find(a.config, os.Getenv("CASEMATE_CONFIG"), cwd, user)
}

func (a *app) options(state string, operator bool) catalog.Options {
	home, _ := os.UserHomeDir()
	return catalog.Options{Getenv: os.LookupEnv, Operator: operator, Home: home, State: state, ResolveMounts: true}
}

// stateOf returns the folder of records: of the configuration where one is
// in force, else the user's own.
func (a *app) stateOf() (string, error) {
	own, err := stateFolder("")
	if err != nil {
		return "", err
	}
	path, trusted, err := a.find()
	if err != nil || !trusted {
		return own, nil // host: is read from no other file
	}
	c, err := catalog.Load(path, a.options(own, true))
	if err != nil || c.Host.State == "" {
		return own, nil
	}
	return stateFolder(c.Host.State)
}

// tool returns the tool of that name.
func (l *loaded) tool(name string) (*casemate.Tool, error) {
	var all []string
	for _, t := range l.Tools {
		if string(t.Name) == name {
			return t, nil
		}
		all = append(all, string(t.Name))
	}
	for _, e := range l.Unsupported {
		if string(e.Tool) == name {
			return nil, e
		}
		all = append(all, string(e.Tool))
	}
	fix := "casemate tools lists them"
	if n := nearest.To(name, all); n != "" {
		fix = "did you mean " + n + "?"
	}
	return nil, invalid("call", fix, "there is no tool %q in %s", name, l.File)
}

// refuses says whether there is a tool of that name that cannot be had.
func (l *loaded) refuses(name string) bool {
	return slices.ContainsFunc(l.Unsupported, func(e *casemate.Error) bool { return string(e.Tool) == name })
}

// startOptions says what a command starts.
type startOptions struct {
	only     casemate.ToolName // that tool alone
	pool     pool.Limits
	stdio    bool
	std      [3]*os.File // of a command
	http     []net.Listener
	operator net.Listener // nil: none
	token    string
	callers  []gateway.Credential // of HTTP, beside the one of the token
}

// start compiles a configuration and starts the two processes that serve it.
func (a *app) start(ctx context.Context, l *loaded, o startOptions) (*host, error) {
	init, err := initPath()
	if err != nil {
		return nil, err
	}
	c, err := a.compile(ctx, l, init, o.only)
	if err != nil {
		return nil, err
	}
	if o.only == "" {
		for name, e := range c.serves.Refused {
			a.note("tool %s is not to be had here: %s", name, e.Message)
			if e.Fix != "" {
				a.note("  fix: %s", e.Fix)
			}
		}
	}
	if o.pool.Max == 0 {
		o.pool.Max = l.Host.Pool.Max
	}
	o.pool.Memory = l.Host.Pool.Memory
	return startHost(hostOptions{
		init: init, compiled: c, console: a.console, stdio: o.stdio, std: o.std, http: o.http, operator: o.operator,
		settings: settings{Token: o.token, Callers: o.callers, Pool: o.pool, Concurrency: l.Host.Concurrency.Total, PerTool: l.Host.Concurrency.PerTool},
	})
}

// restart gives running processes another configuration.
func (a *app) restart(ctx context.Context, l *loaded, h *host) error {
	init, err := initPath()
	if err != nil {
		return err
	}
	c, err := a.compile(ctx, l, init, "")
	if err != nil {
		return err
	}
	return h.reload(ctx, c)
}

// completeTools completes the names of tools; an untrusted configuration
// completes nothing.
func (a *app) completeTools(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	l, err := a.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, t := range l.Tools {
		if len(args) == 0 && strings.HasPrefix(string(t.Name), prefix) {
			out = append(out, string(t.Name)+"\t"+escapeLine(t.Description))
		}
		if len(args) > 0 && string(t.Name) == args[0] {
			for p := range propertyTypes(t.Parameters) {
				out = append(out, p+"=")
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// describe is one tool's grants for people, one line each.
func describe(p *casemate.Profile) []string {
	if p == nil {
		return nil
	}
	d := p.WithDefaults()
	out := []string{"network: " + string(d.Network)}
	for _, m := range d.Filesystem {
		s := fmt.Sprintf("%s %s", m.Access, m.Path)
		if m.At != m.Path {
			s += " at " + m.At
		}
		if m.Execute {
			s += ", may run programs of it"
		}
		if len(m.Names) > 0 {
			s += ", protected names too: " + strings.Join(m.Names, ", ")
		}
		out = append(out, s)
	}
	out = append(out, fmt.Sprintf("at most %s of memory, %s of disk, %d processes, %g cores, %s, %s of output; scope %s",
		size(d.Memory), size(d.Disk), d.Processes, d.CPU, d.Timeout, size(d.Output), d.Scope))
	if len(d.Syscalls.Deny) > 0 {
		out = append(out, "without the system calls "+strings.Join(d.Syscalls.Deny, ", "))
	}
	return out
}
