package process

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// subject is the process backend of the real casemate-init.
func subject(t testing.TB) sandboxtest.Subject {
	built := testenv.Binaries(t)
	return sandboxtest.Subject{
		Name:     Name,
		Attacker: filepath.Join(testenv.Program(t, "sandbox/sandboxtest/attacker"), "attacker"),
		Program:  filepath.Join(testenv.Program(t, "sandbox/sandboxtest/program"), "program"),
		Compile:  func(tool *casemate.Tool) (plan.Guest, error) { return Compile(tool, Options{}) },
		Start:    func(t testing.TB, p *plan.Plan) casemate.Backend { return open(t, built.Init, p) },
	}
}

func open(t testing.TB, init string, p *plan.Plan) *Backend {
	t.Helper()
	s, err := StartSpawner(init, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return New(s.Router)
}

func TestSuite(t *testing.T) { sandboxtest.Run(t, subject(t)) }

func TestSuiteAsUser(t *testing.T) {
	s := stocked(t) // a user's grants are opened in a blank: its way there is the longer one
	testenv.AsUser(t, func(t *testing.T) { sandboxtest.Run(t, s) })
}
