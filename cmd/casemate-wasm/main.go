// Casemate-wasm runs WebAssembly modules: WASI preview 1 commands, functions over
// JSON, and JavaScript in QuickJS, which is such a module itself. It is the runner
// of a sandbox of the process backend, started by the first process of that, and
// compiles modules in sandboxes of their own; never by a person.
//
// Two walls stand around a module. The inner one is WebAssembly: a module has its
// own memory and the imports that it is given here, which are WASI preview 1 with
// its arguments, its environment, its standard streams, a clock, random bytes and
// the files that its profile grants. There is no socket among them. The outer one
// is the sandbox, which has no network, holds the same grants and the limits, and
// ends a loop at the timeout from outside. A bug of the engine costs the inner
// wall alone.
//
// A call gets an instance of its own, and nothing of it is there when the next
// begins. Memory is bounded twice: a module's own by its number of pages, so that
// memory.grow fails, and all of this process by the sandbox.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/casemate/casemate/internal/wasm"
)

func main() {
	// Most of what is allocated lives as long as the process, and a call is short.
	debug.SetGCPercent(400)
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		os.Exit(serve())
	}
	if len(os.Args) == 3 && os.Args[1] == "compile" {
		os.Exit(compile(os.Args[2]))
	}
	fmt.Fprintln(os.Stderr, "casemate-wasm is started by casemate; see casemate help")
	os.Exit(2)
}

// serve is the runner of a guest: it ends with the connection.
func serve() int {
	pipe := os.NewFile(3, "guest")
	b, err := os.ReadFile(wasm.GuestPath)
	if err == nil {
		err = run(pipe, b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
