package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/attack"
)

// A probeSite is one backend under attack: a place with victims, and a
// casemate serve whose tools are all of that backend.
type probeSite struct {
	app      *app
	place    *demoPlace
	backend  string
	net      *probeNet
	planner  *demoPlanner
	enforced *casemate.Enforced // of an honest call
	degraded []string           // controls that the host does not give
	without  []string           // walls taken away
	spaces   []string           // namespaces of this process
	absent   string             // why no sandbox of this backend can be made here
}

// openSite makes the place and finds out what of the backend there is here.
// The first error is the probe's; a backend that is not there is none.
func (a *app) openSite(ctx context.Context, backend string, without []string, net *probeNet) (*probeSite, error) {
	place, err := newDemoPlace(without)
	if err != nil {
		return nil, err
	}
	s := &probeSite{app: a, place: place, backend: backend, without: without, net: net, spaces: attack.Spaces()}
	if err := s.settle(ctx); err != nil {
		return nil, errors.Join(err, place.remove())
	}
	if s.absent != "" {
		return s, nil
	}
	if s.planner, err = place.planner(ctx, "probe"); err != nil {
		return nil, errors.Join(err, place.remove())
	}
	return s, nil
}

func (s *probeSite) close() error {
	if s.planner != nil {
		s.planner.close()
	}
	return s.place.remove()
}

// settle writes the configuration that this host can enforce, or says why it
// can enforce none.
func (s *probeSite) settle(ctx context.Context) error {
	if err := s.victims(); err != nil {
		return err
	}
	for _, degraded := range [][]string{nil, withheld} {
		if err := s.configure(degraded); err != nil {
			return err
		}
		e, err := s.honest(ctx)
		if err != nil {
			return err
		}
		if e == nil {
			s.degraded, s.absent = degraded, ""
			return nil
		}
		if s.absent = e.Message; e.Fix != "" {
			s.absent += " (" + e.Fix + ")"
		}
		if e.Kind != casemate.Unsupported && e.Kind != casemate.Invalid {
			return &casemate.Error{Op: "probe", Kind: e.Kind, Err: fmt.Errorf("%s: %s", s.backend, e.Message), Fix: e.Fix}
		}
	}
	return nil
}

// honest makes one call that attacks nothing.
func (s *probeSite) honest(ctx context.Context) (*casemate.ErrorJSON, error) {
	args := []string{"call", "--json", "attacker", "do=" + s.batch([]string{"sleep", "0"})}
	if s.backend == "wasm" {
		args = []string{"call", "--json", "random"}
	}
	cmd := s.place.command(ctx, args...)
	out, err := cmd.Output()
	var o struct {
		Backend  string              `json:"backend"`
		Error    *casemate.ErrorJSON `json:"error"`
		Enforced *casemate.Enforced  `json:"enforced"`
	}
	if jerr := json.Unmarshal(out, &o); jerr != nil {
		said := ""
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			said = short(string(e.Stderr))
		}
		return nil, &casemate.Error{Op: "probe", Kind: casemate.Internal, Err: fmt.Errorf("casemate call: %w; it said %q and %q", errors.Join(err, jerr), short(string(out)), said)}
	}
	if o.Error == nil && err != nil {
		return &casemate.ErrorJSON{Kind: casemate.Unsupported, Message: "the attacker's program does not run in it: " + short(string(out))}, nil
	}
	if o.Error == nil && o.Backend != s.backend {
		return nil, &casemate.Error{Op: "probe", Kind: casemate.Internal, Err: fmt.Errorf("a tool with isolation: %s ran on %s", s.backend, o.Backend)}
	}
	s.enforced = o.Enforced
	return o.Error, nil
}

// batch is the argument of a call that makes these attempts.
func (s *probeSite) batch(do ...[]string) string {
	b, err := json.Marshal(attack.Batch{Spaces: s.spaces, Do: do})
	if err != nil {
		bug(err.Error())
	}
	return string(b)
}

// call makes attempts by a tool, and returns the outcomes that came and the
// whole answer: a bomb's ends before it said anything.
func (s *probeSite) call(ctx context.Context, tool string, do ...[]string) ([]attack.Outcome, answer, error) {
	a, err := s.planner.call(ctx, tool, map[string]any{"do": s.batch(do...)})
	if err != nil {
		return nil, a, err
	}
	var out []attack.Outcome
	for line := range strings.Lines(a.text) {
		var o attack.Outcome
		if json.Unmarshal([]byte(line), &o) == nil && o.Tried != "" {
			out = append(out, o)
		}
	}
	return out, a, nil
}

// try makes attempts of which each must say what came of it; without that the
// row has no verdict, and ok is false.
func (s *probeSite) try(ctx context.Context, r *attackRow, tool string, do ...[]string) (out []attack.Outcome, ok bool) {
	out, a, err := s.call(ctx, tool, do...)
	return out, r.whole(len(out), len(do), a, err)
}

// whole says whether all attempts were made.
func (r *attackRow) whole(made, asked int, a answer, err error) bool {
	switch {
	case err != nil:
		r.failed("%v", err)
	case made != asked:
		r.failed("%d of %d attempts were made; the tool answered %q", made, asked, short(a.text))
	default:
		return true
	}
	return false
}

// one makes one attempt.
func (s *probeSite) one(ctx context.Context, r *attackRow, tool string, do ...string) (attack.Outcome, bool) {
	out, ok := s.try(ctx, r, tool, do)
	if !ok {
		return attack.Outcome{}, false
	}
	return out[0], true
}

// none makes attempts none of which may get through by their own account.
func (s *probeSite) none(ctx context.Context, r *attackRow, tool string, do ...[]string) {
	out, a, err := s.call(ctx, tool, do...)
	through, said := sum(out)
	if through > 0 { // whatever became of the others: one may have ended the attacker
		r.judge(true, "%s", said)
		return
	}
	if !r.whole(len(out), len(do), a, err) {
		return
	}
	for _, o := range out {
		if strings.HasPrefix(o.Got, attack.NotMade) {
			r.failed("%s: %s", o.Tried, o.Got)
			return
		}
	}
	r.judge(false, "%s", said)
}

// sum counts what got through, and says what did, or how the first was held.
func sum(out []attack.Outcome) (through int, said string) {
	var got []string
	for _, o := range out {
		if o.Through {
			got = append(got, short(o.Tried+": "+o.Got))
		}
	}
	if len(got) > 0 {
		return len(got), fmt.Sprintf("%d of %d got through: %s", len(got), len(out), strings.Join(got[:min(len(got), 5)], "; "))
	}
	return 0, fmt.Sprintf("%s refused, such as %s", plural(len(out), "attempt"), short(out[0].Tried+": "+out[0].Got))
}

// words splits attempts at their spaces.
func words(tries ...string) (do [][]string) {
	for _, t := range tries {
		do = append(do, strings.Fields(t))
	}
	return do
}

// victims makes what only the probe needs beside the demo's.
func (s *probeSite) victims() error {
	for name, text := range map[string]string{"shared-evil/secret": canary, "empty/.keep": "", "project/keep": "k"} {
		name = s.place.path(name)
		if err := os.MkdirAll(strings.TrimSuffix(name, name[strings.LastIndexByte(name, '/'):]), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, k := range []string{"BASH_ENV", "PYTHONSTARTUP", "NODE_OPTIONS", "GIT_SSH_COMMAND", "PAGER", "PROMPT_COMMAND"} {
		s.place.env = append(s.place.env, k+"=/nonexistent/"+canary)
	}
	for _, k := range []string{"CASEMATE_RUNSC", "XDG_CACHE_HOME"} { // where runtimes are looked for
		if v, ok := os.LookupEnv(k); ok {
			s.place.env = append(s.place.env, k+"="+v)
		}
	}
	return nil
}

// The limits of the tools under attack; small, so that bombs are soon over.
const (
	probeMemory    = 128 << 20
	probeDisk      = 8 << 20
	probeProcesses = 40
	probeOutput    = 64 << 10
)

// configure writes the configuration: one program with the attacker's grants,
// and the same with others beside them.
func (s *probeSite) configure(degraded []string) error {
	var b strings.Builder
	b.WriteString("version: 1\n")
	if len(degraded) > 0 {
		fmt.Fprintf(&b, "host: {allow_degraded: [%s]}\n", strings.Join(degraded, ", "))
	}
	b.WriteString("tools:\n")
	if s.backend == "wasm" {
		if err := s.configureWasm(&b); err != nil {
			return err
		}
		return os.WriteFile(s.place.path("casemate.yaml"), []byte(b.String()), 0o644)
	}
	limits := fmt.Sprintf("isolation: %s, network: none, memory: %d, disk: %d, processes: %d, output: %d, timeout: 20s", s.backend, probeMemory, probeDisk, probeProcesses, probeOutput)
	program := fmt.Sprintf("{path: %q, at: %s, access: read, execute: true}", s.place.self, attackerAt)
	tool := func(name, mounts string) {
		fmt.Fprintf(&b, `  - name: %s
    description: Attack from inside.
    parameters: {type: object, properties: {do: {type: string}}, required: [do], additionalProperties: false}
    run: {exec: {command: [%s, attacker, "-"], stdin: "{do}"}}
    security: {%s, filesystem: [%s%s]}
`, name, attackerAt, limits, program, mounts)
	}
	tool("attacker", "")
	tool("workshop", ", {path: ./project, at: /work, access: write}")
	tool("reader", ", {path: ./shared, at: /shared, access: read}")
	fmt.Fprintf(&b, `  - name: python
    description: Attack from inside an interpreter.
    parameters: {type: object, properties: {code: {type: string}}, required: [code], additionalProperties: false}
    run: {python: {}}
    security: {isolation: %s, timeout: 20s}
`, s.backend)
	return os.WriteFile(s.place.path("casemate.yaml"), []byte(b.String()), 0o644)
}
