// Package pool keeps parked sandboxes: guests that are confined, wait on their
// pipe, and have run nothing of any call. For each tool one waits, so that the
// usual call pays no start.
//
// A sandbox is keyed by the digest of its tool. It leaves the pool once, by a
// Claim, and never comes back: whoever claims it owns it and closes it. A
// claim that finds none parked starts one by the same function and for the
// same tool; there is no other, weaker way.
//
// Limits: the tools that were used last are parked first, one sandbox each, up
// to Limits.Max in all, Limits.Starts started at once in the background. A
// tool whose guest cannot be parked, or dies while it waits, is tried again
// after 100 ms, doubling up to a minute; until then its calls start cold, and
// the next claim tries again at once. Nothing polls: the pool acts when it is
// told of tools, when one is claimed, and when a parked one is gone.
package pool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/casemate/casemate"
)

// Limits bounds a pool. The zero value is the defaults.
type Limits struct {
	Max    int   // parked sandboxes in all; 0 is 32, negative parks none
	Memory int64 // bytes that they hold in all; 0 is a GiB
	Starts int   // starts at once; 0 is one a processor
}

// A Start makes one parked sandbox of a tool, and has checked that it waits.
type Start func(context.Context, *casemate.Tool) (casemate.Sandbox, error)

// The waits after a guest that could not be parked, or died parked.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = time.Minute
	steady      = 10 * time.Second // one that was parked for this long did not die of its start
)

// ErrClosed is what a claim of a closed pool wraps.
var ErrClosed = errors.New("the pool is closed")

// A Pool is used from any goroutine.
type Pool struct {
	limits Limits
	start  Start
	ctx    context.Context // of the background starts
	cancel context.CancelFunc
	owned  sync.WaitGroup // every goroutine, and every timer that is set

	mu       sync.Mutex
	closed   bool
	slots    map[casemate.Digest]*slot
	order    []*slot // used last first
	starting int     // background starts in progress
}

// A slot is the place of one tool; the pool's mu guards it.
type slot struct {
	key      casemate.Digest
	tool     *casemate.Tool
	parked   *parked
	starting bool
	fails    int         // in a row
	retry    *time.Timer // set while it waits after a failure
	err      error       // the last failure
}

type parked struct {
	casemate.Sandbox
	since  time.Time
	unwait context.CancelFunc // ends the goroutine that watches it
}

// New returns an empty pool.
func New(l Limits, start Start) *Pool {
	if l.Max == 0 {
		l.Max = 32
	}
	if l.Starts <= 0 {
		l.Starts = 2
	}
	p := &Pool{limits: l, start: start, slots: map[casemate.Digest]*slot{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// An Entry is one tool and its digest.
type Entry struct {
	Key  casemate.Digest
	Tool *casemate.Tool
}

// Want says which tools there are, in the order in which they are parked while
// none was used. What is parked for a tool that is not among them any more is
// ended, in the background.
func (p *Pool) Want(tools []Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	listed := map[casemate.Digest]bool{}
	for _, e := range tools {
		listed[e.Key] = true
	}
	for k, s := range p.slots {
		if !listed[k] {
			p.dropLocked(s)
			s.calmLocked(p)
			delete(p.slots, k)
		}
	}
	p.order = slices.DeleteFunc(p.order, func(s *slot) bool { return p.slots[s.key] != s })
	for _, e := range tools {
		if p.slots[e.Key] == nil {
			s := &slot{key: e.Key, tool: e.Tool}
			p.slots[e.Key] = s
			p.order = append(p.order, s)
		}
	}
	p.fillLocked()
}

// Claim returns a sandbox that has never served anything, and whether it was
// parked. It blocks while it starts one. The caller owns the sandbox.
func (p *Pool) Claim(ctx context.Context, key casemate.Digest, tool *casemate.Tool) (sb casemate.Sandbox, warm bool, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, &casemate.Error{Op: "claim", Tool: tool.Name, Kind: casemate.Busy, Err: ErrClosed, Fix: "start the server again"}
	}
	if s := p.slots[key]; s != nil {
		p.usedLocked(s)
		if s.parked != nil {
			sb = s.parked.Sandbox
			s.parked.unwait()
			s.parked, s.fails = nil, 0
		}
		s.calmLocked(p)
		p.fillLocked()
	}
	p.mu.Unlock()
	if sb != nil {
		return sb, true, nil
	}
	sb, err = p.start(ctx, tool)
	return sb, false, err
}

// usedLocked moves s to the front.
func (p *Pool) usedLocked(s *slot) {
	i := slices.Index(p.order, s)
	copy(p.order[1:i+1], p.order[:i])
	p.order[0] = s
}

// calmLocked ends the wait after a failure, so that the next fill tries again.
func (s *slot) calmLocked(p *Pool) {
	if s.retry != nil && s.retry.Stop() {
		p.owned.Done()
	}
	s.retry = nil
}

// dropLocked ends what is parked for s.
func (p *Pool) dropLocked(s *slot) {
	if s.parked == nil {
		return
	}
	sb := s.parked
	s.parked = nil
	sb.unwait()
	p.owned.Go(func() { sb.Close() })
}

// fillLocked starts what should be parked and is not, and ends what is parked
// for tools that others were used after.
func (p *Pool) fillLocked() {
	if p.closed {
		return
	}
	wanted := min(max(p.limits.Max, 0), len(p.order))
	for _, s := range p.order[wanted:] {
		p.dropLocked(s)
	}
	for _, s := range p.order[:wanted] {
		if p.starting >= p.limits.Starts {
			return
		}
		if s.parked != nil || s.starting || s.retry != nil {
			continue
		}
		s.starting = true
		p.starting++
		p.owned.Go(func() { p.park(s) })
	}
}

// park starts one sandbox and parks it.
func (p *Pool) park(s *slot) {
	sb, err := p.start(p.ctx, s.tool)
	p.mu.Lock()
	defer p.mu.Unlock()
	s.starting = false
	p.starting--
	switch {
	case err != nil:
		p.failedLocked(s, err)
	case p.closed || p.slots[s.key] != s:
		p.owned.Go(func() { sb.Close() })
	default:
		ctx, unwait := context.WithCancel(p.ctx)
		k := &parked{sb, time.Now(), unwait}
		s.parked, s.err = k, nil
		p.owned.Go(func() { p.watch(ctx, s, k) })
	}
	p.fillLocked()
}

// watch throws k away when it dies while it is parked.
func (p *Pool) watch(ctx context.Context, s *slot, k *parked) {
	exit, err := k.Wait(ctx)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	if s.parked != k {
		p.mu.Unlock()
		return
	}
	s.parked = nil
	k.unwait()
	if time.Since(k.since) > steady {
		s.fails = 0
	}
	if err == nil {
		err = &casemate.Error{Op: "park", Tool: s.tool.Name, Kind: casemate.ToolFailed, Err: errors.New("its guest died while it waited" + why(exit))}
	}
	p.failedLocked(s, err)
	p.mu.Unlock()
	k.Close()
}

func why(e casemate.Exit) string {
	if e.Limit != "" {
		return " (" + e.Limit + ")"
	}
	return ""
}

// failedLocked tries s again after a while.
func (p *Pool) failedLocked(s *slot, err error) {
	if p.closed || p.slots[s.key] != s {
		return
	}
	s.err = err
	wait := min(firstWait<<min(s.fails, 16), longestWait)
	s.fails++
	p.owned.Add(1)
	var t *time.Timer
	t = time.AfterFunc(wait, func() {
		defer p.owned.Done()
		p.mu.Lock()
		defer p.mu.Unlock()
		if s.retry == t {
			s.retry = nil
			p.fillLocked()
		}
	})
	s.retry = t
}

// Places returns the place of every tool, used last first.
func (p *Pool) Places() []Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Place
	for _, s := range p.order {
		pl := Place{Key: Key{Guest: s.key}, Err: s.err}
		if s.parked != nil {
			pl.Parked = []casemate.Sandbox{s.parked.Sandbox}
		}
		out = append(out, pl)
	}
	return out
}

// Close ends everything that is parked or being started, and returns when
// nothing of it is left. Sandboxes that were claimed are their owners'.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	for _, s := range p.order {
		p.dropLocked(s)
		s.calmLocked(p)
	}
	p.order, p.slots = nil, map[casemate.Digest]*slot{}
	p.mu.Unlock()
	p.cancel()
	p.owned.Wait()
}
