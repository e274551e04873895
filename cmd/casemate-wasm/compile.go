package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tetratelabs/wazero"

	"github.com/casemate/casemate/internal/wasm"
)

// compile compiles the module of a runner into the cache of its folder, in a
// sandbox that serves nothing else, and returns the exit status. It runs nothing
// of it but what an instance is made of, if there is a start function that.
func compile(runner string) int {
	err := compileIn(context.Background(), runner, wasm.ModulePath, wasm.StagePath)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, oneLine(err))
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status
	}
	return 1
}

func compileIn(ctx context.Context, runner, from, to string) error {
	module, err := moduleOf(runner, from)
	if err != nil {
		return err
	}
	p, err := newProgram(ctx, module, 1<<16, filepath.Join(to, wasm.CacheFolder))
	if err != nil {
		return err
	}
	defer p.runtime.Close(ctx)
	if err := os.WriteFile(filepath.Join(to, wasm.Functions), functions(p.module), 0o444); err != nil || runner == wasm.RunnerJS {
		return err
	}
	// What an instance needs beside functions only an instance can miss.
	m, err := p.runtime.InstantiateModule(ctx, p.module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return refuse(wasm.Unsupported, "no instance of it can be made: %s", oneLine(err))
	}
	return m.Close(ctx)
}
