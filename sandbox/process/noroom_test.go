package process

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
)

// scarce are the kinds of error that say that there is no room.
var scarce = []casemate.Kind{casemate.Busy, casemate.Internal, casemate.Invalid, casemate.Killed, casemate.ToolFailed}

// writer is a forked tool that writes to a folder, and the folder.
func writer(t *testing.T) (*casemate.Tool, string) {
	t.Helper()
	dir := t.TempDir()
	for path := dir; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		os.Chmod(path, 0o755)
	}
	forked, _ := pythonTools(t)
	forked.Security.Filesystem = []casemate.Mount{{Path: dir, At: "/work", Access: casemate.Write}}
	return forked, dir
}

// whole fails unless a sandbox is as strong as any other of its kind: it
// answers, its walls and groups are its own, and what it writes comes back.
func whole(t *testing.T, s *sandbox, dir string) {
	t.Helper()
	if b, err := os.ReadFile("/proc/" + strconv.Itoa(s.Pid()) + "/cgroup"); s.Enforced().Memory != nil && (err != nil || strings.Count(string(b), "casemate-") == 0) {
		t.Errorf("it is in no group of its own: %s %v", b, err)
	} else if p, _ := os.ReadFile("/proc/" + strconv.Itoa(parent(t, s.Pid())) + "/cgroup"); s.Enforced().Memory != nil && string(p) == string(b) {
		t.Errorf("it is in the template's groups: %s", b)
	}
	if f, err := guest.Read(s.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		t.Fatalf("it is not ready: %c %v", f.Type, err)
	}
	askPython(t, s, `
open("/work/written", "w").write("by the guest")
s = dict(l.split() for l in open("/proc/self/status") if len(l.split()) == 2)
print(*[s[k + ":"] for k in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")])
`)
	if c := collect(s.Guest()); c.stdout != "0000000000000000 0000000000000000 1 2\n" {
		t.Error(c)
	}
	if _, err := s.Commit(t.Context(), casemate.CallID("c_"+strconv.Itoa(s.Pid()))); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "written")); string(b) != "by the guest" {
		t.Errorf("what it wrote did not come back: %q %v", b, err)
	}
	os.Remove(filepath.Join(dir, "written"))
	s.Close()
}

// try starts one sandbox, which is whole or a typed error.
func try(t *testing.T, p *site, tool *casemate.Tool, dir string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sb, err := p.Start(ctx, casemate.Spec{Tool: tool})
	if err != nil {
		typed(t, err, scarce...)
		return err
	}
	whole(t, sb.(*sandbox), dir)
	return nil
}

func TestNoDescriptors(t *testing.T) { noDescriptors(t) }

func TestNoDescriptorsAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, noDescriptors)
}

// However few descriptors the spawner has left, a sandbox is whole or there is
// none, and with room there is one again.
func noDescriptors(t *testing.T) {
	tool, dir := writer(t)
	p := siteOf(t, Options{}, tool)
	if _, err := p.s.Probe(); err != nil { // it knows its host
		t.Fatal(err)
	}
	const most = 50
	fault := func(template bool) (failed int) {
		t.Helper()
		var last error
		for room := range most {
			if template {
				waiting := blanks(p.s)
				for _, pid := range descendants(p.s.proc.Pid) {
					if !slices.Contains(waiting, pid) {
						unix.Kill(pid, unix.SIGKILL)
					}
				}
			}
			back := limit(t, p.s.proc.Pid, unix.RLIMIT_NOFILE, leaving(t, p.s.proc.Pid, room))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			sb, err := p.Start(ctx, casemate.Spec{Tool: tool})
			cancel()
			back()
			if err != nil {
				typed(t, err, scarce...)
				failed++
				last = err
				continue
			}
			whole(t, sb.(*sandbox), dir)
		}
		if err := try(t, p, tool, dir); err != nil {
			t.Error(err)
		}
		t.Log(failed, last)
		return failed
	}
	end := func() {
		t.Helper()
		s := parkPython(t, p, tool)
		template := parent(t, s.Pid())
		s.Close()
		endTemplate(t, template)
	}
	fault(false)
	end()
	before := p.still(t)
	for _, template := range []bool{false, true} {
		if n := fault(template); n == 0 || n == most {
			t.Errorf("%d of %d starts failed", n, most)
		}
		end()
		p.settled(t, before)
	}
}

// leaving is the limit that leaves a process room for so many more descriptors.
func leaving(t *testing.T, pid, room int) uint64 {
	t.Helper()
	for n := 0; ; n++ {
		if _, err := os.Lstat("/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(n)); err == nil {
			continue
		}
		if room == 0 {
			return uint64(n)
		}
		room--
	}
}

// The same goes for descriptors that the template has left.
func TestTemplateNoDescriptors(t *testing.T) {
	tool, dir := writer(t)
	files := map[string]string{}
	for room := range 16 {
		files["room"+strconv.Itoa(room)] = `
import os
held = []
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
for i in range(` + strconv.Itoa(room) + `): os.close(held.pop())
`
	}
	python, prefix := modules(t, files)
	var tools []*casemate.Tool
	for room := range 16 {
		x := *tool
		x.Name += casemate.ToolName(strconv.Itoa(room))
		x.Run.Python = &casemate.Script{Interpreter: python, Preload: []string{"room" + strconv.Itoa(room)}}
		tools = append(tools, &x)
	}
	p := siteOf(t, Options{Prefixes: []string{prefix}}, tools...)
	failed := 0
	for _, tool := range tools {
		for range 2 {
			if try(t, p, tool, dir) != nil {
				failed++
			}
		}
	}
	if failed == 0 || failed == 2*len(tools) {
		t.Errorf("%d of %d starts failed", failed, 2*len(tools))
	}
}

func TestNoProcesses(t *testing.T) { noProcesses(t) }

func TestNoProcessesAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, noProcesses)
}

// A template that may have no more processes has a start fail, and serves the
// next when it may; so does a spawner that may not.
func noProcesses(t *testing.T) {
	tool, dir := writer(t)
	p := siteOf(t, Options{}, tool)
	parked := parkPython(t, p, tool)
	template := parent(t, parked.Pid())
	back := limit(t, template, unix.RLIMIT_NPROC, 1)
	for range 3 {
		err := try(t, p, tool, dir)
		if e := typed(t, err, casemate.Busy); !strings.Contains(e.Fix, "try again") {
			t.Error(err)
		}
	}
	back()
	again := parkPython(t, p, tool)
	if parent(t, again.Pid()) != template {
		t.Error("the template is another one")
	}
	again.Close()
	parked.Close()
	endTemplate(t, template)
	if os.Geteuid() == 0 {
		return // whom no such limit holds
	}
	back = limit(t, p.s.proc.Pid, unix.RLIMIT_NPROC, 1)
	for range 3 {
		typed(t, try(t, p, tool, dir), casemate.Busy)
	}
	back()
	if err := try(t, p, tool, dir); err != nil {
		t.Error(err)
	}
}

// A limit of memory that is too small is said to be, by a start that ends soon,
// and none of its neighbours ends with it.
func TestTooLittleMemoryToFork(t *testing.T) {
	neighbour, _ := pythonTools(t)
	tools := []*casemate.Tool{neighbour}
	for _, size := range []int64{1, 2, 3, 4, 6, 8, 12, 16, 24} {
		tool, _ := pythonTools(t)
		tool.Name = casemate.ToolName("of" + strconv.Itoa(int(size)))
		tool.Security.Memory = size << 20
		tools = append(tools, tool)
	}
	p := siteOf(t, Options{}, tools...)
	beside := parkPython(t, p, neighbour)
	if beside.Enforced().Memory == nil {
		testenv.Require(t, "memory", &testenv.Unsupported{What: "a limit of memory", Why: "this host has no cgroup for it"})
	}
	once(t, p, neighbour)
	failed := 0
	for _, tool := range tools[1:] {
		for range 2 {
			c, err := said(t, p, tool, "print(6*7)")
			switch {
			case c.stdout == "42\n":
			case err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF): // its end came later, and the router asks for its reason
				failed++
			default:
				typed(t, err, casemate.Killed, casemate.Busy)
				failed++
				t.Log(err)
			}
		}
	}
	if failed == 0 || failed == 2*len(tools[1:]) {
		t.Errorf("%d failed", failed)
	}
	if c := python(t, beside, "print(1)"); c.stdout != "1\n" {
		t.Error(c)
	}
}

// Another plan ends the templates that none of its tools has, once their last
// child is gone, and a tool with another preload has another.
func TestTemplateRetires(t *testing.T) {
	forked, _ := pythonTools(t)
	p := siteOf(t, Options{}, forked)
	parked := parkPython(t, p, forked)
	template := parent(t, parked.Pid())
	l := lifeOf(template)
	other, _ := pythonTools(t)
	other.Run.Python.Preload = []string{"base64"}
	g, err := Compile(other, Options{})
	if err != nil {
		t.Fatal(err)
	}
	old := *p.plan
	p.plan.Guests = []plan.Guest{g}
	if err := p.s.Reload(p.plan); err != nil {
		t.Fatal(err)
	}
	next := parkPython(t, p, other)
	if parent(t, next.Pid()) == template {
		t.Error("a tool with another preload has the same template")
	}
	if l.over() || lifeOf(parked.Pid()) == (life{}) {
		t.Fatal("the plan ended what runs")
	}
	if _, err := p.Start(t.Context(), casemate.Spec{Tool: forked}); err == nil {
		t.Error("a tool that the plan has not any more was started")
	}
	if c := python(t, parked, "print(1)"); c.stdout != "1\n" {
		t.Error(c)
	}
	for end := time.Now().Add(10 * time.Second); !l.over(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the template of no tool is there still")
		}
	}
	next.Close()
	p.plan = &old
	p.plan.Guests = nil
	if err := p.s.Reload(p.plan); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); len(descendants(p.s.proc.Pid)) != len(blanks(p.s)); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(descendants(p.s.proc.Pid))
		}
	}
}

// A router that may have no more descriptors gets no sandbox, and leaves none.
func TestRouterNoDescriptors(t *testing.T) {
	forked, alone := pythonTools(t)
	p := siteOf(t, Options{}, forked, alone)
	fault := func() {
		t.Helper()
		for _, tool := range []*casemate.Tool{forked, alone} {
			failed := 0
			for room := range 8 {
				back := limit(t, os.Getpid(), unix.RLIMIT_NOFILE, leaving(t, os.Getpid(), room))
				sb, err := p.Start(t.Context(), casemate.Spec{Tool: tool})
				back()
				if err != nil {
					typed(t, err, casemate.Busy)
					failed++
					continue
				}
				if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
					t.Fatal(f, err)
				}
				if c := python(t, sb.(*sandbox), "print(1)"); c.stdout != "1\n" {
					t.Error(c)
				}
			}
			if failed == 0 || failed == 8 {
				t.Errorf("%d failed", failed)
			}
		}
		s := parkPython(t, p, forked)
		template := parent(t, s.Pid())
		s.Close()
		endTemplate(t, template)
	}
	fault()
	before := p.still(t)
	fault()
	p.settled(t, before)
}
