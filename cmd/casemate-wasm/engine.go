package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/casemate/casemate/internal/wasm"
)

// A program is a module that is compiled, in a runtime that has WASI.
type program struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
}

// A refusal is a module that is not run, and why.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func refuse(status int, format string, a ...any) error {
	return &refusal{status, fmt.Sprintf(format, a...)}
}

// newProgram compiles the module, or takes what the cache folder has of it; ""
// is no cache. Its memory has that many pages at most.
func newProgram(ctx context.Context, module []byte, pages uint32, cache string) (_ *program, err error) {
	if err := known(module); err != nil {
		return nil, err
	}
	config := wazero.NewRuntimeConfig().WithMemoryLimitPages(pages)
	if cache != "" {
		c, err := wazero.NewCompilationCacheWithDir(cache)
		if err != nil {
			return nil, err
		}
		config = config.WithCompilationCache(c)
	}
	p := &program{runtime: wazero.NewRuntimeWithConfig(ctx, config)}
	defer func() {
		if err != nil {
			p.runtime.Close(ctx)
		}
	}()
	host := p.runtime.NewHostModuleBuilder(wasi_snapshot_preview1.ModuleName)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(host)
	wasi, err := host.Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	if p.module, err = p.runtime.CompileModule(ctx, module); err != nil {
		return nil, refuse(wasm.Invalid, "it is no WebAssembly module that can be run: %s", oneLine(err))
	}
	return p, p.imports(wasi)
}

// known refuses what is no module by its first eight bytes: four of WebAssembly,
// two of the version, and two that say whether it is a module or a component.
func known(module []byte) error {
	switch {
	case len(module) < 8 || string(module[:4]) != "\x00asm":
		return refuse(wasm.Invalid, "it is no WebAssembly module: it does not begin as one")
	case module[6] == 1 && module[7] == 0:
		return refuse(wasm.Unsupported, "it is a component (of the component model, WASI preview 2): only core modules of WASI preview 1 are run; build it for wasm32-wasip1, or take the core module out of it")
	case string(module[4:8]) != "\x01\x00\x00\x00":
		return refuse(wasm.Unsupported, "it is of version %d of WebAssembly, and only 1 is run", module[4])
	}
	return nil
}

// imports refuses a module that wants what it does not get, by name. What is
// imported beside functions and memories an instance will miss.
func (p *program) imports(wasi api.Module) error {
	have := wasi.ExportedFunctionDefinitions()
	var missing []string
	for _, f := range p.module.ImportedFunctions() {
		from, name, _ := f.Import()
		d, ok := have[name]
		switch {
		case from != wasi_snapshot_preview1.ModuleName || !ok:
			missing = append(missing, from+"."+name)
		case !slices.Equal(d.ParamTypes(), f.ParamTypes()) || !slices.Equal(d.ResultTypes(), f.ResultTypes()):
			missing = append(missing, from+"."+name+" (of another signature)")
		}
	}
	for _, m := range p.module.ImportedMemories() {
		from, name, _ := m.Import()
		missing = append(missing, "the memory "+from+"."+name)
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	more := ""
	if n := len(missing) - 8; n > 0 {
		missing, more = missing[:8], fmt.Sprintf(" and %d more", n)
	}
	return refuse(wasm.Unsupported, "it imports what is not there: %s%s; a module gets WASI preview 1 (wasi_snapshot_preview1) and nothing else", oneLine(errors.New(strings.Join(missing, ", "))), more)
}

// openFrom compiles the module with what the cache folder has of it. Where that
// is of another processor, or damaged, it is compiled again, in memory.
func openFrom(ctx context.Context, module []byte, pages uint32, cache string) (*program, error) {
	p, err := newProgram(ctx, module, pages, cache)
	if err != nil {
		return newProgram(ctx, module, pages, "")
	}
	return p, nil
}

// moduleOf returns the module of a guest's runner in a folder.
func moduleOf(runner, folder string) ([]byte, error) {
	if runner == wasm.RunnerJS {
		return quickjs(), nil
	}
	return os.ReadFile(filepath.Join(folder, wasm.ModuleFile))
}

// oneLine is the text of an error about a module, whose words it may hold: one
// line, bounded, printable.
func oneLine(err error) string {
	s := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(err.Error(), "\uFFFD"))
	if len(s) > 1000 {
		s = strings.ToValidUTF8(s[:1000], "") + "…"
	}
	return s
}
