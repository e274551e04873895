package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/upstream"
)

// run has a slot, and the seat where the guest is a session's: it serves the
// call.
func (k *call) run(ctx context.Context) error {
	if err := k.recorded(); err != nil {
		return err
	}
	begin := time.Now()
	rp, g, err := k.serve(ctx)
	if g == nil {
		return k.named(err)
	}
	// From here on the guest is closed or, in its seat, kept.
	k.out.Enforced = k.enforced(g)
	usage := casemate.Usage{}
	if !rp.sent.IsZero() {
		usage.Claim = rp.sent.Sub(begin)
	}
	err = k.named(k.judge(g, rp, err))
	if rp.done && k.tool.writes {
		if cerr := k.commit(ctx, g); cerr != nil && (err == nil || casemate.KindOf(err) == casemate.ToolFailed) {
			err = cerr
		}
	}
	usage.Wall = time.Since(begin)
	switch {
	case k.seat == nil && rp.done && !k.Settle && try(k.r.graves):
		k.ending = g
	case k.seat == nil || !rp.done || ctx.Err() != nil:
		k.end(g)
		if k.seat != nil && rp.done {
			k.seat.lost = "a call was cancelled"
		}
		if e, werr := g.exit(); werr == nil {
			usage.CPU, usage.Memory = e.Usage.CPU, e.Usage.Memory
		}
	}
	res, rerr := k.result(rp)
	if rerr != nil && err == nil {
		err = k.named(rerr)
	}
	res.ExitCode = k.exitCode(rp, err)
	res.IsError = err != nil || res.ExitCode != nil && *res.ExitCode != 0
	label := g.label.Join(casemate.Label{Writers: []string{"tool:" + string(k.Tool)}})
	k.out.Result, k.out.Usage, k.out.Label = res, usage.JSON(), &label
	return err
}

// serve gets a guest and lets it serve the call. Where the error is not nil
// and there is a guest, judge knows what it means. A parked guest that turns
// out to be dead before it had the call is replaced, once, by one started
// cold for the same profile: the call ran nowhere.
func (k *call) serve(ctx context.Context) (*reply, *live, error) {
	if k.seat != nil && k.seat.guest == nil && k.seat.lost != "" {
		why := k.seat.lost
		k.seat.lost = ""
		return nil, nil, &casemate.Error{Op: "call", Kind: casemate.Gone, Err: fmt.Errorf("the state of its session is lost: %s", why), Fix: "call it again: the next call starts afresh"}
	}
	d := k.dispatch()
	for {
		g, warm, fresh, err := k.guest(ctx)
		if err != nil {
			return nil, nil, err
		}
		g.label = g.label.Join(k.Label)
		run, cancel := k.limited(ctx)
		run, fail := context.WithCancelCause(run)
		rp, err := g.exchange(run, d, failedBy(fail, k.Tool))
		if err != nil && run.Err() != nil {
			err = cancelled(run, k.Tool)
		}
		fail(nil)
		cancel()
		if errors.Is(err, errUnsent) && warm && fresh && ctx.Err() == nil {
			k.end(g)
			if k.seat != nil {
				k.seat.lost = "" // it never had any
			}
			continue
		}
		return rp, g, err
	}
}

// kind says how the sandbox that serves the call is made.
func (k *call) kind() *pool.Kind {
	if key := k.key(); key != k.tool.guest {
		return k.r.kind(k.tool, key, upstream.Options{})
	}
	return k.tool.kind
}

// limited is ctx for as long as the call may take: the profile's timeout, or
// the caller's own where that is shorter.
func (k *call) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	limit, fix := k.time(), "ask for less in one call, or raise timeout in the manifest"
	if limit < k.tool.profile.Timeout {
		fix = "ask for less in one call, or give it more time"
	}
	return context.WithTimeoutCause(ctx, limit, &casemate.Error{Op: "call", Kind: casemate.Timeout, Err: fmt.Errorf("its time of %s was over", limit), Fix: fix})
}

// guest returns the guest that serves the call: the one in its seat, or one
// that is parked or started.
func (k *call) guest(ctx context.Context) (g *live, warm, fresh bool, err error) {
	if k.seat == nil && len(k.Inputs) > 0 {
		g, err = k.given(ctx)
		k.unstarted = err != nil
		return g, false, true, err
	}
	if k.seat == nil {
		if g, warm, err = k.r.claim(ctx, k.Session, k.tool, k.kind()); err == nil {
			g, warm, err = k.narrowed(ctx, g, warm)
		}
		k.unstarted = err != nil
		return g, warm, true, err
	}
	if g := k.seat.guest; g != nil {
		if g.tool.digest == k.tool.digest && g.key == k.key() {
			return g, true, false, nil
		}
		k.r.empty(k.seat, "")
		return nil, false, false, &casemate.Error{Op: "call", Kind: casemate.Gone, Err: errors.New("the state of its session is lost: the tool was changed"), Fix: "call it again: the next call starts afresh"}
	}
	if err := k.r.place(k.tool); err != nil {
		return nil, false, false, err
	}
	g, warm, err = k.r.claim(ctx, k.Session, k.tool, k.kind())
	if k.unstarted = err != nil; err != nil {
		k.r.mu.Lock()
		k.r.seated--
		k.r.mu.Unlock()
		return nil, false, false, err
	}
	k.seat.guest = g
	return g, warm, true, nil
}

// end ends the guest, in its seat or not.
func (k *call) end(g *live) {
	if k.seat != nil && k.seat.guest == g {
		k.r.empty(k.seat, "")
		return
	}
	g.close()
}

// exit says how the guest's sandbox ended.
func (g *live) exit() (casemate.Exit, error) {
	ctx, cancel := context.WithTimeout(context.Background(), mourning)
	defer cancel()
	return g.sb.Wait(ctx)
}

// judge says what a conversation ended with, as an error of the call. A guest
// that is not done is dead when it returns.
func (k *call) judge(g *live, rp *reply, err error) error {
	fail := func(kind casemate.Kind, fix, format string, a ...any) error {
		return &casemate.Error{Op: "call", Kind: kind, Err: fmt.Errorf(format, a...), Fix: fix}
	}
	if err == nil {
		switch {
		case k.command() && k.Output != nil: // its exit status is the result
			return nil
		case rp.failed:
			return fail(casemate.ToolFailed, preloadFix(k.tool.Run, rp.failure), "%s", lastLine(rp.failure))
		case rp.status != 0:
			return fail(casemate.ToolFailed, "", "exit status %d", rp.status)
		}
		return nil
	}
	lost := ""
	if k.seat != nil {
		lost = "; the state of its session is lost, and the next call starts afresh"
	}
	if e, ok := errors.AsType[*casemate.Error](err); ok { // time, or cancelled
		k.end(g)
		if k.seat != nil && e.Kind == casemate.Cancelled {
			k.seat.lost = "a call was cancelled" // nobody may be there to read it now
		}
		return &casemate.Error{Op: e.Op, Kind: e.Kind, Err: fmt.Errorf("%w%s", e.Err, lost), Fix: e.Fix}
	}
	if errors.Is(err, errCaller) {
		k.end(g)
		if k.seat != nil {
			k.seat.lost = "a call was cancelled"
		}
		return fail(casemate.Cancelled, "see why the caller's end failed", "%s%s", quote(err.Error()), lost)
	}
	if errors.Is(err, errOutput) {
		k.end(g)
		return fail(casemate.Killed, "ask for less in one call, or raise output in the manifest", "its output was over the limit of %s%s", size(k.output()), lost)
	}
	// A guest that is gone says why before what we made of its last bytes.
	if !errors.Is(err, guest.ErrProtocol) {
		e, werr := g.exit()
		if werr == nil {
			k.end(g)
			if e.Limit != "" {
				what := e.Limit
				if what == "memory" {
					what += " " + size(cmp.Or(k.Limits.Memory, k.tool.profile.Memory))
				}
				return fail(casemate.Killed, "ask for less in one call, or raise "+e.Limit+" in the manifest", "it was over the limit: %s%s", what, lost)
			}
			return fail(casemate.ToolFailed, "", "%s before it was done%s", ended(e), lost)
		}
		k.end(g)
		if e, ok := errors.AsType[*casemate.Error](werr); ok { // the backend itself broke
			return &casemate.Error{Op: e.Op, Kind: e.Kind, Err: fmt.Errorf("%w%s", e.Err, lost), Fix: e.Fix}
		}
		return fail(casemate.ToolFailed, "", "its guest closed its pipe before it was done%s", lost)
	}
	k.end(g)
	return fail(casemate.ToolFailed, "the tool, or something in its sandbox, misbehaves: look at what it runs", "%s%s", strings.ReplaceAll(err.Error(), "\n", ": "), lost)
}

// commit carries what the guest wrote to its grants to the host. It is not
// cut short by a caller that leaves; but where the caller, or the operator,
// ended the call before, nothing is carried.
func (k *call) commit(ctx context.Context, g *live) error {
	c, ok := g.sb.(casemate.Committer)
	if !ok {
		return nil
	}
	if ctx.Err() != nil {
		return cancelled(ctx, k.Tool)
	}
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	changes, err := c.Commit(cctx, k.ID)
	k.out.Changes = changes
	if err != nil {
		return &casemate.Error{Op: "commit", Tool: k.Tool, Call: k.ID, Kind: casemate.Internal, Err: fmt.Errorf("what it wrote could not be carried to its grants: %w", err), Fix: "look at the host's folders and free space; casemate diff shows what was carried"}
	}
	return nil
}

// named puts the tool and the call into an error.
func (k *call) named(err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*casemate.Error](err)
	if !ok {
		return &casemate.Error{Op: "call", Tool: k.Tool, Call: k.ID, Kind: casemate.Internal, Err: err}
	}
	n := *e
	n.Call = k.ID
	if k.tool != nil { // a name of ours, not only of the planner's
		n.Tool = k.tool.Name
	}
	return &n
}
