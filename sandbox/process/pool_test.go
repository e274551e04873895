package process

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/router"
)

type forgetful struct{}

func (forgetful) Record(casemate.Receipt) error { return nil }

// routed is a real router before a real spawner.
func routed(t *testing.T, p *site, c router.Config, tools ...*casemate.Tool) *router.Router {
	t.Helper()
	c.Recorder, c.Backends, c.Tools = forgetful{}, []casemate.Backend{p.Backend}, tools
	r, err := router.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Shutdown(context.Background()) })
	return r
}

// asks is a tool as a manifest would give it.
func asks(t *testing.T, name casemate.ToolName, change func(*casemate.Tool)) *casemate.Tool {
	t.Helper()
	tool, _ := pythonTools(t)
	tool.Name = name
	tool.Parameters = json.RawMessage(`{"type":"object","properties":{"code":{"type":"string"}},"required":["code"],"additionalProperties":false}`)
	tool.Roles = map[string]casemate.Role{"code": casemate.RoleContent}
	tool.Security.Rate.PerMinute = 1 << 30
	if change != nil {
		change(tool)
	}
	return tool
}

func ask(ctx context.Context, r *router.Router, s casemate.SessionID, tool *casemate.Tool, code string) *casemate.Outcome {
	args, _ := json.Marshal(map[string]string{"code": code})
	return r.Call(ctx, casemate.Call{Session: s, Tool: tool.Name, Arguments: args})
}

// printed is what a call printed, or its error.
func printed(o *casemate.Outcome) string {
	if o.Error != nil {
		return fmt.Sprintf("%s: %s (%s)", o.Error.Kind, o.Error.Message, o.Error.Fix)
	}
	text := ""
	for _, c := range o.Result.Content {
		text += c.Text
	}
	return text
}

// killedWhileParked says whether a call failed for it got a guest whose death was
// not known yet.
func killedWhileParked(out string) bool {
	return strings.HasPrefix(out, "tool-failed: ") && strings.Contains(out, "signal 9")
}

// parkedOf waits until so many sandboxes of the one tool are parked, and returns
// their processes.
func parkedOf(t *testing.T, r *router.Router, tool *casemate.Tool, n int) []int {
	t.Helper()
	var last router.PoolStatus
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		for _, ps := range r.Status().Pools {
			if ps.Tool == tool.Name {
				if last = ps; ps.Parked >= n {
					return ps.ParkedPids
				}
			}
		}
	}
	t.Fatalf("never %d parked: %+v", n, last)
	return nil
}

func TestParkedKilled(t *testing.T) { parkedKilled(t) }

func TestParkedKilledAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, parkedKilled)
}

// Every parked guest is killed at once, by itself and with its template. A call
// that gets one before its death is known fails, and says so; the next ones work,
// and others are parked.
func parkedKilled(t *testing.T) {
	tool := asks(t, "forked", func(t *casemate.Tool) { t.Pool = casemate.Parking{Min: 3, Max: 3} })
	p := siteOf(t, Options{}, tool)
	r := routed(t, p, router.Config{}, tool)
	for i := range 6 {
		pids := parkedOf(t, r, tool, 3)
		if i%2 == 0 {
			for _, pid := range pids {
				unix.Kill(pid, unix.SIGKILL)
			}
		} else {
			unix.Kill(parent(t, pids[0]), unix.SIGKILL)
		}
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				if out := printed(ask(t.Context(), r, "", tool, "print(6*7)")); out != "42\n" && !killedWhileParked(out) {
					t.Error(out)
				}
			})
		}
		calls.Wait()
		for range 4 {
			if out := printed(ask(t.Context(), r, "", tool, "print(6*7)")); out != "42\n" {
				t.Error(out)
			}
		}
	}
}

// A start that fails is said to, by its cause; when the cause is gone the next
// call works, and sandboxes are parked again.
func TestStartsFailForAWhile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "granted")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tool := asks(t, "forked", func(t *casemate.Tool) {
		t.Pool = casemate.Parking{Min: 2, Max: 2}
		t.Security.Filesystem = []casemate.Mount{{Path: dir, At: "/granted", Access: casemate.Read}}
	})
	p := siteOf(t, Options{}, tool)
	r := routed(t, p, router.Config{}, tool)
	parkedOf(t, r, tool, 2)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	r.Stale(tool.Guest())
	for range 5 {
		o := ask(t.Context(), r, "", tool, "print(6*7)")
		if o.Error == nil || o.Error.Kind != casemate.Invalid || !strings.Contains(o.Error.Message, "/granted") || o.Error.Fix == "" {
			t.Fatal(printed(o))
		}
	}
	if ps := r.Status().Pools[0]; ps.Parked != 0 || ps.Failed == 0 || !strings.Contains(ps.Error, "/granted") {
		t.Errorf("%+v", ps)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if out := printed(ask(t.Context(), r, "", tool, "print(6*7)")); out != "42\n" {
		t.Error(out)
	}
	parkedOf(t, r, tool, 2)
}

// strong has a guest say how it is confined.
const strong = `
s = dict(l.split() for l in open("/proc/self/status") if len(l.split()) == 2)
import os
print(*[s[k + ":"] for k in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")], os.getpid(), os.listdir("/tmp"), open("/proc/self/mountinfo").read().count("\n"))
open("/tmp/used", "w").close()
`

func TestBurst(t *testing.T) { burst(t) }

func TestBurstAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, burst)
}

// A thousand calls at once, of a pool of two: each is served by a sandbox that
// is as strong as any, or is told when to come again; and none is lost.
func burst(t *testing.T) {
	tool := asks(t, "forked", func(t *casemate.Tool) { t.Pool = casemate.Parking{Max: 2} })
	p := siteOf(t, Options{}, tool)
	r := routed(t, p, router.Config{Pool: pool.Limits{Max: 2, Waiting: 16}, Concurrency: 40, PerTool: 40}, tool)
	want := printed(ask(t.Context(), r, "", tool, strong))
	if !strings.HasPrefix(want, "0000000000000000 0000000000000000 1 2 1 [] ") {
		t.Fatal(want)
	}
	var calls sync.WaitGroup
	var served, busy atomic.Int64
	for range 1000 {
		calls.Go(func() {
			switch o := ask(t.Context(), r, "", tool, strong); {
			case o.Error == nil && printed(o) == want:
				served.Add(1)
			case o.Error != nil && o.Error.Kind == casemate.Busy && strings.Contains(o.Error.Fix, "try again"):
				busy.Add(1)
			default:
				t.Error(printed(o))
			}
		})
	}
	calls.Wait()
	t.Logf("%d were served, %d were busy", served.Load(), busy.Load())
	if served.Load()+busy.Load() != 1000 || served.Load() < 16 {
		t.Errorf("%d were served, %d were busy", served.Load(), busy.Load())
	}
	if out := printed(ask(t.Context(), r, "", tool, strong)); out != want {
		t.Error(out)
	}
}

// A session with 500 calls that wait does not keep another's one from being
// served.
func TestSessionsAreServedInTurn(t *testing.T) {
	tool := asks(t, "forked", func(t *casemate.Tool) { t.Pool = casemate.Parking{Max: 2} })
	p := siteOf(t, Options{}, tool)
	r := routed(t, p, router.Config{Pool: pool.Limits{Max: 2}, PerTool: 128, Concurrency: 256}, tool)
	many, one := r.NewSession(), r.NewSession() // the bound of a tool is four times what runs of it
	if out := printed(ask(t.Context(), r, one, tool, "print(6*7)")); out != "42\n" {
		t.Fatal(out)
	}
	var calls sync.WaitGroup
	var served atomic.Int64
	for range 500 {
		calls.Go(func() {
			if out := printed(ask(t.Context(), r, many, tool, "print(6*7)")); out != "42\n" {
				t.Error(out)
			}
			served.Add(1)
		})
	}
	for len(r.Status().Calls) < 400 && served.Load() < 50 {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		before := served.Load()
		if out := printed(ask(t.Context(), r, one, tool, "print(6*7)")); out != "42\n" {
			t.Error(out)
		}
		// Before it come those that have slots, and after each of its waits one.
		if n := served.Load() - before; n > 60 {
			t.Errorf("%d calls of the other session were served first", n)
		}
	}
	calls.Wait()
}

// Clients that go away while they wait, start or run leave nothing.
func TestClientsHangUp(t *testing.T) {
	tool := asks(t, "forked", func(t *casemate.Tool) { t.Pool = casemate.Parking{Max: 2} })
	p := siteOf(t, Options{}, tool)
	fault := func() {
		r := routed(t, p, router.Config{PerTool: 64, Concurrency: 128}, tool)
		var calls sync.WaitGroup
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(100))*time.Millisecond)
			calls.Go(func() {
				defer cancel()
				code := []string{"print(6*7)", "import time\nprint(1, flush=True)\ntime.sleep(60)"}[rand.IntN(2)]
				if o := ask(ctx, r, "", tool, code); o.Error != nil && o.Error.Kind != casemate.Cancelled && o.Error.Kind != casemate.Busy {
					t.Error(printed(o))
				}
			})
		}
		calls.Wait()
		if out := printed(ask(t.Context(), r, "", tool, "print(6*7)")); out != "42\n" {
			t.Error(out)
		}
		pid := parkedOf(t, r, tool, 1)[0]
		template := parent(t, pid)
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		endTemplate(t, template)
	}
	fault()
	before := p.still(t)
	fault()
	p.settled(t, before)
}
