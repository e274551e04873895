package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host can enforce, what it cannot, and how to fix that",
		Long: `Say what this host can enforce, what it cannot, and how to fix that.

A sandbox of each backend is made, looked at from inside, and thrown away: every
line is what was found there. ✓ is on, ~ is less than it could be, ✗ is missing,
and a backend that misses something is not available.`,
		Args: noArgs,
		RunE: runs(func(c *cobra.Command, _ []string) error {
			defer a.progress("the host is probed")()
			init, err := initPath()
			if err != nil {
				return err
			}
			state, err := stateFolder("")
			if err != nil {
				return err
			}
			b := a.backends(init, &loaded{Config: &catalog.Config{}, state: state})
			b.afresh = true
			all := b.all(c.Context())
			if a.console.json {
				return a.object(struct {
					Backends []casemate.Capabilities `json:"backends"`
				}{all})
			}
			for _, b := range all {
				if err := a.capabilities(b); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// capabilities prints one backend as a table, and beneath it how to get what
// is missing; a fix that several controls share stands once.
func (a *app) capabilities(b casemate.Capabilities) error {
	state := "available"
	if !b.Available {
		state = "not available"
	}
	if b.Assurance != "" {
		state += ", assurance " + string(b.Assurance)
	}
	if err := a.line("backend %s: %s", b.Name, state); err != nil {
		return err
	}
	width := 0
	for _, c := range b.Controls {
		width = max(width, len(c.Name))
	}
	var fixes []string
	for _, c := range b.Controls {
		mark := map[string]string{"on": "✓", "degraded": "~"}[c.State]
		if mark == "" {
			mark = "✗"
		}
		s := "  " + mark + " " + c.Name + strings.Repeat(" ", width-len(c.Name)) + "  " + c.State
		if c.Why != "" {
			s += ": " + escapeLine(c.Why)
		}
		if err := a.line("%s", strings.TrimRight(s, " ")); err != nil {
			return err
		}
		if c.Fix != "" && c.State != "on" {
			fixes = append(fixes, c.Name+": "+c.Fix)
		}
	}
	seen := map[string]bool{}
	for _, f := range fixes {
		_, what, _ := strings.Cut(f, ": ")
		if seen[what] {
			continue
		}
		seen[what] = true
		if err := a.line("  fix %s", f); err != nil {
			return err
		}
	}
	return nil
}
