package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/experimental/sys"
	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/plan"
)

// planted is a folder with a secret beside it, and links that lead to it.
func planted(t *testing.T) (dir, at string) {
	t.Helper()
	dir = t.TempDir()
	at = filepath.Join(dir, "grant")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(at, 0o755))
	must(os.WriteFile(filepath.Join(dir, "secret"), []byte("SECRET"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "passwd"), []byte("SECRET"), 0o644))
	must(os.WriteFile(filepath.Join(at, "inside"), []byte("inside"), 0o644))
	must(os.Symlink("inside", filepath.Join(at, "link")))
	must(os.Symlink(filepath.Join(dir, "secret"), filepath.Join(at, "escape")))
	must(os.Symlink("../secret", filepath.Join(at, "relative")))
	must(os.Symlink("..", filepath.Join(at, "folder")))
	must(unix.Mkfifo(filepath.Join(at, "fifo"), 0o644))
	return dir, at
}

// A module sees what is in its grant, and no link, no name and no other thing
// leads it out.
func TestGrants(t *testing.T) {
	for _, c := range []struct {
		write bool
		want  string
	}{{true, "write true\nwrite through false\nwrite in false\nplant true\nread /planted  false\nrename out false\nappend true\nread /log ab true\nfolder true\nunlink folder true\nfifo false\nlist 9 true\n"},
		{false, "write false\nwrite through false\nwrite in false\nplant false\nread /planted  false\nrename out false\nappend false\nread /log  false\nfolder false\nunlink folder false\nfifo false\nlist 6 true\n"}} {
		dir, at := planted(t)
		g := text("files", at)
		ctx, w := started(t, build(t, "command"), g)
		var err error
		if w.files, err = openGrants([]plan.Mount{{At: at, Write: c.write}, {At: "/.casemate/module"}}, []plan.Mount{{At: "/nonexistent"}}); err != nil {
			t.Fatal(err)
		}
		var o outcome
		stdout, _ := printed(t, func() { o = w.call(ctx, nil) })
		want := "read /inside inside true\nread /link inside true\nread /escape  false\nread /relative  false\nread /folder/passwd  false\nread /../secret  false\n" + c.want
		if stdout != want || o.status != 0 {
			t.Errorf("write: %v: %+v\n%s", c.write, o, stdout)
		}
		for _, name := range []string{"secret", "passwd"} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != "SECRET" {
				t.Errorf("%s is %q", name, b)
			}
		}
		if es, _ := os.ReadDir(dir); len(es) != 3 {
			t.Errorf("something was made beside the grant: %v", es)
		}
	}
	if _, err := openGrants([]plan.Mount{{At: "/etc/hostname"}}, nil); err == nil || !strings.Contains(err.Error(), "folders alone") {
		t.Errorf("a file was granted: %v", err)
	}
}

// What the engine asks of a tree, directly: what no program of the tests asks.
func TestTree(t *testing.T) {
	_, at := planted(t)
	root, err := os.OpenRoot(at)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	w, r := &tree{root: root, write: true}, &tree{root: root}
	for what, c := range map[string]struct {
		got, want sys.Errno
	}{
		"link to follow not": {open(w, "link", sys.O_RDONLY|sys.O_NOFOLLOW), sys.ELOOP},
		"out":                {open(w, "escape", sys.O_RDONLY), sys.EPERM},
		"out by ..":          {open(w, "../secret", sys.O_RDONLY), sys.EPERM},
		"a FIFO":             {open(w, "fifo", sys.O_RDONLY), sys.EACCES},
		"a file as folder":   {open(w, "inside", sys.O_DIRECTORY), sys.ENOTDIR},
		"nothing":            {open(w, "none", sys.O_RDONLY), sys.ENOENT},
		"itself":             {open(w, ".", sys.O_RDONLY), 0},
		"making, to read":    {open(r, "new", sys.O_RDONLY|sys.O_CREAT), sys.EROFS},
		"emptying, to read":  {open(r, "inside", sys.O_RDONLY|sys.O_TRUNC), sys.EROFS},
		"writing, to read":   {open(r, "inside", sys.O_WRONLY), sys.EROFS},
		"link out":           {w.Link("escape", "hard"), 0}, // of the link, which leads nowhere
		"hard link of ..":    {w.Link("../secret", "hard2"), sys.EPERM},
		"rename of ..":       {w.Rename("../secret", "mine"), sys.EPERM},
		"times out":          {w.Utimens("escape", 1, 1), sys.EPERM},
		"times":              {w.Utimens("inside", 1, sys.UTIME_OMIT), 0},
		"unlink a folder":    {w.Unlink("."), sys.EISDIR},
		"rmdir a file":       {w.Rmdir("inside"), sys.ENOTDIR},
		"rmdir ..":           {w.Rmdir(".."), sys.EPERM},
		"mkdir ..":           {w.Mkdir("../made", 0o777), sys.EPERM},
		"to read: mkdir":     {r.Mkdir("made", 0o777), sys.EROFS},
		"to read: unlink":    {r.Unlink("inside"), sys.EROFS},
		"to read: rename":    {r.Rename("inside", "other"), sys.EROFS},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
}

func open(t *tree, name string, flag sys.Oflag) sys.Errno {
	f, n := t.OpenFile(name, flag, 0o600)
	if n == 0 {
		f.Close()
	}
	return n
}
