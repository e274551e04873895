package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/sandbox/process"
)

func (a *app) undoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "undo CALL",
		Short: "Take back what a call wrote to the host, where nothing was changed since",
		Args:  cobra.ExactArgs(1),
		RunE: runs(func(_ *cobra.Command, args []string) error {
			r, err := a.outcome(args[0])
			if err != nil {
				return err
			}
			if len(r.Changes) == 0 {
				return invalid("undo", "casemate log shows which calls changed something", "call %s changed nothing on the host", r.Call)
			}
			state, err := a.stateOf()
			if err != nil {
				return err
			}
			init, err := initPath()
			if err != nil {
				return err
			}
			// A spawner without tools: it knows where the former versions lie.
			s, err := process.StartSpawner(init, &plan.Plan{Host: plan.Host{Records: recordFile(state), Store: filepath.Join(state, "store")}})
			if err != nil {
				return err
			}
			defer s.Close()
			done, err := s.Undo(r.Call)
			if err != nil {
				return err
			}
			if err := a.changes(r, done); err != nil {
				return err
			}
			for _, c := range done {
				if c.Did == "held" || c.Did == "conflict" {
					return status(1) // said above: not everything could be taken back
				}
			}
			return nil
		}),
	}
}
