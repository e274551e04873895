package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A place is a folder with the programs and a configuration of each kind.
type place struct {
	dir string
	env []string
}

func newPlace(bin string) (*place, error) {
	dir, err := os.MkdirTemp("", "casemate-speed-")
	p := &place{dir: dir}
	if err != nil {
		return p, err
	}
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return p, err
	}
	p.dir = dir
	err = os.Chmod(dir, 0o755) // as root the router is a user of its own
	for _, d := range []string{"bin", "server"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	for _, d := range []string{"home", "run", "tmp"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	err = errors.Join(err, copied(filepath.Join(dir, "bin"), filepath.Join(bin, "casemate")), copied(filepath.Join(dir, "bin"), filepath.Join(bin, "casemate-init")), copied(filepath.Join(dir, "server"), self()))
	p.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir + "/home", "XDG_STATE_HOME=" + dir + "/state", "XDG_CONFIG_HOME=" + dir + "/config", "XDG_RUNTIME_DIR=" + dir + "/run", "TMPDIR=" + dir + "/tmp", "LANG=C.UTF-8"}
	return p, err
}

func (p *place) close() {
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

func (p *place) server(args ...string) []string {
	return append([]string{filepath.Join(p.dir, "server", filepath.Base(self())), "server"}, args...)
}

func (p *place) command(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stderr = p.dir, p.env, os.Stderr
	return cmd
}

func (p *place) casemate() string { return filepath.Join(p.dir, "bin", "casemate") }

// degraded lets a user without cgroups of its own use Casemate all the same.
func degraded() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return "host: {allow_degraded: [memory, cpu]}\n"
}

// A way leads from a client to the server.
type way struct {
	name string
	ask  func(request []byte, answer io.Writer) error
	pids func() []int // of Casemate's processes; nil: not its
	ends []func()
	n    int
}

func (w *way) close() {
	for _, f := range slices.Backward(w.ends) {
		f()
	}
}

func (w *way) call(method string, params any, to io.Writer) error {
	w.n++
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": w.n, "method": method, "params": params})
	if err != nil {
		return err
	}
	return w.ask(b, to)
}

var initialize = map[string]any{"protocolVersion": "2025-06-18", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "speed", "version": "1"}}

func (w *way) echo() error {
	var b bytes.Buffer
	err := w.call("tools/call", map[string]any{"name": "echo", "arguments": map[string]any{"text": "hello"}}, &b)
	if err == nil && !strings.Contains(b.String(), `"hello"`) {
		return fmt.Errorf("it answers %.300s", &b)
	}
	return err
}

// A count counts bytes, and keeps the first.
type count struct {
	n    int
	head []byte
}

func (c *count) Write(b []byte) (int, error) {
	c.n += len(b)
	c.head = append(c.head, b[:min(len(b), 300-len(c.head))]...)
	return len(b), nil
}

func (w *way) bulk(n int) error {
	var c count
	err := w.call("tools/call", map[string]any{"name": "bulk", "arguments": map[string]any{"bytes": n}}, &c)
	if err == nil && c.n < n {
		return fmt.Errorf("it answers %d bytes: %s", c.n, c.head)
	}
	return err
}

// ways opens all that can be; left says which cannot, and why.
func (p *place) ways(proxies, only string) (all []*way, left []string) {
	add := func(name string, open func(*way) error) {
		if only != "" && name != only && name != "direct" {
			return
		}
		w := &way{name: name}
		err := open(w)
		if err == nil {
			err = w.echo()
		}
		if err != nil {
			w.close()
			left = append(left, name+": "+err.Error())
			return
		}
		all = append(all, w)
	}
	add("direct", func(w *way) error { return w.stdio(p.command(p.server()...)) })
	add("casemate run", func(w *way) error { return p.run(w) })
	add("casemate serve", func(w *way) error { return p.serve(w) })
	add("casemate serve, id last", func(w *way) error { return p.serve(w, "last") })
	add("mcp-proxy", func(w *way) error {
		prog := filepath.Join(proxies, "mcp-proxy", "bin", "mcp-proxy")
		if !there(prog) {
			return errors.New("not installed")
		}
		port := freePort()
		argv := append([]string{absolute(prog), "--port", port, "--log-level", "ERROR", "--"}, p.server()...)
		return w.http(p.command(argv...), port)
	})
	add("supergateway", func(w *way) error {
		prog := filepath.Join(proxies, "supergateway", "node_modules", ".bin", "supergateway")
		if !there(prog) || !there("node") {
			return errors.New("not installed")
		}
		port := freePort()
		return w.http(p.command("node", absolute(prog), "--stdio", strings.Join(p.server(), " "), "--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none", "--port", port), port)
	})
	return all, left
}

func absolute(p string) string {
	if a, err := filepath.Abs(p); err == nil {
		return a
	}
	return p
}

// stdio starts a command that speaks MCP on its standard streams.
func (w *way) stdio(cmd *exec.Cmd) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.ends = append(w.ends, func() { in.Close(); cmd.Wait() })
	lines := bufio.NewReaderSize(out, 64<<10)
	w.ask = func(request []byte, answer io.Writer) error {
		if _, err := in.Write(append(request, '\n')); err != nil {
			return err
		}
		for {
			b, err := lines.ReadSlice('\n')
			answer.Write(b)
			if err != bufio.ErrBufferFull {
				return err
			}
		}
	}
	if err := w.call("initialize", initialize, io.Discard); err != nil {
		return err
	}
	_, err = in.Write([]byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n"))
	return err
}

// run wraps the server in a client's configuration, and starts its shim.
func (p *place) run(w *way) error {
	argv := p.server()
	b, err := json.Marshal(map[string]any{"mcpServers": map[string]any{"small": map[string]any{"command": argv[0], "args": argv[1:]}}})
	if err != nil {
		return err
	}
	file := filepath.Join(p.dir, "client.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return err
	}
	cmd := p.command(p.casemate(), "wrap", file)
	cmd.Stderr = nil
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	own := filepath.Join(p.dir, "config", "casemate", "casemate.yaml")
	text, err := os.ReadFile(own)
	if err != nil {
		return err
	}
	changed := strings.Replace(string(text), "network: none", "network: none\n      output: 200MiB\n      timeout: 2m", 1)
	if err := os.WriteFile(own, []byte(changed+degraded()), 0o600); err != nil {
		return err
	}
	cmd = p.command(append([]string{p.casemate(), "run", "--name", "small", "--"}, argv...)...)
	if err := w.stdio(cmd); err != nil {
		return err
	}
	w.pids = func() []int { return append(p.processes("shared"), cmd.Process.Pid) }
	return nil
}

// serve starts casemate serve in front of the server.
func (p *place) serve(w *way, args ...string) error {
	name := "serve" + strings.Join(args, "")
	config := filepath.Join(p.dir, name+".yaml")
	command, err := json.Marshal(p.server(args...))
	if err != nil {
		return err
	}
	text := fmt.Sprintf("version: 1\n%stools:\n  - name: small\n    mcp: {command: %s}\n    security: {output: 200MiB, timeout: 2m, filesystem: [{path: %s/server, at: %s/server, access: read, execute: true}]}\n", degraded(), command, p.dir, p.dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	env := append(slices.Clone(p.env), "CASEMATE_CONFIG="+config)
	approve := p.command(p.casemate(), "tools", "approve", "--yes", "small")
	approve.Env, approve.Stderr = env, nil
	if out, err := approve.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	cmd := p.command(p.casemate(), "serve")
	cmd.Env = env
	if err := w.stdio(cmd); err != nil {
		return err
	}
	w.pids = func() []int { return below(cmd.Process.Pid) }
	return nil
}
