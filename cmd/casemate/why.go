package main

import (
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
			h, err := a.start(c.Context(), l, startOptions{only: t.Name, pool: pool.Limits{Max: -1}})
			if err != nil {
				return err
			}
			defer h.kill()
			var w router.Why
			if err := h.ctl.do(c.Context(), opWhy, callBody{Tool: t.Name, Arguments: in}, &w); err != nil {
				return err
			}
			return a.why(&w)
		}),
	}
	c.Flags().StringVar(&file, "args", "", "take the arguments, a JSON object, from `FILE` (- is standard input)")
	return c
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
			lines = append(lines, "  backend "+w.Backend)
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
