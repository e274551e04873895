package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/router"
	"github.com/casemate/casemate/sandbox/gvisor"
	"github.com/casemate/casemate/sandbox/oci"
	"github.com/casemate/casemate/sandbox/process"
)

// backends are what this host has for the tools of one configuration. A backend
// that no tool hangs on is neither looked for nor tried.
type backends struct {
	*app
	init   string
	loaded *loaded
	afresh bool // what was tried before says nothing

	caps map[string]casemate.Capabilities // of those that were asked about
	runs map[string]enclosing             // of oci and gvisor, those that work
}

// An enclosing turns a guest of the backend process into one of another.
type enclosing func(g plan.Guest, layers []string) (plan.Guest, error)

func (a *app) backends(init string, l *loaded) *backends {
	return &backends{app: a, init: init, loaded: l, caps: map[string]casemate.Capabilities{}, runs: map[string]enclosing{}}
}

// choose chooses the backend of a tool. It blocks while a backend is tried of
// which nothing is known: some tens of milliseconds, of gVisor a second.
func (b *backends) choose(ctx context.Context, t *casemate.Tool) router.Choice {
	for {
		c := router.Choose(t, b.caps)
		if c.Ask == "" {
			return c
		}
		b.ask(ctx, c.Ask)
	}
}

// all asks about every backend that this version has.
func (b *backends) all(ctx context.Context) (out []casemate.Capabilities) {
	for _, name := range []string{"process", "wasm", "oci", "gvisor"} {
		b.ask(ctx, name)
		out = append(out, b.caps[name])
	}
	return out
}

// ask finds out what a backend can do on this host.
func (b *backends) ask(ctx context.Context, name string) {
	var c casemate.Capabilities
	switch name {
	case "process":
		c = b.process(ctx)
	case "wasm":
		c = b.wasm(ctx)
	case "oci":
		c = b.oci(ctx)
	case "gvisor":
		c = b.gvisor(ctx)
	}
	c.Name = name
	if c.Controls == nil {
		c.Controls = []casemate.Control{}
	}
	for _, x := range c.Controls {
		if x.State == "missing" {
			c.Available, c.Assurance = false, ""
			if c.Fix == "" {
				c.Fix = x.Fix
			}
		}
	}
	b.caps[name] = c
}

// process has the spawner make a sandbox and say what was on; afresh, it also
// looks from inside at another.
func (b *backends) process(ctx context.Context) casemate.Capabilities {
	s, err := process.StartSpawner(b.init, &plan.Plan{Host: plan.Host{AllowDegraded: b.degraded()}})
	if err != nil {
		return unavailable("spawner", err)
	}
	defer s.Close()
	defer s.Router.Close()
	c, err := s.Probe()
	if err != nil {
		return unavailable("spawner", err)
	}
	if !b.afresh {
		return c
	}
	b.caps["process"] = c // for the limits
	inside, err := b.look(ctx, func(g plan.Guest, _ []string) (plan.Guest, error) { return g, nil })
	if err != nil {
		x := unavailable("sandbox", err).Controls[0]
		c.Controls = append(c.Controls, x)
		return c
	}
	for _, x := range b.controls(ctx, "process", inside) {
		i := slices.IndexFunc(c.Controls, func(y casemate.Control) bool { return y.Name == x.Name })
		if i < 0 {
			c.Controls = append(c.Controls, x)
		} else if worse := []string{"on", "degraded", "missing"}; slices.Index(worse, x.State) > slices.Index(worse, c.Controls[i].State) {
			c.Controls[i], c.Assurance = x, casemate.Weak
		}
	}
	return c
}

func (b *backends) degraded() []string {
	if b.loaded == nil || b.loaded.Config == nil {
		return nil
	}
	return b.loaded.Host.AllowDegraded
}

// oci tries each runtime of containers until one works.
func (b *backends) oci(ctx context.Context) casemate.Capabilities {
	found, err := oci.Look(os.Getenv, b.loaded.writable())
	if err != nil {
		return unavailable("runtime", err)
	}
	var first casemate.Capabilities
	said := "" // by those that do not work
	for i, p := range found {
		c := b.contained(ctx, "oci", p.Path, p.Runtime)
		if c.Available {
			c.Controls[0].Why += said
			return c
		}
		said += "; " + c.Controls[0].Why
		if i == 0 {
			first = c
		}
	}
	first.Controls[0].Why = strings.TrimPrefix(said, "; ")
	return first
}

// gvisor tries runsc.
func (b *backends) gvisor(ctx context.Context) casemate.Capabilities {
	path, err := gvisor.Look(os.Getenv, b.loaded.writable())
	if err != nil {
		return unavailable("runtime", err)
	}
	return b.contained(ctx, "gvisor", path, func(said string) (oci.Runtime, error) {
		rt, err := gvisor.Read(path, said)
		return oci.Runtime{Path: rt.Path, Version: "runsc " + rt.Version}, err
	})
}

// contained is what the runtime at path was found to enforce: when it was last
// tried, as the same file on the same start of this host, or now. runtime is what
// it is by what it says of itself.
func (b *backends) contained(ctx context.Context, name, path string, runtime func(said string) (oci.Runtime, error)) casemate.Capabilities {
	file, err := contain.FileID(path)
	if err != nil {
		return unavailable("runtime", err)
	}
	key, err := trialKey(name, path+" "+file, b.degraded())
	if err != nil {
		return unavailable("runtime", err)
	}
	t, known := b.remembered(key)
	if !known || b.afresh || len(b.without) > 0 {
		said, err := b.version(ctx, path)
		var rt oci.Runtime
		if err == nil {
			rt, err = runtime(said)
		}
		if err != nil {
			return unavailable("runtime", err)
		}
		rt.File = file
		t = trial{Version: rt.Version, Capabilities: b.try(ctx, name, rt.Version, into(rt))}
		if t.Available && len(b.without) == 0 {
			b.remember(key, t)
		}
	}
	if t.Available {
		b.runs[name] = into(oci.Runtime{Path: path, Version: t.Version, File: file})
	}
	return t.Capabilities
}

// into puts guests into the containers of a runtime.
func into(rt oci.Runtime) enclosing {
	return func(g plan.Guest, layers []string) (plan.Guest, error) { return oci.Contain(g, rt, layers) }
}

// unavailable are the capabilities of a backend that lacks one thing.
func unavailable(control string, err error) casemate.Capabilities {
	x := casemate.Control{Name: control, State: "missing", Why: err.Error(), Fix: "run casemate doctor"}
	if e, ok := errors.AsType[*casemate.Error](err); ok {
		if e.Err != nil {
			x.Why = e.Err.Error()
		}
		if e.Fix != "" {
			x.Fix = e.Fix
		}
	}
	return casemate.Capabilities{Fix: x.Fix, Controls: []casemate.Control{x}}
}

// contain makes g a guest of the backend that was chosen.
func (b *backends) contain(g plan.Guest, backend string, layers []string) (plan.Guest, error) {
	switch run := b.runs[backend]; {
	case run != nil:
		return run(g, layers)
	case len(layers) > 0:
		bug("an image on the backend " + backend)
	case backend == "oci" || backend == "gvisor":
		bug("the backend " + backend + " was chosen and not tried")
	}
	if g.Backend == "" {
		g.Backend = backend
	}
	return g, nil
}
