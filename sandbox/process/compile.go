package process

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/plan"
)

// Name is the backend's.
const Name = "process"

// Options is what a plan needs beside the tool.
type Options struct {
	Pinned   []string          // host paths that no guest may write, whatever it is granted
	Prefixes []string          // folders of the tool's interpreter, read-only and executable
	Command  []string          // in place of the argv of exec (with its arguments) or mcp (literal), where a package was prepared
	Mounts   []plan.Mount      // beside the profile's, to read and execute only: what the command stands on
	Worker   string            // of wasm and js: path on the host of casemate-wasm
	Module   string            // of wasm and js: folder of the store with the module and what was compiled of it
	Env      map[string]string // values of variables that the profile passes (Profile.Pass), for one session's variant
}

// Compile turns a tool into what the spawner knows of it. It is pure: paths
// were resolved when the configuration was trusted. The tools of an MCP server
// that share a sandbox give the same guest: a plan needs it once. A variant of
// a guest is the same with Env, and a digest of its own, which the caller sets.
func Compile(t *casemate.Tool, o Options) (plan.Guest, error) {
	p := t.Security
	if p.Scope == "" && t.Run.MCP != nil {
		p.Scope = casemate.ScopeSession
	}
	p = p.WithDefaults()
	g := plan.Guest{
		Tool: string(t.Name), Digest: string(t.Guest()), Cwd: p.Cwd, Loopback: p.Network == casemate.NetworkLoopback,
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
	for _, m := range o.Mounts {
		if m.Write {
			return g, invalid(t, "options: the mount at "+m.At+" is to write", "grant it in security.filesystem")
		}
		g.Mounts = append(g.Mounts, m)
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
	for k, v := range o.Env {
		if !slices.Contains(p.Pass, k) {
			return g, invalid(t, "the variable "+strconv.Quote(k)+" is not one that the profile passes", "name it in security.pass, and trust the configuration again")
		}
		env[k] = v
	}
	for k, v := range env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(v, 0) {
			return g, invalid(t, "security.env: "+strconv.Quote(k)+" is no variable that a program can have", "a name without =, and no NUL byte in name or value")
		}
		g.Env = append(g.Env, k+"="+v)
	}
	slices.Sort(g.Env)
	if err := linux.CheckDeny(g.DenySyscalls); err != nil {
		return g, invalid(t, "syscalls.deny: "+err.Error(), "correct the names in security.syscalls.deny")
	}
	return g, runner(t, &g, o)
}

func runner(t *casemate.Tool, g *plan.Guest, o Options) error {
	command := func(own []string) []string {
		if len(o.Command) > 0 {
			return o.Command
		}
		return own
	}
	if t.Security.Isolation == "wasm" && t.Run.Wasm == nil && t.Run.JS == nil {
		return unsupported(t, "isolation", "the backend wasm starts no program: it runs modules and JavaScript alone", "run: {wasm: {module: …}} or {js: {}}, or take another isolation")
	}
	switch r := t.Run; {
	case r.Exec != nil:
		g.Runner = "exec"
		for _, el := range command(r.Exec.Command) {
			name, text := casemate.Element(el)
			g.Command = append(g.Command, plan.Arg{Name: name, Text: text})
		}
		g.Stdin, _ = casemate.Element(r.Exec.Stdin)
		g.Options = options(t)
	case r.MCP != nil:
		g.Runner = "mcp"
		if !r.MCP.Split || r.MCP.Tool == "" {
			g.Tool = r.MCP.Server
		}
		for _, el := range command(r.MCP.Command) {
			if strings.ContainsRune(el, 0) {
				return invalid(t, "run.mcp.command holds a NUL byte", "take it out")
			}
			g.Command = append(g.Command, plan.Arg{Text: el})
		}
		if len(g.Command) == 0 || g.Command[0].Text == "" {
			return invalid(t, "run.mcp.command is empty", "name the program of the server and its arguments")
		}
	case r.Shell != nil:
		g.Runner = "shell"
	case r.Python != nil:
		g.Runner, g.Interpreter, g.Preload = "python", r.Python.Interpreter, r.Python.Preload
		g.Fork = !g.Session && !r.Python.NoFork
	case r.Node != nil:
		g.Runner, g.Interpreter, g.Preload = "node", r.Node.Interpreter, r.Node.Preload
	case r.Wasm != nil, r.JS != nil:
		return module(t, g, o)
	case r.Builtin != "":
		g.Runner, g.Function = "files", string(r.Builtin)
	default:
		return unsupported(t, "run", "this version does not have the runner", "run: exec, python, node, shell, wasm, js, mcp or builtin")
	}
	if (g.Runner == "python" || g.Runner == "node") && !filepath.IsAbs(g.Interpreter) {
		return unsupported(t, "run", "no "+g.Runner+" was found", "install it, or name it: run: {"+g.Runner+": {interpreter: /path/to/it}}")
	}
	return nil
}

func invalid(t *casemate.Tool, what, fix string) error {
	return &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Invalid, Err: errors.New(what), Fix: fix}
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
