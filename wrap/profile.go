package wrap

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Host is what wrap knows of the machine and its user.
type Host struct {
	Home   string   // of the user; absolute
	Never  []string // Casemate's own folders, which no server gets
	Passes func(name string) (why string)
}

// A Mount is one grant that wrap proposes.
type Mount struct {
	Path    string // on the host, every link resolved
	At      string // as the server calls it
	Write   bool
	Execute bool
	program bool // what is run, not what it works on
}

// A Profile is what wrap proposes for one server.
type Profile struct {
	Argv      []string
	Mounts    []Mount
	Env       []string
	Cwd       string
	Memory    string
	Timeout   string
	Processes int
	Purpose   string
	Notes     []string // for the person who reads it: what was left out, and why
}

// Writable lists what the server may change on the host.
func (p *Profile) Writable() []string {
	var out []string
	for _, m := range p.Mounts {
		if m.Write {
			out = append(out, m.Path)
		}
	}
	return out
}

// propose makes the profile of a server from its argv, which is looked at and
// not run: an argument that is a path of a file or folder that exists becomes
// a grant at the same path, to read, or to write where servers.yaml says that
// the server is there for that.
func (h *Host) propose(s *Server, all map[string]*known) *Profile {
	c := understand(s.Argv, all)
	k := c.known
	if k == nil {
		k = &known{}
	}
	p := &Profile{Argv: s.Argv, Purpose: k.Purpose, Memory: k.Memory, Timeout: k.Timeout, Processes: k.Procs}
	g := &granter{Host: h, profile: p, base: s.Base}
	g.programs(s.Argv, c)
	for i := c.own; i < len(s.Argv); i++ {
		option, value := "", s.Argv[i]
		if strings.HasPrefix(value, "-") {
			name, v, joined := strings.Cut(value, "=")
			if option = name; !joined {
				continue
			}
			value = v
		} else if i > c.own && strings.HasPrefix(s.Argv[i-1], "-") {
			option = s.Argv[i-1]
		}
		access := k.Paths
		if a, ok := k.Options[option]; ok {
			access = a
		}
		g.path(value, access == "write", fmt.Sprintf("argument %d", i))
	}
	for _, name := range s.Env {
		if access, ok := k.EnvPaths[name]; ok {
			g.path(s.values[name], access == "write", "the variable "+name)
		}
		if why := badVariable(name); why != "" {
			g.note("the variable %s is not passed on: %s", name, why)
		} else if why := h.Passes(name); why != "" {
			g.note("the variable %s is not passed on: %s", name, why)
		} else {
			p.Env = append(p.Env, name)
		}
	}
	if s.owner.get("envFile") != nil {
		g.note("the variables of its envFile are not passed on: name them under security.env")
	}
	g.settle()
	g.folder()
	if k.Network != "" {
		g.note("it has no network, and so does not reach %s", k.Network)
	}
	if k.Note != "" {
		g.note("%s", k.Note)
	}
	return p
}

// A granter collects the grants of one profile.
type granter struct {
	*Host
	profile  *Profile
	base     string
	relative bool // an argument was relative to base
}

func (g *granter) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(g.profile.Notes, n) {
		g.profile.Notes = append(g.profile.Notes, n)
	}
}

// locate makes an argument that is a path absolute; "" is none.
func (g *granter) locate(arg, what string) string {
	for _, prefix := range []string{"sqlite:///", "duckdb:///", "file://"} {
		if rest, ok := strings.CutPrefix(arg, prefix); ok {
			if arg = rest; prefix != "file://" && !strings.HasPrefix(arg, "/") && strings.Contains(arg, "/") {
				arg = "/" + arg // some write three slashes before an absolute path, some four
			}
		}
	}
	switch {
	case arg == "" || len(arg) > 4095 || strings.ContainsAny(arg, "\x00\n\r") || strings.Contains(arg, "://"):
		return ""
	case strings.Contains(arg, "${") || strings.Contains(arg, "{env:") || strings.HasPrefix(arg, "$"):
		g.note("%s holds a variable of the client: what it names is not granted, and the first start is refused until casemate tools approve", what)
		return ""
	case filepath.IsAbs(arg):
		return filepath.Clean(arg)
	case g.base == "" || arg != "." && arg != ".." && !strings.Contains(arg, "/"):
		return ""
	}
	g.relative = true
	return filepath.Join(g.base, arg)
}

// path grants what an argument names, if it is there.
func (g *granter) path(arg string, write bool, what string) {
	at := g.locate(arg, what)
	if at == "" {
		return
	}
	info, err := os.Stat(at)
	switch {
	case err != nil && !write:
		return
	case err != nil || write && info.Mode().IsRegular(): // a file is written by way of its folder
		folder, ok := ownFolder(at)
		if !ok {
			if err == nil {
				g.grant(Mount{At: at}, what)
			}
			g.note("%s: it may not write %s: let it lie alone in a folder, or grant its folder by hand", what, at)
			return
		}
		g.grant(Mount{At: folder, Write: true}, what)
	case info.IsDir() || info.Mode().IsRegular():
		g.grant(Mount{At: at, Write: write}, what)
	default:
		g.note("%s is neither a file nor a folder, and is not granted", what)
	}
}

// ownFolder is the folder of a file that lies there alone, or with what is
// named after it (a journal, say).
func ownFolder(file string) (string, bool) {
	dir := filepath.Dir(file)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", false
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), filepath.Base(file)) {
			return "", false
		}
	}
	return dir, true
}

// grant adds a mount, unless it is one that wrap never grants.
func (g *granter) grant(m Mount, what string) bool {
	real, err := filepath.EvalSymlinks(m.At)
	if err != nil {
		return false
	}
	if m.Path = real; inSystem(m.At) && inSystem(real) && !m.Write {
		return true // every sandbox has it
	}
	for _, p := range []string{m.At, real} {
		if why := g.never(p, m.program); why != "" {
			g.note("%s, %s, is not granted: %s", what, m.At, why)
			return false
		}
	}
	g.profile.Mounts = append(g.profile.Mounts, m)
	return true
}

// settle leaves one of the mounts that lie in each other: the outer one. What
// a server runs it may not change.
func (g *granter) settle() {
	ms := g.profile.Mounts
	slices.SortStableFunc(ms, func(a, b Mount) int { return strings.Compare(a.At, b.At) })
	var out []Mount
	for _, m := range ms {
		i := slices.IndexFunc(out, func(o Mount) bool { return within(o.At, m.At) })
		if i < 0 {
			out = append(out, m)
			continue
		}
		o := &out[i]
		switch {
		case o.At == m.At && !o.program && !m.program:
			o.Write = o.Write || m.Write
		case (o.program || m.program) && (o.Write || m.Write):
			o.Write = false
			g.note("%s may only be read: it holds the server's own program", o.At)
		case m.Write && !o.Write:
			g.note("%s may only be read: it lies in %s", m.At, o.At)
		}
		o.Execute = o.Execute || m.Execute
		o.program = o.program || m.program
	}
	g.profile.Mounts = out
}

// folder sets the working folder, where an argument is relative to it and
// there is one in the sandbox.
func (g *granter) folder() {
	if !g.relative {
		return
	}
	if slices.ContainsFunc(g.profile.Mounts, func(m Mount) bool { return within(g.base, m.At) || within(m.At, g.base) }) {
		g.profile.Cwd = g.base
	}
}

// within says whether p is dir or lies in it, by component.
func within(dir, p string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}
