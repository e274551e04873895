package wrap

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// text writes a server's entry: in lines that begin with indent, or as one
// object of JSON where the list is in brackets.
func (p *Profile) text(name, from, indent, newline string, brackets bool) string {
	if brackets {
		return p.object(name)
	}
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(indent + fmt.Sprintf(format, args...) + newline)
	}
	line("# %s, a server of %s%s", name, oneLine(from), map[bool]string{true: ": " + p.Purpose}[p.Purpose != ""])
	for _, n := range p.Notes {
		line("# note: %s", oneLine(n))
	}
	line("- name: %s", quoteWord(name))
	line("  mcp:")
	words := make([]string, len(p.Argv))
	for i, a := range p.Argv {
		words[i] = quote(a)
	}
	line("    command: [%s]", strings.Join(words, ", "))
	line("  security:")
	line("    network: none")
	if len(p.Mounts) > 0 {
		line("    filesystem:")
	}
	for _, m := range p.Mounts {
		execute := ""
		if m.Execute {
			execute = ", execute: true"
		}
		line("      - {path: %s, at: %s, access: %s%s}", quote(m.Path), quote(m.At), m.access(), execute)
	}
	if len(p.Env) > 0 {
		env := make([]string, len(p.Env))
		for i, name := range p.Env {
			env[i] = quoteWord(name)
		}
		line("    env: [%s]", strings.Join(env, ", "))
	}
	if p.Cwd != "" {
		line("    cwd: %s", quote(p.Cwd))
	}
	if p.Memory != "" {
		line("    memory: %s", p.Memory)
	}
	if p.Processes > 0 {
		line("    processes: %d", p.Processes)
	}
	if p.Timeout != "" {
		line("    timeout: %s", p.Timeout)
	}
	line("    scope: session")
	return b.String()
}

func (m Mount) access() string {
	if m.Write {
		return "write"
	}
	return "read"
}

// quoteWord leaves a name bare where no reader of YAML takes it for something
// else: a number, a truth value, null.
func quoteWord(s string) string {
	var n yaml.Node
	if yaml.Unmarshal([]byte(s), &n) == nil && len(n.Content) == 1 && n.Content[0].Tag == "!!str" && n.Content[0].Value == s && len(s) > 1 {
		switch strings.ToLower(s) {
		case "yes", "no", "on", "off":
		default:
			return s
		}
	}
	return quote(s)
}

// oneLine is s as it can stand in a comment.
func oneLine(s string) string { q := quote(s); return q[1 : len(q)-1] }

// object is the entry on one line.
func (p *Profile) object(name string) string {
	type mount struct {
		Path    string `json:"path"`
		At      string `json:"at"`
		Access  string `json:"access"`
		Execute bool   `json:"execute,omitempty"`
	}
	type security struct {
		Network    string   `json:"network"`
		Filesystem []mount  `json:"filesystem,omitempty"`
		Env        []string `json:"env,omitempty"`
		Cwd        string   `json:"cwd,omitempty"`
		Memory     string   `json:"memory,omitempty"`
		Processes  int      `json:"processes,omitempty"`
		Timeout    string   `json:"timeout,omitempty"`
		Scope      string   `json:"scope"`
	}
	s := security{Network: "none", Env: p.Env, Cwd: p.Cwd, Memory: p.Memory, Processes: p.Processes, Timeout: p.Timeout, Scope: "session"}
	for _, m := range p.Mounts {
		s.Filesystem = append(s.Filesystem, mount{m.Path, m.At, m.access(), m.Execute})
	}
	j, err := json.Marshal(struct {
		Name string              `json:"name"`
		MCP  map[string][]string `json:"mcp"`
		Sec  security            `json:"security"`
	}{name, map[string][]string{"command": p.Argv}, s})
	if err != nil {
		panic("wrap: bug: " + err.Error())
	}
	return string(j) + ", "
}
