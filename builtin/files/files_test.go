package files

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

// A tree is a folder with two grants in it, and what is not granted.
type tree struct {
	t    *testing.T
	root string
}

func grow(t *testing.T) tree {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	x := tree{t, root}
	for name, text := range map[string]string{
		"docs/a.txt": "alpha\nbeta\ngamma\n", "docs/sub/b.md": "beta here\n", "docs/bin": "\xff\xfe\x00", "docs/sub/c.txt": "no newline",
		"docs-evil/e.txt": "EVIL", "outside.txt": "OUTSIDE", "work/w.txt": "one two one\n", "one.txt": "single\n",
	} {
		x.put(name, text)
	}
	return x
}

func (x tree) put(name, text string) {
	p := filepath.Join(x.root, name)
	os.MkdirAll(filepath.Dir(p), 0o755)
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		x.t.Fatal(err)
	}
}

func (x tree) get(name string) string {
	b, err := os.ReadFile(filepath.Join(x.root, name))
	if err != nil {
		return "error: " + err.Error()
	}
	return string(b)
}

func (x tree) mounts() []plan.Mount {
	return []plan.Mount{{At: x.root + "/docs"}, {At: x.root + "/work", Write: true}, {At: x.root + "/one.txt", Write: true}, {At: "/usr", Prefix: true}}
}

// do calls fn; "ROOT" in a value is the tree's.
func (x tree) do(fn string, args ...string) (string, error) {
	var ps []guest.Pair
	for i := 0; i < len(args); i += 2 {
		ps = append(ps, guest.Pair{Key: args[i], Value: strings.ReplaceAll(args[i+1], "ROOT", x.root)})
	}
	text, err := Do(fn, ps, x.mounts())
	return strings.ReplaceAll(text, x.root, "ROOT"), err
}

func (x tree) check(want, wantErr string, fn string, args ...string) {
	x.t.Helper()
	got, err := x.do(fn, args...)
	switch {
	case wantErr == "" && (err != nil || got != want):
		x.t.Errorf("%s %q: %q %v, want %q", fn, args, got, err, want)
	case wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)):
		x.t.Errorf("%s %q: %q %v, want error %q", fn, args, got, err, wantErr)
	}
}

func TestRead(t *testing.T) {
	x := grow(t)
	for _, c := range [][]string{
		{"alpha\nbeta\ngamma\n", "", "path", "ROOT/docs/a.txt"},
		{"alpha\nbeta\ngamma\n", "", "path", "ROOT//docs/./sub/../a.txt"},
		{"beta\ngamma\n", "", "path", "ROOT/docs/a.txt", "offset", "2"},
		{"beta\n", "", "path", "ROOT/docs/a.txt", "offset", "2", "limit", "1"},
		{"gamma\n", "", "path", "ROOT/docs/a.txt", "offset", "3", "limit", "9"},
		{"no newline", "", "path", "ROOT/docs/sub/c.txt"},
		{"single\n", "", "path", "ROOT/one.txt"},
		{"", "has 3 lines", "path", "ROOT/docs/a.txt", "offset", "4"},
		{"", "whole number", "path", "ROOT/docs/a.txt", "offset", "0"},
		{"", "whole number", "path", "ROOT/docs/a.txt", "limit", "x"},
		{"", "not text in UTF-8 but binary, of 3 bytes", "path", "ROOT/docs/bin"},
		{"", "no such file", "path", "ROOT/docs/none"},
		{"", "is a folder", "path", "ROOT/docs/sub"},
		{"", "is a folder", "path", "ROOT/docs"},
		{"", "not a folder", "path", "ROOT/docs/a.txt/x"},
		{"", "argument path is missing"},
	} {
		x.check(c[0], c[1], "read_file", c[2:]...)
	}
	x.put("docs/empty", "")
	x.check("", "", "read_file", "path", "ROOT/docs/empty")
	x.put("docs/big", strings.Repeat("x", maxText)+"\nend\n")
	x.check("", "read a part", "read_file", "path", "ROOT/docs/big")
	x.check("end\n", "", "read_file", "path", "ROOT/docs/big", "offset", "2")
}

// Whatever the path, nothing outside of the grants is read or written.
func TestOutOfReach(t *testing.T) {
	x := grow(t)
	os.Symlink(x.root+"/outside.txt", x.root+"/docs/link")
	os.Symlink("../outside.txt", x.root+"/work/link")
	os.Symlink(x.root, x.root+"/docs/up")
	os.Symlink(x.root, x.root+"/work/up")
	os.Symlink("/proc/self/root", x.root+"/work/magic")
	unix.Mkfifo(x.root+"/docs/fifo", 0o644)
	for _, p := range []string{
		"ROOT/outside.txt", "ROOT/docs/../outside.txt", "ROOT/docs-evil/e.txt", "ROOT/doc", "docs/a.txt", "", ".", "/", "/etc/passwd", "/usr/bin/env", "ROOT",
		"ROOT/docs/link", "ROOT/docs/up/outside.txt", "ROOT/work/up/outside.txt", "ROOT/work/link", "ROOT/work/magic/etc/passwd",
		"ROOT/docs/fifo", "ROOT/docs/a.txt\x00", "ROOT/docs/\x00/../../outside.txt", "/proc/self/cwd/files.go",
	} {
		for _, fn := range []string{"read_file", "write_file", "edit_file", "list_folder", "search_files"} {
			got, err := x.do(fn, "path", p, "content", "HACKED", "old", "OUTSIDE", "new", "HACKED")
			if err == nil {
				t.Errorf("%s %q: %q", fn, p, got)
			} else if strings.Contains(err.Error(), "EVIL") || strings.Contains(err.Error(), "OUTSIDE") {
				t.Errorf("%s %q: %v", fn, p, err)
			}
		}
	}
	if x.get("outside.txt") != "OUTSIDE" || x.get("docs-evil/e.txt") != "EVIL" {
		t.Error("a file out of reach was written")
	}
	if got, err := x.do("search_files", "path", "ROOT/work", "text", "OUTSIDE"); err != nil || strings.Contains(got, "OUTSIDE") {
		t.Errorf("a search followed a link: %q %v", got, err)
	}
}

func TestNoGrant(t *testing.T) {
	if _, err := Do("read_file", []guest.Pair{{Key: "path", Value: "/etc/passwd"}}, []plan.Mount{{At: "/usr", Prefix: true}}); err == nil || !strings.Contains(err.Error(), "no grant") {
		t.Error(err)
	}
	if _, err := Do("remove_file", nil, nil); err == nil {
		t.Error("an unknown function")
	}
}

func TestWrite(t *testing.T) {
	x := grow(t)
	x.check("wrote 3 bytes to ROOT/work/new.txt", "", "write_file", "path", "ROOT/work/new.txt", "content", "new")
	x.check("wrote 4 bytes to ROOT/work/p/q/r.txt", "", "write_file", "path", "ROOT/work/p/q/r.txt", "content", "deep")
	x.check("wrote 0 bytes to ROOT/work/w.txt", "", "write_file", "path", "ROOT/work/w.txt", "content", "")
	x.check("wrote 5 bytes to ROOT/one.txt", "", "write_file", "path", "ROOT/one.txt", "content", "other")
	for name, want := range map[string]string{"work/new.txt": "new", "work/p/q/r.txt": "deep", "work/w.txt": "", "one.txt": "other"} {
		if got := x.get(name); got != want {
			t.Errorf("%s holds %q", name, got)
		}
	}
	x.check("", "reading only", "write_file", "path", "ROOT/docs/a.txt", "content", "x")
	x.check("", "reading only", "edit_file", "path", "ROOT/docs/a.txt", "old", "alpha", "new", "x")
	x.check("", "content is missing", "write_file", "path", "ROOT/work/x")
	x.check("", "is a folder", "write_file", "path", "ROOT/work/p", "content", "x")
	x.check("", "is a folder", "write_file", "path", "ROOT/work", "content", "x")
	x.check("", "not a folder", "write_file", "path", "ROOT/work/w.txt/x", "content", "x")
	x.check("", "too long", "write_file", "path", "ROOT/work/"+strings.Repeat("n", 256), "content", "x")
	if x.get("docs/a.txt") != "alpha\nbeta\ngamma\n" {
		t.Error("a read grant was written")
	}
	left, _ := filepath.Glob(x.root + "/work/.casemate*")
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A file is replaced and not written through: its other name keeps what it
// had, and its permissions stay.
func TestWriteIsAtomic(t *testing.T) {
	x := grow(t)
	os.Link(x.root+"/work/w.txt", x.root+"/work/other")
	os.Chmod(x.root+"/work/w.txt", 0o755)
	x.check("wrote 1 bytes to ROOT/work/w.txt", "", "write_file", "path", "ROOT/work/w.txt", "content", "x")
	if x.get("work/other") != "one two one\n" {
		t.Error("written through a hard link")
	}
	if st, _ := os.Stat(x.root + "/work/w.txt"); st.Mode() != 0o755 {
		t.Errorf("mode %v", st.Mode())
	}
	os.Chmod(x.root+"/work/w.txt", 0o755|os.ModeSetuid)
	x.check("wrote 1 bytes to ROOT/work/w.txt", "", "write_file", "path", "ROOT/work/w.txt", "content", "y")
	if st, _ := os.Stat(x.root + "/work/w.txt"); st.Mode()&os.ModeSetuid != 0 {
		t.Error("a setuid bit was carried over")
	}
}

func TestEdit(t *testing.T) {
	x := grow(t)
	x.check("", "stands 2 times", "edit_file", "path", "ROOT/work/w.txt", "old", "one", "new", "1")
	x.check("", "not there", "edit_file", "path", "ROOT/work/w.txt", "old", "three", "new", "3")
	x.check("", "empty", "edit_file", "path", "ROOT/work/w.txt", "old", "", "new", "3")
	x.check("", "new is missing", "edit_file", "path", "ROOT/work/w.txt", "old", "two")
	x.check("edited ROOT/work/w.txt at line 1", "", "edit_file", "path", "ROOT/work/w.txt", "old", " two ", "new", "\n2\n")
	x.check("edited ROOT/work/w.txt at line 2", "", "edit_file", "path", "ROOT/work/w.txt", "old", "2\n", "new", "")
	if got := x.get("work/w.txt"); got != "one\none\n" {
		t.Errorf("%q", got)
	}
	x.put("work/bin", "\xff")
	x.check("", "binary", "edit_file", "path", "ROOT/work/bin", "old", "a", "new", "b")
}

func TestList(t *testing.T) {
	x := grow(t)
	os.Symlink("a.txt", x.root+"/docs/link")
	x.put("docs/new\nline", "")
	got, err := x.do("list_folder", "path", "ROOT/docs")
	size := "\tfolder\t"
	i := strings.Index(got, "sub"+size)
	if err != nil || !strings.HasPrefix(got, "a.txt\tfile\t17\nbin\tfile\t3\nlink\tlink\t5\n\"new\\nline\"\tfile\t0\nsub\tfolder\t") || i < 0 || strings.Count(got, "\n") != 5 {
		t.Errorf("%q %v", got, err)
	}
	x.check("", "not a folder", "list_folder", "path", "ROOT/docs/a.txt")
	os.Mkdir(x.root+"/work/empty", 0o755)
	x.check("ROOT/work/empty is empty\n", "", "list_folder", "path", "ROOT/work/empty")
	for i := range maxListed + 5 {
		x.put("work/many/"+strconv.Itoa(i), "")
	}
	got, _ = x.do("list_folder", "path", "ROOT/work/many")
	if strings.Count(got, "\n") != maxListed+1 || !strings.Contains(got, "… and 5 more") {
		t.Errorf("%d lines, ends %q", strings.Count(got, "\n"), got[len(got)-60:])
	}
}

func TestSearch(t *testing.T) {
	x := grow(t)
	for _, c := range [][]string{
		{"ROOT/docs/a.txt\nROOT/docs/sub/c.txt\n", "", "path", "ROOT/docs", "pattern", "*.txt"},
		{"ROOT/docs/sub/b.md\n", "", "path", "ROOT/docs", "pattern", "sub/*.md"},
		{"ROOT/docs/a.txt:2: beta\nROOT/docs/sub/b.md:1: beta here\n", "", "path", "ROOT/docs", "text", "beta"},
		{"ROOT/docs/a.txt:2: beta\n", "", "path", "ROOT/docs", "text", "beta", "pattern", "*.txt"},
		{"ROOT/docs/sub/\n", "", "path", "ROOT/docs", "pattern", "su?"},
		{"nothing found\n", "", "path", "ROOT/docs", "pattern", "*.go"},
		{"", "malformed", "path", "ROOT/docs", "pattern", "["},
		{"", "not a folder", "path", "ROOT/docs/a.txt"},
	} {
		x.check(c[0], c[1], "search_files", c[2:]...)
	}
	for i := range maxResults + 50 {
		x.put("work/many/"+strconv.Itoa(i), "needle\nneedle "+strings.Repeat("y", 1000)+"\n")
	}
	for _, args := range [][]string{{"path", "ROOT/work"}, {"path", "ROOT/work", "text", "needle"}} {
		got, err := x.do("search_files", args...)
		if err != nil || strings.Count(got, "\n") != maxResults+1 || !strings.Contains(got, "more than 200 results") || len(got) > maxResults*(maxLine+100) {
			t.Errorf("%d lines, %d bytes, %v", strings.Count(got, "\n"), len(got), err)
		}
	}
}

func TestNestedGrants(t *testing.T) {
	x := grow(t)
	ms := []plan.Mount{{At: x.root + "/docs/sub"}, {At: x.root + "/docs", Write: true}}
	do := func(p string) error {
		_, err := Do("write_file", []guest.Pair{{Key: "path", Value: x.root + p}, {Key: "content", Value: "x"}}, ms)
		return err
	}
	if err := do("/docs/sub/b.md"); err == nil || !strings.Contains(err.Error(), "reading only") {
		t.Errorf("the inner grant is for reading: %v", err)
	}
	if err := do("/docs/new"); err != nil {
		t.Error(err)
	}
}

func FuzzLocate(f *testing.F) {
	for _, s := range []string{"/docs/a", "/docs/../x", "/docs-evil", "//docs//x/./..", "docs", "/docs\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, err := locate(name, []plan.Mount{{At: "/docs"}, {At: "/work/deep", Write: true}})
		if err != nil {
			return
		}
		if !strings.HasPrefix(p.path+"/", p.mount.At+"/") || strings.Contains(p.path+"/", "/../") || strings.Contains(p.path, "\x00") || strings.Contains(p.path, "//") {
			t.Fatalf("%q is %q in %q", name, p.path, p.mount.At)
		}
	})
}
