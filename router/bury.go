package router

import (
	"github.com/casemate/casemate"
)

// maxEnding is how many guests may end at once behind the answers of their
// calls. Over it a call waits for its own, so that ending cannot fall behind.
const maxEnding = 32

// bury ends the call's guest and records the outcome with what the guest used,
// after the caller has its answer. Until that is recorded, the record has a
// call that began, as it has where a machine fails in between.
func (k *call) bury() {
	g, own, out := k.ending, *k, *k.out // what the caller gets is the caller's
	own.out = &out
	k.r.owned.Go(func() {
		k := &own
		defer func() { <-k.r.graves }()
		g.close()
		usage := *out.Usage
		if e, err := g.exit(); err == nil {
			u := casemate.Usage{CPU: e.Usage.CPU, Memory: e.Usage.Memory}.JSON()
			usage.CPUMS, usage.Memory = u.CPUMS, u.Memory
		}
		out.Usage = &usage
		rc, err := k.receipt("outcome", &out)
		if err != nil { // which of what was handed out is not to be
			rc.Output = ""
		}
		p, err := k.r.post(rc)
		if err != nil {
			p = &posted{Receipt: rc, appended: func() error { return err }}
		}
		k.r.owe(p)
	})
}
