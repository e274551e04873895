package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/bench"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/sandbox/process"
)

// benchOurs is the process backend in this process: a spawner with the tools
// of a configuration, and no router before it.
type benchOurs struct {
	place   *benchPlace
	spawner *process.Spawner
	backend *process.Backend
	tools   map[casemate.ToolName]*casemate.Tool
	guests  map[casemate.ToolName]plan.Guest
	refused map[casemate.ToolName]*casemate.ErrorJSON
}

// The tools by which subjects know what to start.
const (
	toolTrue       = "true"
	toolStatic     = "static"
	toolReader     = "reader"
	toolShell      = "shell"
	toolPython     = "python"
	toolPythonCold = "python_cold"
	toolNode       = "node"
)

// direct is the name of its configuration, in the place.
const direct = "direct"

func newBenchOurs(ctx context.Context, a *app, p *benchPlace) (*benchOurs, error) {
	systemTrue, err := exec.LookPath("true")
	if err != nil {
		return nil, err
	}
	tools := []string{
		benchTool(toolTrue, fmt.Sprintf("{exec: {command: [%q]}}", systemTrue), "", ""),
		benchTool(toolShell, "{shell: {}}", "command", ""),
		"  - name: reader\n    run: {builtin: read_file}\n    security: {filesystem: [{path: ./grant, at: /grant, access: read}]}\n",
		benchPython(toolPython), benchTool(toolPythonCold, "{python: {fork: false}}", "code", ""),
		benchTool(toolNode, "{node: {}}", "code", ""),
	}
	if p.static != "" {
		tools = append(tools, benchTool(toolStatic, fmt.Sprintf("{exec: {command: [%q, \"true\"]}}", p.static), "", ""))
	}
	walls, err := p.wallTools(systemTrue)
	if err != nil {
		return nil, err
	}
	if _, err := p.configure(direct, "", append(tools, walls...)...); err != nil {
		return nil, err
	}
	return openBenchOurs(ctx, a, p)
}

// openBenchOurs is for a place that is configured already.
func openBenchOurs(ctx context.Context, a *app, p *benchPlace) (*benchOurs, error) {
	l, err := p.own(a, p.path(direct+".yaml"))
	if err != nil {
		return nil, err
	}
	c, err := a.compile(ctx, l, p.init, "")
	if err != nil {
		return nil, err
	}
	o := &benchOurs{place: p, tools: map[casemate.ToolName]*casemate.Tool{}, guests: map[casemate.ToolName]plan.Guest{}, refused: c.serves.Refused}
	for _, t := range c.serves.Tools {
		o.tools[t.Name] = t
		for _, g := range c.plan.Guests {
			if g.Digest == string(t.Guest()) {
				o.guests[t.Name] = g
			}
		}
	}
	if o.spawner, err = process.StartSpawner(p.init, &c.plan); err != nil {
		return nil, err
	}
	o.backend = process.New(o.spawner.Router)
	return o, nil
}

func (o *benchOurs) close() {
	o.backend.Close()
	o.spawner.Close()
}

// start returns a guest that waits.
func (o *benchOurs) start(ctx context.Context, name casemate.ToolName) (casemate.Sandbox, error) {
	if e := o.refused[name]; e != nil {
		return nil, remote(e)
	}
	sb, err := o.backend.Start(ctx, casemate.Spec{Tool: o.tools[name]})
	if err != nil {
		return nil, err
	}
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		sb.Close()
		return nil, fmt.Errorf("the guest is not ready: %q, %w", f.Type, err)
	}
	return sb, nil
}

// askGuest calls a guest that waits. It returns when the guest has answered the
// first byte, where first is set, and else when it is done; said is what it
// printed.
func askGuest(sb casemate.Sandbox, first bool, pairs ...guest.Pair) (said []byte, err error) {
	if err := guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, pairs)}); err != nil {
		return nil, err
	}
	for {
		f, err := guest.Read(sb.Guest(), guest.MaxReply)
		switch {
		case err != nil:
			return said, err
		case f.Type == guest.Failure:
			return said, errors.New(string(f.Body))
		case f.Type == guest.Done:
			if !bytes.Equal(f.Body, make([]byte, 4)) {
				return said, fmt.Errorf("it ended with %x", f.Body)
			}
			return said, nil
		case f.Type == guest.Stdout:
			said = append(said, f.Body...)
		}
		if first {
			return said, nil
		}
	}
}

// A benchCall is one call of one of the tools.
type benchCall struct {
	tool  casemate.ToolName
	pairs []guest.Pair
	first bool
	want  string // that it prints
}

var (
	pythonPairs = []guest.Pair{{Key: "code", Value: pythonCode}}
	nodePairs   = []guest.Pair{{Key: "code", Value: "console.log(6*7)"}}
	readPairs   = []guest.Pair{{Key: "path", Value: "/grant/a"}}
)

func (c benchCall) do(sb casemate.Sandbox) error {
	said, err := askGuest(sb, c.first, c.pairs...)
	if err == nil && string(said) != c.want {
		err = fmt.Errorf("it printed %.100q", said)
	}
	return err
}

// cold is a start and a call; the end of the sandbox is not counted unless
// gone is set.
func (o *benchOurs) cold(c benchCall, gone bool) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		sb, err := o.start(ctx, c.tool)
		if err != nil {
			return 0, err
		}
		err = c.do(sb)
		took := time.Since(began)
		sb.Close()
		if gone {
			took = time.Since(began)
		}
		return took, err
	}
}

// pooled is a call of a guest that waits.
func (o *benchOurs) pooled(c benchCall) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		sb, err := o.start(ctx, c.tool)
		if err != nil {
			return 0, err
		}
		defer sb.Close()
		began := time.Now()
		err = c.do(sb)
		return time.Since(began), err
	}
}

// subjects are ours that need no router.
func (o *benchOurs) subjects() []bench.Subject {
	isTrue := benchCall{tool: toolTrue}
	isPython := benchCall{tool: toolPython, pairs: pythonPairs, want: pythonPrints}
	isPythonCold := benchCall{tool: toolPythonCold, pairs: pythonPairs, want: pythonPrints}
	isNode := benchCall{tool: toolNode, pairs: nodePairs, want: pythonPrints}
	out := []bench.Subject{
		{Name: "process/cold", Payload: payloadTrue, Run: o.cold(isTrue, false)},
		{Name: "process/cold, gone", Payload: payloadTrue, Note: "and every process, mount and namespace of it is gone", Run: o.cold(isTrue, true)},
		{Name: "process/pooled", Payload: payloadByte, Note: "of a guest whose runner waits: a built-in tool that reads a file", Run: o.pooled(benchCall{tool: toolReader, pairs: readPairs, first: true, want: "alpha"})},
		{Name: "process/pooled", Payload: payloadTrue, Run: o.pooled(isTrue)},
		{Name: "process/forked", Payload: payloadPython, Note: "forked for the call", Run: o.cold(isPython, false)},
		{Name: "process/pooled", Payload: payloadPython, Note: "forked ahead", Run: o.pooled(isPython)},
		{Name: "process/cold", Payload: payloadPython, Note: "fork: false", Run: o.cold(isPythonCold, false)},
		{Name: "process/cold", Payload: "node", Run: o.cold(isNode, false)},
		{Name: "process/pooled", Payload: "node", Run: o.pooled(isNode)},
	}
	if o.place.static != "" {
		isStatic := benchCall{tool: toolStatic}
		out = append(out,
			bench.Subject{Name: "process/cold", Payload: payloadStatic, Run: o.cold(isStatic, false)},
			bench.Subject{Name: "process/pooled", Payload: payloadStatic, Run: o.pooled(isStatic)})
	}
	return out
}
