package pool

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/casemate/casemate"
)

// The waits.
const (
	firstWait   = 100 * time.Millisecond // after a guest that could not be parked, or died parked
	longestWait = time.Minute
	steady      = 10 * time.Second // one that was parked for this long did not die of its start
	kept        = 10 * time.Minute // after the last claim of a key, one of it is wanted
	look        = 10 * time.Second // between two looks at whether less is wanted
	pressed     = 10 * time.Second // after memory was short
)

// The bounds of starts that gave their places up.
const (
	maxSlow      = 16 // of a key
	maxSlowInAll = 64
	leastSlow    = 250 * time.Millisecond
	unknownSlow  = time.Second // where no start is known
)

// fillLocked starts what claims wait for, and then what should be parked.
func (p *Pool) fillLocked(now time.Time) {
	if p.closed {
		return
	}
	for p.working < p.limits.Starts {
		s := p.starvedLocked()
		if s == nil {
			break
		}
		p.startLocked(s)
	}
	p.allotLocked()
	if now.Before(p.calm) {
		return
	}
	for p.working < p.limits.Starts {
		s := p.lackingLocked(now)
		if s == nil || !p.roomLocked(s) {
			return
		}
		p.startLocked(s)
	}
}

// starvedLocked returns the next key that somebody waits for and too few starts
// are made for; nil is none.
func (p *Pool) starvedLocked() *slot {
	for i, s := range p.hungry {
		full := s.slow > 0 && s.starting >= maxSlow || p.slow > 0 && p.slow+p.working >= maxSlowInAll
		if s.queue.n > s.starting-s.slow && !full {
			copy(p.hungry[i:], p.hungry[i+1:])
			p.hungry[len(p.hungry)-1] = s
			return s
		}
	}
	return nil
}

// allotLocked divides the limits: to each what has to be there even if nobody
// calls, then one each, then the rest, whoever was claimed last first.
func (p *Pool) allotLocked() {
	for _, s := range p.allotted {
		s.allot = 0
	}
	p.allotted = p.allotted[:0]
	left, bytes := p.limits.Max, p.limits.Memory
	give := func(s *slot, n int) {
		n = min(n, s.target) - s.allot
		if s.Bytes > 0 {
			n = min(n, int(bytes/s.Bytes))
		}
		if n = min(n, left); n <= 0 {
			return
		}
		if s.allot == 0 {
			p.allotted = append(p.allotted, s)
		}
		s.allot += n
		left -= n
		bytes -= int64(n) * s.Bytes
	}
	for e := p.order.Front(); e != nil && left > 0; e = e.Next() {
		if s := e.Value.(*slot); s.Min > 0 {
			give(s, s.Min)
		}
	}
	for e := p.order.Front(); e != nil && left > 0; e = e.Next() {
		give(e.Value.(*slot), 1)
	}
	for i := 0; i < len(p.allotted) && left > 0; i++ {
		give(p.allotted[i], p.allotted[i].target)
	}
}

// lackingLocked returns the next key of which too few are parked; nil is none,
// or none that is to be started now.
func (p *Pool) lackingLocked(now time.Time) *slot {
	for _, s := range p.allotted {
		n := s.stock()
		if n >= s.allot || now.Before(s.retry) {
			continue
		}
		if p.working == 0 || 2*n < s.allot {
			return s
		}
	}
	return nil
}

// roomLocked makes room for one more of s within the limits, and says whether
// there is.
func (p *Pool) roomLocked(s *slot) bool {
	for {
		n, bytes := 1, s.Bytes
		var over *slot
		for o := range p.holding {
			n += o.stock()
			bytes += o.bytes()
			if len(o.parked) > o.allot && (over == nil || o.demand.last.Before(over.demand.last)) {
				over = o
			}
		}
		if n <= p.limits.Max && bytes <= p.limits.Memory {
			return true
		}
		if over == nil {
			return false
		}
		p.dropLocked(over, len(over.parked)-1)
	}
}

// startLocked begins one start of s.
func (p *Pool) startLocked(s *slot) {
	s.starting++
	p.working++
	p.holdLocked(s)
	age := s.age
	p.owned.Go(func() { p.start(s, age) })
}

// A place is that of one start among those that work.
type place struct {
	p     *Pool
	s     *slot
	slow  bool
	timer *time.Timer
}

func (p *Pool) take(s *slot, patience time.Duration) *place {
	pl := &place{p: p, s: s}
	pl.timer = time.AfterFunc(patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if pl.timer == nil { // it is over
			return
		}
		pl.slow = true
		s.slow++
		p.slow++
		p.working--
		p.fillLocked(time.Now())
	})
	return pl
}

// leaveLocked ends a start.
func (pl *place) leaveLocked() {
	pl.timer.Stop()
	pl.timer = nil
	pl.s.starting--
	if pl.slow {
		pl.s.slow--
		pl.p.slow--
	} else {
		pl.p.working--
	}
	pl.p.holdLocked(pl.s)
}

// start makes one sandbox, for whoever waits for it or to be parked.
func (p *Pool) start(s *slot, age int) {
	p.mu.Lock()
	kind, patience := s.Kind, unknownSlow
	if d := s.demand.start; d > 0 {
		patience = max(leastSlow, 4*d)
	}
	pl := p.take(s, patience)
	p.mu.Unlock()

	begun := time.Now()
	sb, err := kind.Start(p.ctx)
	took := time.Since(begun)
	ready := kind.Park == nil
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		s.demand.started(took)
		s.totals.Start.Add(took)
	}
	if err == nil && !ready && p.keepsLocked(s, age) && s.queue.n == 0 {
		p.mu.Unlock()
		sb, err = kind.Park(p.ctx, sb)
		ready = true
		p.mu.Lock()
	}
	pl.leaveLocked()
	now := time.Now()
	switch {
	case err != nil:
		p.failedLocked(s, err, now)
		if w := p.popLocked(s); w != nil {
			w.got <- handed{err: err}
		}
	case p.closed || s.removed || s.age != age:
		p.endLocked(s, sb)
	case s.queue.n > 0:
		s.retry = time.Time{} // what starts for a claim is tried again for the next
		s.totals.Claimed++
		s.totals.Cold++
		p.popLocked(s).got <- handed{sb: sb, cold: true}
	case ready && p.keepsLocked(s, age) && p.roomLocked(s):
		p.parkLocked(s, sb, now)
	default:
		p.endLocked(s, sb)
	}
	p.fillLocked(now)
}

// keepsLocked says whether one more of s is to be parked.
func (p *Pool) keepsLocked(s *slot, age int) bool {
	return !p.closed && !s.removed && s.age == age && len(s.parked) < s.allot && !time.Now().Before(p.calm)
}

// parkLocked has sb wait to be claimed.
func (p *Pool) parkLocked(s *slot, sb casemate.Sandbox, now time.Time) {
	ctx, unwait := context.WithCancel(p.ctx)
	k := &parked{sb, now, s.Bytes, unwait}
	if f, ok := sb.(interface{ Footprint() int64 }); ok {
		k.bytes = f.Footprint()
	}
	s.parked = append(s.parked, k)
	s.err = nil
	p.holdLocked(s)
	p.owned.Go(func() {
		exit, err := k.Wait(ctx)
		if ctx.Err() == nil {
			p.died(s, k, exit, err)
		}
	})
}

// died throws k away, which died while it was parked.
func (p *Pool) died(s *slot, k *parked, exit casemate.Exit, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(s.parked, k) {
		return
	}
	p.throwLocked(s, k)
	p.holdLocked(s)
	now := time.Now()
	if now.Sub(k.since) > steady {
		s.fails = 0
	}
	if err == nil {
		err = &casemate.Error{Op: "park", Tool: s.Name, Kind: casemate.ToolFailed, Err: errors.New("its guest died while it waited" + limit(exit))}
	}
	p.backOffLocked(s, err, now)
	p.fillLocked(now)
}

// failedLocked counts a start that failed.
func (p *Pool) failedLocked(s *slot, err error, now time.Time) {
	if p.closed || s.removed {
		return
	}
	s.totals.Failed++
	p.backOffLocked(s, err, now)
}

// backOffLocked parks none of s for a while.
func (p *Pool) backOffLocked(s *slot, err error, now time.Time) {
	s.err = err
	if errors.Is(err, ErrNoPark) {
		k := *s.Kind
		k.NoPark = true
		s.Kind = &k
		p.targetLocked(s, now)
		return
	}
	s.retry = now.Add(min(firstWait<<min(s.fails, 16), longestWait))
	s.fails++
	p.soonLocked(s.retry)
}

// soonLocked has the pool look again at that time, or before.
func (p *Pool) soonLocked(at time.Time) {
	if p.closed || p.timer != nil && !p.due.After(at) {
		return
	}
	if p.timer != nil && p.timer.Stop() {
		p.owned.Done()
	}
	p.due = at
	p.owned.Add(1)
	var t *time.Timer
	t = time.AfterFunc(time.Until(at), func() {
		defer p.owned.Done()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.timer == t {
			p.timer = nil
			p.lookLocked(time.Now())
		}
	})
	p.timer = t
}

// lookLocked does what is due: less may be wanted, or more be tried again.
func (p *Pool) lookLocked(now time.Time) {
	for e := p.order.Front(); e != nil; {
		s := e.Value.(*slot)
		e = e.Next()
		p.targetLocked(s, now)
		p.dropLocked(s, s.target)
		if now.Before(s.retry) {
			p.soonLocked(s.retry)
		}
	}
	for _, s := range p.slots {
		if !s.listed && s.target == 0 && s.queue.n == 0 && s.starting == 0 {
			p.removeLocked(s)
		}
	}
	if now.Before(p.calm) {
		p.soonLocked(p.calm)
	}
	p.fillLocked(now)
}
