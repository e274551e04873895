package main

import (
	"crypto/rand"
	"os"
	"strings"

	"github.com/tetratelabs/wazero"

	"github.com/casemate/casemate/internal/wasm"
)

// config is what one instance is given, beside its imports. Deterministic guests
// keep the engine's own clocks, which begin at 2022-01-01T00:00:00Z in every
// instance and go on by a millisecond each time they are read, its random bytes,
// which are the same in every instance, and its sleep, which returns at once.
func (w *worker) config(stdin string, argv []string) wazero.ModuleConfig {
	c := wazero.NewModuleConfig().WithName("").WithArgs(argv...).WithStdin(strings.NewReader(stdin)).WithStdout(os.Stdout).WithStderr(os.Stderr)
	c = c.WithEnv("PWD", w.guest.Cwd)
	for _, kv := range w.guest.Env {
		k, v, _ := strings.Cut(kv, "=")
		c = c.WithEnv(k, v)
	}
	c = c.WithFSConfig(w.files.config())
	if !has(w.guest.Preload, wasm.Deterministic) {
		c = c.WithSysWalltime().WithSysNanotime().WithSysNanosleep().WithRandSource(rand.Reader)
	}
	return c
}
