package catalog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/casemate/casemate"
	"golang.org/x/sys/unix"
)

const minimal = "version: 1\ntools: []\n"

// stranger is a uid that is neither root's nor, where the tests run as an
// ordinary user, the caller's.
const stranger = 65533

// asRoot skips a test that needs files of other users, which only root makes.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("needs chown, which uid %d has not", os.Geteuid())
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatOthersMayWriteIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		root bool // needs root
		do   func(dir string) error
		want string // in the refusal; "" is none
	}{
		{"private", false, func(string) error { return nil }, ""},
		{"file for the group", false, func(d string) error { return os.Chmod(d+"/a/casemate.yaml", 0o664) }, "casemate.yaml is a file that others may write (mode 0664)"},
		{"file for all", false, func(d string) error { return os.Chmod(d+"/a/casemate.yaml", 0o646) }, "casemate.yaml is a file that others may write (mode 0646)"},
		{"folder for the group", false, func(d string) error { return os.Chmod(d+"/a", 0o775) }, "/a is a folder that others may write (mode 0775)"},
		{"folder above for all", false, func(d string) error { return os.Chmod(d, 0o777) }, "is a folder that others may write (mode 0777)"},
		{"sticky folder", false, func(d string) error { return os.Chmod(d, 0o777|os.ModeSticky) }, ""},
		{"file of a stranger", true, func(d string) error { return os.Chown(d+"/a/casemate.yaml", stranger, -1) }, "casemate.yaml belongs to uid 65533"},
		{"folder of a stranger", true, func(d string) error { return os.Chown(d+"/a", stranger, -1) }, "/a belongs to uid 65533"},
		{"folder above of a stranger", true, func(d string) error { return os.Chown(d, stranger, -1) }, "belongs to uid 65533"},
		{"link in a folder for all", false, func(d string) error {
			ok(t, os.Mkdir(d+"/b", 0o755))
			ok(t, os.Rename(d+"/a/casemate.yaml", d+"/b/real.yaml"))
			ok(t, os.Symlink("../b/real.yaml", d+"/a/casemate.yaml"))
			return os.Chmod(d+"/a", 0o777)
		}, "/a is a folder that others may write"},
		{"target in a folder for all", false, func(d string) error {
			ok(t, os.Mkdir(d+"/b", 0o755))
			ok(t, os.Rename(d+"/a/casemate.yaml", d+"/b/real.yaml"))
			ok(t, os.Symlink("../b/real.yaml", d+"/a/casemate.yaml"))
			return os.Chmod(d+"/b", 0o777)
		}, "/b is a folder that others may write"},
		{"link of a stranger in a sticky folder", true, func(d string) error {
			ok(t, os.Rename(d+"/a/casemate.yaml", d+"/real.yaml"))
			ok(t, os.Symlink("../real.yaml", d+"/a/casemate.yaml"))
			ok(t, os.Lchown(d+"/a/casemate.yaml", stranger, stranger))
			return os.Chmod(d+"/a", 0o777|os.ModeSticky)
		}, "is a link of uid 65533"},
		{"own link", false, func(d string) error {
			ok(t, os.Rename(d+"/a/casemate.yaml", d+"/real.yaml"))
			return os.Symlink(d+"/real.yaml", d+"/a/casemate.yaml")
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root {
				asRoot(t)
			}
			dir := folder(t, map[string]string{"top/a/casemate.yaml": minimal}) + "/top"
			ok(t, c.do(dir))
			got, err := Load(dir+"/a/casemate.yaml", options())
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if real, _ := filepath.EvalSymlinks(dir + "/a/casemate.yaml"); got.File != real || got.Dir != filepath.Dir(real) {
					t.Errorf("File %s, want %s", got.File, real)
				}
				return
			}
			denied(t, err, c.want)
			if e := casemate.JSON(err); e.Fix == "" {
				t.Error("no fix")
			}
		})
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := folder(t, map[string]string{"casemate.yaml": minimal, "folder/": "", "big": strings.Repeat("#", maxSource+1)})
	ok(t, unix.Mkfifo(dir+"/fifo", 0o600))
	ok(t, os.Symlink("loop", dir+"/loop"))
	ok(t, os.Symlink("nothing", dir+"/dangling"))
	for name, want := range map[string]string{
		"fifo": "is not a regular file", "folder": "is a folder", "loop": "cannot be used", "dangling": "nothing does not exist",
		"absent": "absent does not exist", "casemate.yaml/x": "cannot be used", "big": "is larger than", "x\x00y": "NUL",
	} {
		_, err := Load(dir+"/"+name, options())
		if casemate.KindOf(err) != casemate.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load("/dev/zero", options()); casemate.KindOf(err) != casemate.Invalid {
		t.Errorf("/dev/zero: %v", err)
	}
}

// TestAsAnotherUser runs the tests of ownership again as an ordinary user,
// and shows that a configuration of root serves it and one of a stranger does
// not.
func TestAsAnotherUser(t *testing.T) {
	asRoot(t)
	const uid = 65532
	dir := folder(t, map[string]string{"mine/casemate.yaml": minimal, "roots/casemate.yaml": minimal, "theirs/casemate.yaml": minimal})
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) { // TempDir is for its user alone
		ok(t, os.Chmod(p, 0o755))
	}
	for name, owner := range map[string]int{"mine": uid, "theirs": stranger} {
		ok(t, os.Chown(filepath.Join(dir, name), owner, owner))
		ok(t, os.Chown(filepath.Join(dir, name, "casemate.yaml"), owner, owner))
	}
	run := func(pattern string, env ...string) (string, error) {
		cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run", pattern)
		cmd.Env = append([]string{"TMPDIR=/tmp", "PATH=" + os.Getenv("PATH")}, env...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run("^(TestWhatOthersMayWriteIsRefused|TestConfigTrust|TestTrustNeedsAFolderOfOnesOwn|TestLock|TestLockWhereTheFolderIsReadOnly)$")
	if err != nil || !strings.Contains(out, "--- PASS: TestConfigTrust") || !strings.Contains(out, "--- PASS: TestLockWhereTheFolderIsReadOnly") || !strings.Contains(out, fmt.Sprintf("which uid %d has not", uid)) {
		t.Errorf("as uid %d: %v\n%s", uid, err, out)
	}
	for name, want := range map[string]string{"mine": "loaded", "roots": "loaded", "theirs": "belongs to uid 65533"} {
		out, err := run("^TestLoadNamedFile$", "CATALOG_TEST_FILE="+filepath.Join(dir, name, "casemate.yaml"))
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestLoadNamedFile is the other end of TestAsAnotherUser.
func TestLoadNamedFile(t *testing.T) {
	file := os.Getenv("CATALOG_TEST_FILE")
	if file == "" {
		t.Skip("runs only as a part of TestAsAnotherUser")
	}
	if _, err := Load(file, options()); err != nil {
		t.Log(err)
		return
	}
	t.Log("loaded")
}

func TestFind(t *testing.T) {
	dir := folder(t, map[string]string{"cwd/casemate.yaml": minimal, "json/casemate.json": minimal, "empty/": "", "user/casemate/casemate.yaml": minimal, "other/x.yaml": minimal})
	for _, c := range []struct {
		explicit, env, cwd, user string
		path                     string
		trusted                  bool
	}{
		{"x.yaml", "/e.yaml", "other", "user", "other/x.yaml", true},
		{"", "x.yaml", "other", "user", "other/x.yaml", true},
		{"", "", "cwd", "user", "cwd/casemate.yaml", false},
		{"", "", "json", "user", "json/casemate.json", false},
		{"", "", "empty", "user", "user/casemate/casemate.yaml", true},
		{"", "", "user/casemate", "user", "user/casemate/casemate.yaml", true},
		{"", "", "empty", "empty", "", false},
	} {
		path, trusted, err := Find(c.explicit, c.env, filepath.Join(dir, c.cwd), filepath.Join(dir, c.user))
		if c.path == "" {
			if casemate.KindOf(err) != casemate.Invalid || casemate.JSON(err).Fix == "" {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil || path != filepath.Join(dir, c.path) || trusted != c.trusted {
			t.Errorf("%+v: %s, %v, %v", c, path, trusted, err)
		}
	}
}
