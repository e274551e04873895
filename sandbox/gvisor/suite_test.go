package gvisor_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/sandbox/gvisor"
	"github.com/casemate/casemate/sandbox/oci"
	"github.com/casemate/casemate/sandbox/process"
	"github.com/casemate/casemate/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// runsc is the one of this host, where an ordinary user has a way to it: root's
// cache is none.
func runsc(t testing.TB) gvisor.Runsc {
	path := filepath.Join(testenv.Binaries(t).Dir, "runsc.d", "runsc")
	if _, err := os.Stat(path); err != nil {
		from, err := gvisor.Look(os.Getenv, nil)
		if err != nil {
			err = &testenv.Unsupported{What: "gvisor", Why: err.Error(), Fix: gvisor.Fix}
		}
		testenv.Require(t, "gvisor", err)
		give(t, from, path)
	}
	said, err := exec.Command(path, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	rt, err := gvisor.Read(path, string(said))
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

func give(t testing.TB, from, to string) {
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	for _, p := range []string{filepath.Dir(to), to} {
		if err == nil {
			err = os.Chmod(p, 0o755) // whatever the umask is
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func subject(t testing.TB) sandboxtest.Subject {
	built := testenv.Binaries(t)
	rt := runsc(t)
	file, err := contain.FileID(rt.Path)
	if err != nil {
		t.Fatal(err)
	}
	return sandboxtest.Subject{
		Name:     oci.Sentry,
		Attacker: filepath.Join(testenv.Program(t, "sandbox/sandboxtest/attacker"), "attacker"),
		Program:  filepath.Join(testenv.Program(t, "sandbox/sandboxtest/program"), "program"),
		Compile: func(tool *casemate.Tool) (plan.Guest, error) {
			g, err := process.Compile(tool, process.Options{})
			if err != nil {
				return g, err
			}
			return oci.Contain(g, oci.Runtime{Path: rt.Path, Version: "runsc " + rt.Version, File: file}, nil)
		},
		Start: func(t testing.TB, p *plan.Plan) casemate.Backend {
			s, err := process.StartSpawner(built.Init, p)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return process.New(s.Router).As(oci.Sentry)
		},
		Lacks: map[sandboxtest.Need]string{
			sandboxtest.Landlock:  "the Sentry has no Landlock",
			sandboxtest.Narrowing: "the Sentry counts the processes of its guest, and no limit of them is set from outside",
		},
	}
}

func TestSuite(t *testing.T) { sandboxtest.Run(t, subject(t)) }

func TestSuiteAsUser(t *testing.T) {
	s := subject(t)
	testenv.AsUser(t, func(t *testing.T) { sandboxtest.Run(t, s) })
}

func BenchmarkSuite(b *testing.B) { sandboxtest.Benchmark(b, subject(b)) }
