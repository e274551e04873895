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

// subject is the process backend of the real casemate-init. As an ordinary
// user memory and cpu may be missing where the host does not delegate
// cgroups; the suite then looks that the record says so.
func subject(t testing.TB) sandboxtest.Subject {
	built := testenv.Binaries(t)
	host := plan.Host{}
	if os.Geteuid() != 0 {
		host.AllowDegraded = []string{"memory", "cpu"}
	}
	return sandboxtest.Subject{
		Attacker: filepath.Join(testenv.Program(t, "sandbox/sandboxtest/attacker"), "attacker"),
		Open: func(t testing.TB, tools ...*casemate.Tool) casemate.Backend {
			p := &plan.Plan{Host: host}
			p.Host.Store = filepath.Join(t.TempDir(), "store")
			for _, tool := range tools {
				g, err := Compile(tool, Options{})
				if err != nil {
					t.Fatal(err)
				}
				p.Guests = append(p.Guests, g)
			}
			return open(t, built.Init, p)
		},
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
