// Package wasm is what the operator's process, the sandbox and the worker of the
// wasm backend (casemate-wasm) agree on. The worker is the runner of an ordinary
// sandbox of the process backend that is granted the worker itself and one folder
// of the store, which holds the module and what was compiled of it, and whatever
// files the tool's profile grants. What its guest is it reads from a file of its
// sandbox's root.
package wasm

import (
	"errors"

	"github.com/casemate/casemate/internal/plan"
)

// Engine is what compiles and runs modules: what was compiled by another is
// compiled again. A test of the worker compares it with what that is built of.
const Engine = "wazero-v1.12.0"

// Version is the same as a receipt has it.
const Version = "wazero 1.12.0"

// QuickJS is the module that runs JavaScript, by its version. The same test knows.
const QuickJS = "quickjs-v0.15.1"

// Where things lie in the sandbox.
const (
	WorkerPath = "/.casemate/wasm"   // the worker
	ModulePath = "/.casemate/module" // a folder of the store: ModuleFile, CacheFolder, Functions
	GuestPath  = "/.casemate/guest"  // EncodeGuest of the guest
	StagePath  = "/stage"            // of what compiles: the same folder while it is made
)

// The files of such a folder. That of JavaScript has no module, which is the
// worker's own.
const (
	ModuleFile  = "module.wasm"
	CacheFolder = "compiled"
	Functions   = "functions" // what Function of a tool may name, a line each
)

// MaxFunctions bounds that file, in bytes.
const MaxFunctions = 64 << 10

// The runners that the worker has.
const (
	Runner   = "wasm"
	RunnerJS = "js"
)

// Deterministic stands in the guest's Preload where its clocks and random bytes
// are the same in every call.
const Deterministic = "deterministic"

// MaxModule bounds a module, in bytes.
const MaxModule = 64 << 20

// MaxFolder bounds what is kept of one module, compiled, in bytes.
const MaxFolder = 1 << 30

// The worker's exit status where it compiles and refuses a module; why is then
// the last line of its standard error.
const (
	Invalid     = 3 // it is no module, or a broken one
	Unsupported = 4 // it is one that this version does not run, and says what is missing
)

// Is says whether g is a guest that the worker runs.
func Is(g plan.Guest) bool { return g.Runner == Runner || g.Runner == RunnerJS }

// overhead is what the worker needs of its sandbox's memory beside the module's
// own, in bytes.
const overhead = 48 << 20

// Pages is how many pages of 64 KiB a module's memory may have in a sandbox of
// that much memory: all but what the worker itself needs, and no less than half,
// for a small sandbox ends at its own limit first.
func Pages(memory int64) uint32 {
	return uint32(min(max(memory-overhead, memory/2, 1<<16)>>16, 1<<16))
}

// magic keeps what follows from being read as anything else.
const magic = "casemate-wasm 1\n"

// EncodeGuest is the content of GuestPath. Of the host's paths the worker learns
// nothing by it.
func EncodeGuest(g plan.Guest) string {
	mounts := make([]plan.Mount, len(g.Mounts))
	for i, m := range g.Mounts {
		mounts[i] = plan.Mount{At: m.At, Write: m.Write, Execute: m.Execute, Prefix: m.Prefix}
	}
	g.Mounts, g.Module, g.Runtime = mounts, "", ""
	return magic + string(plan.EncodeGuest(g))
}

// DecodeGuest is the inverse of EncodeGuest, but for what that leaves out.
func DecodeGuest(b []byte) (plan.Guest, error) {
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		return plan.Guest{}, errors.New("not the description of a guest of this version")
	}
	return plan.DecodeGuest(b[len(magic):])
}
