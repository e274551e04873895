package router

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/pool"
)

// The guests of these tests are real processes: this binary, run again with
// guestVar set, with a socket at descriptor 3. Its value is the way in which
// the guest behaves, the first module that its tool preloads.
const guestVar = "CASEMATE_ROUTER_TEST_GUEST"

func TestMain(m *testing.M) {
	if how, ok := os.LookupEnv(guestVar); ok {
		beGuest(how)
		os.Exit(0)
	}
	if how, ok := os.LookupEnv(serverVar); ok {
		beMCPServer(how)
	}
	os.Exit(m.Run())
}

func beGuest(how string) {
	time.AfterFunc(30*time.Second, func() { os.Exit(77) }) // outlive no test
	pipe := os.NewFile(3, "pipe")
	if server, ok := strings.CutPrefix(how, "mcp "); ok {
		beMCPGuest(pipe, server)
	}
	if scope, ok := strings.CutPrefix(how, "shell "); ok {
		beShell(pipe, scope == string(casemate.ScopeSession))
	}
	send := func(t guest.Type, call uint32, body string) {
		if guest.Write(pipe, guest.Frame{Type: t, Call: call, Body: []byte(body)}) != nil {
			os.Exit(1)
		}
	}
	done := func(call, status uint32) { send(guest.Done, call, string(binary.BigEndian.AppendUint32(nil, status))) }
	ready := func(version string) {
		send(guest.Ready, 0, string(guest.AppendPairs(nil, []guest.Pair{{Key: "version", Value: version}, {Key: "runtime", Value: "test"}})))
	}
	switch how {
	case "mute":
		time.Sleep(time.Minute)
	case "version":
		ready("2")
		time.Sleep(time.Minute)
	case "stillborn":
		os.Exit(5)
	}
	ready("1")
	switch how {
	case "mortal":
		os.Exit(4)
	case "early":
		send(guest.Stdout, 1, "answered before asked")
		done(1, 0)
	}
	memory := map[string]string{}
	for {
		f, err := guest.Read(pipe, guest.MaxCall)
		if err != nil {
			os.Exit(0)
		}
		args, err := guest.ParsePairs(f.Body)
		if err != nil || f.Type != guest.Call {
			os.Exit(9)
		}
		switch n := f.Call; how {
		case "garbage":
			pipe.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
			time.Sleep(time.Minute)
		case "flood":
			for {
				send(guest.Stdout, n, strings.Repeat("y", 1000)+"\n")
			}
		case "empties":
			for {
				send(guest.Stdout, n, "")
			}
		case "stall":
			send(guest.Stdout, n, "so far")
			time.Sleep(time.Minute)
		case "twice":
			send(guest.Stdout, n, "once")
			done(n, 0)
			send(guest.Stdout, n, "twice")
			done(n, 0)
		case "exits":
			os.Exit(3)
		case "killed":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "memory":
			os.Exit(99)
		case "hangs up":
			pipe.Close()
			time.Sleep(time.Minute)
		case "huge":
			pipe.Write([]byte{byte(guest.Stdout), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 255, 255, 255, 255})
			time.Sleep(time.Minute)
		case "huge file":
			send(guest.File, n, string(guest.AppendPairs(nil, []guest.Pair{{Key: "name", Value: "f"}, {Key: "data", Value: strings.Repeat("x", 2<<20)}})))
			done(n, 0)
		case "other call":
			send(guest.Stdout, n+1, "for another")
			done(n, 0)
		case "half":
			b := guest.Append(nil, guest.Frame{Type: guest.Stdout, Call: n, Body: []byte("all of it")})
			pipe.Write(b[:12])
			os.Exit(0)
		default:
			done(n, obey(n, args, memory, send))
		}
	}
}

// obey does what the argument "code" says, one step a line.
func obey(n uint32, args []guest.Pair, memory map[string]string, send func(guest.Type, uint32, string)) (status uint32) {
	code, _ := guest.Get(args, "code")
	for _, line := range strings.Split(code, "\n") {
		verb, rest, _ := strings.Cut(line, " ")
		first, second, _ := strings.Cut(rest, " ")
		switch verb {
		case "print":
			send(guest.Stdout, n, rest+"\n")
		case "bytes":
			s, _ := strconv.Unquote(rest)
			send(guest.Stdout, n, s)
		case "repeat":
			total, _ := strconv.Atoi(rest)
			for ; total > 0; total -= guest.MaxReply {
				send(guest.Stdout, n, strings.Repeat("y", min(total, guest.MaxReply)))
			}
		case "value":
			send(guest.Value, n, rest)
		case "complain":
			send(guest.Stderr, n, rest)
		case "fail":
			send(guest.Failure, n, "Traceback:\n  line 3\n"+rest)
		case "exit":
			v, _ := strconv.Atoi(rest)
			status = uint32(v)
		case "file":
			mime, data, _ := strings.Cut(second, " ")
			send(guest.File, n, string(guest.AppendPairs(nil, []guest.Pair{{Key: "name", Value: first}, {Key: "mime", Value: mime}, {Key: "data", Value: data}})))
		case "set":
			memory[first] = second
		case "get":
			send(guest.Stdout, n, "<"+memory[first]+">")
		case "pid":
			send(guest.Stdout, n, strconv.Itoa(os.Getpid()))
		case "args":
			for _, p := range args {
				send(guest.Stdout, n, fmt.Sprintf("%s=%s;", p.Key, p.Value))
			}
		case "sleep":
			d, _ := time.ParseDuration(rest)
			time.Sleep(d)
		case "write": // to its own layer of a grant
			os.WriteFile(filepath.Join(os.Getenv("UPPER"), first), []byte(second), 0o600)
		case "die":
			os.Exit(3)
		case "late": // after it said that it is done
			go func() { time.Sleep(50 * time.Millisecond); send(guest.Stdout, n, "late") }()
		}
	}
	return status
}

// bare is a backend whose guests are processes without any wall around them:
// what the router does must not depend on walls. What a guest writes to its
// layer of a grant reaches the host by Commit, but for names with a dot first.
type bare struct {
	t       testing.TB
	starts  chan struct{} // a value for each start
	mu      sync.Mutex
	started []*bareSandbox
	asked   []casemate.Digest
	panics  bool
}

func newBare(t testing.TB) *bare { return &bare{t: t, starts: make(chan struct{}, 1<<16)} }

func (b *bare) Name() string { return "bare" }

func (b *bare) Probe(context.Context) (casemate.Capabilities, error) {
	return casemate.Capabilities{Name: "bare", Available: true, Assurance: casemate.Weak, Controls: []casemate.Control{{Name: "user", State: "degraded", Why: "it is bare", Fix: "none"}}}, nil
}

type bareSandbox struct {
	cmd   *exec.Cmd
	pipe  *os.File
	gone  chan struct{}
	once  sync.Once
	upper string
	host  string
}

func (b *bare) Start(_ context.Context, s casemate.Spec) (casemate.Sandbox, error) {
	if b.panics {
		panic("backend")
	}
	how := "good"
	if p := s.Tool.Run.Python; p != nil && len(p.Preload) > 0 {
		how = p.Preload[0]
	}
	if m := s.Tool.Run.MCP; m != nil {
		how = "mcp " + m.Command[1]
	}
	if s.Tool.Run.Shell != nil {
		how = "shell " + string(s.Tool.Security.Scope)
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	syscall.SetNonblock(fds[0], true)
	sb := &bareSandbox{pipe: os.NewFile(uintptr(fds[0]), "guest"), gone: make(chan struct{})}
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	sb.cmd = exec.Command("/proc/self/exe")
	sb.cmd.Env = []string{guestVar + "=" + how, "GORACE=atexit_sleep_ms=0"}
	if len(s.Tool.Security.Filesystem) > 0 {
		sb.upper, sb.host = b.t.TempDir(), s.Tool.Security.Filesystem[0].Path
		sb.cmd.Env = append(sb.cmd.Env, "UPPER="+sb.upper)
	}
	sb.cmd.ExtraFiles = []*os.File{theirs}
	sb.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is of the thread
	defer runtime.UnlockOSThread()
	if err := sb.cmd.Start(); err != nil {
		sb.pipe.Close()
		return nil, err
	}
	go func() { sb.cmd.Wait(); close(sb.gone) }()
	b.mu.Lock()
	b.started = append(b.started, sb)
	b.asked = append(b.asked, s.Grant.Tool)
	b.mu.Unlock()
	b.starts <- struct{}{}
	return sb, nil
}

func (s *bareSandbox) Guest() io.ReadWriteCloser { return s.pipe }

func (s *bareSandbox) Pid() int { return s.cmd.Process.Pid }

func (s *bareSandbox) Enforced() casemate.Enforced {
	return casemate.Enforced{Namespaces: []string{}, Degraded: []string{"everything"}}
}

func (s *bareSandbox) Wait(ctx context.Context) (casemate.Exit, error) {
	select {
	case <-s.gone:
	case <-ctx.Done():
		return casemate.Exit{}, ctx.Err()
	}
	ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	e := casemate.Exit{Status: ws.ExitStatus(), Usage: casemate.Usage{CPU: s.cmd.ProcessState.UserTime() + time.Microsecond}}
	if ws.Signaled() {
		e.Status, e.Signal = 0, int(ws.Signal())
	}
	if e.Status == 99 {
		e.Limit = "memory"
	}
	return e, nil
}

func (s *bareSandbox) Close() error {
	s.once.Do(func() { syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) })
	<-s.gone
	return nil
}

func (s *bareSandbox) Commit(context.Context, casemate.CallID) ([]casemate.Change, error) {
	if s.upper == "" {
		return nil, errors.New("no grant")
	}
	var out []casemate.Change
	names, err := os.ReadDir(s.upper)
	for _, n := range names {
		if strings.HasPrefix(n.Name(), ".") {
			out = append(out, casemate.Change{Path: "/work/" + n.Name(), Did: "held", Why: "a protected name"})
			continue
		}
		b, _ := os.ReadFile(filepath.Join(s.upper, n.Name()))
		if err := os.WriteFile(filepath.Join(s.host, n.Name()), b, 0o600); err != nil {
			return out, err
		}
		out = append(out, casemate.Change{Path: "/work/" + n.Name(), Did: "created"})
	}
	return out, err
}

// alive counts the guests that still run.
func (b *bare) alive() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.started {
		select {
		case <-s.gone:
		default:
			n++
		}
	}
	return n
}

func (b *bare) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.started)
}

// kept keeps receipts in memory.
type kept struct {
	mu     sync.Mutex
	all    []casemate.Receipt
	refuse string // event
	panics bool
}

func (k *kept) Record(r casemate.Receipt) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.panics {
		panic("recorder")
	}
	if r.Event == k.refuse {
		return errors.New("disk full")
	}
	k.all = append(k.all, r)
	return nil
}

func (k *kept) of(id casemate.CallID) (out []casemate.Receipt) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.all {
		if r.Call == id {
			out = append(out, r)
		}
	}
	return out
}

const codeSchema = `{"type":"object","properties":{"code":{"type":"string"}},"required":["code"],"additionalProperties":false}`

// a returns a tool whose guest behaves so.
func a(how string, change ...func(*casemate.Tool)) *casemate.Tool {
	t := &casemate.Tool{
		Name: casemate.ToolName(strings.ReplaceAll(how, " ", "-")), Parameters: []byte(codeSchema),
		Run:      casemate.Run{Python: &casemate.Script{Preload: []string{how}}},
		Security: casemate.Profile{Timeout: 10 * time.Second, Output: 64 << 10, Memory: 256 << 20},
	}
	for _, c := range change {
		c(t)
	}
	return t
}

func inSession(t *casemate.Tool) { t.Security.Scope = casemate.ScopeSession }
func hasty(t *casemate.Tool)     { t.Security.Timeout = 300 * time.Millisecond }
func called(n casemate.ToolName) func(*casemate.Tool) {
	return func(t *casemate.Tool) { t.Name = n }
}

type world struct {
	*Router
	b *bare
	k *kept
	t testing.TB
}

// newWorld makes a router and checks, when the test is over, that nothing of
// it is left: no guest, no goroutine.
func newWorld(t testing.TB, c Config, tools ...*casemate.Tool) *world {
	t.Helper()
	before := runtime.NumGoroutine()
	w := &world{b: newBare(t), k: &kept{}, t: t}
	if c.Tools = tools; c.Recorder == nil {
		c.Recorder = w.k
	}
	if c.Backends == nil {
		c.Backends = []casemate.Backend{w.b}
	}
	if c.Pool == (pool.Limits{}) {
		c.Pool.Max = -1
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	w.Router = r
	t.Cleanup(func() {
		if err := r.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if n := w.b.alive(); n != 0 {
			t.Errorf("%d guests are left", n)
		}
		r.mu.Lock()
		if len(r.inflight)+len(r.live)+len(r.sessions)+r.seated+int(r.bytes)+r.cfg.Concurrency-r.slots.free+r.order.Len()+int(r.keyedBytes)+r.remembered != 0 {
			t.Errorf("left: %d calls, %d guests, %d sessions, %d seats, %d bytes, %d slots", len(r.inflight), len(r.live), len(r.sessions), r.seated, r.bytes, r.cfg.Concurrency-r.slots.free)
		}
		r.mu.Unlock()
		for i := 0; ; i++ {
			after := runtime.NumGoroutine()
			if after <= before {
				return
			}
			if i == 100 {
				b := make([]byte, 1<<16)
				t.Errorf("%d goroutines before, %d after\n%s", before, after, b[:runtime.Stack(b, true)])
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return w
}

func (w *world) code(tool casemate.ToolName, s casemate.SessionID, code string) *casemate.Outcome {
	arg, _ := encode(map[string]any{"code": code})
	return w.Call(context.Background(), casemate.Call{Tool: tool, Session: s, Arguments: arg, Settle: true})
}

// must returns the text of a call that succeeds.
func (w *world) must(tool casemate.ToolName, s casemate.SessionID, code string) string {
	w.t.Helper()
	o := w.code(tool, s, code)
	if o.Error != nil || o.Result == nil || o.Result.IsError {
		w.t.Fatalf("%s: %+v %+v", tool, o.Error, o.Result)
	}
	return textOf(o)
}

func textOf(o *casemate.Outcome) string {
	var b bytes.Buffer
	if o.Result != nil {
		for _, c := range o.Result.Content {
			if c.Type == "text" {
				b.WriteString(c.Text)
			}
		}
	}
	return b.String()
}

// wants checks the error of an outcome.
func wants(t testing.TB, o *casemate.Outcome, k casemate.Kind, words ...string) {
	t.Helper()
	if o.Error == nil || o.Error.Kind != k {
		t.Errorf("error is %+v, want %s (result %q)", o.Error, k, textOf(o))
		return
	}
	for _, w := range words {
		if !strings.Contains(o.Error.Message, w) {
			t.Errorf("message %q does not say %q", o.Error.Message, w)
		}
	}
	if strings.ContainsAny(o.Error.Message, "\n\x00\x1b") {
		t.Errorf("message %q holds control bytes", o.Error.Message)
	}
}
