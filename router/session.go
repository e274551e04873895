package router

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/upstream"
)

// The bounds of sessions; see the package comment.
const (
	maxSessions = 10_000
	maxSeated   = 64
	maxIdle     = 30 * time.Minute
	maxWait     = time.Minute // of a call, for its slot or its turn
	perServer   = 16          // calls that one MCP server serves at once
)

// A session is one conversation of one caller; the router's mu guards it, and
// of its seats what says so.
type session struct {
	id    casemate.SessionID
	used  time.Time // when its last call began or ended
	busy  int       // calls in flight
	calls map[casemate.ToolName]int
	seats map[string]*seat

	variants map[casemate.Digest]casemate.Digest // of guests: what this session gets instead
	clients  []*attached
	keys     map[keyID]*keyed
}

// A seat is where the guest of one tool, or of one MCP server, sits that
// serves one session. A call of an ordinary tool has the seat while it runs;
// those of a server have it only to come and to go.
type seat struct {
	inside int           // calls that run or wait; the router's mu guards it
	many   chan struct{} // one for each call that a server serves; nil elsewhere

	turn  chan struct{} // whoever fills it has the seat, and guards what follows
	state upstream.State
	guest *live
	lost  string      // why its guest is gone, until a call was told
	since time.Time   // when the last call left
	idle  *time.Timer // set while nobody has the seat
}

func newID(prefix string) string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// NewSession makes a session. Its id is a secret between the router and one
// caller.
func (r *Router) NewSession() casemate.SessionID {
	s := &session{id: casemate.SessionID(newID("s_")), used: time.Now(), calls: map[casemate.ToolName]int{}, seats: map[string]*seat{}, variants: map[casemate.Digest]casemate.Digest{}, keys: map[keyID]*keyed{}}
	var oldest casemate.SessionID
	r.mu.Lock()
	if len(r.sessions) >= maxSessions {
		var least time.Time
		for id, o := range r.sessions {
			if o.busy == 0 && (oldest == "" || o.used.Before(least)) {
				oldest, least = id, o.used
			}
		}
	}
	if !r.closed {
		r.sessions[s.id] = s
	}
	r.mu.Unlock()
	if oldest != "" {
		r.EndSession(oldest)
	}
	return s.id
}

// EndSession ends a session for good: its calls are cancelled, its guests are
// gone when it returns, and its id answers Gone from then on.
func (r *Router) EndSession(id casemate.SessionID) {
	r.mu.Lock()
	s := r.sessions[id]
	delete(r.sessions, id)
	for _, c := range r.inflight {
		if c.Session == id {
			c.cancel(&casemate.Error{Op: "call", Kind: casemate.Cancelled, Err: errors.New("its session was ended")})
		}
	}
	var seats []*seat
	var variants []casemate.Digest
	if s != nil {
		r.forgetKeys(s)
		variants = slices.Collect(maps.Values(s.variants))
		for _, t := range s.seats {
			seats = append(seats, t)
		}
	}
	r.mu.Unlock()
	var all sync.WaitGroup
	for _, t := range seats {
		all.Go(func() {
			t.turn <- struct{}{} // the call that has it was cancelled
			r.seize(t)
			r.empty(t, "its session was ended")
			r.release(t)
		})
	}
	all.Wait()
	r.forget(variants...)
}

func gone(id casemate.SessionID) *casemate.Error {
	return &casemate.Error{Op: "call", Kind: casemate.Gone, Err: fmt.Errorf("the session %s was ended, or is not one of this server", quote(string(id))), Fix: "begin another session"}
}

// seatOf returns the seat of a call, nil where a guest serves this call alone;
// r.mu is held.
func (r *Router) seatOf(t *tool, s *session) *seat {
	if s == nil || t.profile.Scope != casemate.ScopeSession {
		return nil
	}
	key := seatKey(t)
	if s.seats[key] == nil {
		s.seats[key] = &seat{turn: make(chan struct{}, 1)}
		if t.Run.MCP != nil {
			s.seats[key].many = make(chan struct{}, perServer)
		}
	}
	return s.seats[key]
}

// seatKey names the seat of a tool: of MCP it is the sandbox that serves it,
// and of others the tool, so that a changed tool finds what it changed from.
func seatKey(t *tool) string {
	if t.Run.MCP != nil {
		return string(t.guest)
	}
	return string(t.Name)
}

// await waits until c takes a value, for a minute at most.
func await(ctx context.Context, c chan struct{}, t casemate.ToolName, forWhat string) error {
	select {
	case c <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return cancelled(ctx, t)
	case <-timer.C:
		return &casemate.Error{Op: "call", Tool: t, Kind: casemate.Busy, Err: fmt.Errorf("waited %s for %s", maxWait, forWhat), Fix: "try again when some calls are over"}
	}
}

// seize has the seat: its idle timer is off.
func (r *Router) seize(t *seat) {
	if t.idle != nil && t.idle.Stop() {
		r.owned.Done()
	}
	t.idle = nil
}

// release leaves the seat to the next; a guest that nobody comes to is ended.
func (r *Router) release(t *seat) {
	t.since = time.Now()
	if t.guest != nil && t.guest.users == 0 {
		r.owned.Add(1)
		t.idle = time.AfterFunc(r.idle, func() {
			defer r.owned.Done()
			if !try(t.turn) {
				return
			}
			if g := t.guest; g != nil && g.users == 0 && time.Since(t.since) >= r.idle && !g.subscribed() {
				r.empty(t, fmt.Sprintf("nobody called it for %s", r.idle))
			}
			<-t.turn
		})
	}
	<-t.turn
}

func try(c chan struct{}) bool {
	select {
	case c <- struct{}{}:
		return true
	default:
		return false
	}
}

// empty ends the guest of a seat that the caller has.
func (r *Router) empty(t *seat, why string) {
	if t.guest == nil {
		return
	}
	if s := t.guest.server; s != nil {
		t.state = s.State()
	}
	t.guest.close()
	t.guest, t.lost = nil, why
	r.mu.Lock()
	r.seated--
	r.mu.Unlock()
}

// unseat ends the idle guests of sessions for which why has a reason, and
// returns how many. Those that serve a call are left to it.
func (r *Router) unseat(why func(*session, *live) string) (n int) {
	var all sync.WaitGroup
	r.mu.Lock()
	for _, s := range r.sessions {
		for _, t := range s.seats {
			if !try(t.turn) {
				continue
			}
			if t.guest != nil && t.guest.users == 0 {
				if reason := why(s, t.guest); reason != "" {
					n++
					all.Go(func() {
						r.seize(t)
						r.empty(t, reason)
						r.release(t)
					})
					continue
				}
			}
			<-t.turn
		}
	}
	r.mu.Unlock()
	all.Wait()
	return n
}

// place finds a place for one more guest of a session; the one that is idle
// for longest makes it where there is none.
func (r *Router) place(t *tool) error {
	r.mu.Lock()
	if r.seated < maxSeated {
		r.seated++
		r.mu.Unlock()
		return nil
	}
	var oldest *seat
	for _, s := range r.sessions {
		for _, o := range s.seats {
			switch {
			case !try(o.turn):
			case o.guest != nil && o.guest.users == 0 && (oldest == nil || o.since.Before(oldest.since)):
				if oldest != nil {
					<-oldest.turn
				}
				oldest = o
			default:
				<-o.turn
			}
		}
	}
	r.mu.Unlock()
	if oldest == nil {
		return &casemate.Error{Op: "call", Tool: t.Name, Kind: casemate.Busy, Err: fmt.Errorf("%d guests of sessions serve calls, which is the limit", maxSeated), Fix: "try again, or end sessions that are not used"}
	}
	r.seize(oldest)
	r.empty(oldest, "others needed its place")
	r.release(oldest)
	return r.place(t)
}
