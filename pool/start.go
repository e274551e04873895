package pool

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/casemate/casemate"
)

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
	ready, parking := kind.Park == nil, false
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		s.demand.started(took)
		s.totals.Start.Add(took)
	}
	if err == nil && !ready && p.keepsLocked(s, age) && s.queue.n == 0 {
		p.mu.Unlock()
		sb, err = kind.Park(p.ctx, sb)
		ready, parking = true, true
		p.mu.Lock()
	}
	pl.leaveLocked()
	now := time.Now()
	switch {
	case err != nil:
		p.failedLocked(s, err, now)
		if parking { // whoever came meanwhile asked for no parked one: the next start is theirs
			break
		}
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
