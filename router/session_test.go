package router

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/casemate/casemate"
)

func TestSessionKeepsItsGuest(t *testing.T) {
	w := newWorld(t, Config{}, a("good", inSession))
	s1, s2 := w.NewSession(), w.NewSession()
	w.must("good", s1, "set x 41")
	if got := w.must("good", s1, "get x"); got != "<41>" {
		t.Errorf("its own: %q", got)
	}
	if got := w.must("good", s2, "get x"); got != "<>" {
		t.Errorf("another's: %q", got)
	}
	if got := w.must("good", "", "get x"); got != "<>" {
		t.Errorf("without a session: %q", got)
	}
	if n := w.b.alive(); n != 2 {
		t.Errorf("%d guests are alive", n)
	}
	w.EndSession(s1)
	if n := w.b.alive(); n != 1 {
		t.Errorf("%d guests are alive after the end", n)
	}
	for _, id := range []casemate.SessionID{s1, "s_invented", casemate.SessionID(newID("s_"))} {
		wants(t, w.code("good", id, "get x"), casemate.Gone, "session")
		if y := w.Why(context.Background(), casemate.Call{Tool: "good", Session: id}); y.Error == nil || y.Error.Kind != casemate.Gone {
			t.Errorf("why: %+v", y.Error)
		}
	}
	w.EndSession(s1)
}

// A guest remembers: what one call gave it may be in every later result.
func TestGuestRemembers(t *testing.T) {
	w := newWorld(t, Config{}, a("good", inSession), a("good", called("fresh")))
	s := w.NewSession()
	call := func(tool casemate.ToolName, l casemate.Label) casemate.Label {
		o := w.Call(context.Background(), casemate.Call{Tool: tool, Session: s, Arguments: []byte(`{"code":"get x"}`), Label: l})
		if o.Error != nil {
			t.Fatal(o.Error)
		}
		return *o.Label
	}
	alice := casemate.Label{Writers: []string{"alice"}, Readers: []string{"alice", "user"}}
	bob := casemate.Label{Writers: []string{"bob"}, Readers: []string{"user"}}
	for _, c := range []struct {
		tool     casemate.ToolName
		in, want casemate.Label
	}{
		{"good", casemate.Label{}, casemate.Label{Writers: []string{"tool:good"}}},
		{"good", alice, casemate.Label{Writers: []string{"alice", "tool:good"}, Readers: []string{"alice", "user"}}},
		{"good", casemate.Label{}, casemate.Label{Writers: []string{"alice", "tool:good"}, Readers: []string{"alice", "user"}}},
		{"good", bob, casemate.Label{Writers: []string{"alice", "bob", "tool:good"}, Readers: []string{"user"}}},
		{"good", casemate.Label{}, casemate.Label{Writers: []string{"alice", "bob", "tool:good"}, Readers: []string{"user"}}},
		{"fresh", alice, casemate.Label{Writers: []string{"alice", "tool:fresh"}, Readers: []string{"alice", "user"}}},
		{"fresh", casemate.Label{}, casemate.Label{Writers: []string{"tool:fresh"}}},
	} {
		if got := call(c.tool, c.in); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s with %+v: %+v, want %+v", c.tool, c.in, got, c.want)
		}
	}
}

func TestLostStateIsTold(t *testing.T) {
	w := newWorld(t, Config{}, a("good", inSession, func(t *casemate.Tool) { t.Security.Timeout = time.Second }))
	s := w.NewSession()
	afresh := func() {
		t.Helper()
		if got := w.must("good", s, "get x"); got != "<>" {
			t.Errorf("afresh: %q", got)
		}
		w.must("good", s, "set x 1")
	}
	afresh()
	wants(t, w.code("good", s, "die"), casemate.ToolFailed, "status 3", "lost")
	afresh()
	wants(t, w.code("good", s, "sleep 5s"), casemate.Timeout, "1s", "lost")
	afresh()
	w.must("good", s, "late")
	time.Sleep(150 * time.Millisecond)
	wants(t, w.code("good", s, "get x"), casemate.ToolFailed, "lost")
	afresh()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	w.Call(ctx, casemate.Call{Tool: "good", Session: s, Arguments: []byte(`{"code":"sleep 5s"}`)})
	wants(t, w.code("good", s, "get x"), casemate.Gone, "lost", "cancelled") // whoever was cancelled may not have read it
	afresh()
}

func TestIdleGuestIsEnded(t *testing.T) {
	w := newWorld(t, Config{}, a("good", inSession))
	w.idle = 2 * time.Second // a loaded machine may hold a call up
	s := w.NewSession()
	w.must("good", s, "set x 1")
	for range 5 {
		time.Sleep(500 * time.Millisecond)
		if got := w.must("good", s, "get x"); got != "<1>" {
			t.Fatalf("in use, and ended: %q", got)
		}
	}
	until(t, "the guest is gone", func() bool { return w.b.alive() == 0 })
	wants(t, w.code("good", s, "get x"), casemate.Gone, "lost", "2s")
	if got := w.must("good", s, "get x"); got != "<>" {
		t.Error(got)
	}
}

func TestSessionCallsAreSequential(t *testing.T) {
	w := newWorld(t, Config{}, a("good", inSession))
	s := w.NewSession()
	w.must("good", s, "")
	var mu sync.Mutex
	ok, busy := 0, 0
	var all sync.WaitGroup
	for range 15 {
		all.Go(func() {
			o := w.code("good", s, "sleep 30ms\nprint x")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case o.Error == nil && textOf(o) == "x\n":
				ok++
			case o.Error != nil && o.Error.Kind == casemate.Busy:
				busy++
			default:
				t.Errorf("%+v %q", o.Error, textOf(o))
			}
		})
	}
	all.Wait()
	if ok != waitingPerGuest+1 || busy != 15-ok {
		t.Errorf("%d ok, %d busy", ok, busy)
	}
	if n := w.b.count(); n != 1 {
		t.Errorf("%d guests served one session", n)
	}
}

func TestEndSessionWhileCalled(t *testing.T) {
	w := newWorld(t, Config{}, a("good", inSession))
	s := w.NewSession()
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { wants(t, w.code("good", s, "sleep 5s"), casemate.Cancelled, "ended") })
	}
	until(t, "they run", func() bool { return len(w.Status().Calls) == 5 && w.b.alive() == 1 })
	begin := time.Now()
	w.EndSession(s)
	all.Wait()
	until(t, "none is alive", func() bool { return w.b.alive() == 0 }) // one that had not begun a call may be behind
	if time.Since(begin) > 2*time.Second {
		t.Errorf("after %s", time.Since(begin))
	}
}

// More guests than there are places: the one that is idle for longest goes,
// and its session is told.
func TestPlacesAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 70 processes")
	}
	w := newWorld(t, Config{}, a("good", inSession))
	var ids []casemate.SessionID
	for i := range maxSeated + 2 {
		ids = append(ids, w.NewSession())
		w.must("good", ids[i], fmt.Sprint("set x ", i))
	}
	if n := w.b.alive(); n != maxSeated {
		t.Errorf("%d guests are alive", n)
	}
	wants(t, w.code("good", ids[0], "get x"), casemate.Gone, "lost", "place")
	if got := w.must("good", ids[maxSeated+1], "get x"); got != fmt.Sprintf("<%d>", maxSeated+1) {
		t.Error(got)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	w := newWorld(t, Config{}, a("good"))
	first := w.NewSession()
	for range maxSessions {
		w.NewSession()
	}
	if n := len(w.sessions); n != maxSessions {
		t.Errorf("%d sessions", n)
	}
	wants(t, w.code("good", first, ""), casemate.Gone)
}
