package pool

import (
	"slices"
	"time"

	"github.com/casemate/casemate"
)

// Stale says that sandboxes of these guests are made differently from now on:
// what is parked or being started of them serves nobody.
func (p *Pool) Stale(guests ...casemate.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		if slices.Contains(guests, s.Key.Guest) {
			s.age++
			p.dropLocked(s, 0)
		}
	}
	p.fillLocked(time.Now())
}

// Forget says that guests that Want does not list will not be claimed again.
func (p *Pool) Forget(guests ...casemate.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		if !s.listed && slices.Contains(guests, s.Key.Guest) {
			p.removeLocked(s)
		}
	}
	p.fillLocked(time.Now())
}

// Pressure ends everything that is parked, in the background, and parks
// nothing for ten seconds: the machine lacks memory.
func (p *Pool) Pressure() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for s := range p.holding {
		p.dropLocked(s, 0)
	}
	now := time.Now()
	p.calm = now.Add(pressed)
	p.soonLocked(p.calm)
}
