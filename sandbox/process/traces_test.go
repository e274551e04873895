package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
)

// A site is a spawner with its plan, and what a test may take from it.
type site struct {
	*Backend
	s    *Spawner
	init string
	plan *plan.Plan
}

func siteOf(t *testing.T, o Options, tools ...*casemate.Tool) *site {
	t.Helper()
	p := &plan.Plan{Host: plan.Host{Store: filepath.Join(t.TempDir(), "store")}}
	if os.Geteuid() != 0 {
		p.Host.AllowDegraded = []string{"memory", "cpu"}
	}
	for _, tool := range tools {
		g, err := Compile(tool, o)
		if err != nil {
			t.Fatal(err)
		}
		p.Guests = append(p.Guests, g)
	}
	s, err := StartSpawner(testenv.Binaries(t).Init, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &site{New(s.Router), s, testenv.Binaries(t).Init, p}
}

// Traces are what a spawner holds of the host. The blanks that it makes while
// it has nothing to do come and go, and count as none; so do groups that nothing
// is in, of which it keeps some for forked guests (see groups.go), and its
// descriptors of them.
type traces struct {
	fds, processes, groups, mounts int
}

// keptGroups is how many groups a spawner keeps, each in four hierarchies at most.
const keptGroups = 16

func (p *site) traces(t *testing.T) traces {
	t.Helper()
	pid := p.s.proc.Pid
	// User namespaces of owners of files are kept, in a bounded number; and pipes
	// that Go leaves open with both ends are closed later, which has its own test.
	fds, events, pipes := 0, 0, map[string]int{}
	for _, link := range p.links() {
		_, to, _ := strings.Cut(link, "=")
		switch pipes[to]++; {
		case strings.Contains(to, "/casemate-") || strings.HasPrefix(to, "user:"):
		case to == "anon_inode:[eventfd]": // of the memory of each group that is kept
			events++
		case strings.HasPrefix(to, "pipe:") && pipes[to] == 2:
			fds--
		default:
			fds++
		}
	}
	l := lifeOf(pid)
	all, _ := filepath.Glob("/sys/fs/cgroup/*/casemate-" + strconv.Itoa(l.pid) + "." + l.start + "*")
	groups := 0
	for _, g := range all {
		if procs, err := os.ReadFile(g + "/cgroup.procs"); err == nil && len(procs) > 0 {
			groups++
		}
	}
	if len(all)-groups > 4*keptGroups {
		t.Errorf("%d groups are left with nothing in them", len(all)-groups)
	}
	if events > 1+len(all) {
		t.Errorf("%d groups are watched, and there are %d", events-1, len(all))
	}
	return traces{fds, len(descendants(pid)), groups, mountCount(t)}
}

// settled waits until a spawner has want, and fails if it never has.
func (p *site) settled(t *testing.T, want traces) {
	t.Helper()
	var now traces
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		now = p.traces(t)
		now.fds = max(now.fds, want.fds) // what was closed late counts as none
		if now == want {
			return
		}
	}
	t.Errorf("the spawner had %+v, and has %+v: %v %v", want, now, descendants(p.s.proc.Pid), p.links())
}

// still waits until a spawner has its blanks and nothing else, and returns what
// it holds then.
func (p *site) still(t *testing.T) (now traces) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if waiting := blanks(p.s); len(waiting) == 2 && len(descendants(p.s.proc.Pid)) == 2 {
			if now = p.traces(t); slices.Equal(waiting, blanks(p.s)) {
				return now
			}
		}
	}
	t.Fatalf("the spawner has %v", descendants(p.s.proc.Pid))
	return now
}

func (p *site) links() (all []string) {
	fds, _ := filepath.Glob("/proc/" + strconv.Itoa(p.s.proc.Pid) + "/fd/*")
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		all = append(all, filepath.Base(fd)+"="+to)
	}
	return all
}

// descendants are the processes below one.
func descendants(pid int) (all []int) {
	files, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for _, child := range strings.Fields(string(text)) {
			n, _ := strconv.Atoi(child)
			all = append(append(all, n), descendants(n)...)
		}
	}
	return all
}

// limit sets a soft limit of a process, and returns what sets it back.
func limit(t *testing.T, pid, resource int, n uint64) (back func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &old); err != nil {
		t.Fatal(err)
	}
	now := old
	now.Cur = n
	if err := unix.Prlimit(pid, resource, &now, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := unix.Prlimit(pid, resource, &old, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// modules makes an interpreter of its own, a virtual environment whose library
// holds these modules, and returns it with the folder that a guest needs.
func modules(t *testing.T, files map[string]string) (python, prefix string) {
	t.Helper()
	if _, err := os.Stat(interpreter); err != nil {
		testenv.Require(t, "python", &testenv.Unsupported{What: interpreter, Why: err.Error(), Fix: "apt install python3"})
	}
	prefix = t.TempDir()
	for path := prefix; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		os.Chmod(path, 0o755)
	}
	real, err := filepath.EvalSymlinks(interpreter)
	if err != nil {
		t.Fatal(err)
	}
	library := filepath.Join(prefix, "lib", filepath.Base(real), "site-packages")
	for _, dir := range []string{library, filepath.Join(prefix, "bin")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	python = filepath.Join(prefix, "bin", "python3")
	if err := os.Symlink(real, python); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, 0o644)
	}
	write(filepath.Join(prefix, "pyvenv.cfg"), "home = "+filepath.Dir(real)+"\ninclude-system-site-packages = false\n")
	for name, text := range files {
		write(filepath.Join(library, name+".py"), text)
	}
	return python, prefix
}

// typed fails unless err is a casemate.Error of one of these kinds that says
// what to do.
func typed(t *testing.T, err error, kinds ...casemate.Kind) *casemate.Error {
	t.Helper()
	e, ok := err.(*casemate.Error)
	if !ok || !slices.Contains(kinds, e.Kind) || e.Tool == "" || e.Fix == "" {
		t.Errorf("%s is no whole error of the kinds %v", fmt.Sprintf("%T %+v", err, err), kinds)
		return &casemate.Error{}
	}
	return e
}
