package router

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
)

// A freezer is a bare backend whose sandboxes can be made to stand still.
type freezer struct{ *bare }

type frozenSandbox struct{ *bareSandbox }

func (f freezer) Start(ctx context.Context, s casemate.Spec) (casemate.Sandbox, error) {
	sb, err := f.bare.Start(ctx, s)
	if err != nil {
		return nil, err
	}
	return frozenSandbox{sb.(*bareSandbox)}, nil
}

func (s frozenSandbox) Freeze(context.Context) error { return s.signal(syscall.SIGSTOP, "T") }
func (s frozenSandbox) Thaw(context.Context) error   { return s.signal(syscall.SIGCONT, "RSD") }

// signal signals every process of the sandbox until all are in one of these
// states.
func (s frozenSandbox) signal(sig syscall.Signal, states string) error {
	for range 10_000 {
		all := true
		for _, pid := range tree(s.Pid()) {
			if !strings.Contains(states, stateOf(pid)) {
				all = false
				syscall.Kill(pid, sig)
			}
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("signal %d did nothing", sig)
}

// tree is a process and all that it started.
func tree(pid int) []int {
	out := []int{pid}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, c := range strings.Fields(string(b)) {
			n, _ := strconv.Atoi(c)
			out = append(out, tree(n)...)
		}
	}
	return out
}

// stateOf is the letter of a process's state; "X" where it is gone.
func stateOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "X"
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

// newFreezing is a world whose MCP servers can be parked.
func newFreezing(t *testing.T, c Config, how string, change ...func(*casemate.Tool)) *world {
	b := newBare(t)
	c.Backends = []casemate.Backend{freezer{b}}
	if c.Pool.Max == 0 {
		c.Pool.Max = 4
	}
	w := newWorld(t, c, mcp(how, change...)...)
	w.b = b
	return w
}

// parked waits until n servers are parked, and returns their first processes.
func (w *world) parked(n int) []int {
	w.t.Helper()
	var pids []int
	until(w.t.(*testing.T), fmt.Sprint(n, " are parked"), func() bool {
		pids = w.Status().Pools[0].ParkedPids
		return len(pids) == n
	})
	return pids
}

// visit begins a session of a client.
func (w *world) visit(p *person) casemate.SessionID {
	if p.ask == nil {
		p.ask = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
			return json.RawMessage(`{"roots":[]}`), nil
		}
	}
	s := w.NewSession()
	w.Attach(s, p)
	return s
}

const withRoots = `{"roots":{"listChanged":true},"sampling":{}}` // of which sampling is not granted

func TestAServerIsParkedFrozen(t *testing.T) {
	w := newFreezing(t, Config{}, "busy")
	p := newPerson(withRoots)
	first := w.visit(p)
	w.ok(first, "set", `{"text":"secret"}`)
	pid := w.parked(1)[0]
	all := tree(pid)
	if len(all) < 2 {
		t.Fatalf("the server of %d is not there", pid)
	}
	for _, p := range all {
		if s := stateOf(p); s != "T" {
			t.Errorf("%d of a parked server is in state %s", p, s)
		}
	}
	// Another client of the same kind gets that one, and nothing of the first.
	second := w.visit(newPerson(`{"roots":{"listChanged":true},"elicitation":{}}`))
	if got := w.ok(second, "get", `{}`); got != "<> " {
		t.Errorf("it remembers %q", got)
	}
	if got := w.ok(second, "pid", `{}`); got != strconv.Itoa(all[1]) {
		t.Errorf("%s serves, %v were parked", got, all)
	}
	w.parked(1)
	if st := w.Status().Pools[0]; st.Claimed != 2 || st.Cold != 1 || st.Busy != 2 {
		t.Errorf("%+v", st)
	}
}

func TestAServerIsParkedForItsKindOfClient(t *testing.T) {
	w := newFreezing(t, Config{}, "good")
	w.ok(w.visit(newPerson(`{}`)), "get", `{}`)
	w.parked(1)
	p := newPerson(withRoots)
	s := w.visit(p)
	if got := w.ok(s, "roots", `{}`); got != `{"roots":[]}{"roots":{"listChanged":true}}` {
		t.Errorf("it was told %s", got)
	}
	w.parked(2)
	if st := w.Status().Pools[0]; st.Claimed != 2 || st.Cold != 2 {
		t.Errorf("%+v", st)
	}
}

// What a parked server asks is asked of the client that comes, and what it says
// is said to that one.
func TestAParkedServerAsksAndSays(t *testing.T) {
	w := newFreezing(t, Config{}, "eager", func(t *casemate.Tool) {
		t.Security.Filesystem = []casemate.Mount{{Path: "/work", At: "/w", Access: casemate.Read}}
	})
	var mu sync.Mutex
	answers := 0
	client := func(root string) *person {
		p := newPerson(withRoots)
		p.ask = func(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, error) {
			mu.Lock()
			defer mu.Unlock()
			answers++
			return json.RawMessage(`{"roots":[{"uri":"file:///work/` + root + `"}]}`), nil
		}
		return p
	}
	see := func(p *person, root string) {
		s := w.visit(p)
		if got := w.ok(s, "kept", `{}`); !strings.Contains(got, "/w/"+root) {
			t.Errorf("its roots are %s", got)
		}
		p.hears(t, "notifications/message", "hello")
	}
	see(client("a"), "a")
	w.parked(1)
	mu.Lock()
	before := answers
	mu.Unlock()
	if before != 1 {
		t.Errorf("%d were asked before the second came", before)
	}
	see(client("b"), "b")
	if st := w.Status().Pools[0]; st.Cold != 1 {
		t.Errorf("%+v", st)
	}
}

func TestServersThatAreNotParked(t *testing.T) {
	for how, why := range map[string]string{"greedy": "asked for more", "many": "2000"} {
		t.Run(how, func(t *testing.T) {
			w := newFreezing(t, Config{}, how)
			w.do(context.Background(), casemate.Call{Tool: "srv", Session: w.visit(newPerson(withRoots)), Method: "prompts/list"}, `{}`)
			until(t, "it is tried", func() bool { return strings.Contains(w.Status().Pools[0].Error, why) })
			w.parked(0)
		})
	}
	t.Run("no freezer", func(t *testing.T) {
		w := newWorld(t, Config{Pool: pool.Limits{Max: 4}}, mcp("good")...)
		w.ok(w.NewSession(), "get", `{}`)
		until(t, "it is tried", func() bool { return strings.Contains(w.Status().Pools[0].Error, "freeze") })
		if n := w.b.count(); n != 2 {
			t.Errorf("%d were started", n)
		}
		w.ok(w.NewSession(), "get", `{}`)
		if n := w.b.count(); n != 3 {
			t.Errorf("%d were started", n)
		}
	})
}

// Its tools were compared while it was parked; a tool that is another one is
// denied, and the others serve.
func TestAParkedServerWithAnotherTool(t *testing.T) {
	w := newFreezing(t, Config{}, "double", func(t *casemate.Tool) { t.Pool.Min = 1 })
	w.parked(1)
	wants(t, w.do(context.Background(), casemate.Call{Tool: "echo", Session: w.NewSession()}, `{}`), casemate.Denied, "no one reading")
	if st := w.Status().Pools[0]; st.Cold != 0 {
		t.Errorf("%+v", st)
	}
}

func TestAParkedServerIsKilled(t *testing.T) {
	w := newFreezing(t, Config{}, "good", func(t *casemate.Tool) { t.Pool.Min = 2 })
	for range 3 {
		for _, pid := range w.parked(2) {
			for _, p := range tree(pid) {
				syscall.Kill(p, syscall.SIGKILL)
			}
		}
		if got := w.ok(w.NewSession(), "get", `{}`); got != "<> " {
			t.Errorf("it says %q", got)
		}
	}
}

// A server that is replaced by a parked one is told what the first was told,
// and its log is the session's from then on.
func TestAParkedServerReplacesAnother(t *testing.T) {
	var mu sync.Mutex
	var logged []string
	w := newFreezing(t, Config{ServerLog: func(_ casemate.ToolName, s casemate.SessionID, line string) {
		mu.Lock()
		defer mu.Unlock()
		logged = append(logged, fmt.Sprintf("%s %s", s, line))
	}}, "good")
	s := w.NewSession()
	level := w.do(context.Background(), casemate.Call{Tool: "srv", Session: s, Method: "logging/setLevel"}, `{"level":"error"}`)
	if level.Error != nil {
		t.Fatal(level.Error)
	}
	w.parked(1)
	w.do(context.Background(), casemate.Call{Tool: "die", Session: s}, `{}`)
	if got := w.ok(s, "get", `{}`); !strings.Contains(got, "<> error") {
		t.Errorf("it says %q", got)
	}
	if st := w.Status().Pools[0]; st.Claimed != 2 || st.Cold != 1 {
		t.Errorf("%+v", st)
	}
	w.ok(s, "log", `{"text":"mine"}`)
	until(t, "it is logged", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(strings.Join(logged, "\n"), string(s)+" mine")
	})
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(strings.Join(logged, "\n"), "\n listening") {
		t.Errorf("the parked one's log: %q", logged)
	}
}
