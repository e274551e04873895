package oci_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/sandbox/oci"
	"github.com/casemate/casemate/sandbox/process"
	"github.com/casemate/casemate/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// runtime is the runc of this host.
func runtime(t testing.TB) oci.Runtime {
	found, err := oci.Look(func(string) string { return "/usr/bin:/bin" }, nil)
	testenv.Require(t, "oci", err)
	said, err := exec.Command(found[0].Path, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	rt, err := found[0].Runtime(string(said))
	if err != nil {
		t.Fatal(err)
	}
	if rt.File, err = contain.FileID(rt.Path); err != nil {
		t.Fatal(err)
	}
	return rt
}

func subject(t testing.TB) sandboxtest.Subject {
	built := testenv.Binaries(t)
	rt := runtime(t)
	return sandboxtest.Subject{
		Name:     oci.Name,
		Attacker: filepath.Join(testenv.Program(t, "sandbox/sandboxtest/attacker"), "attacker"),
		Program:  filepath.Join(testenv.Program(t, "sandbox/sandboxtest/program"), "program"),
		Compile: func(tool *casemate.Tool) (plan.Guest, error) {
			g, err := process.Compile(tool, process.Options{})
			if err != nil {
				return g, err
			}
			return oci.Contain(g, rt, nil)
		},
		Start: func(t testing.TB, p *plan.Plan) casemate.Backend {
			s, err := process.StartSpawner(built.Init, p)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return process.New(s.Router).As(oci.Name)
		},
	}
}

func TestSuite(t *testing.T) { sandboxtest.Run(t, subject(t)) }

func TestSuiteAsUser(t *testing.T) {
	s := subject(t)
	testenv.AsUser(t, func(t *testing.T) { sandboxtest.Run(t, s) })
}

func BenchmarkSuite(b *testing.B) { sandboxtest.Benchmark(b, subject(b)) }
