package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/testenv"
)

// A program is a client that others wrote: how it is run on a wrapped server,
// to list its tools, read a file of its folder and one outside it, and have it
// tell its environment.
type program struct {
	name   string
	client string // of testdata/clients.sh
	always bool
	run    func(t *testing.T, h *home, dir string) string // what it printed
}

func programs() []program {
	python := func(script string) func(*testing.T, *home, string) string {
		return func(t *testing.T, h *home, dir string) string {
			command, args := h.wrapped(t)
			return h.output(t, nil, filepath.Join(dir, "bin", "python"), append([]string{script, command}, args...)...)
		}
	}
	scripts, _ := filepath.Abs("testdata/clients")
	at := func(name string) string { return filepath.Join(scripts, name) }
	return []program{
		{"PyPI mcp 1.30.0", "mcp1", true, python(at("mcp1.py"))},
		{"PyPI mcp 2.3.0", "mcp2", true, python(at("mcp2.py"))},
		{"PyPI fastmcp 4.2.3", "fastmcp", false, python(at("fast_mcp.py"))},
		{"langchain-mcp-adapters 0.3.2 with LangGraph 1.2.24", "langchain", true, python(at("langchain_tools.py"))},
		{"llama-index-tools-mcp 0.6.0", "llamaindex", false, python(at("llamaindex_tools.py"))},
		{"openai-agents 0.24.0", "openai", false, python(at("openai_agents.py"))},
		{"autogen-ext 0.7.5", "autogen", false, python(at("autogen_tools.py"))},
		{"pydantic-ai 2.68.0", "pydantic", false, python(at("pydantic_tools.py"))},
		{"npm @modelcontextprotocol/sdk 1.32.2", "typescript", true, func(t *testing.T, h *home, dir string) string {
			script := filepath.Join(dir, "client.mjs") // beside the library that it imports
			b, err := os.ReadFile(at("typescript.mjs"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(script, b, 0o644); err != nil {
				t.Fatal(err)
			}
			command, args := h.wrapped(t)
			return h.output(t, nil, "node", append([]string{script, command}, args...)...)
		}},
		{"MCP Inspector 2.12.0", "inspector", false, func(t *testing.T, h *home, dir string) string {
			bin := filepath.Join(dir, "node_modules", ".bin")
			command, args := h.wrapped(t)
			call := func(more ...string) string {
				argv := append([]string{"--cli"}, more...)
				for _, kv := range []string{"HOME", "XDG_RUNTIME_DIR", "A_CLIENTS_KEY"} {
					argv = append(argv, "-e", kv+"="+h.env[kv])
				}
				argv = append(argv, "--", command)
				out, _ := h.try(t, map[string]string{"PATH": bin + ":" + os.Getenv("PATH")}, filepath.Join(bin, "mcp-inspector"), append(argv, args...)...)
				return out // a call that the tool fails is a failure of the inspector
			}
			out := "tools: " + call("--method", "tools/list")
			out += call("--method", "tools/call", "--tool-name", "read_it", "--tool-arg", "path="+h.env["INSIDE"])
			out += call("--method", "tools/call", "--tool-name", "read_it", "--tool-arg", "path="+h.env["OUTSIDE"])
			return out + "\nenvironment: " + call("--method", "tools/call", "--tool-name", "environment")
		}},
		{"Claude Code 2.1.197", "claude", false, claude},
		{"Codex CLI 0.169.0", "codex", false, codex},
	}
}

// TestClients: clients that others wrote, as they are, start a wrapped server by
// the words that wrap put into their configuration.
func TestClients(t *testing.T) {
	testenv.Require(t, "registry", registry())
	built := testenv.Binaries(t)
	dest := cache(t, "clients")
	var rows []row
	for _, p := range programs() {
		if !p.always && !all() {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			if out, err := exec.CommandContext(ctx, "testdata/clients.sh", dest, p.client).CombinedOutput(); err != nil {
				t.Fatalf("cannot be prepared: %v\n%s", err, out)
			}
			h := newHome(t, built.Casemate)
			out := p.run(t, h, filepath.Join(dest, p.client))
			for _, want := range []string{"read_it", "environment", "alpha", "PATH"} {
				if !strings.Contains(out, want) {
					t.Errorf("there is no %q in what it printed:\n%s", want, out)
				}
			}
			if strings.Contains(out, canary) {
				t.Errorf("the key of the client or of the file was reached:\n%s", out)
			}
			if !t.Failed() {
				rows = append(rows, row{name: p.name, ordinary: "its configuration wrapped, stdio", danger: "listed and called; a key in its environment and a file outside: not reached"})
			}
		})
	}
	if len(rows) == len(programs()) {
		write(t, "clients", rows)
	}
}

// A home is a user of the test's own, with a server in a client's configuration
// that is wrapped.
type home struct {
	dir      string
	casemate string
	env      map[string]string
	entry    map[string]any // of the server
	network  chan func()    // runs in a network of its own; nil: in the host's
}

// there runs f on the thread whose network the home's programs have.
func (h *home) there(f func()) {
	if h.network == nil {
		f()
		return
	}
	done := make(chan struct{})
	h.network <- func() { defer close(done); f() }
	<-done
}

// listen listens at a free port of the loopback device that the home's programs
// have. As root it first gives them a network of their own.
func (h *home) listen() (l net.Listener, err error) {
	if os.Geteuid() == 0 {
		h.network = make(chan func())
		go func() {
			runtime.LockOSThread() // and never back: the thread ends with its network
			for f := range h.network {
				f()
			}
		}()
		h.there(func() {
			if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
				err = exec.Command("ip", "link", "set", "lo", "up").Run()
			}
		})
		if err != nil {
			return nil, err
		}
	}
	h.there(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
	return l, err
}

func newHome(t *testing.T, casemate string) *home {
	t.Helper()
	dir, err := os.MkdirTemp(cache(t, "matrix-homes"), "") // Codex refuses a home in the temporary folder
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &home{dir: dir, casemate: casemate, env: map[string]string{"A_CLIENTS_KEY": canary,
		"HOME": dir, "XDG_RUNTIME_DIR": dir + "/run", "XDG_STATE_HOME": "", "XDG_CONFIG_HOME": "",
		"INSIDE": dir + "/data/a.txt", "OUTSIDE": dir + "/outside/key", "CASEMATE_CONFIG": ""}}
	server, err := os.ReadFile("testdata/server.py")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"data/a.txt": "alpha\n", "outside/key": canary + "\n", "server/server.py": string(server)} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"/run", 0o700); err != nil {
		t.Fatal(err)
	}
	h.entry = map[string]any{"command": "/usr/bin/python3", "args": []string{dir + "/server/server.py", dir + "/data"}}
	return h
}

// wrap writes a client's configuration and wraps it.
func (h *home) wrap(t *testing.T, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.output(t, nil, h.casemate, "wrap", path)
	return path
}

// wrapped is the command that a client starts.
func (h *home) wrapped(t *testing.T) (command string, args []string) {
	t.Helper()
	b, _ := json.Marshal(map[string]any{"mcpServers": map[string]any{"reader": h.entry}})
	b, err := os.ReadFile(h.wrap(t, "claude_desktop_config.json", string(b)))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		McpServers map[string]struct {
			Command string
			Args    []string
		}
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	command = c.McpServers["reader"].Command
	if command == "casemate" {
		command = h.casemate
	}
	return command, c.McpServers["reader"].Args
}

// output runs a program of this user, which must succeed, and returns what it
// printed.
func (h *home) output(t *testing.T, more map[string]string, name string, args ...string) string {
	t.Helper()
	out, err := h.try(t, more, name, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(name), err, out)
	}
	return out
}

func (h *home) try(t *testing.T, more map[string]string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = h.dir
	env := map[string]string{"PATH": os.Getenv("PATH")}
	maps.Copy(env, h.env)
	maps.Copy(env, more)
	env["PATH"] = filepath.Dir(h.casemate) + ":" + env["PATH"]
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); env[k] == "" && !strings.HasPrefix(k, "XDG_") && !strings.HasPrefix(k, "CASEMATE_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	for k, v := range env {
		if v != "" {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
	}
	var diag bytes.Buffer
	cmd.Stderr = &diag
	cmd.WaitDelay = 5 * time.Second
	var out []byte
	var err error
	h.there(func() { out, err = cmd.Output() })
	if err != nil {
		err = fmt.Errorf("%w: %s", err, diag.Bytes())
	}
	return string(out), err
}
