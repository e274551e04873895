package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/router"
)

func (a *app) whyCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "why TOOL [NAME=VALUE …] | why CALL",
		Short: "Say what would be decided and enforced, and why, without running; or what was",
		Args:  cobra.MinimumNArgs(1),
		RunE: runs(func(c *cobra.Command, args []string) error {
			if strings.HasPrefix(args[0], "c_") && len(args) == 1 && file == "" {
				return a.whyCall(args[0])
			}
			l, err := a.load()
			if err != nil {
				return err
			}
			t, err := a.toolOf(c.Context(), l, args[0])
			if err != nil {
				return err
			}
			in, err := arguments(t, args[1:], file, c.InOrStdin())
			if err != nil {
				return err
			}
			s, err := a.seer(c.Context(), l)
			if err != nil {
				return err
			}
			w, err := a.ponder(c.Context(), l, t, in)
			if err != nil {
				return err
			}
			s.show(w, t)
			return a.why(w)
		}),
	}
	c.Flags().StringVar(&file, "args", "", "take the arguments, a JSON object, from `FILE` (- is standard input)")
	return c
}

// ponder asks a router of that tool alone; what cannot be had here is an answer,
// too.
func (a *app) ponder(ctx context.Context, l *loaded, t *casemate.Tool, in []byte) (*router.Why, error) {
	h, err := a.start(ctx, l, startOptions{only: t.Name, pool: pool.Limits{Max: -1}})
	if casemate.KindOf(err) == casemate.Unsupported {
		return &router.Why{Tool: t.Name, Decision: &casemate.Decision{Effect: "deny", Reasons: []string{err.Error()}}, Error: casemate.JSON(err)}, nil
	}
	if err != nil {
		return nil, err
	}
	defer h.kill()
	w := &router.Why{}
	return w, h.ctl.do(ctx, opWhy, callBody{Tool: t.Name, Arguments: in}, w)
}

// A seer knows what every backend can do on this host.
type seer map[string]casemate.Capabilities

func (a *app) seer(ctx context.Context, l *loaded) (seer, error) {
	init, err := initPath()
	if err != nil {
		return nil, err
	}
	defer a.progress("the host is probed")()
	b := a.backends(init, l)
	b.all(ctx)
	return b.caps, nil
}

// show adds to w why t has its backend, and what the others lack.
func (s seer) show(w *router.Why, t *casemate.Tool) {
	c := router.Choose(t, s)
	w.Choice = &c
	if got, ok := s[w.Backend]; ok {
		w.Controls = got.Controls
	}
	if w.Backend == "wasm" { // its worker stands in a sandbox of process, and has what that has
		w.Controls = slices.Concat(w.Controls, s["process"].Controls)
	}
}

// alternatives are what a choice was made among, one line each.
func alternatives(c *router.Choice) (out []string) {
	if c == nil {
		return nil
	}
	for _, o := range c.Others {
		switch {
		case len(o.Lacks) > 0:
			out = append(out, o.Backend+" lacks "+strings.Join(o.Lacks, "; "))
		case o.Untried:
			out = append(out, o.Backend+" was not tried")
		default:
			out = append(out, o.Backend+" would do as well")
		}
	}
	return out
}

// why prints a decision; its exit status is that of the call.
func (a *app) why(w *router.Why) error {
	if a.console.json {
		if err := a.object(w); err != nil {
			return err
		}
	} else {
		lines := []string{string(w.Tool) + ": would be refused"}
		if w.Decision != nil {
			lines[0] = string(w.Tool) + ": " + w.Decision.Effect
			for _, r := range w.Decision.Reasons {
				lines = append(lines, "  because "+escapeLine(r))
			}
		}
		if w.Backend != "" {
			line := "  backend " + w.Backend
			if w.Choice != nil && w.Choice.Reason != "" {
				line += ": " + w.Choice.Reason
			}
			lines = append(lines, line)
		}
		for _, s := range alternatives(w.Choice) {
			lines = append(lines, "    "+escapeLine(s))
		}
		for _, s := range describe(w.Security) {
			lines = append(lines, "  "+escapeLine(s))
		}
		if s := controls(w.Controls); s != "" {
			lines = append(lines, "  enforced: "+s)
		}
		if err := a.line("%s", strings.Join(lines, "\n")); err != nil {
			return err
		}
	}
	if w.Error != nil {
		a.complain(w.Error)
		return status(w.Error.Kind.ExitStatus())
	}
	return nil
}

// whyCall prints the record of a call.
func (a *app) whyCall(id string) error {
	r, err := a.outcome(id)
	if err != nil {
		return err
	}
	if a.console.json {
		return a.object(r)
	}
	lines := []string{summary(r)}
	if r.Decision != nil {
		lines = append(lines, "  "+escapeLine(r.Decision.Effect))
		for _, x := range r.Decision.Reasons {
			lines = append(lines, "  because "+escapeLine(x))
		}
	}
	if r.Enforced != nil {
		for _, s := range enforced(r.Backend, r.Enforced) {
			lines = append(lines, "  "+s)
		}
	}
	if r.Error != nil && r.Error.Kind != casemate.ToolFailed && r.Error.Fix != "" {
		lines = append(lines, "  fix: "+escapeLine(r.Error.Fix))
	}
	return a.line("%s", strings.Join(lines, "\n"))
}
