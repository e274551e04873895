package main

import (
	"cmp"
	"context"
	"path/filepath"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/router"
	"github.com/casemate/casemate/sandbox/process"
)

// alone runs one tool without arguments, once, as the guest of a spawner and a
// router of its own, which keep their records in the file of that name. An
// error means that it was not asked; what it came to is in the outcome.
func (a *app) alone(ctx context.Context, init string, l *loaded, t *casemate.Tool, g plan.Guest, records string) (*casemate.Outcome, error) {
	return a.aloneWith(ctx, init, l, t, g, records, []byte("{}"))
}

// aloneWith is alone with arguments.
func (a *app) aloneWith(ctx context.Context, init string, l *loaded, t *casemate.Tool, g plan.Guest, records string, arguments []byte) (*casemate.Outcome, error) {
	h, err := startHost(hostOptions{
		init: init, console: a.console,
		compiled: &compiled{
			plan: plan.Plan{
				Host:   plan.Host{Records: filepath.Join(l.state, records), Store: filepath.Join(l.state, "store"), AllowDegraded: l.Host.AllowDegraded, Without: a.without},
				Guests: []plan.Guest{g},
			},
			serves: reloadBody{Tools: []*casemate.Tool{t}, Chosen: map[casemate.Digest]router.Choice{t.Guest(): {Backend: cmp.Or(g.Backend, process.Name)}}},
			output: t.Security.Output,
		},
		settings: settings{Pool: pool.Limits{Max: -1}},
	})
	if err != nil {
		return nil, err
	}
	defer h.kill()
	o := &casemate.Outcome{}
	if err := h.ctl.do(ctx, opCall, callBody{Tool: t.Name, Arguments: arguments}, o); err != nil {
		return nil, err
	}
	return o, nil
}
