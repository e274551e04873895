package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/casemate/casemate"
)

// A demoWall is a backend beside process, and what the honest planner does with
// the one tool that stands behind it.
type demoWall struct {
	backend, task string
	tool          string // its name
	run           string // of its manifest
	argument      string // its only one, and the value that it gets
	value         string
	want          string // that the answer holds
}

// demoWalls differ from the shell of the demo in one word of the manifest; the
// last is JavaScript, for a module of WebAssembly starts no shell.
var demoWalls = [...]demoWall{
	{"oci", "compute in a container", "shell_oci", "{shell: {}}", "command", "echo $((6*7)); grep CapEff /proc/self/status", "42\nCapEff:\t0000000000000000"},
	{"gvisor", "compute on a kernel of its own", "shell_gvisor", "{shell: {}}", "command", "echo $((6*7)); cat /proc/version", "42\n"},
	{"wasm", "compute in WebAssembly, by JavaScript", "script_wasm", "{js: {}}", "code", "6 * 7", "42"},
}

// configure is its tool, as an operator would write it.
func (w demoWall) configure(limits string) string {
	return fmt.Sprintf("  - name: %s\n    description: Run a command or a script, isolated by %s.\n    parameters: {type: object, properties: {%s: {type: string}}, required: [%s], additionalProperties: false}\n    run: %s\n    security: {isolation: %s, %s}\n",
		w.tool, w.backend, w.argument, w.argument, w.run, w.backend, limits)
}

// behind runs the task of each wall. What this host does not have is said with
// the fix, and is no failure.
func (d *demo) behind(ctx context.Context, w demoWall) honestRow {
	row := honestRow{Task: w.task, Did: "isolation: " + w.backend, Verdict: verdictDone}
	o, err := d.outcome(ctx, w.tool, w.argument+"="+w.value)
	switch {
	case err != nil:
		row.Verdict, row.Evidence = verdictFailed, err.Error()
		return row
	case o.Error != nil && o.Error.Kind == casemate.Unsupported:
		row.Verdict, row.Evidence = verdictAbsent, o.Error.Message+"; "+o.Error.Fix
		return row
	case o.Error != nil:
		row.Verdict, row.Evidence = verdictFailed, o.Error.Message
		return row
	case o.Backend != w.backend || o.Enforced == nil || o.Enforced.Runtime == "":
		row.Verdict, row.Evidence = verdictFailed, fmt.Sprintf("the receipt says %q, %+v", o.Backend, o.Enforced)
		return row
	}
	said, err := d.do(ctx, step{w.tool, map[string]any{w.argument: w.value}, w.want})
	if row.Evidence = "the planner got " + short(strings.TrimSpace(said)) + "; the receipt says " + o.Enforced.Runtime; err != nil {
		row.Verdict, row.Evidence = verdictFailed, err.Error()
	}
	return row
}

// outcome makes one call by casemate call, which says what was enforced.
func (d *demo) outcome(ctx context.Context, tool, argument string) (o casemate.Outcome, err error) {
	cmd := d.place.command(ctx, "call", "--json", tool, argument)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.Run() // what failed is in what it printed
	if ctx.Err() != nil {
		return o, errors.New("it was interrupted")
	}
	if err := json.Unmarshal(out.Bytes(), &o); err != nil {
		return o, fmt.Errorf("casemate call said %s", strings.TrimSpace(said.String()))
	}
	return o, nil
}
