package main

import (
	"context"
	"slices"

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
	var once bool
	c := &cobra.Command{
		Use:   "pool",
		Short: "Show the parked and busy sandboxes of your servers",
		Long: `Show the parked and busy sandboxes of your servers, and what became of those
before: for each tool how many are parked of how many the demand asks for, how
many serve a call or a session, how many were claimed, started cold because
none was parked, refused because the pool was busy, and failed to start; and
the median and the 99th percentile of how long starts and claims took.

On a terminal it is drawn anew each second until q or Ctrl-C; elsewhere, and
with --once or --json, it is printed once.`,
		Args: noArgs,
		RunE: runs(func(c *cobra.Command, _ []string) error {
			if a.outTTY && !once && !a.console.json {
				return a.watchPool(c.Context())
			}
			return a.printPool(c.Context())
		}),
	}
	c.Flags().BoolVar(&once, "once", false, "print it once, on a terminal too")
	return c
}

// lookAtPools asks every server of the user.
func lookAtPools(ctx context.Context) (poolView, error) {
	v := poolView{pools: []poolRow{}, calls: []callRow{}}
	var err error
	v.servers, err = ask(ctx, opStatus, struct{}{}, func(pid int, s router.Status) {
		for _, p := range s.Pools {
			if p.ParkedPids == nil {
				p.ParkedPids = []int{}
			}
			v.pools = append(v.pools, poolRow{p, pid})
		}
		for _, x := range s.Calls {
			v.calls = append(v.calls, callRow{x, pid})
		}
	})
	slices.SortStableFunc(v.pools, func(a, b poolRow) int { return a.Server - b.Server })
	slices.SortStableFunc(v.calls, func(a, b callRow) int { return a.Since.Compare(b.Since) })
	return v, err
}

func (a *app) printPool(ctx context.Context) error {
	v, err := lookAtPools(ctx)
	if err != nil {
		return err
	}
	if a.console.json {
		return a.object(struct {
			Pools []poolRow `json:"pools"`
			Calls []callRow `json:"calls"`
		}{v.pools, v.calls})
	}
	if v.servers == 0 {
		return a.line(noServer)
	}
	s := sheet{bars: a.outTTY}
	if a.outTTY {
		s.width, _ = a.screen()
	}
	for _, l := range v.lines(s) {
		if err := a.line("%s", l); err != nil {
			return err
		}
	}
	return nil
}

const noServer = "no casemate serve of yours is running"
