package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/wasm"
)

func TestScript(t *testing.T) {
	ctx, w := started(t, quickjs(), plan.Guest{Runner: wasm.RunnerJS, Memory: 128 << 20})
	for _, c := range []struct {
		code, value, why, printed string // the last line of why
		status                    uint32
	}{
		{code: "6*7", value: "42"},
		{code: "'ü\\n'", value: `"ü\n"`},
		{code: "console.log('hi', 3); ({a: [1, null]})", value: `{"a":[1,null]}`, printed: "hi 3\n"},
		{code: "1/0", value: "Infinity"},
		{code: "10n ** 30n", value: "1000000000000000000000000000000"},
		{code: "let a = {}; a.a = a; a", value: "[object Object]"},
		{code: "undefined"},
		{code: "await new Promise(r => setTimeout(() => r(5), 1))", value: "5"},
		{code: "setTimeout(() => console.log('late'), 1); 1", value: "1", printed: "late\n"},
		{code: "throw new TypeError('boo')", why: "TypeError: boo", status: 1},
		{code: "await Promise.reject(new Error('boo'))", why: "Error: boo", status: 1},
		{code: "setTimeout(() => { throw new Error('late') }, 1)", why: "Error: late", status: 1},
		{code: "throw null", why: "null", status: 1},
		{code: "throw {toString() { throw 1 }}", why: "an exception that cannot be shown", status: 1},
		{code: "not a program", why: "SyntaxError: expecting ';'", status: 1},
		{code: "function f() { return f() + 1 } f()", why: "RangeError: the engine trapped", status: 1},
		{code: "const x = []; for (;;) x.push(new Array(1e6).fill(0))", why: "InternalError: out of memory", status: 1},
		{code: "typeof std + typeof os + typeof require + typeof process", value: `"undefinedundefinedundefinedundefined"`},
		{code: "(await import('qjs:os')).readdir('/')", value: "[[],44]"},
		{code: "(await import('qjs:std')).loadFile('/etc/passwd')", value: "null"},
		{code: "(await import('qjs:std')).exit(3)", status: 3},
		{code: "globalThis.kept = 1", value: "1"},
		{code: "typeof kept", value: `"undefined"`},
	} {
		var o outcome
		stdout, _ := printed(t, func() { o = w.call(ctx, []guest.Pair{{Key: "code", Value: c.code}}) })
		if string(o.value) != c.value || o.status != c.status || stdout != c.printed || !strings.HasPrefix(o.why[strings.LastIndexByte(o.why, '\n')+1:], c.why) || (c.why == "") != (o.why == "") {
			t.Errorf("%s: %q %q %d, printed %q", c.code, o.value, o.why, o.status, stdout)
		}
	}
	if o := w.call(ctx, nil); o.status == 0 {
		t.Errorf("no code is %+v", o)
	}
}

func TestScriptIsDeterministic(t *testing.T) {
	ctx, w := started(t, quickjs(), plan.Guest{Runner: wasm.RunnerJS})
	call := func() string {
		return string(w.call(ctx, []guest.Pair{{Key: "code", Value: "[Math.random(), Date.now()]"}}).value)
	}
	if a, b := call(), call(); a == b {
		t.Errorf("two calls have the same chance: %s", a)
	}
	w.guest.Preload = []string{wasm.Deterministic}
	if a, b := call(), call(); a != b || !strings.HasSuffix(a, ",1640995200001]") {
		t.Errorf("two calls differ: %s %s", a, b)
	}
}

// BenchmarkScript is a call in an interpreter that is made for it, and that
// waits, as that of a parked sandbox does.
func BenchmarkScript(b *testing.B) {
	ctx, w := started(b, quickjs(), plan.Guest{Runner: wasm.RunnerJS})
	args := []guest.Pair{{Key: "code", Value: "6*7"}}
	for _, waits := range []bool{false, true} {
		b.Run(map[bool]string{false: "fresh", true: "waiting"}[waits], func(b *testing.B) {
			for b.Loop() {
				if waits {
					b.StopTimer()
					var err error
					if w.next, err = w.interpreter(ctx); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				if o := w.call(ctx, args); string(o.value) != "42" {
					b.Fatalf("%+v", o)
				}
			}
		})
	}
}

// The compiled form of a script's engine is made like that of a module.
func TestCompileScript(t *testing.T) {
	to := t.TempDir()
	if err := compileIn(context.Background(), wasm.RunnerJS, "/nonexistent", to); err != nil {
		t.Fatal(err)
	}
	if found, _ := filepath.Glob(to + "/" + wasm.CacheFolder + "/*/*"); len(found) != 1 {
		t.Errorf("%q", found)
	}
	if err := compileIn(context.Background(), wasm.Runner, "/nonexistent", to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a module that is not there: %v", err)
	}
}
