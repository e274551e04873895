package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/casemate/casemate/internal/testenv"
)

// testWait is how long a test waits for another process.
const testWait = 15 * time.Second

const echoTool = `
  - name: echo
    parameters: {type: object, properties: {text: {type: string}}, required: [text]}
    run: {exec: {command: [/bin/echo, "{text}"]}}
`

const sleepTool = `
  - name: sleep
    parameters: {type: object}
    run: {exec: {command: [/bin/sleep, "60"]}}
    security: {timeout: 90s}
`

// listTool is an MCP server of one tool.
const listTool = `
  - name: lists
    security: {timeout: 20s}
    mcp:
      command:
        - python3
        - -c
        - |
          import json, sys
          for line in sys.stdin:
              m = json.loads(line)
              if "id" not in m:
                  continue
              a = {"jsonrpc": "2.0", "id": m["id"]}
              if m["method"] == "initialize":
                  a["result"] = {"protocolVersion": m["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "l", "version": "1"}}
              elif m["method"] == "tools/list":
                  a["result"] = {"tools": [{"name": "one", "inputSchema": {"type": "object"}}]}
              elif m["method"] == "tools/call":
                  a["result"] = {"content": [{"type": "text", "text": "of the server"}]}
              else:
                  a["error"] = {"code": -32601, "message": "no such method"}
              print(json.dumps(a), flush=True)
`

// A place is a folder with a configuration, where commands are run.
type place struct {
	t   *testing.T
	dir string
	env []string
}

func newPlace(t *testing.T, tools ...string) *place {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := makeFolders(dir); err != nil {
		t.Fatal(err)
	}
	p := &place{t, dir, append(scriptEnv(t, dir), "CASEMATE_CONFIG="+filepath.Join(dir, "casemate.yaml"))}
	p.configure(tools...)
	return p
}

func (p *place) configure(tools ...string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "casemate.yaml"), []byte("version: 1\ntools:"+strings.Join(tools, "")), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) command(args ...string) *exec.Cmd {
	cmd := exec.Command(testenv.Binaries(p.t).Casemate, args...)
	cmd.Dir, cmd.Env = p.dir, p.env
	return cmd
}

// run runs a command that must succeed and returns its standard output.
func (p *place) run(args ...string) string {
	p.t.Helper()
	var errs bytes.Buffer
	cmd := p.command(args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("casemate %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

// A serving is one casemate serve that runs.
type serving struct {
	*place
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	said   *lockedBuffer // standard error
	exited chan struct{}
	id     int
	notes  []string // that were read while an answer was waited for
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (p *place) serve(args ...string) *serving {
	p.t.Helper()
	return p.client(p.command(append([]string{"serve"}, args...)...))
}

// client starts a command that serves MCP on its standard input and output.
func (p *place) client(cmd *exec.Cmd) *serving {
	p.t.Helper()
	s := &serving{place: p, cmd: cmd, said: &lockedBuffer{}, exited: make(chan struct{})}
	// Pipes of our own: those of exec.Cmd are closed when the command is gone,
	// which would end by itself what must not outlive it.
	in, toIn, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	s.in = toIn
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = in, w, s.said
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	in.Close()
	w.Close()
	go func() { s.cmd.Wait(); close(s.exited) }()
	p.t.Cleanup(func() {
		s.cmd.Process.Kill()
		<-s.exited
		toIn.Close()
		out.Close()
		if p.t.Failed() {
			p.t.Logf("it said:\n%s", s.said)
		}
	})
	return s
}

// request sends one JSON-RPC request and returns the answer to it.
func (s *serving) request(method string, params any) (json.RawMessage, error) {
	s.t.Helper()
	id := s.send(method, params)
	for {
		line, err := s.out.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		var m struct {
			ID     *int            `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			s.t.Fatalf("standard output holds %q", line)
		}
		if m.ID == nil || *m.ID != id {
			s.notes = append(s.notes, string(line))
			continue
		}
		if m.Error != nil {
			return nil, errors.New(string(m.Error))
		}
		return m.Result, nil
	}
}

func (s *serving) send(method string, params any) int {
	s.t.Helper()
	s.id++
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": s.id, "method": method, "params": params})
	if err == nil {
		_, err = s.in.Write(append(b, '\n'))
	}
	if err != nil {
		s.t.Fatalf("send: %v\n%s", err, s.said)
	}
	return s.id
}

// initialize opens an MCP session.
func (s *serving) initialize() *serving {
	s.t.Helper()
	if _, err := s.request("initialize", map[string]any{"protocolVersion": "2025-06-18", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "t", "version": "1"}}); err != nil {
		s.t.Fatalf("initialize: %v\n%s", err, s.said)
	}
	io.WriteString(s.in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
	return s
}

func (s *serving) tools() string {
	s.t.Helper()
	r, err := s.request("tools/list", map[string]any{})
	if err != nil {
		s.t.Fatal(err)
	}
	var l struct {
		Tools []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(r, &l); err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, t := range l.Tools {
		names = append(names, t.Name)
	}
	return strings.Join(names, " ")
}

// ends waits until the command has ended and returns its status.
func (s *serving) ends(within time.Duration) int {
	s.t.Helper()
	select {
	case <-s.exited:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		s.t.Fatalf("it did not end within %v:\n%s", within, s.said)
		return 0
	}
}

// eventually waits for something that another process does.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(testWait); !f(); {
		if time.Now().After(end) {
			t.Fatalf("not within 15 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// family returns every process below pid, each with its start time, so that
// a number that was given out again is not taken for it.
func family(pid int) map[string]string {
	parents := map[int][]int{}
	all, _ := os.ReadDir("/proc")
	for _, e := range all {
		if p, err := strconv.Atoi(e.Name()); err == nil {
			if f := stat(p); f != nil {
				pp, _ := strconv.Atoi(f[1])
				parents[pp] = append(parents[pp], p)
			}
		}
	}
	out := map[string]string{}
	var walk func(int)
	walk = func(pid int) {
		for _, c := range parents[pid] {
			if f := stat(c); f != nil {
				name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c))
				out[strconv.Itoa(c)+" "+f[19]] = strings.ReplaceAll(strings.TrimRight(string(name), "\x00"), "\x00", " ")
			}
			walk(c)
		}
	}
	walk(pid)
	return out
}

// stat returns the fields of /proc/PID/stat from the state on; nil of a
// process that is gone or dead.
func stat(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return nil
	}
	return f
}

func alive(procs map[string]string) []string {
	var out []string
	for k, name := range procs {
		p, start, _ := strings.Cut(k, " ")
		pid, _ := strconv.Atoi(p)
		if f := stat(pid); f != nil && f[19] == start {
			out = append(out, p+" "+name)
		}
	}
	return out
}

// member returns the process of a family whose command line is name.
func member(t *testing.T, procs map[string]string, name string) int {
	t.Helper()
	for k, n := range procs {
		if n == name {
			p, _, _ := strings.Cut(k, " ")
			pid, _ := strconv.Atoi(p)
			return pid
		}
	}
	t.Fatalf("there is no %q in %v", name, procs)
	return 0
}

// TestClientThatLeavesAtOnce: an input that ends before the server is ready is
// an end like any other.
func TestClientThatLeavesAtOnce(t *testing.T) {
	p := newPlace(t, echoTool)
	for range 20 {
		if out, err := p.command("serve").CombinedOutput(); err != nil || len(out) > 0 { // its input is /dev/null
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

func TestServeEndsWithItsClient(t *testing.T) {
	p := newPlace(t, echoTool)
	s := p.serve().initialize()
	all := family(s.cmd.Process.Pid)
	s.in.Close()
	if code := s.ends(testWait); code != 0 {
		t.Errorf("exit status %d\n%s", code, s.said)
	}
	if left := alive(all); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if left, _ := filepath.Glob(p.dir + "/run/casemate/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestKilled kills the processes of a server one after the other, in the
// middle of a call: whichever it is, no sandbox outlives it, and when it is
// the operator's nothing does.
func TestKilled(t *testing.T) {
	for _, who := range []string{"operator", "router", "spawner"} {
		t.Run(who, func(t *testing.T) {
			s := newPlace(t, sleepTool, echoTool).serve().initialize()
			s.send("tools/call", map[string]any{"name": "sleep", "arguments": map[string]any{}})
			pid := s.cmd.Process.Pid
			eventually(t, "the call runs", func() bool {
				for _, n := range family(pid) {
					if strings.Contains(n, "sleep 60") {
						return true
					}
				}
				return false
			})
			all := family(pid)
			victim := pid
			switch who {
			case "router":
				victim = member(t, all, "casemate router")
			case "spawner":
				victim = member(t, all, "casemate-init spawner")
			}
			if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if who == "spawner" { // the router stays, and says what is wrong
				for k, n := range all {
					if n == "casemate router" {
						delete(all, k)
					}
				}
			}
			var left []string
			for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				if left = alive(all); len(left) == 0 {
					break
				}
			}
			if len(left) > 0 {
				t.Errorf("a second after: %v", left)
			}
			if who == "spawner" { // the call that ran says so, and the next one succeeds
				line, err := s.out.ReadString('\n')
				if err != nil || !strings.Contains(line, `"isError":true`) || !strings.Contains(line, "internal: ") {
					t.Errorf("it answers %q, %v", line, err)
				}
				if r, err := s.request("tools/call", map[string]any{"name": "echo", "arguments": map[string]any{"text": "served again"}}); err != nil || !strings.Contains(string(r), "served again") {
					t.Errorf("the next call: %s %v", r, err)
				}
				if log := s.run("log", "--json"); strings.Count(log, `"intent"`) != 2 || strings.Count(log, `"outcome"`) != 2 {
					t.Errorf("the records:\n%s", log)
				}
				all = family(pid)
				s.cmd.Process.Kill()
				eventually(t, "nothing is left", func() bool { return len(alive(all)) == 0 })
				eventually(t, "the operator is told", func() bool {
					said := s.said.String()
					return strings.Contains(said, "the spawner ended, and the calls") && strings.Contains(said, "sleep: the spawner ended") && strings.Contains(said, "fix: ")
				})
			}
			if who == "router" && s.ends(5*time.Second) != 1 {
				t.Errorf("exit status %d", s.cmd.ProcessState.ExitCode())
			}
		})
	}
}

// TestRouterIsConfined looks at a running router from outside.
func TestRouterIsConfined(t *testing.T) {
	s := newPlace(t, echoTool).serve().initialize()
	pid := member(t, family(s.cmd.Process.Pid), "casemate router")
	proc := fmt.Sprintf("/proc/%d/", pid)
	b, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		status[k] = strings.Join(strings.Fields(v), " ")
	}
	for k, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapInh": "0000000000000000", "CapAmb": "0000000000000000"} {
		if status[k] != want {
			t.Errorf("%s is %q, want %q", k, status[k], want)
		}
	}
	tasks, _ := os.ReadDir(proc + "task")
	for _, task := range tasks {
		b, _ := os.ReadFile(proc + "task/" + task.Name() + "/status")
		if !strings.Contains(string(b), "Seccomp:\t2") || !strings.Contains(string(b), "CapEff:\t0000000000000000") {
			t.Errorf("thread %s is not confined", task.Name())
		}
	}
	if os.Geteuid() == 0 {
		uid, _, _ := strings.Cut(status["Uid"], " ")
		if uid == "0" || uid == "65534" || status["Groups"] != "" {
			t.Errorf("it runs as user %s with groups %q", status["Uid"], status["Groups"])
		}
		if env, err := os.ReadFile(proc + "environ"); err != nil || len(env) > 0 {
			t.Errorf("its environment is %q, %v", env, err)
		}
		if cwd, _ := os.Readlink(proc + "cwd"); cwd != "/" {
			t.Errorf("it stands in %s", cwd)
		}
		fds, _ := os.ReadDir(proc + "fd")
		for _, fd := range fds {
			to, _ := os.Readlink(proc + "fd/" + fd.Name())
			if !strings.HasPrefix(to, "pipe:") && !strings.HasPrefix(to, "socket:") && !strings.HasPrefix(to, "anon_inode:") && to != "/dev/null" {
				t.Errorf("it holds %s (%s)", fd.Name(), to)
			}
		}
	}
	if status["NSsid"] == "" {
		t.Error("no session")
	}
	if f := stat(pid); f == nil || f[3] != strconv.Itoa(pid) { // state ppid pgrp session
		t.Errorf("it is not in a session of its own: %v", f)
	}
}

func TestReload(t *testing.T) {
	p := newPlace(t, echoTool)
	s := p.serve().initialize()
	hup := func(want string) {
		t.Helper()
		before := strings.Count(s.said.String(), want)
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, want, func() bool { return strings.Count(s.said.String(), want) > before })
	}
	p.configure(echoTool, sleepTool)
	hup("the configuration was loaded again: 2 tools")
	if got := s.tools(); got != "echo sleep" {
		t.Errorf("tools %q", got)
	}
	p.configure(echoTool, sleepTool, listTool)
	hup("the configuration was loaded again: 3 tools")
	if got := s.tools(); got != "echo one sleep" || !strings.Contains(s.said.String(), "recorded 1 tool of the server lists") {
		t.Errorf("tools with a server %q:\n%s", got, s.said)
	}
	if r, err := s.request("tools/call", map[string]any{"name": "one", "arguments": map[string]any{}}); err != nil || !strings.Contains(string(r), "of the server") {
		t.Errorf("%s %v", r, err)
	}
	p.configure(echoTool, sleepTool)
	hup("the configuration was loaded again: 2 tools")
	p.configure(strings.Replace(echoTool, "run:", "runn:", 1))
	hup("the former one stays in force")
	if !strings.Contains(s.said.String(), "runn") {
		t.Errorf("it does not say what is wrong:\n%s", s.said)
	}
	if got := s.tools(); got != "echo sleep" {
		t.Errorf("tools after a bad configuration %q", got)
	}
	if r, err := s.request("tools/call", map[string]any{"name": "echo", "arguments": map[string]any{"text": "still here"}}); err != nil || !strings.Contains(string(r), "still here") {
		t.Errorf("%s %v", r, err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.ends(testWait); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestStopAndPool(t *testing.T) {
	p := newPlace(t, echoTool, sleepTool)
	s := p.serve().initialize()
	socks, _ := filepath.Glob(p.dir + "/run/casemate/serve-*.sock")
	if len(socks) != 1 {
		t.Fatalf("operator sockets %v", socks)
	}
	if fi, err := os.Lstat(socks[0]); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the operator socket has mode %v, %v", fi.Mode(), err)
	}
	var pools struct {
		Pools []struct {
			Tool   string `json:"tool"`
			Parked int    `json:"parked"`
			Busy   int    `json:"busy"`
			Pids   []int  `json:"parked_pids"`
		} `json:"pools"`
		Calls []struct {
			Tool string `json:"tool"`
		} `json:"calls"`
	}
	look := func() {
		t.Helper()
		if err := json.Unmarshal([]byte(p.run("pool", "--json")), &pools); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "each tool has a parked sandbox", func() bool {
		look()
		n := 0
		for _, p := range pools.Pools {
			n += min(1, len(p.Pids))
		}
		return n == 2
	})
	for _, x := range pools.Pools {
		for _, pid := range x.Pids {
			if stat(pid) == nil {
				t.Errorf("%s: the parked process %d does not live", x.Tool, pid)
			}
		}
	}
	for _, args := range [][]string{{"tools", "--live"}, {"tools"}} {
		if out := p.run(args...); strings.Count(out, fmt.Sprintf("pool of the server %d: 1 of 1 parked, 0 busy; 0 claimed", s.cmd.Process.Pid)) != 2 || !strings.Contains(out, "start p50 ") {
			t.Errorf("%v: %s", args, out)
		}
	}
	id := s.send("tools/call", map[string]any{"name": "sleep", "arguments": map[string]any{}})
	eventually(t, "the call is in flight", func() bool { look(); return len(pools.Calls) == 1 })
	if out := p.run("stop", "--all"); !strings.Contains(out, "stopped 1 sandbox on 1 server") {
		t.Errorf("stop: %q", out)
	}
	line, err := s.out.ReadString('\n')
	if err != nil || !strings.Contains(line, fmt.Sprintf(`"id":%d`, id)) || !strings.Contains(line, "cancelled") {
		t.Errorf("the stopped call answers %q, %v", line, err)
	}
	// a socket of a server that is gone is no trouble
	dead := filepath.Join(p.dir, "run/casemate/serve-999999999.sock")
	folder, err := os.Open(filepath.Dir(dead))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	l, err := net.ListenUnix("unix", socketIn(folder, filepath.Base(dead)))
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	look()
	if _, err := os.Lstat(dead); err == nil {
		t.Error("the socket of a dead server stays")
	}
}

func TestHTTP(t *testing.T) {
	p := newPlace(t, echoTool)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	s := p.serve("--listen", port)
	if code := s.ends(10 * time.Second); code != 1 || !strings.Contains(s.said.String(), "port "+port+" of 127.0.0.1 is in use") || !strings.Contains(s.said.String(), "fix: ") {
		t.Errorf("a port in use: exit %d\n%s", code, s.said)
	}
	busy.Close()

	s = p.serve("--listen", "127.0.0.1:"+port)
	eventually(t, "it listens", func() bool { return strings.Contains(s.said.String(), "/mcp") })
	file := filepath.Join(p.dir, "state/casemate/token")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if fi, _ := os.Lstat(file); fi.Mode().Perm() != 0o600 {
		t.Errorf("the token has mode %v", fi.Mode())
	}
	if !strings.Contains(s.said.String(), file) || strings.Contains(s.said.String(), strings.TrimSpace(string(b))) {
		t.Errorf("it should say where the token is, and not the token:\n%s", s.said)
	}
	get := func(token string) int {
		req, _ := http.NewRequest("GET", "http://127.0.0.1:"+port+"/v1/tools", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode
	}
	if got := get(strings.TrimSpace(string(b))); got != 200 {
		t.Errorf("with the token: %d", got)
	}
	if got := get("wrong-token-0123456789"); got != 401 {
		t.Errorf("with a wrong token: %d", got)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if code := s.ends(testWait); code != 0 {
		t.Errorf("exit status %d", code)
	}

	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if s = p.serve("--listen", port); s.ends(10*time.Second) != 3 {
		t.Errorf("a token that others may read: exit %d", s.cmd.ProcessState.ExitCode())
	}
	p.env = append(p.env, "CASEMATE_TOKEN=short")
	if s = p.serve("--listen", port); s.ends(10*time.Second) != 2 {
		t.Errorf("a short token: exit %d", s.cmd.ProcessState.ExitCode())
	}
}

// TestCallIsCancelled interrupts a call: the router is told, the sandbox is
// gone, and the error is of its kind.
func TestCallIsCancelled(t *testing.T) {
	p := newPlace(t, sleepTool)
	cmd := p.command("call", "--json", "sleep")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	eventually(t, "the call runs", func() bool {
		for _, n := range family(cmd.Process.Pid) {
			if strings.Contains(n, "sleep 60") {
				return true
			}
		}
		return false
	})
	all := family(cmd.Process.Pid)
	cmd.Process.Signal(os.Interrupt)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), `"kind":"cancelled"`) {
		t.Errorf("exit %d\n%s\n%s", cmd.ProcessState.ExitCode(), out.String(), said.String())
	}
	if left := alive(all); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestSpawnerThatKeepsEnding: three spawners are replaced within a minute,
// then the server says why it ends.
func TestSpawnerThatKeepsEnding(t *testing.T) {
	s := newPlace(t, echoTool).serve().initialize()
	last := 0
	for range maxDeaths + 1 {
		eventually(t, "there is a spawner", func() bool {
			for k, n := range family(s.cmd.Process.Pid) {
				p, _, _ := strings.Cut(k, " ")
				pid, _ := strconv.Atoi(p)
				// A child that the spawner has just forked is called so too.
				if f := stat(pid); n == "casemate-init spawner" && pid != last && f != nil && f[1] == strconv.Itoa(s.cmd.Process.Pid) {
					last = pid
					return true
				}
			}
			return false
		})
		if err := syscall.Kill(last, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if code := s.ends(testWait); code != 1 || !strings.Contains(s.said.String(), "more than 3 times within a minute") {
		t.Errorf("exit status %d\n%s", code, s.said)
	}
}
