package process

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/wasm"
)

// threads is what the worker of a module needs of processes: a module can start
// none, and the worker is a program of Go.
const threads = 32

// module makes g the worker of a module, which sees of the host the worker, the
// module, and what its profile grants.
func module(t *casemate.Tool, g *plan.Guest, o Options) error {
	if i := t.Security.WithDefaults().Isolation; i != "auto" && i != "wasm" {
		return unsupported(t, "isolation", "a module runs on the backend wasm alone, and not on "+i, "set security.isolation to wasm or auto")
	}
	if g.Loopback {
		return unsupported(t, "network", "a module has no network, not even its own loopback", "set security.network to none")
	}
	if t.Image != nil {
		return unsupported(t, "image", "a module has no root but its grants", "take image away")
	}
	if !filepath.IsAbs(o.Worker) || !filepath.IsAbs(o.Module) {
		return unsupported(t, "run", "the module was not compiled on this host", "run casemate doctor")
	}
	if t.Run.JS != nil && len(t.Security.Filesystem) > 0 {
		return unsupported(t, "filesystem", "JavaScript in QuickJS has no files", "take security.filesystem away, or use run: node")
	}
	deterministic := false
	if r := t.Run.JS; r != nil {
		g.Runner, deterministic = wasm.RunnerJS, r.Deterministic
	} else {
		r := t.Run.Wasm
		g.Runner, g.Function, deterministic = wasm.Runner, r.Function, r.Deterministic
		for _, el := range r.Args {
			name, text := casemate.Element(el)
			g.Command = append(g.Command, plan.Arg{Name: name, Text: text})
		}
		g.Stdin, _ = casemate.Element(r.Stdin)
		g.Options = options(t)
	}
	if deterministic {
		g.Preload = []string{wasm.Deterministic}
	}
	g.Backend, g.Interpreter, g.Runtime, g.Module = "wasm", wasm.WorkerPath, o.Worker, o.Module
	g.Version = wasm.Version
	// Of variables a module has those that its profile names.
	g.Env = slices.DeleteFunc(g.Env, func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		_, own := t.Security.Env[k]
		_, passed := o.Env[k]
		return !own && !passed
	})
	g.Processes = max(g.Processes, threads)
	g.Mounts = append(g.Mounts, plan.Mount{Source: o.Worker, At: wasm.WorkerPath, Execute: true, Prefix: true}, plan.Mount{Source: o.Module, At: wasm.ModulePath})
	return nil
}

// options are the arguments of t that may begin with "-".
func options(t *casemate.Tool) (names []string) {
	for name, role := range t.Roles {
		if role == casemate.RoleOption {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
