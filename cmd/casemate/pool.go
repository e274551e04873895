package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate/router"
)

// poolRow is one pool of one server.
type poolRow struct {
	router.PoolStatus
	Server int `json:"server"` // its process
}

// callRow is one call in flight on one server.
type callRow struct {
	router.CallStatus
	Server int `json:"server"`
}

func (a *app) poolCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pool",
		Short: "Show the parked and busy sandboxes of your servers",
		Args:  noArgs,
		RunE: runs(func(c *cobra.Command, _ []string) error {
			pools, calls := []poolRow{}, []callRow{}
			n, err := ask(c.Context(), opStatus, struct{}{}, func(pid int, s router.Status) {
				for _, p := range s.Pools {
					if p.ParkedPids == nil {
						p.ParkedPids = []int{}
					}
					pools = append(pools, poolRow{p, pid})
				}
				for _, x := range s.Calls {
					calls = append(calls, callRow{x, pid})
				}
			})
			if err != nil {
				return err
			}
			if a.console.json {
				return a.object(struct {
					Pools []poolRow `json:"pools"`
					Calls []callRow `json:"calls"`
				}{pools, calls})
			}
			if n == 0 {
				return a.line("no casemate serve of yours is running")
			}
			for _, p := range pools {
				s := fmt.Sprintf("%d  %s  %s  %d parked, %d busy", p.Server, p.Tool, p.Backend, p.Parked, p.Busy)
				if p.Error != "" {
					s += "  " + escapeLine(p.Error)
				}
				if err := a.line("%s", s); err != nil {
					return err
				}
			}
			for _, x := range calls {
				if err := a.line("%d  %s  %s  since %s", x.Server, x.Call, x.Tool, x.Since.Local().Format("15:04:05")); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}
