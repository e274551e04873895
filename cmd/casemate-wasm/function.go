package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/wasm"
)

// The convention of functions. A module exports
//
//	memory
//	casemate_alloc(size i32) → i32: the address of size free bytes
//	NAME(address i32, size i32) → i64: the address of the result in the upper
//	    half, its size in the lower
//
// and _initialize, which is called first, where it is a reactor of WASI. The
// arguments of the call are one JSON object, in memory that casemate_alloc gave;
// the result is one JSON value. A result of no bytes is a failure, which the
// module explains on its standard error; a trap is one too. The instance is of
// the call alone: nothing has to be freed.
const (
	allocName      = "casemate_alloc"
	initializeName = "_initialize"
)

var signatures = map[string][2][]api.ValueType{
	allocName: {{api.ValueTypeI32}, {api.ValueTypeI32}},
	"":        {{api.ValueTypeI32, api.ValueTypeI32}, {api.ValueTypeI64}},
}

// checkFunction says what a module lacks to be called by the function name.
func checkFunction(m wazero.CompiledModule, name string) error {
	exports := m.ExportedFunctions()
	for _, want := range []struct{ name, signature, shown string }{
		{name, "", "(i32, i32) → i64"}, {allocName, allocName, "(i32) → i32"},
	} {
		s := signatures[want.signature]
		f := exports[want.name]
		if f == nil {
			return fmt.Errorf("it exports no function %s%s", want.name, want.shown)
		}
		if !slices.Equal(f.ParamTypes(), s[0]) || !slices.Equal(f.ResultTypes(), s[1]) {
			return fmt.Errorf("its function %s is of another type than %s", want.name, want.shown)
		}
	}
	if m.ExportedMemories()["memory"] == nil {
		return fmt.Errorf("it exports no memory by the name memory")
	}
	return nil
}

// functions are the names of those that can be called, a line each.
func functions(m wazero.CompiledModule) (names []byte) {
	for _, name := range slices.Sorted(maps.Keys(m.ExportedFunctions())) {
		if checkFunction(m, name) == nil && !strings.Contains(name, "\n") && len(names)+len(name) < wasm.MaxFunctions {
			names = append(names, name+"\n"...)
		}
	}
	return names
}

// function calls the guest's function in an instance of its own.
func (w *worker) function(ctx context.Context, args []guest.Pair) outcome {
	in, ok := guest.Get(args, guest.Arguments)
	if !ok {
		return outcome{why: "the arguments are missing", status: 2}
	}
	m, err := w.program.runtime.InstantiateModule(ctx, w.program.module, w.config("", []string{wasm.ModuleFile}).WithStartFunctions(initializeName))
	if err != nil {
		return ended(err)
	}
	defer m.Close(ctx)
	at, err := m.ExportedFunction(allocName).Call(ctx, uint64(len(in)))
	if err != nil {
		return ended(err)
	}
	if !m.Memory().WriteString(uint32(at[0]), in) {
		return failed("the module's %s gave %d bytes that are not in its memory", allocName, len(in))
	}
	out, err := m.ExportedFunction(w.guest.Function).Call(ctx, at[0], uint64(len(in)))
	if err != nil {
		return ended(err)
	}
	address, size := uint32(out[0]>>32), uint32(out[0])
	if size == 0 {
		return failed("the module's function %s gave no result", w.guest.Function)
	}
	if int64(size) > w.guest.Output {
		return failed("the result of the module's function %s has %d bytes, and output allows %d", w.guest.Function, size, w.guest.Output)
	}
	b, ok := m.Memory().Read(address, size)
	if !ok {
		return failed("the result of the module's function %s is not in its memory", w.guest.Function)
	}
	return outcome{value: slices.Clone(b)}
}
