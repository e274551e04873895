package main

import (
	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
)

func (a *app) stopCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "stop [SESSION | --all]",
		Short: "The kill switch: end a session, or every call and sandbox of your servers",
		Args:  cobra.MaximumNArgs(1),
		RunE: runs(func(c *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return invalid("stop", "casemate stop SESSION, or casemate stop --all", "name one session, or --all")
			}
			in := stopBody{All: all}
			if !all {
				in.Session = casemate.SessionID(args[0])
			}
			stopped := 0
			n, err := ask(c.Context(), opStop, in, func(_ int, out stoppedBody) { stopped += out.Stopped })
			if err != nil {
				return err
			}
			if !all && stopped == 0 {
				return invalid("stop", "casemate pool lists what is busy", "no server has a session %q", args[0])
			}
			if a.console.json {
				return a.object(struct {
					Servers int `json:"servers"`
					Stopped int `json:"stopped"`
				}{n, stopped})
			}
			return a.line("stopped %s on %s", plural(stopped, "sandbox"), plural(n, "server"))
		}),
	}
	c.Flags().BoolVar(&all, "all", false, "everything that is running")
	return c
}
