package catalog

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

const modules = `version: 1
tools:
  - name: command
    parameters: {type: object, properties: {text: {type: string}, flag: {type: string}}, required: [text, flag]}
    run: {wasm: {module: ./m.wasm, args: [-v, "{flag}"], stdin: "{text}", result: json, deterministic: true}}
    flow: {args: {flag: option}}
  - name: function
    parameters: {type: object, properties: {a: {type: object}}}
    run: {wasm: {module: ./link.wasm, function: sum}}
  - name: script
    run: {js: {deterministic: true}}
`

func withModules(t *testing.T, module string) (string, *Config) {
	t.Helper()
	dir := folder(t, map[string]string{"casemate.yaml": modules, "m.wasm": module})
	if err := os.Symlink("m.wasm", filepath.Join(dir, "link.wasm")); err != nil {
		t.Fatal(err)
	}
	c, err := Load(filepath.Join(dir, "casemate.yaml"), options())
	if err != nil {
		t.Fatal(err)
	}
	return dir, c
}

func TestModules(t *testing.T) {
	dir, c := withModules(t, "one")
	at, one := dir+"/m.wasm", digest([]byte("one"))
	if want := (casemate.Wasm{Module: at, Digest: one, Args: []string{"-v", "{flag}"}, Stdin: "{text}", Result: "json", Deterministic: true}); !reflect.DeepEqual(*find(c, "command").Run.Wasm, want) {
		t.Errorf("%+v", find(c, "command").Run.Wasm)
	}
	if want := (casemate.Wasm{Module: at, Digest: one, Function: "sum"}); !reflect.DeepEqual(*find(c, "function").Run.Wasm, want) {
		t.Errorf("%+v", find(c, "function").Run.Wasm)
	}
	if s := find(c, "script"); *s.Run.JS != (casemate.JS{Deterministic: true}) || !strings.Contains(string(s.Parameters), `"code"`) {
		t.Errorf("%+v %s", s.Run.JS, s.Parameters)
	}
	if s := strings.Join(c.Summary(), "\n"); !strings.Contains(s, "the WebAssembly module") || !strings.Contains(s, `the function \"sum\" of`) && !strings.Contains(s, `the function "sum" of`) || !strings.Contains(s, "JavaScript code of the planner") {
		t.Error(s)
	}
}

// The bytes of a module are part of what is trusted and pinned; where its folder
// lies is not.
func TestModulesArePinned(t *testing.T) {
	_, a := withModules(t, "one")
	_, same := withModules(t, "one")
	_, other := withModules(t, "two")
	for _, name := range []casemate.ToolName{"command", "function"} {
		if a.pins[name] == "" || a.pins[name] != same.pins[name] || a.pins[name] == other.pins[name] {
			t.Errorf("%s: %s %s %s", name, a.pins[name], same.pins[name], other.pins[name])
		}
	}
	if a.pins["script"] != other.pins["script"] {
		t.Error("the pin of a tool without a module changed with one")
	}
	if a.Digest == other.Digest {
		t.Error("another module is the same configuration")
	}
}

// A module is no file that a tool may write.
func TestModulesAreNotWritable(t *testing.T) {
	src := strings.Replace(modules, "run: {js", "security: {filesystem: [{path: ., at: /work, access: write}]}\n    run: {js", 1)
	dir := folder(t, map[string]string{"casemate.yaml": src, "m.wasm": "one", "link.wasm": "one"})
	c, err := Load(filepath.Join(dir, "casemate.yaml"), options())
	if err == nil {
		for _, p := range c.Pinned() {
			if p == dir+"/m.wasm" {
				return
			}
		}
		t.Errorf("a tool may write the module: %q", c.Pinned())
	} else if !strings.Contains(err.Error(), "m.wasm") {
		t.Error(err)
	}
}
