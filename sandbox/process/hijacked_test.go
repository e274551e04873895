package process

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/spawn"
)

// ask is what a hijacked router may send.
func (p *site) ask(t *testing.T, m *spawn.Message) error {
	t.Helper()
	l, err := p.spawner(t.Context())
	must(t, err)
	a, err := l.ask(t.Context(), m, nil)
	closeFDs(a.fds)
	return err
}

// A late grant that fails half way leaves nothing by which a commit could carry
// what was written to one grant to another, or by the rules of another.
func TestHalfNarrowed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	pinned := filepath.Join(dir, "b", "pinned")
	must(t, os.WriteFile(pinned, []byte("before"), 0o644))
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}, Security: casemate.Profile{Filesystem: []casemate.Mount{
		{Path: dir + "/a", At: "/a", Access: casemate.Write}, {Path: dir + "/b", At: "/b", Access: casemate.Write}}}}
	p := siteOf(t, Options{Pinned: []string{pinned}}, tool)
	sb, err := p.Start(t.Context(), casemate.Spec{Tool: tool})
	must(t, err)
	defer sb.Close()
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		t.Fatalf("%c %q %v", f.Type, f.Body, err)
	}
	run(sb, "echo after > /b/pinned; echo new > /b/new; echo new > /a/new; echo written; sleep 60")
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || string(f.Body) != "written\n" {
		t.Fatalf("%q %v", f.Body, err)
	}
	id := sb.(*sandbox).id
	err = p.ask(t, &spawn.Message{Op: spawn.OpNarrow, Narrow: spawn.Narrow{ID: id, Start: spawn.Start{Without: []string{"/a"}, Memory: 4096}}})
	if err == nil {
		t.Fatal("it has less memory than it uses")
	}
	err = p.ask(t, &spawn.Message{Op: spawn.OpCommit, Commit: spawn.Commit{ID: id, Call: "c_half", Since: math.MaxInt64}})
	if errors.Is(err, errSpawner) {
		t.Error(err)
	}
	if b, err := os.ReadFile(pinned); string(b) != "before" {
		t.Errorf("a pinned file holds %q %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a", "new")); err == nil {
		t.Error("what was written to a grant that was taken away was carried")
	}
}

// A template is no sandbox of the router's: it can be neither named nor ended.
func TestTemplateIsNotTheRouters(t *testing.T) {
	forked, _ := pythonTools(t)
	p := siteOf(t, Options{}, forked)
	s := parkPython(t, p, forked)
	for id := range s.id + 3 {
		if id == s.id {
			continue
		}
		for _, m := range []*spawn.Message{
			{Op: spawn.OpNarrow, Narrow: spawn.Narrow{ID: id, Start: spawn.Start{MilliCPU: 1}}},
			{Op: spawn.OpFreeze, Freeze: spawn.Freeze{ID: id, On: true}},
			{Op: spawn.OpCommit, Commit: spawn.Commit{ID: id, Call: "c_template"}},
			{Op: spawn.OpInput, Input: spawn.Input{ID: id, Name: "x"}},
		} {
			if err := p.ask(t, m); casemate.KindOf(err) != casemate.Invalid || !strings.HasSuffix(err.Error(), "no such sandbox") {
				t.Errorf("%d of %d: %d: %v", id, s.id, m.Op, err)
			}
		}
		must(t, p.ask(t, &spawn.Message{Op: spawn.OpKill, ID: id}))
	}
	if c := python(t, s, "print(6*7)"); c.stdout != "42\n" {
		t.Errorf("%v", c)
	}
}

// A forked guest that is said to stand still does.
func TestFreezeForked(t *testing.T) {
	forked, _ := pythonTools(t)
	p := siteOf(t, Options{}, forked)
	s := parkPython(t, p, forked)
	askPython(t, s, "while True: pass")
	moves(t, s, true)
	switch err := s.Freeze(t.Context()); {
	case err == nil:
		moves(t, s, false)
	case casemate.KindOf(err) != casemate.Unsupported:
		t.Error(err)
	}
}

// A forked guest writes to its grants as any other.
func TestForkedWrites(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777))
	forked, _ := pythonTools(t)
	forked.Security.Filesystem = []casemate.Mount{{Path: dir, At: "/work", Access: casemate.Write}}
	s := parkPython(t, siteOf(t, Options{}, forked), forked)
	askPython(t, s, "open('/work/new', 'w').write('forked')")
	if c := collect(s.Guest()); c.value != "6" {
		t.Errorf("%v", c)
	}
	if cs, err := s.Commit(t.Context(), "c_forked"); err != nil || len(cs) != 1 {
		t.Errorf("%+v %v", cs, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "new")); string(b) != "forked" {
		t.Errorf("%q %v", b, err)
	}
}

// A grant may lie in another, as a virtual environment does in its project. A
// link that somebody left in the outer one leads the inner one nowhere: the
// sandbox does not start, forked or not.
func TestLinkInAGrant(t *testing.T) {
	outer, inner := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(outer, "real"), 0o755))
	must(t, os.Mkdir(filepath.Join(outer, "real", "out"), 0o755))
	must(t, os.WriteFile(filepath.Join(inner, "mark"), nil, 0o644))
	forked, alone := pythonTools(t)
	for _, tool := range []*casemate.Tool{forked, alone} {
		tool.Security.Filesystem = []casemate.Mount{{Path: outer, At: "/work", Access: casemate.Read}, {Path: inner, At: "/work/real/out", Access: casemate.Read}}
		p := siteOf(t, Options{}, tool)
		if c := python(t, parkPython(t, p, tool), "import os\nos.listdir('/work/real/out'), os.listdir('/out')"); c.value != "(['mark'], [])" {
			t.Fatalf("%s: without a link: %v", tool.Name, c)
		}
		must(t, os.Rename(filepath.Join(outer, "real"), filepath.Join(outer, "aside")))
		must(t, os.Symlink("/", filepath.Join(outer, "real"))) // /work/real/out is /out
		sb, err := p.Start(t.Context(), casemate.Spec{Tool: tool})
		if err == nil {
			c := python(t, sb.(*sandbox), "import os\nos.listdir('/out')")
			t.Errorf("%s: it started, and /out holds %s", tool.Name, c.value)
			sb.Close()
		}
		must(t, os.Remove(filepath.Join(outer, "real")))
		must(t, os.Rename(filepath.Join(outer, "aside"), filepath.Join(outer, "real")))
	}
}

// Memory that a module of preload shares with whoever it forks would be the
// template's, and every sibling's, to write for any guest.
func TestPreloadSharesNoMemory(t *testing.T) {
	python, prefix := modules(t, map[string]string{"first": "import mmap\nm = mmap.mmap(-1, 4096)\nm[:6] = b'intact'"})
	forked, _ := pythonTools(t)
	forked.Run.Python.Interpreter, forked.Run.Python.Preload = python, []string{"first"}
	p := siteOf(t, Options{Prefixes: []string{prefix}}, forked)
	_, err := p.Start(t.Context(), casemate.Spec{Tool: forked})
	if err == nil {
		one, two := parkPython(t, p, forked), parkPython(t, p, forked)
		askPython(t, one, "import first; first.m[:6] = b'broken'")
		collect(one.Guest())
		askPython(t, two, "import first; first.m[:6]")
		t.Errorf("%v", collect(two.Guest()))
	} else if e := typed(t, err, casemate.ToolFailed); !strings.Contains(e.Error(), "share") {
		t.Error(err)
	}
}
