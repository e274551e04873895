package gvisor_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/sandbox/gvisor"
	"github.com/casemate/casemate/sandbox/oci"
	"github.com/casemate/casemate/sandbox/process"
	"github.com/casemate/casemate/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func subject(t testing.TB) sandboxtest.Subject {
	rt, err := gvisor.Find(context.Background(), os.Getenv)
	if err != nil {
		err = &testenv.Unsupported{What: "gvisor", Why: err.Error(), Fix: gvisor.Fix}
	}
	testenv.Require(t, "gvisor", err)
	built := testenv.Binaries(t)
	return sandboxtest.Subject{
		Name:     oci.Sentry,
		Attacker: filepath.Join(testenv.Program(t, "sandbox/sandboxtest/attacker"), "attacker"),
		Program:  filepath.Join(testenv.Program(t, "sandbox/sandboxtest/program"), "program"),
		Compile: func(tool *casemate.Tool) (plan.Guest, error) {
			g, err := process.Compile(tool, process.Options{})
			if err != nil {
				return g, err
			}
			return oci.Contain(g, oci.Runtime{Path: rt.Path, Version: "runsc " + rt.Version}, nil)
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
