package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/store"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/internal/wasm"
)

// The names of the sections of a module, and one whose _start is that code.
const wasmHeader = "\x00asm\x01\x00\x00\x00"

func startingWith(code string) string {
	part := func(id byte, content string) string { return string(id) + string(byte(len(content))) + content }
	return wasmHeader + part(1, "\x01\x60\x00\x00") + part(3, "\x01\x00") + part(5, "\x01\x00\x01") +
		part(7, "\x02\x06_start\x00\x00\x06memory\x02\x00") + part(10, "\x01"+string(byte(len(code)+2))+"\x00"+code+"\x0b")
}

// moduleTool is a tool of the module of that name.
func moduleTool(name, security string) string {
	return fmt.Sprintf("\n  - name: %s\n    parameters: {type: object}\n    run: {wasm: {module: ./%s.wasm}}\n    security: {isolation: wasm, timeout: 30s, memory: 128MiB%s}", name, name, security)
}

const lenient = "\nhost: {allow_degraded: [memory, cpu]}\n"

// withModules is a place with a tool of each module.
func withModules(t *testing.T, modules map[string]string, more ...string) *place {
	t.Helper()
	tools := more
	for name := range modules {
		security := ""
		if name == "loop" {
			security = ", timeout: 1s"
		}
		tool := strings.Replace(moduleTool(name, security), "timeout: 30s, memory: 128MiB, timeout: 1s", "timeout: 1s, memory: 128MiB", 1)
		if name == "function" {
			tool = strings.Replace(tool, ".wasm}}", ".wasm, function: nope}}", 1)
		}
		tools = append(tools, tool)
	}
	p := newPlace(t, append(tools, lenient)...)
	for name, module := range modules {
		if err := os.WriteFile(filepath.Join(p.dir, name+".wasm"), []byte(module), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { store.Remove(filepath.Join(p.dir, "state", "casemate", "store")) })
	return p
}

// answer is what a call came to, and the exit status of the command.
func (p *place) answer(tool, args string) (o casemate.Outcome, said string, status int) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, tool+".json"), []byte(args), 0o644); err != nil {
		p.t.Fatal(err)
	}
	cmd := p.command("call", "--json", tool, "--args", tool+".json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Run()
	json.Unmarshal(stdout.Bytes(), &o)
	return o, stdout.String() + stderr.String(), cmd.ProcessState.ExitCode()
}

// kept are the modules in the store.
func (p *place) kept() []string {
	all, err := filepath.Glob(filepath.Join(p.dir, "state", "casemate", "store", "modules", "*-"+wasm.Engine+"-*"))
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

// TestModules: what a module does costs its own call alone, and what is none is
// refused by its name.
func TestModules(t *testing.T) {
	testenv.Binaries(t)
	t.Run("root", func(t *testing.T) { modulesOf(t) })
	t.Run("user", func(t *testing.T) { testenv.AsUser(t, modulesOf) })
}

func modulesOf(t *testing.T) {
	p := withModules(t, map[string]string{
		"fine": startingWith(""), "trap": startingWith("\x00"), "loop": startingWith("\x03\x40\x0c\x00\x0b"),
		// It grows its memory by a page and writes there, until it cannot.
		"grow":      startingWith("\x03\x40\x41\x01\x40\x00\x41\x00\x4e\x04\x40\x3f\x00\x41\x01\x6b\x41\x10\x74\x41\x01\x36\x02\x00\x0c\x01\x0b\x0b\x00"),
		"component": "\x00asm\x0d\x00\x01\x00", "broken": startingWith("")[:30],
		"function": startingWith(""),
		"imports":  wasmHeader + "\x01\x04\x01\x60\x00\x00\x02\x0e\x01\x03env\x06launch\x00\x00",
	})
	for _, c := range []struct {
		tool, kind, says string
		status           int
	}{
		{"fine", "", "", 0},
		{"trap", "tool-failed", "unreachable", 1},
		{"loop", "timeout", "", 1},
		{"grow", "", "", 1}, // it traps, or its sandbox is out of memory: the first of two limits
		{"component", "unsupported", "component", 4},
		{"broken", "invalid", "no WebAssembly module that can be run", 2},
		{"imports", "unsupported", "env.launch", 4},
		{"function", "unsupported", "run.wasm.function", 4},
		{"fine", "", "", 0},
	} {
		o, said, status := p.answer(c.tool, "{}")
		if status != c.status || !strings.Contains(said, c.says) || c.kind != "" && !strings.Contains(said, c.kind) {
			t.Errorf("%s: %d %s", c.tool, status, said)
		}
		if c.status < 2 && o.Backend != "wasm" {
			t.Errorf("%s ran on %q", c.tool, o.Backend)
		}
		if c.tool == "fine" && (o.Enforced == nil || o.Enforced.Runtime != wasm.Version || o.Enforced.Seccomp == "") {
			t.Errorf("%+v", o.Enforced)
		}
	}
	if n := len(p.kept()); n != 4 {
		t.Errorf("%d modules are kept, and 4 can run", n)
	}
	if left, _ := filepath.Glob(filepath.Join(p.dir, "state", "casemate", "store", "modules", "[.s]t*")); len(left) > 0 {
		t.Errorf("something half made is left: %q", left)
	}
}

// A module that was changed since it was trusted does not run; what was compiled
// is bound to its bytes.
func TestModuleIsWhatWasTrusted(t *testing.T) {
	testenv.Binaries(t)
	p := withModules(t, map[string]string{"m": startingWith("")})
	if _, said, status := p.answer("m", "{}"); status != 0 {
		t.Fatal(said)
	}
	p.env = append(p.env, "CASEMATE_CONFIG=")
	for i, kv := range p.env {
		if strings.HasPrefix(kv, "CASEMATE_CONFIG=") {
			p.env[i] = "CASEMATE_CONFIG="
		}
	}
	p.configure(moduleTool("m", "")) // without host, as a file that merely lies somewhere is
	p.run("trust", "casemate.yaml")
	file := filepath.Join(p.dir, "m.wasm")
	if err := os.WriteFile(file, []byte(startingWith("\x00")), 0o644); err != nil {
		t.Fatal(err)
	}
	if o, said, status := p.answer("m", "{}"); status != 3 || o.Result != nil {
		t.Errorf("%d %s", status, said)
	}
	p.run("trust", "casemate.yaml")
	if _, said, status := p.answer("m", "{}"); status != 1 || !strings.Contains(said, "unreachable") {
		t.Errorf("the other module: %d %s", status, said)
	}
	// Between the look and the copy it may change once more.
	err := module{runner: wasm.Runner, path: file, digest: "sha256:" + casemate.Digest(strings.Repeat("0", 64))}.copyTo(filepath.Join(p.dir, "copy"))
	if casemate.KindOf(err) != casemate.Denied {
		t.Errorf("another file was copied: %v", err)
	}
}

// Of many that want a module at a time one compiles it; what lies there damaged is
// compiled again, and what a killed one left does no harm.
func TestModuleIsCompiledOnce(t *testing.T) {
	testenv.Binaries(t)
	p := withModules(t, map[string]string{"m": startingWith("")})
	var wg sync.WaitGroup
	var mu sync.Mutex
	compiled := 0
	for i := range 3 {
		wg.Go(func() {
			args := fmt.Sprintf("args%d.json", i)
			os.WriteFile(filepath.Join(p.dir, args), []byte("{}"), 0o644)
			out, err := p.command("call", "m", "--args", args).CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%v %s", err, out)
			}
			compiled += strings.Count(string(out), "compiling ")
		})
	}
	wg.Wait()
	kept := p.kept()
	if compiled != 1 || len(kept) != 1 {
		t.Fatalf("compiled %d times, %d in the store", compiled, len(kept))
	}
	for _, damage := range []func() error{
		func() error { return store.Remove(filepath.Join(kept[0], wasm.CacheFolder)) },
		func() error {
			return os.WriteFile(filepath.Join(kept[0], wasm.ModuleFile), []byte(startingWith("\x00")), 0o644)
		},
	} {
		os.Chmod(kept[0], 0o755)
		os.Chmod(filepath.Join(kept[0], wasm.ModuleFile), 0o644)
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if o, said, status := p.answer("m", "{}"); status != 0 || !strings.Contains(said, "compiling ") {
			t.Errorf("%d %s %+v", status, said, o.Error)
		}
	}
}

// TestJavaScript: code without Node, without files, and the same each time where
// that is asked.
func TestJavaScript(t *testing.T) {
	testenv.Binaries(t)
	p := withModules(t, nil, "\n  - name: js\n    run: {js: {deterministic: true}}\n    security: {isolation: wasm, memory: 128MiB, timeout: 10s}"+
		"\n  - name: kept\n    run: {js: {}}\n    security: {isolation: wasm, memory: 128MiB, scope: session}")
	seen := map[string]bool{}
	for range 2 {
		o, said, status := p.answer("js", `{"code":"console.log('a'); [Math.random(), Date.now(), 6*7]"}`)
		if status != 0 || o.Result == nil || len(o.Result.Content) != 1 || !strings.HasPrefix(o.Result.Content[0].Text, "a\n[") || !strings.HasSuffix(o.Result.Content[0].Text, ",42]") {
			t.Fatalf("%d %s", status, said)
		}
		seen[o.Result.Content[0].Text] = true
	}
	if len(seen) != 1 {
		t.Errorf("two calls differ: %v", seen)
	}
	if _, said, status := p.answer("js", `{"code":"throw new Error('boo')"}`); status != 1 || !strings.Contains(said, "Error: boo") {
		t.Errorf("%d %s", status, said)
	}
	if len(p.kept()) != 1 {
		t.Errorf("%q", p.kept())
	}
}
