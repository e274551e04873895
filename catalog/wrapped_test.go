package catalog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

// wrap records a server with the command argv as casemate wrap does.
func wrap(t *testing.T, c *Config, name, dir string, argv ...string) {
	t.Helper()
	w, err := WrapOf(argv, dir, c.writable(name))
	if err == nil {
		err = c.UpdateLock(func(l *Lock) error {
			l.Wrapped = map[string]Wrapped{name: w}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestANameGivesNothingToAnotherCommand: only what was recorded runs.
func TestANameGivesNothingToAnotherCommand(t *testing.T) {
	src := "version: 1\ntools:\n  - name: a\n    mcp: {command: [/usr/bin/python3]}\n    security: {filesystem: [{path: ./data, at: /data, access: write}]}\n"
	c := loadServers(t, src)
	server, db, rel := c.Dir+"/server.py", c.Dir+"/data/x.db", c.Dir+"/rel.js"
	for _, f := range []string{db, rel} {
		if err := os.WriteFile(f, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	argv := []string{"/usr/bin/../bin/python3", server, "--db=" + db, "--config=" + c.Dir + "/later.json", "./rel.js", c.Dir, "-x", "it's"}
	wrap(t, c, "a", c.Dir, argv...)
	c = reload(t, c.Dir)
	if fi, err := os.Stat(c.LockFile()); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("others may read what was wrapped: %v, %v", fi.Mode(), err)
	}
	w, ok := c.Wrapped("a")
	if !ok || w.Argv[0] != "/usr/bin/python3" || len(w.Files) != 2 || w.Files[server] == "" || w.Files[rel] == "" {
		t.Fatalf("recorded %+v", w)
	}
	if err := c.CheckWrapped("a", argv); err != nil {
		t.Fatal(err)
	}
	denied(t, c.CheckWrapped("other", argv), "no server \"other\" was wrapped")
	for _, other := range [][]string{{"/bin/sh"}, argv[:3], append([]string{"/usr/bin/python3", "-c"}, argv[2:]...), append(append([]string{}, argv...), "more")} {
		denied(t, c.CheckWrapped("a", other), "the command is not the one that was recorded", "casemate tools approve 'a' -- '"+other[0]+"'")
	}
	for file, want := range map[string]string{db: "", server: "server.py has changed", rel: "rel.js has changed", c.Dir + "/later.json": "later.json was not there"} {
		was, err := os.ReadFile(file)
		if err2 := os.WriteFile(file, []byte("changed"), 0o644); err2 != nil {
			t.Fatal(err2)
		}
		got := c.CheckWrapped("a", argv)
		if want == "" {
			if got != nil {
				t.Errorf("what the server may write is held against it: %v", got)
			}
		} else {
			denied(t, got, want, "casemate tools approve 'a'")
		}
		if err != nil {
			os.Remove(file)
		} else if err := os.WriteFile(file, was, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Remove(server)
	denied(t, c.CheckWrapped("a", argv), "server.py has changed")
}

// TestAProgramOfAFolderIsNotOneOfPath: ./x is a file, whose content counts, and
// x is what PATH has.
func TestAProgramOfAFolderIsNotOneOfPath(t *testing.T) {
	c := loadServers(t, "version: 1\ntools:\n  - name: a\n    mcp: {command: [./x]}\n")
	x := c.Dir + "/x"
	if err := os.WriteFile(x, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	wrap(t, c, "a", c.Dir, "sub/../x", "arg")
	c = reload(t, c.Dir)
	if w, _ := c.Wrapped("a"); w.Argv[0] != "./x" || w.Files[x] == "" {
		t.Errorf("recorded %+v", w)
	}
	if err := c.CheckWrapped("a", []string{"./x", "arg"}); err != nil {
		t.Error(err)
	}
	denied(t, c.CheckWrapped("a", []string{"x", "arg"}), "the command is not the one that was recorded")
	if err := os.WriteFile(x, []byte("changed"), 0o755); err != nil {
		t.Fatal(err)
	}
	denied(t, c.CheckWrapped("a", []string{"./x", "arg"}), "x has changed")
}

func TestCommandsThatAreNone(t *testing.T) {
	for _, argv := range [][]string{nil, {""}, {"a\x00"}, make([]string, maxArgv+1), {"a", strings.Repeat("x", maxArgvBytes)}} {
		if len(argv) > maxArgv {
			argv[0] = "a"
		}
		if _, err := WrapOf(argv, "", nil); casemate.KindOf(err) != casemate.Invalid {
			t.Errorf("%d elements: %v", len(argv), err)
		}
	}
}

// TestLockWhereTheFolderIsReadOnly: then it lies in the folder of state, and
// is read from there.
func TestLockWhereTheFolderIsReadOnly(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write every folder: it runs as another user in TestAsAnotherUser")
	}
	c := loadServers(t, "version: 1\ntools:\n  - name: a\n    mcp: {command: [a]}\n")
	if err := os.Chmod(c.Dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(c.Dir, 0o755) })
	approve(t, c, "a", listedTool("x"))
	if _, err := os.Lstat(c.LockFile()); err == nil {
		t.Fatal("the folder was written: this proves nothing")
	}
	if files, _ := filepath.Glob(c.Dir + "/state/locks/*.lock"); len(files) != 1 {
		t.Errorf("state has %v", files)
	}
	if d := reload(t, c.Dir); find(d, "x") == nil {
		t.Errorf("tools %v", names(d))
	}
}
