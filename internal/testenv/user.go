package testenv

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// UserID returns the uid and gid of the ordinary user: one for each test
// process, because the kernel counts by uid (descriptors in flight, pipe pages,
// inotify) and packages are tested at the same time. No account of Debian's has
// it, and it is not nobody's, whom some hosts treat in their own way.
func UserID() int {
	if uid := os.Getuid(); uid != 0 {
		return uid
	}
	return 20_000 + os.Getpid()%40_000
}

// testdataLimit bounds the copy of a package's testdata, in bytes.
const testdataLimit = 64 << 20

// AsUser runs body as an ordinary user. Under root it starts this test again,
// and none of the others, in a process of that user: what stands before
// AsUser in the test runs there too. That process has a home, a runtime and a
// temporary folder of its own, a copy of the package's testdata in its working
// folder, and no environment of root's. Run by an ordinary user already, the
// test just goes on.
func AsUser(t *testing.T, body func(*testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		body(t)
		return
	}
	if os.Getenv(envUser) != "" {
		t.Fatal("this process was to be an ordinary user's, and is root's")
	}
	if run.dir == "" {
		t.Fatal("TestMain of this package does not call testenv.Main")
	}
	dir, err := userFolder(run.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(filepath.Join(dir, "test"), "-test.run="+only(t.Name()), "-test.v", "-test.count=1", "-test.timeout="+left(t).String())
	cmd.Dir = filepath.Join(dir, "home")
	cmd.Env = userEnv(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(UserID()), Gid: uint32(UserID())},
		Setsid:     true,
	}
	out, err := cmd.CombinedOutput()
	skipped, failed := verdict(t.Name(), string(out), err)
	switch {
	case failed != "":
		t.Errorf("as uid %d: %s\n%s", UserID(), failed, out)
	case skipped:
		t.Skipf("as uid %d:\n%s", UserID(), out)
	case testing.Verbose():
		t.Logf("as uid %d:\n%s", UserID(), out)
	}
}

// only is the pattern that runs one test and nothing else.
func only(name string) string {
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		parts = append(parts, "^"+regexp.QuoteMeta(p)+"$")
	}
	return strings.Join(parts, "/")
}

// verdict reads what the user's run of a test came to. A run in which the
// test did not take place is a failure.
func verdict(name, out string, err error) (skipped bool, failed string) {
	if err != nil {
		return false, err.Error()
	}
	for line := range strings.Lines(out) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), ": "+name+" (")
		if rest == "" {
			continue
		}
		switch word {
		case "--- PASS":
			return false, ""
		case "--- SKIP":
			return true, ""
		}
	}
	return false, "the test did not run"
}

// left is how long the user's run may take: a little less than this one.
func left(t *testing.T) time.Duration {
	if end, ok := t.Deadline(); ok {
		return max(time.Until(end)-5*time.Second, time.Second).Round(time.Second)
	}
	return 10 * time.Minute
}

func userEnv(dir string) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + filepath.Join(dir, "home"),
		"XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"TMPDIR=" + filepath.Join(dir, "tmp"),
		"LANG=C.UTF-8",
		envUser + "=1",
	}
	if bin := filepath.Join(run.dir, "bin"); exists(filepath.Join(bin, "casemate")) {
		env = append(env, envBinaries+"="+bin)
	}
	if r := os.Getenv("CASEMATE_REQUIRE"); r != "" {
		env = append(env, "CASEMATE_REQUIRE="+r)
	}
	return env
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// userFolder makes the user's folders and puts this program and testdata
// into them. Root's own checkout may be where the user cannot go.
func userFolder(beside string) (dir string, err error) {
	dir, err = os.MkdirTemp(beside, "user-")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "test"), program, 0o755); err != nil {
		return "", err
	}
	if err := os.Chmod(filepath.Join(dir, "test"), 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"home", "run", "tmp"} {
		d := filepath.Join(dir, name)
		if err := os.Mkdir(d, 0o700); err != nil {
			return "", err
		}
		if err := os.Chown(d, UserID(), UserID()); err != nil {
			return "", err
		}
	}
	return dir, copyTestdata(filepath.Join(dir, "home", "testdata"))
}

// copyTestdata copies the regular files and folders of testdata.
func copyTestdata(to string) error {
	left := int64(testdataLimit)
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("testdata", path)
		if err != nil {
			return err
		}
		dest := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			err = os.Mkdir(dest, 0o755)
		case d.Type().IsRegular():
			fi, err := d.Info()
			if err != nil {
				return err
			}
			if left -= fi.Size(); left < 0 {
				return errors.New("testdata is larger than AsUser copies")
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(dest, text, fi.Mode().Perm()); err != nil {
				return err
			}
		default:
			return nil
		}
		if err != nil {
			return err
		}
		return os.Chown(dest, UserID(), UserID())
	})
	if errors.Is(err, fs.ErrNotExist) && !exists("testdata") {
		return nil
	}
	return err
}
