package testenv

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// again runs one test of this program, whose outcome is what is tested.
func again(t *testing.T, test string, env ...string) (out string, passed bool) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), append(env, "CASEMATE_TESTENV_OUTCOME=1")...)
	text, err := cmd.CombinedOutput()
	return string(text), err == nil
}

// outcome guards the tests that are only run by again.
func outcome(t *testing.T) {
	if os.Getenv("CASEMATE_TESTENV_OUTCOME") == "" {
		t.Skip("run by another test")
	}
}

func TestOutcomeUnsupported(t *testing.T) {
	outcome(t)
	Require(t, "process/memory", &Unsupported{"memory", "no cgroup", "get one"})
	t.Error("it went on")
}

func TestOutcomeBroken(t *testing.T) {
	outcome(t)
	Require(t, "process", errors.New("a broken probe"))
}

func TestOutcomeSupported(t *testing.T) {
	outcome(t)
	Require(t, "process", nil)
	t.Log("went on")
}

func TestRequire(t *testing.T) {
	for _, c := range []struct {
		test, require, want string
		passed              bool
	}{
		{"TestOutcomeUnsupported", "", "--- SKIP", true},
		{"TestOutcomeUnsupported", "wasm,processes", "--- SKIP", true},
		{"TestOutcomeUnsupported", "wasm, process", "CASEMATE_REQUIRE names", false},
		{"TestOutcomeUnsupported", "process/memory", "CASEMATE_REQUIRE names", false},
		{"TestOutcomeBroken", "", "a broken probe", false},
		{"TestOutcomeSupported", "process", "went on", true},
	} {
		out, passed := again(t, c.test, "CASEMATE_REQUIRE="+c.require)
		if passed != c.passed || !strings.Contains(out, c.want) {
			t.Errorf("%s, requiring %q: passed %v\n%s", c.test, c.require, passed, out)
		}
	}
}

func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 && os.Getenv(envUser) == "" {
		t.Skip("only root can become another user")
	}
}

func TestAsUser(t *testing.T) {
	root(t)
	before := os.Geteuid()
	AsUser(t, func(t *testing.T) {
		if before < 20_000 || os.Getuid() != before || os.Getgid() != before {
			t.Errorf("uid %d, %d, gid %d", before, os.Getuid(), os.Getgid())
		}
		if groups, err := os.Getgroups(); err != nil || len(groups) > 0 {
			t.Errorf("groups %v, %v", groups, err)
		}
		if os.Getenv("CASEMATE_TESTENV_ROOTS") != "" {
			t.Error("root's environment came along")
		}
		for _, d := range []string{os.Getenv("HOME"), os.Getenv("XDG_RUNTIME_DIR"), t.TempDir()} {
			if err := os.WriteFile(d+"/x", nil, 0o600); err != nil {
				t.Error(err)
			}
		}
		if text, err := os.ReadFile("testdata/hello"); err != nil || string(text) != "hello\n" {
			t.Errorf("testdata: %q, %v", text, err)
		}
		if err := syscall.Setuid(0); err == nil {
			t.Error("it can become root again")
		}
	})
}

func TestAsUserInASubtest(t *testing.T) {
	root(t)
	t.Run("not this one", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Error("it ran as the user")
		}
	})
	t.Run("this (one)", func(t *testing.T) {
		AsUser(t, func(t *testing.T) {
			if os.Geteuid() < 20_000 {
				t.Error("not the user")
			}
		})
	})
}

func TestOutcomeUserFails(t *testing.T) {
	outcomeOfUser(t, func(t *testing.T) { t.Error("wanted") })
}

func TestOutcomeUserSkips(t *testing.T) {
	outcomeOfUser(t, func(t *testing.T) { t.Skip("wanted") })
}

func TestOutcomeUserDies(t *testing.T) {
	outcomeOfUser(t, func(t *testing.T) { os.Exit(0) })
}

func outcomeOfUser(t *testing.T, body func(*testing.T)) {
	if os.Getenv(envUser) == "" {
		outcome(t)
	}
	AsUser(t, body)
}

func TestOutcomesOfUsers(t *testing.T) {
	root(t)
	for _, c := range []struct {
		test, want string
		passed     bool
	}{
		{"TestOutcomeUserFails", "wanted", false},
		{"TestOutcomeUserSkips", "--- SKIP: TestOutcomeUserSkips", true},
		{"TestOutcomeUserDies", "the test did not run", false},
	} {
		if out, passed := again(t, c.test); passed != c.passed || !strings.Contains(out, c.want) {
			t.Errorf("%s: passed %v\n%s", c.test, passed, out)
		}
	}
}

func TestBinaries(t *testing.T) {
	root(t)
	b := Binaries(t)
	AsUser(t, func(t *testing.T) {
		out, err := exec.Command(b.Casemate, "version").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "casemate ") {
			t.Errorf("%v: %s", err, out)
		}
		if _, err := os.Stat(b.Init); err != nil {
			t.Error(err)
		}
	})
}
