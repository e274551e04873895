package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/bench"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/router"
	"github.com/casemate/casemate/sandbox/gvisor"
)

// payloadModule is a module of WebAssembly that ends at once.
const payloadModule = "module"

// aModule is the smallest command of WASI: a memory, and a _start that does
// nothing.
const aModule = "\x00asm\x01\x00\x00\x00" + // magic and version
	"\x01\x04\x01\x60\x00\x00" + // types: one function, of nothing to nothing
	"\x03\x02\x01\x00" + // functions: one of that type
	"\x05\x03\x01\x00\x01" + // memories: one of one page
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" + // exports
	"\x0a\x04\x01\x02\x00\x0b" // code: nothing

// A benchWall is a backend beside process. Its tools are those of process, with
// one word changed.
type benchWall struct {
	name  string
	peer  string // whose cold start is the floor; "" where there is none
	run   casemate.ToolName
	bytes casemate.ToolName // a built-in tool that reads a file; "" where it has none
}

var benchWalls = [...]benchWall{
	{"oci", "runc", "oci_true", "oci_reader"},
	{"gvisor", "runsc", "gvisor_true", "gvisor_reader"},
	{"wasm", "", "wasm_module", ""},
}

// wallTools are the tools of all of them, as an operator would write them.
func (p *benchPlace) wallTools(systemTrue string) ([]string, error) {
	var out []string
	for _, w := range benchWalls {
		security, run := "isolation: "+w.name, fmt.Sprintf("{exec: {command: [%q]}}", systemTrue)
		if w.bytes == "" {
			run = "{wasm: {module: ./true.wasm}}"
			if err := os.WriteFile(p.path("true.wasm"), []byte(aModule), 0o644); err != nil {
				return nil, err
			}
		} else {
			out = append(out, fmt.Sprintf("  - name: %s\n    run: {builtin: read_file}\n    security: {%s, filesystem: [{path: ./grant, at: /grant, access: read}]}\n", w.bytes, security))
		}
		out = append(out, benchTool(string(w.run), run, "", security))
	}
	return out, nil
}

// walls are the other backends: cold, parked, and through a router.
func (o *benchOurs) walls(wants func(string) bool) (out []bench.Subject, ends []func(), failed []bench.Failure) {
	for _, w := range benchWalls {
		if !wants(w.name) {
			continue
		}
		if e := o.refused[w.run]; e != nil {
			failed = append(failed, bench.Failure{Subject: w.name, Why: remote(e).Error() + " (" + e.Fix + ")"})
			continue
		}
		if got := o.guests[w.run].Backend; got != w.name {
			failed = append(failed, bench.Failure{Subject: w.name, Why: fmt.Sprintf("its tool was compiled for %q", got)})
			continue
		}
		payload, call := payloadTrue, benchCall{tool: w.run}
		if w.bytes == "" {
			payload = payloadModule
		} else {
			out = append(out, bench.Subject{Name: w.name + "/pooled", Payload: payloadByte, Note: "of a guest whose runner waits: a built-in tool that reads a file",
				Run: o.pooled(benchCall{tool: w.bytes, pairs: readPairs, first: true, want: "alpha"})})
		}
		routed, end, err := o.routed(w)
		if err != nil {
			failed = append(failed, bench.Failure{Subject: w.name + "/routed", Payload: payload, Why: err.Error()})
		} else {
			ends = append(ends, end)
			out = append(out, bench.Subject{Name: w.name + "/routed", Payload: payload, Note: "the whole call of a router whose pool has one that waits", Run: routed})
		}
		out = append(out, bench.Subject{Name: w.name + "/cold", Payload: payload, Run: o.cold(call, false)},
			bench.Subject{Name: w.name + "/pooled", Payload: payload, Run: o.pooled(call)})
	}
	return out, ends, failed
}

// routed is a call of a router that has one tool, and a sandbox of it parked.
func (o *benchOurs) routed(w benchWall) (func(context.Context) (time.Duration, error), func(), error) {
	t := o.tools[w.run]
	r, err := router.New(router.Config{Tools: []*casemate.Tool{t}, Backends: []casemate.Backend{o.backend.As(w.name)}, Recorder: instant{}, Pool: pool.Limits{Max: 1},
		Choose: func(*casemate.Tool) router.Choice { return router.Choice{Backend: w.name} }})
	if err != nil {
		return nil, nil, err
	}
	run := func(ctx context.Context) (time.Duration, error) {
		if err := parks(ctx, r); err != nil {
			return 0, err
		}
		began := time.Now()
		got := r.Call(ctx, casemate.Call{Tool: t.Name, Arguments: []byte("{}")})
		took := time.Since(began)
		if got.Error != nil {
			return 0, remote(got.Error)
		}
		return took, parks(ctx, r) // the next one is not made in another subject's turn
	}
	return run, func() { r.Shutdown(context.Background()) }, nil
}

// parks waits until a router has a sandbox parked.
func parks(ctx context.Context, r *router.Router) error {
	for waits := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		for _, p := range r.Status().Pools {
			switch {
			case p.Parked > 0:
				return nil
			case p.Error != "" && p.Starting == 0:
				return errors.New(p.Error)
			}
		}
		if time.Now().After(waits) || ctx.Err() != nil {
			return errors.New("nothing is parked")
		}
	}
}

// peerPath is where a peer is: runsc may be where Casemate finds it, and not on
// PATH.
func peerPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil && name == "runsc" {
		return gvisor.Look(os.Getenv, nil)
	}
	return path, err
}
