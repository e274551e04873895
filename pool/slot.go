package pool

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/casemate/casemate"
)

// A slot is the place of one key; the pool's mu guards it.
type slot struct {
	*Kind
	listed  bool          // Want lists it
	early   bool          // one is wanted before any claim
	removed bool          // it is not in the pool any more
	age     int           // Stale was told that often; sandboxes of another serve nobody
	at      *list.Element // in order; nil while none is wanted
	target  int           // how many should be parked, if the pool's limits allow it
	allot   int           // how many of them the limits allow

	parked   []*parked // started first first
	starting int
	slow     int // of them, those that gave their place up
	queue    queue
	demand   demand

	fails int       // in a row
	retry time.Time // parks none before
	err   error     // the last failure

	totals Totals
}

type parked struct {
	casemate.Sandbox
	since  time.Time
	bytes  int64
	unwait context.CancelFunc // ends the goroutine that watches it
}

// stock is what is parked or will be: starts that nobody waits for.
func (s *slot) stock() int { return len(s.parked) + max(0, s.starting-s.queue.n) }

func (s *slot) bytes() (n int64) {
	for _, k := range s.parked {
		n += k.bytes
	}
	return n + int64(s.stock()-len(s.parked))*s.Bytes
}

// slotLocked returns the place of a kind, which it makes where there is none.
func (p *Pool) slotLocked(k *Kind) *slot {
	if s := p.slots[k.Key]; s != nil {
		return s
	}
	if p.unlisted >= maxUnlisted {
		p.forgetOldestLocked()
	}
	s := &slot{Kind: k}
	p.slots[k.Key] = s
	p.unlisted++
	return s
}

// forgetOldestLocked removes the unlisted slot that was claimed longest ago and
// that nobody waits for.
func (p *Pool) forgetOldestLocked() {
	var oldest *slot
	for _, s := range p.slots {
		if !s.listed && s.queue.n == 0 && s.starting == 0 && (oldest == nil || s.demand.last.Before(oldest.demand.last)) {
			oldest = s
		}
	}
	if oldest != nil {
		p.removeLocked(oldest)
	}
}

// removeLocked takes a slot out of the pool.
func (p *Pool) removeLocked(s *slot) {
	s.removed = true
	s.target, s.early = 0, false
	p.orderLocked(s, false)
	p.dropLocked(s, 0)
	delete(p.slots, s.Key)
	if !s.listed {
		p.unlisted--
	}
	err := closedError(s.Name)
	if !p.closed {
		err = &casemate.Error{Op: "claim", Tool: s.Name, Kind: casemate.Gone, Err: errors.New("the tool was changed before it could start"), Fix: "call it again, after another look at the list of tools"}
	}
	for w := s.queue.pop(); w != nil; w = s.queue.pop() {
		p.waiting--
		w.got <- handed{err: err}
	}
	p.satedLocked(s)
}

// targetLocked finds out how many of s should be parked.
func (p *Pool) targetLocked(s *slot, now time.Time) {
	n := s.demand.parked(now)
	if s.early || !s.demand.last.IsZero() && now.Sub(s.demand.last) < kept {
		n = max(n, 1)
	}
	n = max(n, s.Min)
	if s.Max > 0 {
		n = min(n, s.Max)
	}
	if s.NoPark {
		n = 0
	}
	s.target = n
	p.orderLocked(s, n > 0)
	if n > 0 && s.at != nil && s.demand.last.Equal(now) {
		p.order.MoveToFront(s.at)
	}
	switch {
	case n > s.floor():
		p.soonLocked(now.Add(look))
	case n > s.Min && !s.early:
		p.soonLocked(s.demand.last.Add(kept))
	}
}

// floor is how many are wanted of s while it is claimed now and then.
func (s *slot) floor() int { return max(s.Min, 1) }

// orderLocked has s in the order, or not.
func (p *Pool) orderLocked(s *slot, in bool) {
	switch {
	case in && s.at == nil:
		s.at = p.order.PushBack(s)
	case !in && s.at != nil:
		p.order.Remove(s.at)
		s.at = nil
	}
}

// dropLocked ends what is parked for s beyond n, the oldest first.
func (p *Pool) dropLocked(s *slot, n int) {
	for len(s.parked) > n {
		p.throwLocked(s, s.parked[0])
	}
	p.holdLocked(s)
}

// throwLocked ends one that is parked.
func (p *Pool) throwLocked(s *slot, k *parked) {
	i := slices.Index(s.parked, k)
	s.parked = slices.Delete(s.parked, i, i+1)
	k.unwait()
	p.endLocked(s, k.Sandbox)
}

// endLocked closes a sandbox that nobody claimed, in the background.
func (p *Pool) endLocked(s *slot, sb casemate.Sandbox) {
	s.totals.Thrown++
	p.owned.Go(func() { sb.Close() })
}

// holdLocked knows whether s has anything.
func (p *Pool) holdLocked(s *slot) {
	if len(s.parked) > 0 || s.starting > 0 {
		p.holding[s] = struct{}{}
	} else {
		delete(p.holding, s)
	}
}

// pushLocked has w wait for s.
func (p *Pool) pushLocked(s *slot, w *waiter) {
	if s.queue.n == 0 {
		p.hungry = append(p.hungry, s)
	}
	s.queue.push(w)
	p.waiting++
}

// popLocked takes out whoever waits for s and is next; nil is nobody.
func (p *Pool) popLocked(s *slot) *waiter {
	w := s.queue.pop()
	if w != nil {
		p.waiting--
		p.satedLocked(s)
	}
	return w
}

// satedLocked knows whether anybody waits for s.
func (p *Pool) satedLocked(s *slot) {
	if s.queue.n == 0 {
		p.hungry = slices.DeleteFunc(p.hungry, func(o *slot) bool { return o == s })
	}
}
