package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/router"
	"github.com/casemate/casemate/sandbox/process"
)

// compiled is what the spawner and the router are told.
type compiled struct {
	plan   plan.Plan
	serves reloadBody
	output int64 // the largest output limit, in bytes
}

// tools is how many tools planners see; MCP servers themselves are none.
func (c *compiled) tools() (n int) {
	for _, t := range c.serves.Tools {
		if t.Run.MCP == nil || t.Run.MCP.Tool != "" {
			n++
		}
	}
	return n
}

// serving are the tools that a router gets: only, where it is not empty, that
// one. A tool of an MCP server brings its server.
func (l *loaded) serving(only casemate.ToolName) []*casemate.Tool {
	var out []*casemate.Tool
	server := "" // of only
	for _, t := range l.Tools {
		if only == "" || t.Name == only {
			out = append(out, t)
			if t.Run.MCP != nil {
				server = t.Run.MCP.Server
			}
		}
	}
	for _, t := range l.Servers {
		if t.Run.MCP.Listed != nil && (only == "" || server == t.Run.MCP.Server) {
			out = append(out, t)
		}
	}
	return out
}

// writable are the paths of the host that tools may write.
func (l *loaded) writable() (paths []string) {
	if l == nil || l.Config == nil {
		return nil
	}
	for _, t := range slices.Concat(l.Tools, l.Servers) {
		for _, m := range t.Security.Filesystem {
			if m.Access == casemate.Write {
				paths = append(paths, m.Path)
			}
		}
	}
	return paths
}

// compile turns the tools into the spawner's plan; only, where it is not
// empty, that one. A tool that cannot be had on this host is refused by name
// and does not keep the others away.
func (a *app) compile(ctx context.Context, l *loaded, init string, only casemate.ToolName) (*compiled, error) {
	out, err := a.compiled(ctx, l, init, l.serving(only))
	if err != nil {
		return nil, err
	}
	if e := out.serves.Refused[only]; e != nil && only != "" {
		return nil, remote(e)
	}
	if only == "" {
		for _, e := range l.Unsupported {
			if out.serves.Refused[e.Tool] == nil {
				out.serves.Refused[e.Tool] = casemate.JSON(e)
			}
		}
	}
	return out, nil
}

func (a *app) compiled(ctx context.Context, l *loaded, init string, tools []*casemate.Tool) (*compiled, error) {
	out := &compiled{serves: reloadBody{Tools: tools, Refused: map[casemate.ToolName]*casemate.ErrorJSON{}, Chosen: map[casemate.Digest]router.Choice{}}}
	out.plan.Host = plan.Host{Records: recordFile(l.state), Store: filepath.Join(l.state, "store"), AllowDegraded: l.Host.AllowDegraded, Without: a.without}
	if err := os.MkdirAll(out.plan.Host.Store, 0o700); err != nil {
		return nil, &casemate.Error{Op: "state", Kind: casemate.Internal, Err: err}
	}
	in := &interpreters{finder: finder{env: os.Getenv}, cache: filepath.Join(l.state, "interpreters.json"), ask: a.question(init, l), prepare: a.preparer(init, l), module: a.moduler(init, l), dir: l.Dir}
	in.finder.home, _ = os.UserHomeDir()
	in.own = []string{l.state}
	if config, err := os.UserConfigDir(); err == nil {
		if real, err := filepath.EvalSymlinks(config); err == nil {
			config = real
		}
		in.own = append(in.own, filepath.Join(config, "casemate"))
	}
	in.writable = l.writable()
	pinned := l.Pinned()
	type made struct {
		plan.Guest
		err error
	}
	known := map[casemate.Digest]*made{} // the tools of one server may share a guest
	places := a.backends(init, l)
	out.serves.Tools = slices.Clone(tools)
	for i, t := range tools {
		out.output = max(out.output, t.Security.Output)
		choice := places.choose(ctx, t)
		t, layers, err := a.rooted(ctx, l, t, choice)
		out.serves.Tools[i], out.serves.Chosen[t.Guest()] = t, choice
		if err != nil {
			out.serves.Refused[t.Name] = casemate.JSON(err)
			continue
		}
		m := known[t.Guest()]
		if m == nil {
			m = &made{}
			if m.Guest, m.err = in.guest(ctx, t, pinned, layers); m.err == nil {
				m.Guest, m.err = places.contain(m.Guest, choice.Backend, layers)
			}
			known[t.Guest()] = m
			if m.err == nil {
				out.plan.Guests = append(out.plan.Guests, m.Guest)
			}
		}
		if m.err != nil {
			out.serves.Refused[t.Name] = casemate.JSON(m.err)
		}
	}
	return out, nil
}

// rooted returns t as it is pinned, with the folders of its image, which is
// fetched where it is not there; nothing of a tool that is refused is.
func (a *app) rooted(ctx context.Context, l *loaded, t *casemate.Tool, c router.Choice) (*casemate.Tool, []string, error) {
	if c.Refused != nil {
		return t, nil, c.Refused
	}
	if t.Image == nil {
		return t, nil, nil
	}
	i, err := a.imageFor(ctx, l, t.Image.Reference)
	if err != nil {
		if e, ok := errors.AsType[*casemate.Error](err); ok {
			named := *e
			named.Tool, named.Err = t.Name, fmt.Errorf("image: %w", e.Err)
			err = &named
		}
		return t, nil, err
	}
	if len(i.Layers) == 0 { // which would be the host's folders
		bug("an image without a folder")
	}
	with := *t
	with.Image = &casemate.Image{Reference: t.Image.Reference, Digest: i.Digest}
	return &with, i.Layers, nil
}

// guest compiles one tool, with the program that it gets on this host, or in the
// image of these layers.
func (r *interpreters) guest(ctx context.Context, t *casemate.Tool, pinned, layers []string) (plan.Guest, error) {
	with := *t
	var folders []string
	var ran resolved
	var module prepared
	var err error
	switch {
	case t.Image != nil:
		err = imaged(&with, layers)
	case t.Run.Python != nil:
		s := *t.Run.Python
		s.Interpreter, folders, err = r.script(ctx, "python", s.Interpreter)
		with.Run.Python = &s
	case t.Run.Node != nil:
		s := *t.Run.Node
		s.Interpreter, folders, err = r.script(ctx, "node", s.Interpreter)
		with.Run.Node = &s
	case t.Run.Wasm != nil || t.Run.JS != nil:
		module, err = r.module(ctx, t)
	case t.Run.MCP != nil || t.Run.Exec != nil && t.Name == execName:
		ran, err = r.started(ctx, t)
	}
	if err != nil {
		if e, ok := errors.AsType[*casemate.Error](err); ok {
			e.Tool = t.Name
		}
		return plan.Guest{}, err
	}
	g, err := process.Compile(&with, process.Options{Pinned: pinned, Prefixes: folders, Command: ran.Argv, Worker: module.worker, Module: module.folder, Mounts: ran.beside(t.Security.Filesystem)})
	if err != nil {
		return plan.Guest{}, err
	}
	g.Env = ran.environ(g.Env)
	// The router asks by the digest of what was trusted; which program that
	// means here is the plan's business.
	g.Digest = string(t.Guest())
	return g, nil
}

func (r *interpreters) script(ctx context.Context, language, configured string) (path string, folders []string, err error) {
	key := [2]string{language, configured}
	i, ok := r.scripts[key]
	if !ok {
		if i, err = r.resolve(ctx, language, configured); err != nil {
			return "", nil, err
		}
		if r.scripts == nil {
			r.scripts = map[[2]string]interpreter{}
		}
		r.scripts[key] = i // a thousand tools have one interpreter
	}
	return i.Path, i.Folders, nil
}
