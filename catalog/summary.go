package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/casemate/casemate"
)

// Summary says what c would grant, a line for each tool and one for each that
// it cannot run. Control characters are escaped: the text may be a stranger's.
func (c *Config) Summary() []string {
	out := slices.Clone(c.grants)
	for _, u := range c.Unsupported {
		out = append(out, visible(u.Error()))
	}
	return out
}

func summary(t *casemate.Tool, p *profile) string {
	s := t.Security
	parts := []string{"runs " + runs(t)}
	if t.Image != nil {
		parts = append(parts, fmt.Sprintf("in the image %q", t.Image.Reference))
	}
	if s.Isolation != "auto" {
		parts = append(parts, "isolation "+s.Isolation)
	}
	parts = append(parts, "network "+string(s.Network))
	if len(s.Filesystem) == 0 {
		parts = append(parts, "no files")
	}
	for _, m := range s.Filesystem {
		how := map[casemate.Access]string{casemate.Read: "reads", casemate.Write: "writes"}[m.Access]
		if m.Execute {
			how += " and executes"
		}
		g := fmt.Sprintf("%s %s (as %s)", how, shownPath(m.Path), m.At)
		if len(m.Names) > 0 {
			g += " with protected names " + strings.Join(m.Names, " ")
		}
		parts = append(parts, g)
	}
	if len(p.passed) > 0 {
		parts = append(parts, "gets your variables "+strings.Join(p.passed, " "))
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(s.Env)), func(k string) bool { return slices.Contains(p.passed, k) })
	if len(names) > 0 {
		parts = append(parts, "sets "+strings.Join(names, " "))
	}
	parts = append(parts, fmt.Sprintf("memory %d MiB, %s", s.Memory>>20, s.Timeout))
	if s.Scope == casemate.ScopeSession {
		parts = append(parts, "lives for a session")
	}
	return visible(string(t.Name) + ": " + strings.Join(parts, "; "))
}

func runs(t *casemate.Tool) string {
	script := func(what string, s *casemate.Script) string {
		if s.Interpreter != "" {
			what += " by " + shownPath(s.Interpreter)
		}
		return what
	}
	switch r := t.Run; {
	case r.Exec != nil:
		s := fmt.Sprintf("%q", r.Exec.Command)
		if len(s) > 400 {
			s = s[:400] + "…"
		}
		return s
	case r.Python != nil:
		return script("Python code of the planner", r.Python)
	case r.Node != nil:
		return script("JavaScript code of the planner", r.Node)
	case r.Shell != nil:
		return "shell commands of the planner"
	case r.JS != nil:
		return "JavaScript code of the planner, in QuickJS"
	case r.Wasm != nil:
		what := "the WebAssembly module " + shownPath(r.Wasm.Module)
		if f := r.Wasm.Function; f != "" {
			what = fmt.Sprintf("the function %q of ", f) + what
		}
		return what
	case r.MCP != nil:
		s := fmt.Sprintf("the MCP server %q", r.MCP.Command)
		if len(s) > 400 {
			s = s[:400] + "…"
		}
		if r.MCP.Split {
			s += ", a sandbox for each of its tools"
		}
		if r.MCP.Sampling {
			s += ", which may ask for the planner's model"
		}
		if r.MCP.Elicitation {
			s += ", which may ask the user"
		}
		return s
	default:
		return "the built-in " + string(r.Builtin)
	}
}

func shownPath(p string) string { return fmt.Sprintf("%q", p) }
