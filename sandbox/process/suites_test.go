package process

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/store"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/internal/wasm"
	"github.com/casemate/casemate/sandbox/sandboxtest"
)

// wasmSubject is the backend wasm: the portable program as a module, compiled as
// the operator's process does it.
func wasmSubject(t testing.TB) sandboxtest.Subject {
	s := subject(t)
	s.Module = testenv.Module(t, "sandbox/sandboxtest/program")
	worker := testenv.Binaries(t).Wasm
	folder := compiled(t, worker, s.Module)
	s.Name = "wasm"
	s.Compile = func(tool *casemate.Tool) (plan.Guest, error) {
		only := *tool
		only.Security.Isolation = s.Name
		g, err := Compile(&only, Options{Worker: worker, Module: folder})
		g.Digest = string(tool.Guest())
		return g, err
	}
	s.Start = as(s)
	s.Lacks = map[sandboxtest.Need]string{
		sandboxtest.Programs: "the module is the only program, and can start none",
	}
	return s
}

// as serves a plan under the subject's name.
func as(s sandboxtest.Subject) func(testing.TB, *plan.Plan) casemate.Backend {
	init := s.Start
	return func(t testing.TB, p *plan.Plan) casemate.Backend { return init(t, p).(*Backend).As(s.Name) }
}

// compiled is the folder of a module that a sandbox compiled.
func compiled(t testing.TB, worker, module string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
	folder, stage := filepath.Join(dir, "module"), filepath.Join(dir, "stage")
	must(t, os.Mkdir(folder, 0o755))
	must(t, os.Mkdir(stage, 0o755))
	text, err := os.ReadFile(module)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(folder, wasm.ModuleFile), text, 0o444))
	tool := &casemate.Tool{Name: "compile", Run: casemate.Run{Exec: &casemate.Exec{Command: []string{wasm.WorkerPath, "compile", wasm.Runner}}},
		Security: casemate.Profile{Memory: 2 << 30, Filesystem: []casemate.Mount{{Path: stage, At: wasm.StagePath, Access: casemate.Write}}}}
	g, err := Compile(tool, Options{Mounts: []plan.Mount{{Source: worker, At: wasm.WorkerPath, Execute: true, Prefix: true}, {Source: folder, At: wasm.ModulePath}}})
	must(t, err)
	p := &plan.Plan{Guests: []plan.Guest{g}, Host: plan.Host{Store: filepath.Join(dir, "store")}}
	if os.Geteuid() != 0 {
		p.Host.AllowDegraded = []string{"memory", "cpu"}
	}
	sb, err := open(t, testenv.Binaries(t).Init, p).Start(t.Context(), casemate.Spec{Tool: tool})
	must(t, err)
	defer sb.Close()
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		t.Fatalf("%c %q %v", f.Type, f.Body, err)
	}
	must(t, guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: number, Body: guest.AppendPairs(nil, nil)}))
	if c := collect(sb.Guest()); c.failure != "" || c.status != 0 || c.err != nil {
		t.Fatalf("the module is not compiled: %v", c)
	}
	_, err = sb.(casemate.Committer).Commit(t.Context(), "c_compiled")
	must(t, err)
	must(t, os.Rename(filepath.Join(stage, wasm.CacheFolder), filepath.Join(folder, wasm.CacheFolder)))
	must(t, store.Settle(folder))
	t.Cleanup(func() { store.Remove(folder) }) // which is read-only
	return folder
}

func TestSuiteOfModules(t *testing.T) { sandboxtest.Run(t, wasmSubject(t)) }

func TestSuiteOfModulesAsUser(t *testing.T) {
	testenv.Module(t, "sandbox/sandboxtest/program")
	subject(t)
	testenv.AsUser(t, func(t *testing.T) { sandboxtest.Run(t, wasmSubject(t)) })
}

func BenchmarkSuite(b *testing.B) {
	for _, s := range []sandboxtest.Subject{subject(b), wasmSubject(b)} {
		b.Run(s.Name, func(b *testing.B) { sandboxtest.Benchmark(b, s) })
	}
}
