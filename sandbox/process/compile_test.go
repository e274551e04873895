package process

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
)

func mcp(server, tool string, split bool, command ...string) *casemate.Tool {
	return &casemate.Tool{Name: casemate.ToolName("x_" + tool), Run: casemate.Run{MCP: &casemate.MCP{Server: server, Tool: tool, Split: split, Command: command, Listed: []byte(`{"name":"` + tool + `"}`)}}}
}

// The tools of a server that is not split give one guest, which serves a
// session; those of one that is give one each.
func TestCompileMCP(t *testing.T) {
	compile := func(tool *casemate.Tool, o Options) plan.Guest {
		t.Helper()
		g, err := Compile(tool, o)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	base, a, b := compile(mcp("fs", "", false, "srv", "{literal}"), Options{}), compile(mcp("fs", "read", false, "srv", "{literal}"), Options{}), compile(mcp("fs", "write", false, "srv", "{literal}"), Options{})
	if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(a, base) || a.Tool != "fs" || a.Runner != "mcp" || !a.Session {
		t.Errorf("%+v\n%+v\n%+v", base, a, b)
	}
	if want := []plan.Arg{{Text: "srv"}, {Text: "{literal}"}}; !slices.Equal(a.Command, want) || a.Digest != string(mcp("fs", "", false, "srv", "{literal}").Guest()) {
		t.Errorf("%+v", a)
	}
	a, b = compile(mcp("fs", "read", true, "srv"), Options{}), compile(mcp("fs", "write", true, "srv"), Options{})
	if a.Digest == b.Digest || a.Tool != "x_read" {
		t.Errorf("%+v\n%+v", a, b)
	}
	once := mcp("fs", "read", false, "srv")
	once.Security.Scope = casemate.ScopeCall
	if compile(once, Options{}).Session {
		t.Error("a scope that is stated does not hold")
	}
}

func TestCompileOptions(t *testing.T) {
	tool := mcp("fs", "", false, "npx", "fs")
	tool.Security.Pass = []string{"TOKEN"}
	tool.Security.Env = map[string]string{"A": "b"}
	mount := plan.Mount{Source: "/store/x", At: "/store/x", Execute: true}
	g, err := Compile(tool, Options{Command: []string{"/usr/bin/node", "/store/x/cli.js", "{x}"}, Mounts: []plan.Mount{mount}, Env: map[string]string{"TOKEN": "t"}})
	if err != nil || !slices.Equal(g.Command, []plan.Arg{{Text: "/usr/bin/node"}, {Text: "/store/x/cli.js"}, {Text: "{x}"}}) || len(g.Mounts) != 1 || !reflect.DeepEqual(g.Mounts[0], mount) || !slices.Contains(g.Env, "TOKEN=t") || !slices.Contains(g.Env, "A=b") {
		t.Errorf("%+v %v", g, err)
	}
	exec := &casemate.Tool{Name: "e", Run: casemate.Run{Exec: &casemate.Exec{Command: []string{"npx", "{text}"}}}}
	if g, err := Compile(exec, Options{Command: []string{"/usr/bin/node", "{text}"}}); err != nil || !slices.Equal(g.Command, []plan.Arg{{Text: "/usr/bin/node"}, {Name: "text"}}) {
		t.Errorf("%+v %v", g, err)
	}
	write := mount
	write.Write = true
	nul := mcp("fs", "", false, "a\x00b")
	for name, f := range map[string]func() error{
		"a variable that is not passed": func() error { _, err := Compile(tool, Options{Env: map[string]string{"LD_PRELOAD": "x"}}); return err },
		"a value with a NUL byte":       func() error { _, err := Compile(tool, Options{Env: map[string]string{"TOKEN": "x\x00"}}); return err },
		"a mount to write":              func() error { _, err := Compile(tool, Options{Mounts: []plan.Mount{write}}); return err },
		"no command":                    func() error { _, err := Compile(mcp("fs", "", false), Options{}); return err },
		"an empty command":              func() error { _, err := Compile(mcp("fs", "", false, ""), Options{}); return err },
		"a command with a NUL byte":     func() error { _, err := Compile(nul, Options{}); return err },
	} {
		err := f()
		if casemate.KindOf(err) != casemate.Invalid || strings.Contains(err.Error(), "\x00") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
