package process

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/testenv"
)

// A hostile server that runs before any call uses no processor while it is
// frozen, runs on when it is thawed, and dies frozen as it does otherwise.
func TestFreeze(t *testing.T) { freeze(t) }

func TestFreezeAsUser(t *testing.T) {
	subject(t)
	testenv.AsUser(t, freeze)
}

// spin ignores what asks it to stop, and starts what does the same.
const spin = `trap '' TSTP TTIN TTOU HUP TERM INT QUIT; (while :; do :; done) & setsid sh -c 'while :; do :; done' & while :; do /bin/true; done`

func freeze(t *testing.T) {
	for name, tool := range map[string]*casemate.Tool{
		"server": {Name: "mcp", Run: casemate.Run{MCP: &casemate.MCP{Server: "spin", Command: []string{"/bin/sh", "-c", spin}}}},
		"shell":  {Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}, Security: casemate.Profile{Scope: casemate.ScopeSession}},
	} {
		t.Run(name, func(t *testing.T) {
			sb := parkedWith(t, tool, casemate.Grant{})
			if name == "shell" {
				run(sb, "("+spin+") >/dev/null 2>&1 & echo")
				finished(t, sb)
			}
			moves(t, sb, true)
			for range 3 {
				must(t, sb.(casemate.Freezer).Freeze(t.Context()))
				must(t, sb.(casemate.Freezer).Freeze(t.Context())) // again
				moves(t, sb, false)
				must(t, sb.(casemate.Freezer).Thaw(t.Context()))
				moves(t, sb, true)
			}
			must(t, sb.(casemate.Freezer).Thaw(t.Context())) // again
			must(t, sb.(casemate.Freezer).Freeze(t.Context()))
			inside := processes(sb)
			must(t, sb.Close())
			for _, pid := range inside {
				if _, err := os.Stat("/proc/" + pid); err == nil {
					t.Errorf("process %s is left", pid)
				}
			}
			if x, err := sb.Wait(t.Context()); err != nil || x.Signal != 9 {
				t.Errorf("%+v %v", x, err)
			}
			if err := sb.(casemate.Freezer).Freeze(t.Context()); err == nil {
				t.Error("what is gone was frozen")
			}
		})
	}
}

// What a frozen guest wrote is carried to the host as any other's, and the
// guest runs on.
func TestFrozenCommit(t *testing.T) {
	dir := t.TempDir()
	for _, scope := range []casemate.Scope{casemate.ScopeCall, casemate.ScopeSession} {
		tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}, Security: casemate.Profile{Scope: scope,
			Filesystem: []casemate.Mount{{Path: dir, At: "/work", Access: casemate.Write}}}}
		sb := parkedWith(t, tool, casemate.Grant{})
		run(sb, "echo "+string(scope)+" > /work/"+string(scope)+"; echo written; [ "+string(scope)+" = session ] || sleep 60")
		if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || string(f.Body) != "written\n" {
			t.Fatalf("%q %v", f.Body, err)
		}
		if scope == casemate.ScopeSession {
			finished(t, sb)
		}
		must(t, sb.(casemate.Freezer).Freeze(t.Context()))
		if cs, err := sb.(casemate.Committer).Commit(t.Context(), "c_frozen"+casemate.CallID(scope)); err != nil || len(cs) != 1 {
			t.Errorf("%+v %v", cs, err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, string(scope))); string(b) != string(scope)+"\n" {
			t.Errorf("%q %v", b, err)
		}
		if scope == casemate.ScopeSession {
			run(sb, "echo alive")
			if out := finished(t, sb); out != "alive\n" {
				t.Errorf("%q", out)
			}
		}
	}
}

// A call that is sent while the guest stands still is answered when it goes on.
func TestFrozenCall(t *testing.T) {
	sb := parkedWith(t, &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}}, casemate.Grant{})
	must(t, sb.(casemate.Freezer).Freeze(t.Context()))
	run(sb, "echo late")
	must(t, sb.(casemate.Freezer).Thaw(t.Context()))
	if out := finished(t, sb); out != "late\n" {
		t.Errorf("%q", out)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// parkedWith starts a sandbox whose guest waits; it is closed with the test.
func parkedWith(t testing.TB, tool *casemate.Tool, g casemate.Grant) casemate.Sandbox {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sb, err := subject(t).Open(t, tool).Start(ctx, casemate.Spec{Tool: tool, Grant: g})
	must(t, err)
	t.Cleanup(func() { sb.Close() })
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		t.Fatalf("%c %q %v", f.Type, f.Body, err)
	}
	return sb
}

// moves looks whether the sandbox uses a processor. What does is seen as soon as
// its ticks grow; what does not is watched for some.
func moves(t *testing.T, sb casemate.Sandbox, want bool) {
	t.Helper()
	before := ticks(t, sb)
	if !want {
		time.Sleep(150 * time.Millisecond)
		// A tick that had begun may be counted late; what runs uses fifteen and more.
		if after := ticks(t, sb); after > before+1 {
			t.Errorf("a frozen guest used %d ticks", after-before)
		}
		return
	}
	for end := time.Now().Add(10 * time.Second); ticks(t, sb) < before+2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the guest does not run: %d ticks", before)
		}
	}
}

// ticks is the processor time of everything in the sandbox, of what has ended
// too, in clock ticks.
func ticks(t *testing.T, sb casemate.Sandbox) (sum int64) {
	t.Helper()
	for _, pid := range processes(sb) {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		for _, n := range f[11:15] { // utime, stime, cutime, cstime
			v, err := strconv.ParseInt(n, 10, 64)
			must(t, err)
			sum += v
		}
	}
	return sum
}

// processes are those of the sandbox's pid namespace, as the host numbers them.
func processes(sb casemate.Sandbox) (pids []string) {
	ns := "/proc/" + strconv.Itoa(sb.(*sandbox).Pid())
	all, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, status := range all {
		b, err := os.ReadFile(status)
		if err != nil {
			continue
		}
		_, line, _ := strings.Cut(string(b), "\nNSpid:")
		line, _, _ = strings.Cut(line, "\n")
		if len(strings.Fields(line)) < 2 {
			continue
		}
		pid := filepath.Base(filepath.Dir(status))
		if descends(pid, filepath.Base(ns)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// descends says whether pid is a process of the tree that begins with first;
// orphans of a pid namespace go to its first process.
func descends(pid, first string) bool {
	for range 64 {
		if pid == first {
			return true
		}
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return false
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if pid = f[1]; pid == "0" || pid == "1" {
			return false
		}
	}
	return false
}
