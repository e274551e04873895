package router

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/casemate/casemate"
)

// Whoever waits is let through in turn: by sessions, and within one as it came.
func TestGateIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		if err := g.enter(t.Context(), "many", "x"); err != nil {
			t.Fatal(err)
		}
		order := make(chan string, 100)
		wait := func(session casemate.SessionID, name string) {
			go func() {
				if err := g.enter(t.Context(), session, "x"); err != nil {
					t.Error(err)
				}
				order <- name
				g.leave()
			}()
			synctest.Wait() // it is in its line
		}
		for _, name := range []string{"m1", "m2", "m3", "m4"} {
			wait("many", name)
		}
		wait("one", "o1")
		wait("two", "t1")
		wait("two", "t2")
		g.leave()
		synctest.Wait()
		var got []string
		for len(order) > 0 {
			got = append(got, <-order)
		}
		if want := []string{"m1", "o1", "t1", "m2", "t2", "m3", "m4"}; !slices.Equal(got, want) {
			t.Errorf("%v, and not %v", got, want)
		}
	})
}

// Who gives up leaves nothing: neither a place in a line nor a turn.
func TestGateGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2)
		for range 2 {
			if err := g.enter(t.Context(), "a", "x"); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 3)
		for range 2 {
			go func() { failed <- g.enter(ctx, "b", "x") }()
		}
		go func() { failed <- g.enter(t.Context(), "b", "x") }()
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-failed; casemate.KindOf(err) != casemate.Cancelled {
				t.Error(err)
			}
		}
		time.Sleep(maxWait)
		if err := <-failed; casemate.KindOf(err) != casemate.Busy || errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		g.leave()
		g.leave()
		if g.free != 2 || len(g.lines) != 0 {
			t.Errorf("%d free, %d lines", g.free, len(g.lines))
		}
	})
}

// The only call of its session gets in where another session's fill the bounds;
// there is a bound for such, too.
func TestCrowded(t *testing.T) {
	for _, c := range []struct {
		n       int
		alone   bool
		crowded bool
	}{{9, false, false}, {10, false, true}, {10, true, false}, {19, true, false}, {20, true, true}, {20, false, true}} {
		if got := crowded(c.n, 10, c.alone); got != c.crowded {
			t.Errorf("%d of 10, alone: %v: %v", c.n, c.alone, got)
		}
	}
}
