package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate/internal/wasm"
)

// section is a section of a module, and vec a vector in it.
func section(id byte, content string) string {
	return string(id) + string(byte(len(content))) + content
}

func vec(items ...string) string { return string(byte(len(items))) + strings.Join(items, "") }

func name(s string) string { return string(byte(len(s))) + s }

const header = "\x00asm\x01\x00\x00\x00"

// importing is a module that imports functions of the type () → ().
func importing(imports ...string) []byte {
	var is []string
	for _, i := range imports {
		from, n, _ := strings.Cut(i, ".")
		is = append(is, name(from)+name(n)+"\x00\x00")
	}
	return []byte(header + section(1, vec("\x60\x00\x00")) + section(2, vec(is...)))
}

// running is a module whose _start is that code.
func running(code string) []byte {
	return []byte(header + section(1, vec("\x60\x00\x00")) + section(3, vec("\x00")) + section(5, vec("\x00\x01")) +
		section(7, vec(name("_start")+"\x00\x00", name("memory")+"\x02\x00")) + section(10, vec(name("\x00"+code+"\x0b"))))
}

// What is not run is refused by name before anything of it runs.
func TestRefused(t *testing.T) {
	for what, c := range map[string]struct {
		module []byte
		status int
		says   string
	}{
		"empty":       {nil, wasm.Invalid, "does not begin as one"},
		"a program":   {[]byte("\x7fELF\x02\x01\x01\x00"), wasm.Invalid, "does not begin as one"},
		"a component": {[]byte("\x00asm\x0d\x00\x01\x00"), wasm.Unsupported, "component"},
		"version 2":   {[]byte("\x00asm\x02\x00\x00\x00"), wasm.Unsupported, "version 2"},
		"cut short":   {running("\x00")[:30], wasm.Invalid, "no WebAssembly module that can be run"},
		"an import":   {importing("env.launch", "wasi_snapshot_preview1.fd_write"), wasm.Unsupported, "env.launch, wasi_snapshot_preview1.fd_write (of another signature)"},
		"many":        {importing("a.a", "a.b", "a.c", "a.d", "a.e", "a.f", "a.g", "a.h", "a.i", "a.j"), wasm.Unsupported, "a.h and 2 more"},
		"control":     {importing("env.\x1b[2J\n"), wasm.Unsupported, "env. [2J "},
		"a global":    {[]byte(header + section(2, vec(name("env")+name("g")+"\x03\x7f\x00"))), wasm.Unsupported, "env"},
		"a memory":    {[]byte(header + section(2, vec(name("env")+name("m")+"\x02\x00\x01"))), wasm.Unsupported, "the memory env.m"},
		"a start that traps": {[]byte(header + section(1, vec("\x60\x00\x00")) + section(3, vec("\x00")) + section(8, "\x00") + section(10, vec(name("\x00\x00\x0b")))),
			wasm.Unsupported, "no instance of it can be made"},
	} {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, wasm.ModuleFile), c.module, 0o600)
		err := compileIn(context.Background(), wasm.Runner, dir, t.TempDir())
		r, ok := errors.AsType[*refusal](err)
		if !ok || r.status != c.status || !strings.Contains(r.why, c.says) || strings.ContainsAny(r.why, "\n\x1b") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What was compiled is used, and what is damaged, or of another module, is not.
func TestCompiled(t *testing.T) {
	ctx := context.Background()
	from, to := t.TempDir(), t.TempDir()
	module := running("")
	os.WriteFile(filepath.Join(from, wasm.ModuleFile), module, 0o600)
	if err := compileIn(ctx, wasm.Runner, from, to); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(to, wasm.CacheFolder)
	found, _ := filepath.Glob(cache + "/*/*")
	if len(found) != 1 {
		t.Fatalf("%q", found)
	}
	os.Chmod(cache, 0o555)
	whole := string(read(t, found[0]))
	for what, content := range map[string]string{"whole": whole, "cut": whole[:20], "changed": strings.Repeat("x", 4096), "empty": ""} {
		os.WriteFile(found[0], []byte(content), 0o600)
		p, err := openFrom(ctx, module, 16, cache)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		w := &worker{program: p, guest: text(), files: &grants{}}
		if o := w.command(ctx, nil); o.status != 0 || o.why != "" {
			t.Errorf("%s: %+v", what, o)
		}
		p.runtime.Close(ctx)
	}
}

// A trap is a failure that says what it was, and costs its call alone.
func TestTraps(t *testing.T) {
	for says, code := range map[string]string{
		"wasm error: unreachable": "\x00", "wasm error: integer divide by zero": "\x41\x01\x41\x00\x6d\x1a", "wasm error: out of bounds memory access": "\x41\x7f\x28\x02\x00\x1a", "stack overflow": "\x10\x00",
	} {
		ctx, w := started(t, running(code), text())
		for range 2 {
			o := w.call(ctx, nil)
			if o.status != 1 || !strings.HasPrefix(o.why[strings.LastIndexByte(o.why, '\n')+1:], "the module trapped: "+says) {
				t.Errorf("%s: %+v", says, o)
			}
		}
	}
}

func FuzzModule(f *testing.F) {
	f.Add(running("\x00"))
	f.Add(importing("env.launch"))
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx := t.Context()
		p, err := newProgram(ctx, b, 16, "")
		if err == nil {
			p.runtime.Close(ctx)
		} else if _, ok := errors.AsType[*refusal](err); !ok || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Fatalf("%q", err)
		}
	})
}
