package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/internal/nearest"
	"github.com/casemate/casemate/internal/plan"
)

// loadOwn loads the user's own configuration, and no other: the shared router
// serves clients in whatever folder they are.
func (a *app) loadOwn() (*loaded, error) {
	state, err := stateFolder("")
	if err != nil {
		return nil, err
	}
	user, err := os.UserConfigDir()
	if err != nil {
		return nil, invalid("load", "set HOME or XDG_CONFIG_HOME", "there is no folder of your configuration: %w", err)
	}
	path := filepath.Join(user, "casemate", "casemate.yaml")
	if _, err := os.Lstat(path); missing(err) {
		return nil, invalid("load", "casemate wrap FILE, of the client's configuration, writes it", "you have no configuration: %s is not there", path)
	}
	opt := a.options(state, true)
	opt.Pass, opt.Getenv = true, nil
	c, err := catalog.Load(path, opt)
	if err != nil {
		return nil, err
	}
	if err := c.CheckLock(); err != nil {
		return nil, err
	}
	l := &loaded{Config: c, state: state}
	if c.Host.State != "" {
		if l.state, err = stateFolder(c.Host.State); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// may says whether argv is the command of the server of that name.
func (l *loaded) may(name string, argv []string) error {
	if l.Server(name) == nil {
		var names []string
		for _, t := range l.Servers {
			names = append(names, string(t.Name))
		}
		for _, e := range l.Unsupported {
			if string(e.Tool) == name {
				return e
			}
		}
		fix := "casemate wrap FILE, of the client's configuration"
		if n := nearest.To(name, names); n != "" {
			fix = "did you mean " + n + "? else: " + fix
		}
		return invalid("run", fix, "there is no server %q in %s", name, l.File)
	}
	return l.CheckWrapped(name, argv)
}

// servers is l with MCP servers alone: no other tool is any shim's.
func (l *loaded) servers() *loaded {
	c := *l.Config
	c.Tools = slices.DeleteFunc(slices.Clone(c.Tools), func(t *casemate.Tool) bool { return t.Run.MCP == nil })
	return &loaded{Config: &c, state: l.state}
}

// unlisted says whether nobody knows yet what the server of that name lists.
func (l *loaded) unlisted(name string) bool {
	return slices.ContainsFunc(l.Unlisted(), func(t *casemate.Tool) bool { return string(t.Name) == name })
}

// same says whether l and o serve the same servers.
func (l *loaded) same(o *loaded) bool {
	digests := func(l *loaded) (out []casemate.Digest) {
		for _, t := range slices.Concat(l.Servers, l.Tools) {
			if t.Run.MCP != nil {
				out = append(out, t.Digest())
			}
		}
		return out
	}
	return slices.Equal(digests(l), digests(o))
}

// guests calls f with each tool of a server that has a sandbox of its own.
func (l *loaded) guests(server string, f func(*casemate.Tool)) {
	seen := map[casemate.Digest]bool{}
	for _, t := range slices.Concat(l.Servers, l.Tools) {
		if t.Run.MCP == nil || t.Run.MCP.Server != server || seen[t.Guest()] {
			continue
		}
		seen[t.Guest()] = true
		f(t)
	}
}

// passed are the names of the variables that a server's caller passes on.
func (l *loaded) passed(server string) []string {
	var out []string
	l.guests(server, func(t *casemate.Tool) { out = append(out, t.Security.Pass...) })
	slices.Sort(out)
	return slices.Compact(out)
}

// variants makes, of the guests of a server that its caller's values concern,
// those with these values; the ones of have stay, where their guest does.
func (l *loaded) variants(all []plan.Guest, server string, env map[string]string, have map[casemate.Digest]casemate.Digest) (map[casemate.Digest]casemate.Digest, []plan.Guest) {
	digests := map[casemate.Digest]casemate.Digest{}
	var more []plan.Guest
	l.guests(server, func(t *casemate.Tool) {
		base := t.Guest()
		i := slices.IndexFunc(all, func(g plan.Guest) bool { return g.Digest == string(base) })
		if i < 0 || len(t.Security.Pass) == 0 {
			return
		}
		if digests[base] = have[base]; digests[base] != "" {
			return
		}
		g := all[i]
		g.Env = withValues(g.Env, t.Security.Pass, env)
		digests[base] = base + casemate.Digest("#"+strings.ToLower(rand.Text()))
		g.Digest = string(digests[base])
		more = append(more, g)
	})
	return digests, more
}

// withValues is env with those of names that have a value.
func withValues(env, names []string, values map[string]string) []string {
	out := slices.Clone(env)
	for _, k := range names {
		v, ok := values[k]
		if !ok {
			continue
		}
		out = slices.DeleteFunc(out, func(kv string) bool { return strings.HasPrefix(kv, k+"=") })
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}
