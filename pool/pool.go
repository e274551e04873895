// Package pool keeps parked sandboxes: guests that are confined, wait on their
// pipe, and have run nothing of any call, so that the usual call pays no start.
//
// A sandbox leaves the pool once, by a Claim, and never comes back: whoever
// claims it owns it and closes it. Sandboxes are kept by what makes them
// interchangeable (Key); a claim gets one of its key or none: where none is
// parked it waits for the next start of its key, made by the same function as
// every other. First come first served within a session, the sessions in turn,
// and the keys in turn.
//
// # How many
//
// Of a key as many as are claimed while one is started, and room for bursts
// (see demand), at least one for ten minutes after its last claim, within
// Kind.Min and Kind.Max. The first few keys get one before any claim. In all
// there are Limits.Max at most, which hold Limits.Memory at most; where that is
// too little, each of the keys that were claimed last gets one before any gets
// two, and what is parked for others makes room. What a parked sandbox holds is
// what its method Footprint() int64 says, and else the estimate of its Kind.
//
// # Starts
//
// Limits.Starts at once, those that somebody waits for first. While half of
// what is wanted of a key is there, it is refilled by one start at a time, so
// that calls in flight keep the processors. A start that takes much longer than
// those before waits rather than works, and gives its place up: a guest that
// hangs holds up nobody but its own claims, and 16 such of one key, 64 in all,
// none of them. A key whose start fails, or whose guest dies parked, is
// tried again after 100 ms, doubling up to a minute; a claim tries at once, and
// gets the error where that fails, too.
//
// # Ends
//
// Parked sandboxes are thrown away where they die, where their key is not
// wanted any more (Want, Forget), is made differently from now on (Stale), or
// was not claimed for long, and all of them at once where the machine lacks
// memory (Pressure), which comes before anything else has to give way.
//
// Nothing polls: the pool acts when it is told something, when one is claimed,
// when a start is over, and by one timer, which is set only while something is
// due. A parked sandbox that dies in the moment of its claim is handed out
// dead.
package pool

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casemate/casemate"
)

// Limits bounds a pool. The zero value is the defaults.
type Limits struct {
	Max     int   // parked sandboxes in all; 0 is casemate.ParkedByDefault, negative parks none
	Memory  int64 // bytes that they hold in all; 0 is a GiB
	Starts  int   // starts at once; 0 is one a processor
	Waiting int   // claims that wait at once; 0 is 1,024
}

// The bounds that are no option.
const (
	few         = 8 // keys that get one before any claim
	maxUnlisted = 256
	maxWait     = time.Minute // of a claim
)

// ErrClosed is what a claim of a closed pool wraps.
var ErrClosed = errors.New("the pool is closed")

// ErrNoPark is wrapped by a Park that will never succeed: none of its key is
// parked any more.
var ErrNoPark = errors.New("it cannot be parked")

// A Pool is used from any goroutine.
type Pool struct {
	limits Limits
	ctx    context.Context // of starts
	cancel context.CancelFunc
	owned  sync.WaitGroup // every goroutine, and the timer while it is set

	mu       sync.Mutex
	closed   bool
	slots    map[Key]*slot
	order    *list.List         // of the slots of which some are wanted, claimed last first
	holding  map[*slot]struct{} // those with parked sandboxes or starts
	hungry   []*slot            // those with waiters; the first is served next
	allotted []*slot            // those that got some of the limits
	unlisted int
	waiting  int
	working  int       // starts that have a place
	slow     int       // starts that gave theirs up
	calm     time.Time // nothing is parked before, because memory was short
	claimed  time.Time // the last claim

	timer *time.Timer
	due   time.Time
}

// New returns an empty pool.
func New(l Limits) *Pool {
	if l.Max == 0 {
		l.Max = casemate.ParkedByDefault
	}
	if l.Memory <= 0 {
		l.Memory = 1 << 30
	}
	if l.Starts <= 0 {
		l.Starts = runtime.NumCPU()
	}
	if l.Waiting <= 0 {
		l.Waiting = 1024
	}
	l.Max = max(l.Max, 0)
	p := &Pool{limits: l, slots: map[Key]*slot{}, order: list.New(), holding: map[*slot]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Want says which kinds there are; the first few that may be are parked in
// their order while none was claimed. What is parked of a listed kind that is
// not among them any more is ended, in the background, and claims that wait for
// it get an error of kind Gone.
func (p *Pool) Want(kinds []*Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	now := time.Now()
	listed := map[Key]bool{}
	for _, k := range kinds {
		listed[k.Key] = true
	}
	for k, s := range p.slots {
		if s.listed && !listed[k] {
			p.removeLocked(s)
		}
	}
	early := few
	for _, k := range kinds {
		s := p.slots[k.Key]
		if s == nil {
			s = &slot{}
			p.slots[k.Key] = s
		} else if !s.listed {
			p.unlisted--
		}
		s.Kind, s.listed, s.early = k, true, false
		if k.Early && !k.NoPark && early > 0 {
			s.early = true
			early--
		}
		p.targetLocked(s, now)
	}
	p.fillLocked(now)
}

// Claim returns a sandbox that has never served anything, and whether it was
// parked. Where none is, it blocks until one was started for it: for a minute
// at most, and not where too many wait already; either is an error of kind
// Busy. A kind that is not listed is kept for as long as it is claimed now and
// then. The caller owns the sandbox.
func (p *Pool) Claim(ctx context.Context, session casemate.SessionID, k *Kind) (sb casemate.Sandbox, warm bool, err error) {
	begun := time.Now()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, closedError(k.Name)
	}
	s := p.slotLocked(k)
	s.demand.claimed(begun)
	p.claimed = begun
	p.targetLocked(s, begun)
	if n := len(s.parked); n > 0 {
		c := s.parked[n-1] // what was used last is in the caches
		s.parked[n-1], s.parked = nil, s.parked[:n-1]
		c.unwait()
		s.fails, s.retry = 0, time.Time{}
		s.totals.Claimed++
		s.totals.Claim.Add(time.Since(begun))
		p.fillLocked(begun)
		p.mu.Unlock()
		return c.Sandbox, true, nil
	}
	if p.waiting >= p.limits.Waiting {
		defer p.mu.Unlock()
		return nil, false, p.busyLocked(s, "%d calls wait for sandboxes, which is the limit", p.waiting)
	}
	w := &waiter{session, make(chan handed, 1)}
	p.pushLocked(s, w)
	p.fillLocked(begun)
	p.mu.Unlock()

	late := time.NewTimer(maxWait)
	defer late.Stop()
	var h handed
	select {
	case h = <-w.got:
	case <-ctx.Done():
		h = p.leave(s, w, func() error { return ctx.Err() })
	case <-late.C:
		h = p.leave(s, w, func() error { return p.busyLocked(s, "waited %s for a sandbox", maxWait) })
	}
	if h.err != nil {
		return nil, false, h.err
	}
	p.mu.Lock()
	s.totals.Claim.Add(time.Since(begun))
	p.mu.Unlock()
	return h.sb, !h.cold, nil
}

// leave takes w out of its queue; where it was served meanwhile, that counts.
func (p *Pool) leave(s *slot, w *waiter, why func() error) handed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.queue.remove(w) {
		p.waiting--
		p.satedLocked(s)
		return handed{err: why()}
	}
	return <-w.got
}

// busyLocked is the error of a claim that waits no longer.
func (p *Pool) busyLocked(s *slot, format string, a ...any) error {
	s.totals.Refused++
	again := time.Duration(1+s.queue.n) * s.demand.start / time.Duration(p.limits.Starts)
	again = min(max(again.Round(time.Second), time.Second), time.Minute)
	return &casemate.Error{Op: "claim", Tool: s.Name, Kind: casemate.Busy, Err: fmt.Errorf(format, a...), Fix: fmt.Sprintf("try again in %s", again)}
}

func closedError(name casemate.ToolName) error {
	return &casemate.Error{Op: "claim", Tool: name, Kind: casemate.Busy, Err: ErrClosed, Fix: "start the server again"}
}

// Places returns the place of every key, sorted.
func (p *Pool) Places() []Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Place, 0, len(p.slots))
	for _, s := range p.slots {
		pl := Place{Key: s.Key, Wanted: s.allot, Starting: s.starting, Waiting: s.queue.n, Err: s.err, Totals: s.totals}
		for _, k := range s.parked {
			pl.Parked = append(pl.Parked, k.Sandbox)
			pl.Bytes += k.bytes
		}
		out = append(out, pl)
	}
	slices.SortFunc(out, func(a, b Place) int {
		return slices.Compare([]string{string(a.Key.Guest), a.Key.Backend, a.Key.Shape}, []string{string(b.Key.Guest), b.Key.Backend, b.Key.Shape})
	})
	return out
}

// Close ends everything that is parked or being started, and returns when
// nothing of it is left. Claims that wait get an error. Sandboxes that were
// claimed are their owners'.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	for _, s := range p.slots {
		p.removeLocked(s)
	}
	if p.timer != nil && p.timer.Stop() {
		p.owned.Done()
	}
	p.timer = nil
	p.mu.Unlock()
	p.cancel()
	p.owned.Wait()
}

// limit says why a guest died, where that was a limit.
func limit(e casemate.Exit) string {
	if e.Limit == "" {
		return ""
	}
	return " (" + strings.ToValidUTF8(e.Limit, "") + ")"
}
