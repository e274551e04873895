package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/store"
	"github.com/casemate/casemate/internal/wasm"
	"github.com/casemate/casemate/sandbox/process"
)

// A module is compiled once, by a sandbox that holds the worker, the module and
// an empty folder; no other process of Casemate's reads a byte of it but to hash
// and to copy it. What came is kept in the store by the digest of the module and
// the engine: it is machine code of a stranger's making, and is run nowhere but
// in the worker of that module, within the walls of its sandbox.

// Bounds of one compilation.
const (
	compileMemory = 2 << 30
	compileTime   = 5 * time.Minute
)

// prepared is a module that can be run.
type prepared struct{ worker, folder string }

// moduler returns the function that has the module of a tool in the store.
func (a *app) moduler(init string, l *loaded) func(context.Context, *casemate.Tool) (prepared, error) {
	known := map[string]string{} // folders, by their names
	return func(ctx context.Context, t *casemate.Tool) (p prepared, err error) {
		if p.worker, err = wasmPath(); err != nil {
			return p, err
		}
		m := module{runner: wasm.Runner}
		name := wasm.QuickJS
		if t.Run.JS != nil {
			m.runner = wasm.RunnerJS
		} else {
			m.path, m.digest = t.Run.Wasm.Module, t.Run.Wasm.Digest
			name = strings.TrimPrefix(string(m.digest), "sha256:")
			if len(name) != 2*sha256.Size {
				return p, invalid("run.wasm.module", "trust the configuration again", "the module %s has no digest", m.path)
			}
		}
		name += "-" + wasm.Engine + "-" + runtime.GOARCH
		if p.folder = known[name]; p.folder == "" {
			p.folder, err = a.compileModule(ctx, init, l, p.worker, name, m)
			known[name] = p.folder
		}
		if err == nil && t.Run.Wasm != nil && t.Run.Wasm.Function != "" {
			err = callable(p.folder, t.Run.Wasm.Function)
		}
		return p, err
	}
}

// callable refuses a function that the module of a folder does not have.
func callable(folder, name string) error {
	b, err := head(filepath.Join(folder, wasm.Functions), wasm.MaxFunctions)
	if err != nil {
		return err
	}
	have := strings.Fields(string(b))
	if slices.Contains(have, name) {
		return nil
	}
	fix := "export it, as docs/wasm.md says: NAME(i32, i32) → i64, casemate_alloc(i32) → i32 and the memory"
	if len(have) > 0 {
		fix = "name one of " + strings.Join(have[:min(len(have), 8)], ", ") + "; or " + fix
	}
	return &casemate.Error{Op: "compile", Kind: casemate.Unsupported, Err: fmt.Errorf("run.wasm.function: the module has no function %q that can be called", name), Fix: fix}
}

// A module is what is compiled; without a path it is the worker's own.
type module struct {
	runner, path string
	digest       casemate.Digest
}

// compileModule returns the folder of that name in the store, where it is made
// if it is not there or is not the module's.
func (a *app) compileModule(ctx context.Context, init string, l *loaded, worker, name string, m module) (string, error) {
	internal := func(err error) (string, error) {
		return "", &casemate.Error{Op: "compile", Kind: casemate.Internal, Err: err, Fix: "make room and rights in " + l.state}
	}
	dir := filepath.Join(l.state, "store", "modules")
	s, err := store.Open(dir)
	if err != nil {
		return internal(err)
	}
	to := filepath.Join(dir, name)
	if m.is(to) {
		return to, nil
	}
	unlock, err := s.Lock(ctx.Done())
	if err != nil {
		return internal(err)
	}
	defer unlock()
	if m.is(to) {
		return to, nil // another process did it meanwhile
	}
	staging, err := s.Staging()
	if err != nil {
		return internal(err)
	}
	defer store.Remove(staging)
	folder, stage := filepath.Join(staging, "module"), filepath.Join(staging, "stage")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.Mkdir(stage, 0o700)); err != nil {
		return internal(err)
	}
	if m.path != "" {
		if err := m.copyTo(filepath.Join(folder, wasm.ModuleFile)); err != nil {
			return "", err
		}
	}
	of := m.path
	if of == "" {
		of = "QuickJS"
	}
	a.note("compiling %s: once, in a sandbox of its own", of)
	if err := a.runCompiler(ctx, init, l, worker, m.runner, folder, stage); err != nil {
		return "", err
	}
	compiled := filepath.Join(stage, wasm.CacheFolder)
	info, err := os.Lstat(compiled) // a link of the compiler's is not followed
	if err == nil && !info.IsDir() {
		err = errors.New("no folder")
	}
	if err == nil {
		_, err = store.Digest(compiled) // what is no tree of files, or a huge one
	}
	if err != nil {
		return internal(fmt.Errorf("the compiler handed something else over: %w", err))
	}
	info, err = os.Lstat(filepath.Join(stage, wasm.Functions))
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("no regular file")
	}
	var names []byte
	if err == nil {
		names, err = head(filepath.Join(stage, wasm.Functions), wasm.MaxFunctions)
	}
	if err != nil {
		return internal(fmt.Errorf("what the compiler says of the functions: %w", err))
	}
	if err := errors.Join(os.WriteFile(filepath.Join(folder, wasm.Functions), names, 0o444), os.Rename(compiled, filepath.Join(folder, wasm.CacheFolder)), store.Settle(folder), store.Remove(to)); err != nil {
		return internal(err)
	}
	if err := os.Chmod(folder, 0o700); err != nil { // a folder that is moved must be one's to write
		return internal(err)
	}
	if err := errors.Join(os.Rename(folder, to), os.Chmod(to, 0o555)); err != nil {
		return internal(err)
	}
	return to, nil
}

// is says whether a folder of the store is that of m.
func (m module) is(folder string) bool {
	if fi, err := os.Stat(filepath.Join(folder, wasm.CacheFolder)); err != nil || !fi.IsDir() {
		return false
	}
	if fi, err := os.Stat(filepath.Join(folder, wasm.Functions)); err != nil || !fi.Mode().IsRegular() {
		return false // of a version that did not list them
	}
	if m.path == "" {
		return true
	}
	f, err := os.Open(filepath.Join(folder, wasm.ModuleFile))
	if err != nil {
		return false
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, io.LimitReader(f, wasm.MaxModule+1))
	return err == nil && casemate.Digest("sha256:"+hex.EncodeToString(h.Sum(nil))) == m.digest
}

// copyTo writes the module to a new file, if it is what was trusted.
func (m module) copyTo(name string) error {
	fail := func(kind casemate.Kind, fix, format string, a ...any) error {
		return &casemate.Error{Op: "compile", Kind: kind, Err: fmt.Errorf("the module %s "+format, append([]any{m.path}, a...)...), Fix: fix}
	}
	in, err := os.OpenFile(m.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return fail(casemate.Invalid, "build it, or correct run.wasm.module", "cannot be read: %w", err)
	}
	defer in.Close()
	if fi, err := in.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() > wasm.MaxModule {
		return fail(casemate.Unsupported, "strip it, or part it", "is no regular file of at most %d MiB", wasm.MaxModule>>20)
	}
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fail(casemate.Internal, "make room", "cannot be copied: %w", err)
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), io.LimitReader(in, wasm.MaxModule+1))
	if err = errors.Join(err, out.Close()); err != nil {
		return fail(casemate.Internal, "make room", "cannot be copied: %w", err)
	}
	if got := casemate.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))); got != m.digest {
		return fail(casemate.Denied, "look at it, then trust the configuration again", "is not what was trusted: its digest is %s, and not %s", got, m.digest)
	}
	return nil
}

// runCompiler compiles in a sandbox of its own, which writes nothing but stage.
func (a *app) runCompiler(ctx context.Context, init string, l *loaded, worker, runner, folder, stage string) error {
	t := &casemate.Tool{
		Name:       "compile",
		Parameters: json.RawMessage(`{"type":"object","additionalProperties":false}`),
		Run:        casemate.Run{Exec: &casemate.Exec{Command: []string{wasm.WorkerPath, "compile", runner}}},
		Security: casemate.Profile{
			Filesystem: []casemate.Mount{{Path: stage, At: wasm.StagePath, Access: casemate.Write}},
			Memory:     compileMemory, Disk: wasm.MaxFolder, CPU: float64(min(4, runtime.NumCPU())), Timeout: compileTime, Output: 64 << 10,
		}.WithDefaults(),
	}
	g, err := process.Compile(t, process.Options{Mounts: []plan.Mount{
		{Source: worker, At: wasm.WorkerPath, Execute: true, Prefix: true}, {Source: folder, At: wasm.ModulePath},
	}})
	if err != nil {
		return err
	}
	o, err := a.alone(ctx, init, l, t, g, "compiled.jsonl")
	if err != nil {
		return err
	}
	if o.Error == nil {
		return nil
	}
	if o.Error.Kind != casemate.ToolFailed || o.Result == nil || o.Result.ExitCode == nil {
		return remote(o.Error)
	}
	text := ""
	for _, c := range o.Result.Content {
		text += c.Text
	}
	e := &casemate.Error{Op: "compile", Kind: casemate.Internal, Err: fmt.Errorf("the module was not compiled: %q", lastWords(text)), Fix: "see whether the host has memory and room"}
	switch *o.Result.ExitCode {
	case wasm.Invalid:
		e.Kind, e.Fix, e.Err = casemate.Invalid, "build it again, for wasm32-wasip1", errors.New(refusalOf(text))
	case wasm.Unsupported:
		e.Kind, e.Fix, e.Err = casemate.Unsupported, "build it for wasm32-wasip1, without other imports", errors.New(refusalOf(text))
	}
	return e
}

// refusalOf is the last line of what the compiler said, which may hold words of
// the module's.
func refusalOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
