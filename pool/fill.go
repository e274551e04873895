package pool

import (
	"time"
)

// The waits.
const (
	firstWait   = 100 * time.Millisecond // after a guest that could not be parked, or died parked
	longestWait = time.Minute
	steady      = 10 * time.Second      // one that was parked for this long did not die of its start
	kept        = 10 * time.Minute      // after the last claim of a key, one of it is wanted
	look        = 10 * time.Second      // between two looks at whether less is wanted
	pressed     = 10 * time.Second      // after memory was short
	rest        = 20 * time.Millisecond // after a claim, before more is parked than the next claims need
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
// or none that is to be started now. While claims come, their sandboxes run, and
// a start would slow them: what is for bursts is parked when they rest.
func (p *Pool) lackingLocked(now time.Time) *slot {
	rested := now.Sub(p.claimed) >= rest
	for _, s := range p.allotted {
		n, want := s.stock(), s.allot
		if n >= want || now.Before(s.retry) {
			continue
		}
		if !rested {
			p.soonLocked(p.claimed.Add(rest))
			want = min(want, max(s.demand.needed(now), s.Min))
		}
		if n < want && (p.working == 0 || 2*n < want) {
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
