package process

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/sandbox/sandboxtest"
)

// A sandbox that was made before its guest was known is as strong as any.
func TestSuiteOfBlanks(t *testing.T) { sandboxtest.Run(t, stocked(t)) }

// stocked is subject, whose spawner has blanks when the suite gets it.
func stocked(t testing.TB) sandboxtest.Subject {
	s := subject(t)
	init := testenv.Binaries(t).Init
	s.Start = func(t testing.TB, p *plan.Plan) casemate.Backend {
		b, _ := stock(t, init, p)
		return b
	}
	return s
}

// openStocked opens a backend that has made two sandboxes, and waits until its
// spawner has as many blanks as it makes.
func openStocked(t testing.TB, init string, tools ...*casemate.Tool) (*Backend, *Spawner) {
	t.Helper()
	p := &plan.Plan{Host: plan.Host{Store: filepath.Join(t.TempDir(), "store")}}
	if os.Geteuid() != 0 {
		p.Host.AllowDegraded = []string{"memory", "cpu"}
	}
	for _, tool := range tools {
		g, err := Compile(tool, Options{})
		if err != nil {
			t.Fatal(err)
		}
		p.Guests = append(p.Guests, g)
	}
	return stock(t, init, p)
}

// stock is openStocked for a plan, to which it adds a guest of its own.
func stock(t testing.TB, init string, p *plan.Plan) (*Backend, *Spawner) {
	t.Helper()
	hold := &casemate.Tool{Name: "first", Run: casemate.Run{Shell: &casemate.Shell{}}}
	g, err := Compile(hold, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.Guests = append(p.Guests, g)
	s, err := StartSpawner(init, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b := New(s.Router)
	for range 2 {
		sb, err := b.Start(t.Context(), casemate.Spec{Tool: hold})
		if err != nil {
			t.Fatal(err)
		}
		sb.Close()
	}
	for end := time.Now().Add(20 * time.Second); len(blanks(s)) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("blanks: %v", blanks(s))
		}
	}
	return b, s
}

// blanks are the processes of s that wait for a guest.
func blanks(s *Spawner) (pids []int) {
	all, _ := filepath.Glob("/proc/" + strconv.Itoa(s.proc.Pid) + "/task/*/children")
	for _, f := range all {
		text, _ := os.ReadFile(f)
		for _, child := range strings.Fields(string(text)) {
			name, _ := os.ReadFile("/proc/" + child + "/comm")
			if pid, err := strconv.Atoi(child); err == nil && strings.TrimSpace(string(name)) == "casemate-blank" {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func TestBlanks(t *testing.T) { blanksAreUsedOnce(t) }

func TestBlanksAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, blanksAreUsedOnce)
}

// A blank serves one guest; one that was killed is noticed, and another sandbox
// takes its place; none outlives its spawner.
func blanksAreUsedOnce(t *testing.T) {
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}}
	b, s := openStocked(t, testenv.Binaries(t).Init, tool)
	start := func() int {
		t.Helper()
		sb, err := b.Start(t.Context(), casemate.Spec{Tool: tool})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { sb.Close() })
		return sb.(*sandbox).Pid()
	}
	waiting := blanks(s)
	used := start()
	if !slices.Contains(waiting, used) {
		t.Errorf("of the blanks %v none was used, but %d", waiting, used)
	}
	if slices.Contains(blanks(s), used) {
		t.Error("a blank that was used is one still")
	}
	var killed []life
	for range 3 { // whatever is made meanwhile
		for _, pid := range blanks(s) {
			killed = append(killed, lifeOf(pid))
			syscall.Kill(pid, syscall.SIGKILL)
		}
		if pid := start(); slices.ContainsFunc(killed, func(l life) bool { return l.pid == pid }) {
			t.Errorf("process %d was killed, and serves", pid)
		}
	}
	var left []life
	for _, pid := range blanks(s) {
		left = append(left, lifeOf(pid))
	}
	s.Close()
	for _, l := range append(left, killed...) {
		if !l.over() {
			t.Errorf("process %d is left", l.pid)
		}
	}
}
