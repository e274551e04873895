package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
)

// outcome returns the record of what became of a call.
func (a *app) outcome(id string) (*casemate.Receipt, error) {
	state, err := a.stateOf()
	if err != nil {
		return nil, err
	}
	var found, intent *casemate.Receipt
	err = records(recordFile(state), func(_ []byte, r *casemate.Receipt) error {
		if string(r.Call) != id {
			return nil
		}
		if r.Event == "intent" {
			intent = r
			return nil
		}
		found = r
		return io.EOF
	}, func(int) {})
	switch {
	case err != nil:
		return nil, err
	case found != nil:
		return found, nil
	case intent != nil:
		return nil, invalid("record", "wait until it is over", "call %s has no outcome yet", id)
	}
	return nil, invalid("record", "casemate log lists the calls", "there is no call %q", id)
}

// changesBody is what diff and undo print with --json.
type changesBody struct {
	Call    casemate.CallID   `json:"call"`
	Tool    casemate.ToolName `json:"tool"`
	Changes []casemate.Change `json:"changes"`
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff CALL",
		Short: "Show what a call wrote to the host, and what was held back",
		Args:  cobra.ExactArgs(1),
		RunE: runs(func(_ *cobra.Command, args []string) error {
			r, err := a.outcome(args[0])
			if err != nil {
				return err
			}
			return a.changes(r, r.Changes)
		}),
	}
}

// changes prints what was done to the host's files.
func (a *app) changes(r *casemate.Receipt, cs []casemate.Change) error {
	if a.console.json {
		if cs == nil {
			cs = []casemate.Change{}
		}
		return a.object(changesBody{r.Call, r.Tool, cs})
	}
	if len(cs) == 0 {
		return a.line("call %s changed nothing on the host", r.Call)
	}
	for _, c := range cs {
		path := c.Host
		if path == "" {
			path = c.Path
		}
		s := c.Did + "  " + escapeLine(path)
		if c.Why != "" {
			s += "  (" + escapeLine(c.Why) + ")"
		}
		if c.Kept != "" {
			s += "  its version lies in " + escapeLine(c.Kept)
		}
		if err := a.line("%s", s); err != nil {
			return err
		}
	}
	return nil
}
