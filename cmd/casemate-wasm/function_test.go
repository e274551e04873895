package main

import (
	"context"
	"strings"
	"testing"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/wasm"
)

// The convention of functions, in two languages.
func TestFunctions(t *testing.T) {
	for language, compile := range map[string]func(testing.TB) []byte{
		"Go": func(t testing.TB) []byte { return build(t, "go", "-buildmode=c-shared") },
		"C":  func(t testing.TB) []byte { return inC(t, "words.c") },
	} {
		t.Run(language, func(t *testing.T) {
			ctx, w := started(t, compile(t), plan.Guest{Runner: wasm.Runner, Function: "words"})
			call := func(arguments string) (o outcome, stderr string) {
				_, stderr = printed(t, func() { o = w.call(ctx, []guest.Pair{{Key: guest.Arguments, Value: arguments}}) })
				return o, stderr
			}
			for range 3 {
				if o, _ := call(`{"text":"one two  three"}`); string(o.value) != `{"words":3}` || o.status != 0 {
					t.Errorf("%q %+v", o.value, o)
				}
			}
			if o, stderr := call(`[]`); o.status == 0 || !strings.Contains(o.why, "gave no result") || stderr == "" {
				t.Errorf("%+v %q", o, stderr)
			}
			if o, _ := call(`{"text":"panic"}`); o.status == 0 {
				t.Errorf("a panic is %+v", o)
			}
			w.guest.Output = 3
			if o, _ := call(`{"text":""}`); !strings.Contains(o.why, "output allows 3") {
				t.Errorf("%+v", o)
			}
			for name, says := range map[string]string{"wards": "exports no function wards", "casemate_alloc": "of another type"} {
				w.guest.Function = name
				if err := w.check(); err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %v", name, err)
				}
			}
			w.guest.Function = ""
			if err := w.check(); err == nil || !strings.Contains(err.Error(), "_start") {
				t.Errorf("a module without _start: %v", err)
			}
		})
	}
}

// answering is a module whose function f gives that result, an i64, and whose
// allocator that address.
func answering(address, result string) []byte {
	return []byte(header + section(1, vec("\x60\x01\x7f\x01\x7f", "\x60\x02\x7f\x7f\x01\x7e")) + section(3, vec("\x00", "\x01")) + section(5, vec("\x00\x01")) +
		section(7, vec(name("casemate_alloc")+"\x00\x00", name("f")+"\x00\x01", name("memory")+"\x02\x00")) +
		section(10, vec(name("\x00\x41"+address+"\x0b"), name("\x00\x42"+result+"\x0b"))))
}

// A function that lies about where things are is told so, and reads nothing.
func TestFunctionsThatLie(t *testing.T) {
	for says, module := range map[string][]byte{
		"are not in its memory": answering("\x7f", "\x01"),
		"is not in its memory":  answering("\x00", "\x85\x80\x80\x80\x80\x80\x80\x80\x7f"), // five bytes at 0x80000000
		"gave no result":        answering("\x00", "\x00"),
		"output allows":         answering("\x00", "\xff\xff\xff\xff\x0f"), // 4 GiB at 0
	} {
		ctx, w := started(t, module, plan.Guest{Runner: wasm.Runner, Function: "f"})
		if o := w.function(context.WithoutCancel(ctx), []guest.Pair{{Key: guest.Arguments, Value: "{}"}}); o.status == 0 || !strings.Contains(o.why, says) {
			t.Errorf("%s: %+v", says, o)
		}
	}
}

// BenchmarkFunction is a fresh instance and one call of it, in the worker.
func BenchmarkFunction(b *testing.B) {
	for name, compile := range map[string]func() []byte{
		"empty": func() []byte { return answering("\x00", "\x05") },
		"C":     func() []byte { return inC(b, "words.c") },
		"Go":    func() []byte { return build(b, "go", "-buildmode=c-shared") },
	} {
		b.Run(name, func(b *testing.B) {
			g := plan.Guest{Runner: wasm.Runner, Function: "words"}
			if name == "empty" {
				g.Function = "f"
			}
			ctx, w := started(b, compile(), g)
			args := []guest.Pair{{Key: guest.Arguments, Value: `{"text":"a b"}`}}
			for b.Loop() {
				if o := w.call(ctx, args); o.status != 0 {
					b.Fatalf("%+v", o)
				}
			}
		})
	}
}
