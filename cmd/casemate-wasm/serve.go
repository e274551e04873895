package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/wasm"
)

// A worker answers the calls of one guest, one at a time.
type worker struct {
	pipe    io.ReadWriter
	guest   plan.Guest
	program *program
	files   *grants
	next    *interpreter // of JavaScript: the next call's, or nil
}

// An outcome is what a call came to.
type outcome struct {
	value  []byte // of a function or JavaScript; nil is none
	why    string // why it failed, where its exit status does not say it
	status uint32
}

func failed(format string, a ...any) outcome {
	return outcome{why: fmt.Sprintf(format, a...), status: 1}
}

// run serves the guest that b describes until the connection ends.
func run(pipe io.ReadWriter, b []byte) error {
	g, err := wasm.DecodeGuest(b)
	if err != nil {
		return err
	}
	ctx := experimental.WithMemoryAllocator(context.Background(), experimental.MemoryAllocatorFunc(reserve))
	w := &worker{pipe: pipe, guest: g, files: &grants{}}
	module, err := moduleOf(g.Runner, wasm.ModulePath)
	if err != nil {
		return err
	}
	if w.program, err = openFrom(ctx, module, wasm.Pages(g.Memory), filepath.Join(wasm.ModulePath, wasm.CacheFolder)); err != nil {
		return err
	}
	if g.Runner == wasm.RunnerJS {
		w.next, err = w.interpreter(ctx) // it is there when the call comes
	} else if err = w.check(); err == nil {
		w.files, err = openGrants(g.Mounts, ownFolders())
	}
	if err != nil {
		return err
	}
	ready := []guest.Pair{{Key: "version", Value: strconv.Itoa(guest.Version)}, {Key: "runtime", Value: wasm.Engine}}
	if err := guest.Write(pipe, guest.Frame{Type: guest.Ready, Body: guest.AppendPairs(nil, ready)}); err != nil {
		return err
	}
	for {
		f, err := guest.Read(pipe, guest.MaxCall)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		args, err := guest.ParsePairs(f.Body)
		if err != nil {
			return err
		}
		if err := w.answer(f.Call, w.call(ctx, args)); err != nil {
			return err
		}
	}
}

// check says whether the module has what the guest is for.
func (w *worker) check() error {
	exports := w.program.module.ExportedFunctions()
	switch {
	case w.guest.Function != "":
		return checkFunction(w.program.module, w.guest.Function)
	case exports["_start"] == nil:
		return errors.New("it exports no _start, as a command of WASI does; name the function to call: run: {wasm: {function: …}}")
	}
	return nil
}

func (w *worker) call(ctx context.Context, args []guest.Pair) outcome {
	switch {
	case w.guest.Runner == wasm.RunnerJS:
		return w.script(ctx, args)
	case w.guest.Function != "":
		return w.function(ctx, args)
	}
	return w.command(ctx, args)
}

// answer sends what a call came to. A value that is longer than a frame is
// printed, and so counted, as output is.
func (w *worker) answer(call uint32, o outcome) error {
	var b []byte
	switch {
	case len(o.value) > guest.MaxReply:
		if _, err := os.Stdout.Write(append(o.value, '\n')); err != nil {
			return err
		}
	case o.value != nil:
		b = guest.Append(b, guest.Frame{Type: guest.Value, Call: call, Body: o.value})
	}
	if o.why != "" {
		why := o.why
		if len(why) > 64<<10 {
			why = why[:64<<10]
		}
		b = guest.Append(b, guest.Frame{Type: guest.Failure, Call: call, Body: []byte(why)})
	}
	b = guest.Append(b, guest.Frame{Type: guest.Done, Call: call, Body: binary.BigEndian.AppendUint32(nil, o.status)})
	_, err := w.pipe.Write(b)
	return err
}

// command runs _start of an instance of its own.
func (w *worker) command(ctx context.Context, args []guest.Pair) outcome {
	argv, err := fill(w.guest, args)
	if err != nil {
		return outcome{why: err.Error(), status: 2}
	}
	stdin := ""
	if w.guest.Stdin != "" {
		stdin, _ = guest.Get(args, w.guest.Stdin)
	}
	config := w.config(stdin, append([]string{wasm.ModuleFile}, argv...)).WithStartFunctions("_start")
	m, err := w.program.runtime.InstantiateModule(ctx, w.program.module, config)
	if m != nil {
		m.Close(ctx)
	}
	return ended(err)
}

// ended says what an error of an instance means: proc_exit is one.
func ended(err error) outcome {
	if err == nil {
		return outcome{}
	}
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		return outcome{status: exit.ExitCode() & 0xff}
	}
	return failed("%s", trap(err))
}

// trap says why an instance ended, and where: the engine's own words, in which
// the names of functions are the module's.
func trap(err error) string {
	lines := strings.Split(strings.ToValidUTF8(err.Error(), "\uFFFD"), "\n")
	if len(lines) > 40 {
		lines = append(lines[:40], "…")
	}
	// Whoever reads the last line alone learns the cause.
	first, rest := lines[0], strings.Join(lines[1:], "\n")
	if _, cause, ok := strings.Cut(first, "failed: "); ok {
		first = cause
	}
	if rest == "" {
		return "the module trapped: " + first
	}
	return rest + "\nthe module trapped: " + first
}

// fill fills the template of arguments, by the rules of an exec tool: an argument
// fills one whole element, one that is left out leaves its element out, and one
// that begins with "-" is refused unless the template has "--" before it or its
// role is option.
func fill(g plan.Guest, args []guest.Pair) ([]string, error) {
	var out []string
	ended := false
	for _, a := range g.Command {
		if a.Name == "" {
			ended = ended || a.Text == "--"
			out = append(out, a.Text)
			continue
		}
		v, ok := guest.Get(args, a.Name)
		switch {
		case !ok:
			continue
		case strings.IndexByte(v, 0) >= 0:
			return nil, fmt.Errorf("the argument %s holds a NUL byte, which no argument of a program can", a.Name)
		case strings.HasPrefix(v, "-") && !ended && !has(g.Options, a.Name):
			return nil, fmt.Errorf(`the argument %s begins with "-" and would be read as an option; put "--" before {%s} in the tool's args, or give it the role option`, a.Name, a.Name)
		}
		out = append(out, v)
	}
	return out, nil
}

func has(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}
