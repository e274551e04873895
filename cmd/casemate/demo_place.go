package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway/mcp"
	"github.com/casemate/casemate/internal/store"
	"github.com/casemate/casemate/sandbox/gvisor"
)

// canary is in every victim of the demo: it must reach no planner, no
// listener and no file.
const canary = "CANARY-of-the-casemate-demo"

// untouched is what the victims hold that must not be written.
const untouched = "UNTOUCHED\n"

// A demoPlace is where the demo happens: a folder of its own with victims, a
// configuration, and the servers' state. Nothing outside it is written.
type demoPlace struct {
	dir   string   // 0755, and so are the victims: no mode of a file holds what a wall should
	self  string   // this binary
	mark  string   // digits that no process of another run has in its arguments
	env   []string // of the servers
	flags []string // that take walls away
}

// The limits of the hijacked planner's tools; small, so that bombs are soon
// over.
const (
	demoMemory    = 64 << 20
	demoDisk      = 8 << 20
	demoProcesses = 32
	demoOutput    = 64 << 10
)

// newDemoPlace makes the folder and the victims.
func newDemoPlace(without []string) (p *demoPlace, err error) {
	p = &demoPlace{mark: fmt.Sprintf("%d%06d", os.Getpid(), time.Now().Nanosecond()/1000)}
	if p.self, err = os.Executable(); err == nil {
		p.self, err = filepath.EvalSymlinks(p.self)
	}
	if err != nil {
		return nil, err
	}
	if len(without) > 0 {
		p.flags = []string{"--test-without=" + strings.Join(without, ",")}
	}
	if p.dir, err = os.MkdirTemp("", "casemate-demo-"); err != nil {
		return nil, err
	}
	fail := func(err error) (*demoPlace, error) { return nil, errors.Join(err, p.remove()) }
	if p.dir, err = filepath.EvalSymlinks(p.dir); err != nil {
		return fail(err)
	}
	if err := os.Chmod(p.dir, 0o755); err != nil {
		return fail(err)
	}
	secret := "password = " + canary + "\n"
	for name, text := range map[string]string{
		"vault/shadow": "root:" + canary + ":19000:0:99999:7:::\n", "victim/file": untouched,
		"home/.ssh/id_ed25519": secret, "home/.aws/credentials": secret, "home/.config/gcloud/application_default_credentials.json": secret,
		"home/.kube/config": secret, "home/.docker/config.json": secret, "home/.netrc": secret,
		"project/numbers.txt": "3\n1\n2\n", "project/notes/todo.txt": "buy milk\nfix the harbour light\n", "project/sub/file": untouched,
		"project/repo/.git/config": "[core]\n\tbare = false\n", "project/repo/.git/hooks/update.sample": "#!/bin/sh\n", "project/fresh/main.c": "int main(void) { return 0; }\n",
		"shared/doc.txt": untouched,
	} {
		name = filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fail(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return fail(err)
		}
	}
	if err := os.Symlink("../victim/file", filepath.Join(p.dir, "project/planted")); err != nil {
		return fail(err)
	}
	for _, d := range []string{"state", "run"} {
		if err := os.Mkdir(filepath.Join(p.dir, d), 0o700); err != nil {
			return fail(err)
		}
	}
	p.env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		where := name == gvisor.Env || name == "XDG_CACHE_HOME" // of the runtime, which is no setting
		return !where && (strings.HasPrefix(name, "CASEMATE_") || strings.HasPrefix(name, "XDG_"))
	}), "CASEMATE_CONFIG="+p.path("casemate.yaml"), "XDG_STATE_HOME="+p.path("state"), "XDG_CONFIG_HOME="+p.path("config"), "XDG_RUNTIME_DIR="+p.path("run"),
		"AWS_SECRET_ACCESS_KEY="+canary, "CASEMATE_DEMO_TOKEN="+canary)
	return p, nil
}

func (p *demoPlace) remove() error           { return store.Remove(p.dir) } // packages are read-only
func (p *demoPlace) path(name string) string { return filepath.Join(p.dir, name) }

// holds returns the content of a file of the place, "" where there is none.
func (p *demoPlace) holds(name string) string {
	b, err := os.ReadFile(p.path(name))
	if err != nil {
		return ""
	}
	return string(b)
}

// there lists those of names, relative to the place, that exist on the host.
func (p *demoPlace) there(names ...string) []string {
	var out []string
	for _, n := range names {
		if _, err := os.Lstat(p.path(n)); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// configure writes the configuration. It is what an operator would write:
// the walls are the defaults.
func (p *demoPlace) configure(degraded []string) error {
	sorter := "/usr/bin/sort"
	if found, err := exec.LookPath("sort"); err == nil && (strings.HasPrefix(found, "/usr/") || strings.HasPrefix(found, "/bin/")) {
		sorter = found
	}
	var b strings.Builder
	b.WriteString("version: 1\n")
	if len(degraded) > 0 {
		fmt.Fprintf(&b, "host: {allow_degraded: [%s]}\n", strings.Join(degraded, ", "))
	}
	b.WriteString("tools:\n")
	attacker := fmt.Sprintf("{path: %q, at: %s, access: read, execute: true}", p.self, attackerAt)
	limits := fmt.Sprintf("memory: %d, disk: %d, processes: %d, output: %d, timeout: 10s", demoMemory, demoDisk, demoProcesses, demoOutput)
	const project, shared = "{path: ./project, at: /work, access: write}", "{path: ./shared, at: /shared, access: read}"
	const command = "parameters: {type: object, properties: {command: {type: string}}, required: [command], additionalProperties: false}\n    run: {shell: {}}"
	tool := func(name, what, run, security string) {
		fmt.Fprintf(&b, "  - name: %s\n    description: %s\n    %s\n    security: {%s}\n", name, what, run, security)
	}
	tool("shell", "Run a command; no file of the host is granted but a hostile program.", command, limits+", filesystem: ["+attacker+"]")
	tool("workshop", "Run a command in the project.", command, limits+", filesystem: ["+project+", "+attacker+"]")
	tool("reader", "Run a command over documents to read.", command, limits+", filesystem: ["+shared+", "+attacker+"]")
	tool("notebook", "Run a command; /tmp lasts as long as the session.", command, "scope: session")
	tool("sort", "Sort the lines of a file.", "parameters: {type: object, properties: {file: {type: string}}, required: [file], additionalProperties: false}\n    run: {exec: {command: ["+sorter+", \"{file}\"]}}", "filesystem: ["+project+"]")
	for _, name := range []string{"read_file", "write_file", "edit_file", "search_files"} {
		tool(name, "One function on the project's files.", "run: {builtin: "+name+"}", "filesystem: ["+project+"]")
	}
	tool("python", "Run Python code; variables last as long as the session.", "parameters: {type: object, properties: {code: {type: string}}, required: [code], additionalProperties: false}\n    run: {python: {}}", "scope: session, timeout: 20s")
	for _, w := range demoWalls {
		b.WriteString(w.configure("timeout: 20s"))
	}
	return os.WriteFile(p.path("casemate.yaml"), []byte(b.String()), 0o644)
}

// command is the casemate of this very binary, in the place.
func (p *demoPlace) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.self, append(args, p.flags...)...)
	cmd.Dir, cmd.Env = p.dir, p.env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the demo, which ends its children
	return cmd
}

// A demoPlanner is an MCP client with a server of its own.
type demoPlanner struct {
	name   string
	client *mcp.Client
	cmd    *exec.Cmd
	said   *tailBuffer // the server's standard error
	exited chan struct{}
}

// planner starts casemate serve and greets it.
func (p *demoPlace) planner(ctx context.Context, name string) (*demoPlanner, error) {
	return p.greet(ctx, name, 30*time.Second, p.command(context.WithoutCancel(ctx), "serve"))
}

// greet starts an MCP server and greets it.
func (p *demoPlace) greet(ctx context.Context, name string, patience time.Duration, cmd *exec.Cmd) (*demoPlanner, error) {
	l := &demoPlanner{name: name, cmd: cmd, said: &tailBuffer{}, exited: make(chan struct{})}
	in, err := l.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, w, err := os.Pipe() // not StdoutPipe: Wait would close it before it is read
	if err != nil {
		return nil, err
	}
	l.cmd.Stdout, l.cmd.Stderr = w, l.said
	err = l.cmd.Start()
	w.Close()
	if err != nil {
		out.Close()
		return nil, err
	}
	go func() { l.cmd.Wait(); close(l.exited) }()
	greet, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if l.client, err = mcp.Dial(greet, name, in, out); err != nil {
		l.close()
		return nil, fmt.Errorf("%w; its server said: %s", err, strings.TrimSpace(l.said.String()))
	}
	return l, nil
}

// close hangs up and waits until the server is gone.
func (l *demoPlanner) close() {
	if l.client != nil {
		l.client.Close()
	}
	select {
	case <-l.exited:
		return
	case <-time.After(3 * time.Second):
	}
	l.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-l.exited:
	case <-time.After(12 * time.Second):
		l.cmd.Process.Kill()
		<-l.exited
	}
}

// An answer is what a planner got for a call.
type answer struct {
	text   string // all of it
	failed bool   // it says that the call failed
}

// call calls a tool; an error is one of the protocol or of the server.
func (l *demoPlanner) call(ctx context.Context, tool string, args map[string]any) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	r, err := l.client.Call(ctx, tool, args)
	if err != nil {
		return answer{}, err
	}
	return answer{text: resultText(r), failed: r.IsError}, nil
}

func resultText(r *casemate.Result) string {
	var b strings.Builder
	for _, c := range r.Content {
		b.WriteString(c.Text)
		b.Write(c.Data)
		b.WriteByte('\n')
	}
	return b.String()
}

// A tailBuffer keeps the last of what is written to it.
type tailBuffer struct {
	mu sync.Mutex
	b  []byte
}

var _ io.Writer = (*tailBuffer)(nil)

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-16<<10):]
	return len(p), nil
}

func (t *tailBuffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
