package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/api"

	quickjswasi "github.com/aperturerobotics/go-quickjs-wasi-reactor"

	"github.com/casemate/casemate/internal/guest"
)

// quickjs is the module that runs JavaScript: QuickJS-NG, as a reactor of WASI.
// It has no files: there is no folder among what its instance is given.
func quickjs() []byte { return quickjswasi.QuickJSWASM }

// An interpreter is an instance of QuickJS, before any code of a planner's.
type interpreter struct {
	m       api.Module
	context uint64 // address of its JSContext
}

// Evaluation flags of quickjs.h.
const (
	evalGlobal    = 0
	evalBacktrace = 1 << 6
	evalAsync     = 1 << 7 // await at the top; the value is a promise of {value}
)

// The tags of a JSValue that are looked at: its upper half, where it is no number.
const (
	tagString    = -7
	tagRope      = -6
	tagObject    = -1
	tagUndefined = 3
	tagException = 6
)

func tag(v uint64) int32 { return int32(v >> 32) }

// interpreter makes one. What it runs until then is QuickJS itself, which is ours.
func (w *worker) interpreter(ctx context.Context) (_ *interpreter, err error) {
	m, err := w.program.runtime.InstantiateModule(ctx, w.program.module, w.config("", []string{"js"}).WithStartFunctions(initializeName))
	if err != nil {
		return nil, err
	}
	js := &interpreter{m: m}
	if err := js.begin(ctx); err != nil {
		m.Close(ctx)
		return nil, fmt.Errorf("QuickJS does not start: %w", err)
	}
	return js, nil
}

// prelude gives code the timers that it knows of other engines, and takes away
// what it does not.
const prelude = `for (const f of ["setTimeout", "clearTimeout", "setInterval", "clearInterval"]) globalThis[f] = os[f];
for (const m of ["std", "os", "bjson"]) delete globalThis[m];`

// begin makes the context, with the standard library as --std has it.
func (js *interpreter) begin(ctx context.Context) error {
	argv, err := js.text(ctx, "js\x00--std\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	if err != nil {
		return err
	}
	list := (argv + 9 + 7) &^ 3
	if !js.m.Memory().WriteUint32Le(uint32(list), uint32(argv)) || !js.m.Memory().WriteUint32Le(uint32(list)+4, uint32(argv)+3) {
		return errors.New("no memory")
	}
	if n, err := js.call(ctx, "qjs_init_argv", 2, list); err != nil || n != 0 {
		return errors.Join(err, errors.New("it has no context"))
	}
	if js.context, err = js.call(ctx, "qjs_get_context"); err != nil {
		return err
	}
	v, err := js.eval(ctx, prelude, evalGlobal)
	if err == nil && tag(v) == tagException {
		o, _ := js.thrown(ctx)
		err = errors.New(o.why)
	}
	return err
}

// eval evaluates code, of which the value may be an exception.
func (js *interpreter) eval(ctx context.Context, code string, flags uint64) (uint64, error) {
	at, err := js.text(ctx, code)
	if err != nil {
		return 0, err
	}
	name, err := js.text(ctx, "<code>")
	if err != nil {
		return 0, err
	}
	return js.call(ctx, "JS_Eval", js.context, at, uint64(len(code)), name, flags)
}

// call calls a function of the C interface; one without a result gives 0.
func (js *interpreter) call(ctx context.Context, name string, args ...uint64) (uint64, error) {
	f := js.m.ExportedFunction(name)
	if f == nil {
		return 0, errors.New("QuickJS has no function " + name)
	}
	out, err := f.Call(ctx, args...)
	if err != nil || len(out) == 0 {
		return 0, err
	}
	return out[0], nil
}

// text copies a string into its memory, with the NUL that C wants.
func (js *interpreter) text(ctx context.Context, s string) (uint64, error) {
	at, err := js.call(ctx, "malloc", uint64(len(s)+1))
	if err != nil {
		return 0, err
	}
	if at == 0 || !js.m.Memory().WriteString(uint32(at), s) || !js.m.Memory().WriteByte(uint32(at)+uint32(len(s)), 0) {
		return 0, errors.New("it is too large for the memory that it has")
	}
	return at, nil
}

// show is a value as String makes it.
func (js *interpreter) show(ctx context.Context, v uint64) (string, error) {
	size, err := js.call(ctx, "malloc", 4)
	if err != nil {
		return "", err
	}
	at, err := js.call(ctx, "JS_ToCStringLen2", js.context, size, v, 0)
	if err != nil || at == 0 {
		return "", err
	}
	n, _ := js.m.Memory().ReadUint32Le(uint32(size))
	b, ok := js.m.Memory().Read(uint32(at), n)
	if !ok {
		return "", errors.New("it is not in its memory")
	}
	return string(b), nil
}

// script runs the code of a call in an interpreter of its own.
func (w *worker) script(ctx context.Context, args []guest.Pair) outcome {
	code, ok := guest.Get(args, "code")
	if !ok {
		return outcome{why: "the argument code is missing", status: 2}
	}
	js := w.next
	if w.next = nil; js == nil {
		var err error
		if js, err = w.interpreter(ctx); err != nil {
			return ended(err)
		}
	}
	defer js.m.Close(ctx)
	o, err := js.run(ctx, code)
	if err == nil {
		return o
	}
	if o := ended(err); o.why == "" {
		return o // it called exit
	}
	// Built for WebAssembly, QuickJS does not see the end of its stack.
	return failed("RangeError: the engine trapped, as it does where code calls itself too deep (%s)", oneLine(errors.New(strings.SplitN(err.Error(), "\n", 2)[0])))
}

func (js *interpreter) run(ctx context.Context, code string) (outcome, error) {
	v, err := js.eval(ctx, code, evalGlobal|evalBacktrace|evalAsync)
	if err == nil && tag(v) != tagException {
		v, err = js.call(ctx, "js_std_await", js.context, v)
	}
	if err != nil {
		return outcome{}, err
	}
	if tag(v) == tagException {
		return js.thrown(ctx)
	}
	field, err := js.text(ctx, "value")
	if err == nil {
		v, err = js.call(ctx, "JS_GetPropertyStr", js.context, v, field)
	}
	if err != nil {
		return outcome{}, err
	}
	// What timers and promises still want to do is part of the call.
	if n, err := js.call(ctx, "js_std_loop", js.context); err != nil {
		return outcome{}, err
	} else if n != 0 {
		return js.thrown(ctx)
	}
	return js.value(ctx, v)
}

// value is the last value: JSON of objects and strings where they have it, else as
// String makes it.
func (js *interpreter) value(ctx context.Context, v uint64) (outcome, error) {
	switch tag(v) {
	case tagException:
		return js.thrown(ctx)
	case tagUndefined:
		return outcome{}, nil
	case tagObject, tagString, tagRope:
		const undefined = tagUndefined << 32
		j, err := js.call(ctx, "JS_JSONStringify", js.context, v, undefined, undefined)
		switch {
		case err != nil:
			return outcome{}, err
		case tag(j) == tagException: // of a circle
			if _, err := js.call(ctx, "JS_GetException", js.context); err != nil {
				return outcome{}, err
			}
		case tag(j) != tagUndefined: // as it is of a function
			v = j
		}
	}
	s, err := js.show(ctx, v)
	if s == "" {
		return outcome{}, err // a symbol
	}
	return outcome{value: []byte(s)}, err
}

// thrown is the exception that is pending, its message last.
func (js *interpreter) thrown(ctx context.Context) (outcome, error) {
	e, err := js.call(ctx, "JS_GetException", js.context)
	if err != nil {
		return outcome{}, err
	}
	message, err := js.show(ctx, e)
	if err != nil {
		return outcome{}, err
	}
	stack := ""
	if field, err := js.text(ctx, "stack"); err == nil && tag(e) == tagObject {
		if s, err := js.call(ctx, "JS_GetPropertyStr", js.context, e, field); err == nil && tag(s) != tagUndefined && tag(s) != tagException {
			if stack, err = js.show(ctx, s); err != nil {
				return outcome{}, err
			}
		}
	}
	if message == "" {
		message = "an exception that cannot be shown"
	}
	return failed("%s%s", stack, message), nil
}
