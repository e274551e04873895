package process

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/plan"
)

// Name is the backend's.
const Name = "process"

// Options is what a plan needs beside the tool.
type Options struct {
	Pinned   []string // host paths that no guest may write, whatever it is granted
	Prefixes []string // folders of the tool's interpreter, read-only and executable
}

// Compile turns a tool into what the spawner knows of it. It is pure: paths
// were resolved when the configuration was trusted.
func Compile(t *casemate.Tool, o Options) (plan.Guest, error) {
	p := t.Security.WithDefaults()
	g := plan.Guest{
		Tool: string(t.Name), Digest: string(t.Digest()), Cwd: p.Cwd, Loopback: p.Network == casemate.NetworkLoopback,
		DenySyscalls: p.Syscalls.Deny, MilliCPU: max(1, int64(math.Round(p.CPU*1000))), Memory: p.Memory, Disk: p.Disk,
		Processes: int64(p.Processes), Output: p.Output, Timeout: int64(p.Timeout), Session: p.Scope == casemate.ScopeSession,
	}
	if p.Network != casemate.NetworkNone && p.Network != casemate.NetworkLoopback {
		return g, unsupported(t, "network", "the process backend gives no network beyond the sandbox's own loopback", "network: none, or loopback")
	}
	for _, m := range p.Filesystem {
		pm := plan.Mount{Source: m.Path, At: m.At, Write: m.Access == casemate.Write, Execute: m.Execute, Names: m.Names}
		if pm.Write {
			for _, path := range o.Pinned {
				if path == m.Path || strings.HasPrefix(path, strings.TrimSuffix(m.Path, "/")+"/") {
					pm.Pinned = append(pm.Pinned, path)
				}
			}
		}
		g.Mounts = append(g.Mounts, pm)
	}
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, prefix := range o.Prefixes {
		g.Mounts = append(g.Mounts, plan.Mount{Source: prefix, At: prefix, Execute: true, Prefix: true})
		path = filepath.Join(prefix, "bin") + ":" + path
	}
	env := map[string]string{"PATH": path, "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "USER": "sandbox"}
	for k, v := range p.Env {
		env[k] = v
	}
	for k, v := range env {
		g.Env = append(g.Env, k+"="+v)
	}
	slices.Sort(g.Env)
	if _, err := linux.GuestFilter(g.DenySyscalls); err != nil {
		return g, &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Invalid, Err: errors.New("syscalls.deny: " + err.Error()), Fix: "correct the names in security.syscalls.deny"}
	}
	return g, runner(t, &g)
}

func runner(t *casemate.Tool, g *plan.Guest) error {
	switch r := t.Run; {
	case r.Exec != nil:
		g.Runner = "exec"
		for _, el := range r.Exec.Command {
			name, text := casemate.Element(el)
			g.Command = append(g.Command, plan.Arg{Name: name, Text: text})
		}
		g.Stdin, _ = casemate.Element(r.Exec.Stdin)
		for name, role := range t.Roles {
			if role == casemate.RoleOption {
				g.Options = append(g.Options, name)
			}
		}
		slices.Sort(g.Options)
	case r.Shell != nil:
		g.Runner = "shell"
	case r.Python != nil:
		g.Runner, g.Interpreter, g.Preload = "python", r.Python.Interpreter, r.Python.Preload
	case r.Node != nil:
		g.Runner, g.Interpreter, g.Preload = "node", r.Node.Interpreter, r.Node.Preload
	case r.Builtin != "":
		g.Runner, g.Function = "files", string(r.Builtin)
	default:
		return unsupported(t, "run", "this version does not have the runner", "run: exec, python, node, shell or builtin")
	}
	if (g.Runner == "python" || g.Runner == "node") && !filepath.IsAbs(g.Interpreter) {
		return unsupported(t, "run", "no "+g.Runner+" was found", "install it, or name it: run: {"+g.Runner+": {interpreter: /path/to/it}}")
	}
	return nil
}

func unsupported(t *casemate.Tool, control, what, fix string) error {
	return &casemate.Error{Op: "start", Tool: t.Name, Kind: casemate.Unsupported, Err: errors.New(control + ": " + what), Fix: fix}
}

// degradedFix is the way around that only an operator has.
func degradedFix(name string) string {
	if name != "memory" && name != "cpu" {
		return ""
	}
	return "; or accept it: host: {allow_degraded: [" + name + "]} in your own configuration"
}

// assurance is what the process backend gives with these controls.
func assurance(controls []casemate.Control) casemate.Assurance {
	for _, c := range controls {
		if c.State != "on" || c.Name == "processes limit" && c.Why != "" {
			return casemate.Weak
		}
	}
	return casemate.Moderate
}
