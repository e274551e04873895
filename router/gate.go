package router

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/casemate/casemate"
)

// A gate lets so many calls through at once. Those that wait are let through
// first come first served within a session, and the sessions in turn: one with
// many calls that wait does not keep another's from being served.
type gate struct {
	mu    sync.Mutex
	free  int
	lines []*row // with somebody in them; the first is next
}

type row struct {
	session casemate.SessionID
	waiting []chan struct{} // of capacity 1
}

func newGate(n int) *gate { return &gate{free: n} }

// enter blocks until there is room, for maxWait at most. Who is let through
// leaves.
func (g *gate) enter(ctx context.Context, s casemate.SessionID, t casemate.ToolName) error {
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{}, 1)
	if i := slices.IndexFunc(g.lines, func(l *row) bool { return l.session == s }); i >= 0 {
		g.lines[i].waiting = append(g.lines[i].waiting, turn)
	} else {
		g.lines = append(g.lines, &row{s, []chan struct{}{turn}})
	}
	g.mu.Unlock()
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	var why error
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		why = cancelled(ctx, t)
	case <-timer.C:
		why = &casemate.Error{Op: "call", Tool: t, Kind: casemate.Busy, Err: fmt.Errorf("waited %s for one of the slots for calls", maxWait), Fix: "try again when some calls are over"}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, l := range g.lines {
		if j := slices.Index(l.waiting, turn); j >= 0 {
			if l.waiting = slices.Delete(l.waiting, j, j+1); len(l.waiting) == 0 {
				g.lines = slices.Delete(g.lines, i, i+1)
			}
			return why
		}
	}
	g.leaveLocked() // its turn came meanwhile
	return why
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked()
}

func (g *gate) leaveLocked() {
	if len(g.lines) == 0 {
		g.free++
		return
	}
	l := g.lines[0]
	g.lines = slices.Delete(g.lines, 0, 1)
	l.waiting[0] <- struct{}{}
	if l.waiting = slices.Delete(l.waiting, 0, 1); len(l.waiting) > 0 {
		g.lines = append(g.lines, l)
	}
}
