package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/testenv"
)

// An MCP server that tells of itself.
const selfServer = `import json, os, sys

kept = []
tools = [{"name": n, "description": n, "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}} for n in ("environment", "keep")]
print("begins", file=sys.stderr, flush=True)
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m:
        continue
    a = {"jsonrpc": "2.0", "id": m["id"]}
    if m["method"] == "initialize":
        a["result"] = {"protocolVersion": m["params"]["protocolVersion"], "capabilities": {"tools": {}, "resources": {"subscribe": True}}, "serverInfo": {"name": "self", "version": "1"}}
    elif m["method"] == "tools/list":
        a["result"] = {"tools": tools}
    elif m["method"] == "tools/call":
        text = json.dumps(dict(os.environ))
        if m["params"]["name"] == "keep":
            kept.append(m["params"]["arguments"]["text"])
            text = "kept " + " ".join(kept)
            print(json.dumps({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "self:" + text}}), flush=True)
        a["result"] = {"content": [{"type": "text", "text": text}]}
    else:
        a["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(a), flush=True)
`

// A wrapping is a place with a client's configuration that was wrapped.
type wrapping struct {
	*place
	t *testing.T
}

// newWrapping makes a configuration of servers, each with the names of its variables.
func newWrapping(t *testing.T, servers map[string][]string) *wrapping {
	t.Helper()
	w := &wrapping{newPlace(t), t}
	w.env = slices.DeleteFunc(w.env, func(kv string) bool { return strings.HasPrefix(kv, "CASEMATE_CONFIG=") })
	if err := os.WriteFile(filepath.Join(w.dir, "server.py"), []byte(selfServer), 0o644); err != nil {
		t.Fatal(err)
	}
	w.wrap("client.json", servers)
	return w
}

func (w *wrapping) wrap(file string, servers map[string][]string) {
	w.t.Helper()
	all := map[string]any{}
	for name, vars := range servers {
		env := map[string]string{}
		for _, v := range vars {
			env[v] = "a secret"
		}
		all[name] = map[string]any{"command": "/usr/bin/python3", "args": []string{filepath.Join(w.dir, "server.py")}, "env": env}
	}
	b, err := json.Marshal(map[string]any{"mcpServers": all})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, file), b, 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.run("wrap", file)
}

// command is the shim of a server, as a client starts it.
func (w *wrapping) shim(name string, env ...string) *exec.Cmd {
	cmd := w.command("run", "--name", name, "--", "/usr/bin/python3", filepath.Join(w.dir, "server.py"))
	cmd.Env = append(slices.Clone(cmd.Env), append(env, "CANARY=1")...)
	return cmd
}

func (w *wrapping) start(name string, env ...string) *serving {
	w.t.Helper()
	return w.client(w.shim(name, env...)).initialize()
}

// tool calls a tool that answers one text.
func (s *serving) tool(name, text string) string {
	s.t.Helper()
	r, err := s.request("tools/call", map[string]any{"name": name, "arguments": map[string]any{"text": text}})
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, s.said)
	}
	var out struct {
		Content []struct{ Text string }
	}
	if err := json.Unmarshal(r, &out); err != nil || len(out.Content) != 1 {
		s.t.Fatalf("%s answers %s", name, r)
	}
	return out.Content[0].Text
}

// leaves closes the client's end; the shim ends in order.
func (s *serving) leaves() {
	s.t.Helper()
	s.in.Close()
	if code := s.ends(testWait); code != 0 {
		s.t.Errorf("exit status %d\n%s", code, s.said)
	}
}

// shared is the process of the shared router, which there is one of.
func (w *wrapping) shared() int {
	w.t.Helper()
	var out struct{ Pools []struct{ Server int } }
	if err := json.Unmarshal([]byte(w.run("pool", "--json")), &out); err != nil || len(out.Pools) == 0 {
		w.t.Fatalf("pool: %v, %v", out, err)
	}
	for _, p := range out.Pools {
		if p.Server != out.Pools[0].Server {
			w.t.Fatalf("two shared routers: %v", out)
		}
	}
	return out.Pools[0].Server
}

func (w *wrapping) socket() string { return filepath.Join(w.dir, "run", "casemate", sharedSocket) }

func (w *wrapping) gone(procs map[string]string) {
	w.t.Helper()
	eventually(w.t, "the shared router and its sandboxes are gone", func() bool { return len(alive(procs)) == 0 })
}

// andBelow is a process and all below it.
func andBelow(pid int) map[string]string {
	out := family(pid)
	if f := stat(pid); f != nil {
		out[strconv.Itoa(pid)+" "+f[19]] = "casemate shared"
	}
	return out
}

// TestShimsShareARouter: and each server has its client's values and no
// others; the router ends with the last shim.
func TestShimsShareARouter(t *testing.T) {
	w := newWrapping(t, map[string][]string{"one": {"KEY"}, "two": nil})
	a, b, c, d := w.start("one", "KEY=k1"), w.start("one", "KEY=k2"), w.start("two", "KEY=k1"), w.start("one", "KEY=k1")
	pid := w.shared()
	if got := a.tools(); got != "environment keep" {
		t.Errorf("the tools are called %s", got)
	}
	for _, x := range []struct {
		*serving
		key string
	}{{a, "k1"}, {b, "k2"}, {c, ""}, {d, "k1"}} {
		var env map[string]string
		if err := json.Unmarshal([]byte(x.tool("environment", "")), &env); err != nil {
			t.Fatal(err)
		}
		if env["KEY"] != x.key {
			t.Errorf("KEY is %q, want %q", env["KEY"], x.key)
		}
		for k, v := range env {
			if k == "CANARY" || k == "XDG_RUNTIME_DIR" || strings.Contains(v, w.dir) || v == "a secret" {
				t.Errorf("a server has %s=%s", k, v)
			}
		}
	}

	// The shims of one client are one session; another value is another.
	a.tool("keep", "1")
	if got := d.tool("keep", "2"); got != "kept 1 2" {
		t.Errorf("the second shim of a client: %q", got)
	}
	if got := b.tool("keep", "3"); got != "kept 3" {
		t.Errorf("one with another value: %q", got)
	}
	a.leaves()
	if got := d.tool("keep", "4"); got != "kept 1 2 4" {
		t.Errorf("after one left: %q", got)
	}
	d.leaves()
	again := w.start("one", "KEY=k1") // while the client's session goes on, with another server
	if got := again.tool("keep", "5"); got != "kept 5" {
		t.Errorf("after both left: %q", got)
	}

	// What one server says, the clients of others do not hear.
	again.notes, c.notes = nil, nil
	again.tool("keep", "of one")
	c.tool("keep", "of two")
	for s, not := range map[*serving]string{again: "of two", c: "of one"} {
		s.tool("environment", "")
		heard := strings.Join(s.notes, "")
		if !strings.Contains(heard, "self:kept") || strings.Contains(heard, not) {
			t.Errorf("a client hears %q", heard)
		}
	}

	all := andBelow(pid)
	if log, err := os.ReadFile(filepath.Join(w.dir, "state/casemate/servers/one.log")); err != nil || !strings.Contains(string(log), " begins\n") {
		t.Errorf("the server's log: %q, %v", log, err)
	}
	for _, s := range []*serving{again, b, c} {
		s.leaves()
	}
	w.gone(all)
	if _, err := os.Lstat(w.socket()); !os.IsNotExist(err) {
		t.Errorf("its socket: %v", err)
	}
	for _, file := range []string{"state/casemate/shared.log", "state/casemate/records.jsonl", "config/casemate/casemate.yaml", "config/casemate/casemate.lock"} {
		if b, _ := os.ReadFile(filepath.Join(w.dir, file)); strings.Contains(string(b), "a secret") || strings.Contains(string(b), "k1") {
			t.Errorf("%s holds a value", file)
		}
	}
}

// TestShimAsUser: an ordinary user's shims join the router of that user.
func TestShimAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, func(t *testing.T) {
		w := newWrapping(t, map[string][]string{"one": {"KEY"}})
		f, err := os.OpenFile(filepath.Join(w.dir, "config/casemate/casemate.yaml"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("host: {allow_degraded: [memory, cpu]}\n"); err != nil {
			t.Fatal(err)
		}
		s := w.start("one", "KEY=k1")
		if got := s.tool("environment", ""); !strings.Contains(got, `"KEY": "k1"`) {
			t.Error(got)
		}
		all := andBelow(w.shared())
		s.leaves()
		w.gone(all)
	})
}

// TestAnotherConfigurationServesNoOne: a client whose environment names another
// configuration, as one of a repository may, serves no client of the user's own
// by it, and gets no value of theirs.
func TestAnotherConfigurationServesNoOne(t *testing.T) {
	w := newWrapping(t, map[string][]string{"one": {"KEY"}})
	other := filepath.Join(t.TempDir(), "config")
	if err := os.CopyFS(other, os.DirFS(filepath.Join(w.dir, "config"))); err != nil {
		t.Fatal(err)
	}
	s := w.start("one", "XDG_CONFIG_HOME="+other, "KEY=theirs")
	all := andBelow(w.shared())
	out, err := w.shim("one", "KEY=k1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "has another configuration") {
		t.Errorf("%v: %s", err, out)
	}
	s.leaves()
	w.gone(all)
	s = w.start("one", "KEY=k1")
	all = andBelow(w.shared())
	s.leaves()
	w.gone(all)
}

// TestShimIsKilled: what it had started is gone.
func TestShimIsKilled(t *testing.T) {
	w := newWrapping(t, map[string][]string{"one": nil})
	s := w.start("one")
	s.tool("keep", "1")
	all := andBelow(w.shared())
	if !slices.ContainsFunc(slices.Collect(maps.Values(all)), func(n string) bool { return strings.HasSuffix(n, "server.py") }) {
		t.Fatalf("no server among %v", all)
	}
	s.cmd.Process.Kill()
	w.gone(all)
}

// TestSharedRouterIsKilled: its shims end with an error, and the next starts
// another.
func TestSharedRouterIsKilled(t *testing.T) {
	w := newWrapping(t, map[string][]string{"one": nil})
	s := w.start("one")
	s.tool("keep", "1")
	pid := w.shared()
	all := andBelow(pid)
	syscall.Kill(pid, syscall.SIGKILL)
	w.gone(all)
	if code := s.ends(testWait); code != 1 || !strings.Contains(s.said.String(), "ended the connection") {
		t.Errorf("exit status %d\n%s", code, s.said)
	}
	next := w.start("one")
	if got := next.tool("keep", "2"); got != "kept 2" {
		t.Error(got)
	}
	if w.shared() == pid {
		t.Error("it is the same router")
	}
}

// TestShimIsStopped: SIGTERM, by which a client ends a server that does not.
func TestShimIsStopped(t *testing.T) {
	w := newWrapping(t, map[string][]string{"one": nil})
	s := w.start("one")
	s.cmd.Process.Signal(syscall.SIGTERM)
	if code := s.ends(testWait); code != 128+15 {
		t.Errorf("exit status %d", code)
	}
}

// TestServerIsWrappedLater: a shared router that runs serves what the
// configuration says when a shim comes, and disturbs nobody.
func TestServerIsWrappedLater(t *testing.T) {
	w := newWrapping(t, map[string][]string{"one": {"KEY"}})
	s := w.start("one", "KEY=k1")
	s.tool("keep", "1")
	pid := w.shared()
	w.wrap("other.json", map[string][]string{"two": nil})
	if got := w.start("two").tool("keep", "2"); got != "kept 2" {
		t.Error(got)
	}
	if w.shared() != pid {
		t.Error("it is another router")
	}
	if got := s.tool("keep", "3"); got != "kept 1 3" {
		t.Errorf("the first server: %q", got)
	}
}

// TestShimIsRefused: and starts nothing.
func TestShimIsRefused(t *testing.T) {
	w := newWrapping(t, map[string][]string{"one": nil})
	server := filepath.Join(w.dir, "server.py")
	evil := filepath.Join(w.dir, "evil.py")
	if err := os.WriteFile(evil, []byte(selfServer), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(status int, want string, env []string, args ...string) {
		t.Helper()
		cmd := w.command(append([]string{"run"}, args...)...)
		cmd.Env = append(slices.Clone(cmd.Env), env...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != status || !strings.Contains(string(out), want) || !strings.Contains(string(out), "fix: ") {
			t.Errorf("casemate run %s: exit %d, want %d and %q\n%s", strings.Join(args, " "), code, status, want, out)
		}
	}
	run(2, "no name", nil, "--", "/usr/bin/python3", server)
	run(2, "casemate wrap", nil, "--name", "tow", "--", "/usr/bin/python3", server)
	run(3, "casemate tools approve 'one'", nil, "--name", "one", "--", "/usr/bin/python3", evil)
	run(3, "casemate tools approve 'one'", nil, "--name", "one", "--", "/usr/bin/python3", server, "more")
	run(2, "casemate wrap", []string{"XDG_CONFIG_HOME=" + w.dir + "/none"}, "--name", "one", "--", "/usr/bin/python3", server)
	open := filepath.Join(w.dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	run(3, "0700", []string{"XDG_RUNTIME_DIR=" + open}, "--name", "one", "--", "/usr/bin/python3", server)
	if err := os.WriteFile(server, []byte(selfServer+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(3, "has changed", nil, "--name", "one", "--", "/usr/bin/python3", server)
	if _, err := os.Lstat(w.socket()); !os.IsNotExist(err) {
		t.Errorf("a shared router was started: %v", err)
	}
}

// TestStrangersAreRefused: what says no hello, or another's, gets nothing, and
// nobody else is disturbed.
func TestStrangersAreRefused(t *testing.T) {
	w := newWrapping(t, map[string][]string{"one": nil})
	s := w.start("one")
	say := func(b []byte) string {
		t.Helper()
		c, err := net.Dial("unix", w.socket())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(testWait))
		c.Write(b)
		c.(*net.UnixConn).CloseWrite()
		out, _ := io.ReadAll(c)
		return string(out)
	}
	frame := func(v any) []byte {
		var b strings.Builder
		if err := writeFrame(&b, v); err != nil {
			t.Fatal(err)
		}
		return []byte(b.String())
	}
	server := []string{"/usr/bin/python3", filepath.Join(w.dir, "server.py")}
	for name, b := range map[string][]byte{
		"nothing":            {},
		"garbage":            []byte("GET / HTTP/1.1\r\n\r\n"),
		"a frame too long":   {0xff, 0xff, 0xff, 0xff},
		"no JSON":            append([]byte{0, 0, 0, 4}, "{{{{"...),
		"a frame cut short":  {0, 0, 1, 0, '{'},
		"another build":      frame(hello{shimProtocol, "another", "one", server, ""}),
		"another protocol":   frame(hello{99, "", "one", server, ""}),
		"no command":         frame(map[string]any{"protocol": shimProtocol, "name": "one"}),
		"too long a command": frame(hello{shimProtocol, "", "one", []string{strings.Repeat("x", maxHello)}, ""}),
	} {
		if got := say(b); strings.Contains(got, "ready") || !strings.Contains(got, `"error"`) {
			t.Errorf("%s: it answers %q", name, got)
		}
	}
	if got := s.tool("keep", "1"); got != "kept 1" {
		t.Error(got)
	}

	if os.Geteuid() != 0 {
		return // what follows needs another user's process
	}
	restore := func() {}
	for _, f := range []string{filepath.Dir(w.dir), w.dir, filepath.Dir(filepath.Dir(w.socket())), filepath.Dir(w.socket()), w.socket()} {
		fi, err := os.Stat(f)
		if err == nil {
			err = os.Chmod(f, 0o777)
		}
		if err != nil {
			t.Fatal(err)
		}
		restore = join(restore, func() { os.Chmod(f, fi.Mode().Perm()) })
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(w.dir, "stranger") // where that user can run it
	b, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(program, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	other := func(what string) *exec.Cmd {
		cmd := exec.Command(program)
		cmd.Env = []string{"CASEMATE_TEST_AS=" + what, "SOCKET=" + w.socket()}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(testenv.UserID()), Gid: uint32(testenv.UserID())}}
		return cmd
	}
	out, err := other("stranger").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "shared router of user 0") {
		t.Errorf("another user: %s, %v", out, err)
	}

	// Nor does a shim speak to another user's router.
	if err := os.Remove(w.socket()); err != nil {
		t.Fatal(err)
	}
	impostor := other("impostor")
	heard, err := impostor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := impostor.Start(); err != nil {
		t.Fatal(err)
	}
	defer impostor.Wait()
	defer impostor.Process.Kill()
	if _, err := io.ReadFull(heard, make([]byte, len("listens"))); err != nil {
		t.Fatal(err)
	}
	restore()
	shim := w.shim("one")
	defer time.AfterFunc(testWait, func() { shim.Process.Kill() }).Stop()
	out, err = shim.CombinedOutput()
	if x, ok := errors.AsType[*exec.ExitError](err); !ok || x.ExitCode() != 3 || !strings.Contains(string(out), "belongs to user") {
		t.Errorf("a shim, of another user's router: %v\n%s", err, out)
	}
}

// stranger is a process of another user's.
func stranger() int {
	c, err := net.Dial("unix", os.Getenv("SOCKET"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c.SetDeadline(time.Now().Add(testWait))
	writeFrame(c, hello{shimProtocol, build(), "one", nil, ""})
	io.Copy(os.Stdout, c)
	return 0
}

// impostor is a shared router of another user's.
func impostor() int {
	l, err := net.Listen("unix", os.Getenv("SOCKET"))
	if err == nil {
		err = os.Chmod(os.Getenv("SOCKET"), 0o777)
	}
	if err != nil {
		return 1
	}
	fmt.Print("listens")
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		writeFrame(c, shimAnswer{Ready: true})
	}
}

// TestSharedEnv: no secret of the first client's reaches the shared router.
func TestSharedEnv(t *testing.T) {
	keep := []string{"HOME=/h", "XDG_RUNTIME_DIR=/r", "HTTPS_PROXY=p", "NODE_EXTRA_CA_CERTS=c", "npm_config_registry=r", "NPM_CONFIG_STRICT_SSL=true", "PIP_INDEX_URL=i", "PATH=/bin"}
	drop := []string{"ANTHROPIC_API_KEY=k", "npm_config__authToken=t", "npm_config_//r/:_authToken=t", "PIP_PASSWORD=p", "LD_PRELOAD=x", "CASEMATE_CONFIG=c", "KEY=k", "=x"}
	if got := sharedEnv(slices.Concat(drop, keep), nil); !slices.Equal(got, keep) {
		t.Errorf("%q", got)
	}
	wrapped := []string{"PATH=/opt/bin:/bin", "npm_config_registry=r", "KEY=k"}
	client := []string{"HOME=/h", "PATH=/evil", "npm_config_registry=evil", "HTTPS_PROXY=evil"}
	if got := sharedEnv(client, wrapped); !slices.Equal(got, []string{"npm_config_registry=r", "HOME=/h", "PATH=/opt/bin:/bin:/evil"}) {
		t.Errorf("a client's settings are those of others: %q", got)
	}
}

func TestWithValues(t *testing.T) {
	got := withValues([]string{"B=1", "KEY=old", "KEYS=2"}, []string{"KEY", "NEW", "UNSET"}, map[string]string{"KEY": "new=1", "NEW": "", "OTHER": "x"})
	if want := []string{"B=1", "KEY=new=1", "KEYS=2", "NEW="}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLogsAreBounded: what a hijacked router says fills no disk and drives no
// terminal.
func TestLogsAreBounded(t *testing.T) {
	dir := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		relay(r, &console{err: said}, &serverLogs{dir: dir})
	}()
	log := serverLog(w)
	log("plain", "", "one\x1b[2J\nline")
	eventually(t, "the line", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "plain.log"))
		return strings.HasSuffix(string(b), ` one\x1b[2J line`+"\n")
	})
	for _, name := range []string{"../../x", "", ".", "a/b", strings.Repeat("x", 65), "x\x00"} {
		fmt.Fprintf(w, "%s%s: line\n", serverMark, name)
	}
	for i := range 10_000 {
		fmt.Fprintf(w, "%splain: %d\n", serverMark, i)
		fmt.Fprintf(w, "%d\n", i)
	}
	w.Close()
	<-done
	if n := strings.Count(said.String(), "\n"); n > routerLines {
		t.Errorf("%d lines of the router", n)
	}
	if strings.Count(said.String(), "says too much") != 1 {
		t.Errorf("it says:\n%s", said)
	}
	var files []string
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, _ error) error {
		if !e.IsDir() {
			files = append(files, e.Name())
		}
		return nil
	})
	b, err := os.ReadFile(filepath.Join(dir, "plain.log"))
	if err != nil || !slices.Equal(files, []string{"plain.log"}) || strings.Count(string(b), "\n") > serverLogLines {
		t.Errorf("files %q, %d bytes, %v", files, len(b), err)
	}
}

func TestTrimLog(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Repeat("x", maxLog) + "the end"); err != nil {
		t.Fatal(err)
	}
	if err := trimLog(f); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil || len(b) != maxLog/4 || !strings.HasSuffix(string(b), "xthe end") {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func FuzzHello(f *testing.F) {
	b, _ := json.Marshal(hello{shimProtocol, build(), "one", []string{"a"}, "/f"})
	f.Add(b)
	f.Add([]byte(`{"name":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHello(b)
		if err == nil && (h.Name == "" || len(h.Argv) == 0 || h.Build != build()) {
			t.Fatalf("%+v", h)
		}
		if err != nil && casemate.KindOf(err) == casemate.Internal {
			t.Fatal(err)
		}
	})
}

// A client whose output is a file, which the router is not to hold, is served
// all the same; and what a client's end was like it is again afterwards.
func TestEndsOfClients(t *testing.T) {
	w := newWrapping(t, map[string][]string{"one": nil})
	for _, kind := range []string{"pipe", "file"} {
		r, in, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer in.Close()
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd := w.shim("one")
		var said bytes.Buffer
		if cmd.Stdin, cmd.Stdout = r, &said; kind == "file" {
			cmd.Stdout = out
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in.WriteString(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}` + "\n" +
			`{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n")
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		b, _ := os.ReadFile(out.Name())
		if answer := said.String() + string(b); !strings.Contains(answer, `"serverInfo"`) {
			t.Errorf("%s: the answer is %q", kind, answer)
		}
		raw, err := r.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
				t.Errorf("%s: the client's end has the flags %#x, %v", kind, flags, err)
			}
		})
	}
}
