package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate/internal/store"
	"github.com/casemate/casemate/internal/testenv"
)

// runDemo runs casemate demo --json, which must leave nothing behind.
func runDemo(t *testing.T, env ...string) (r demoReport, code int, said string) {
	t.Helper()
	built := testenv.Binaries(t)
	work, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(work, 0o755)
	if err := makeFolders(work); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(built.Casemate, "demo", "--json")
	cmd.Dir, cmd.Env = work, append(append(scriptEnv(t, work), runscHere(t)), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("exit status %d: %v\n%s\n%s", code, err, out.String(), errs.String())
	}
	for _, a := range r.Attacks {
		if a.Attack == "" || a.Tried == "" || a.HeldBy == "" || a.Evidence == "" || strings.HasPrefix(a.Evidence, notMade) {
			t.Errorf("%+v", a)
		}
	}
	for _, h := range r.Honest {
		// A wall may be missing here, which is then said; CI has them all.
		if h.Evidence == "" || h.Verdict != verdictDone && (h.Verdict != verdictAbsent || !strings.HasPrefix(h.Did, "isolation: ") || !strings.Contains(h.Evidence, ";")) {
			t.Errorf("%+v", h)
		}
	}
	for _, d := range []string{"tmp", "home", "state", "config", "run"} {
		if left, _ := os.ReadDir(filepath.Join(work, d)); len(left) > 0 && d != "state" {
			t.Errorf("it left %v in %s", left, d)
		}
	}
	return r, code, errs.String()
}

// named returns the attacks with a verdict.
func (r demoReport) named(verdict string) []string {
	var out []string
	for _, a := range r.Attacks {
		if a.Verdict == verdict {
			out = append(out, a.Attack)
		}
	}
	return out
}

func TestDemoHoldsEverything(t *testing.T) {
	r, code, said := runDemo(t)
	names := strings.ToLower(strings.Join(r.named(verdictHeld), " "))
	for _, w := range []string{"shadow", "ssh", "symlink", "..", "rename", "hook", "listener", "abstract", "fork", "memory", "disk", "output", "outlive", "another call", "option", "terminal"} {
		if !strings.Contains(names, w) && !(w == "memory" && r.Host.Refused != nil) {
			t.Errorf("no attack that was held names %q", w)
		}
	}
	for _, w := range demoWalls {
		for _, h := range r.Honest {
			if h.Task == w.task && h.Verdict == verdictAbsent {
				t.Run(w.backend, func(t *testing.T) {
					testenv.Require(t, w.backend, &testenv.Unsupported{What: w.backend, Why: h.Evidence})
				})
			}
		}
	}
	if broken := r.named(verdictBroken); code != 0 || len(broken) > 0 || len(r.named(verdictHeld)) < 18 || len(r.Honest) < 3 || len(r.Host.Controls) == 0 {
		t.Errorf("exit status %d, broken %q\n%s", code, broken, said)
	}
}

// TestDemoNotices: each wall that is taken away turns exactly the rows that
// it holds alone. Landlock is a second wall everywhere, so it turns none.
func TestDemoNotices(t *testing.T) {
	for _, c := range []struct {
		without string
		broken  []string
	}{
		// A user namespace is refused by the sandbox's own bound on them too.
		{"seccomp", []string{"make a setuid program in its own /tmp", "open sockets past the network namespace",
			"use interfaces of the kernel that no tool needs", "reach io_uring, bpf and userfaultfd from Python"}},
		{"landlock", nil},
		{"memory", []string{"memory bomb"}},
	} {
		t.Run(c.without, func(t *testing.T) {
			r, code, said := runDemo(t, withoutVariable+"="+c.without)
			if c.without == "memory" && r.Host.Refused != nil {
				c.broken = nil // this host has no such wall
			}
			want := 0
			if len(c.broken) > 0 {
				want = 1
			}
			if got := r.named(verdictBroken); !slices.Equal(got, c.broken) || code != want {
				t.Errorf("exit status %d, broken %q", code, got)
			}
			if !strings.Contains(said, "WITHOUT "+c.without) || !slices.Equal(r.Host.Without, []string{c.without}) {
				t.Errorf("nobody is told: %v %s", r.Host.Without, said)
			}
		})
	}
}

// TestDemoAsUser: an ordinary user, and a host without Python. What the host
// refuses is shown first.
func TestDemoAsUser(t *testing.T) {
	testenv.AsUser(t, func(t *testing.T) {
		r, code, said := runDemo(t, "PATH=/nonexistent")
		na := []string{"reach io_uring, bpf and userfaultfd from Python"}
		if r.Host.Refused != nil {
			na = append(na, "memory bomb")
			if r.Host.Refused.Fix == "" || !strings.Contains(said, "refuses (exit status 4)") || !strings.Contains(said, "WITHOUT a limit of memory") {
				t.Errorf("the refusal is not shown: %+v %s", r.Host.Refused, said)
			}
		}
		if got := r.named(verdictNA); code != 0 || !slices.Equal(got, na) || len(r.named(verdictBroken)) > 0 || r.Host.Python {
			t.Errorf("exit status %d, n/a %q, broken %q", code, got, r.named(verdictBroken))
		}
	})
}

// TestDemoLeavesNothing: of an ordinary user's, what is read-only goes too.
func TestDemoLeavesNothing(t *testing.T) {
	testenv.AsUser(t, func(t *testing.T) {
		p := &demoPlace{dir: filepath.Join(t.TempDir(), "demo")}
		tree := p.path("state/store/tree")
		if err := os.MkdirAll(tree, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(filepath.Join(tree, "file"), nil, 0o444), os.Chmod(tree, 0o555)); err != nil {
			t.Fatal(err)
		}
		if err := p.remove(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(p.dir); !missing(err) {
			t.Errorf("it is still there: %v", err)
			store.Remove(p.dir)
		}
	})
}

// TestDemoAloneTakesWallsAway: no other command reads its variable, and it
// refuses walls that there are not.
func TestDemoAloneTakesWallsAway(t *testing.T) {
	p := newPlace(t, echoTool)
	p.env = append(p.env, withoutVariable+"=seccomp")
	cmd := p.command("call", "--json", "echo", "text=x")
	out, err := cmd.CombinedOutput()
	if err == nil && !bytes.Contains(out, []byte(`"seccomp":"sha256:`)) {
		t.Errorf("%s", out)
	}
	if bytes.Contains(out, []byte("WITHOUT")) {
		t.Errorf("%s", out)
	}
	cmd = p.command("demo")
	cmd.Env = append(p.env, withoutVariable+"=walls")
	out, err = cmd.CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 2 || !bytes.Contains(out, []byte("seccomp")) {
		t.Errorf("%v %s", err, out)
	}
	cmd = p.command("attacker", "userns")
	if out, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("no sandbox")) {
		t.Errorf("the attacker ran outside a sandbox: %v %s", err, out)
	}
}

// TestDemoInterrupted: Ctrl-C leaves no file and no process.
func TestDemoInterrupted(t *testing.T) {
	p := newPlace(t)
	cmd := p.command("demo")
	errs := &lockedBuffer{}
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	var found []string
	for deadline := time.Now().Add(testWait); len(found) == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		found, _ = filepath.Glob(p.dir + "/tmp/casemate-demo-*/project/notes/done.txt") // an honest task is done
	}
	if len(found) == 0 {
		t.Error("it did not begin")
	}
	cmd.Process.Signal(os.Interrupt)
	select {
	case err := <-exited:
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 1 || !strings.Contains(errs.String(), "interrupted") {
			t.Errorf("%v %s", err, errs)
		}
	case <-time.After(2 * testWait):
		cmd.Process.Kill()
		t.Fatal("it does not end")
	}
	if left, _ := os.ReadDir(p.dir + "/tmp"); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
	for _, c := range processTable() {
		if strings.HasPrefix(c, testenv.Binaries(t).Casemate+" serve") {
			t.Errorf("it left %q", c)
		}
	}
}
