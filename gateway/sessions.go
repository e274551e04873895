package gateway

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casemate/casemate"
)

// SessionHeader is the HTTP header that names the session of a request.
const SessionHeader = "Casemate-Session"

// Bounds of session names.
const (
	DefaultIdle    = time.Hour // a named session without a call is ended after it
	maxSessionName = 128       // bytes
	maxNames       = 1 << 20   // names that callers chose and that are remembered, ended ones too
	maxEach        = 4_000     // live sessions of one caller, of the 10,000 that a router holds
	ours           = "s_"      // what names begin with that are made here, and no other
)

// Sessions gives each name of each caller a session of the router. A session
// begins with the first use of its name, or with New, and ends by End, when it
// was idle too long, or with Close. Then it is gone for good, after a restart
// too: a name never makes a replacement of what it once named, for a planner
// that goes on with an empty sandbox as if it were the full one does harm.
//
// To keep that promise every name that a caller chose is remembered (16 bytes,
// 1,048,576 names); when there are too many, new ones are refused. Names that
// New makes need no memory: one that is not of a live session is gone. A caller
// has at most 4,000 live ones.
type Sessions struct {
	router Router
	idle   time.Duration
	most   int // names that callers chose; maxNames but for tests
	each   int // live sessions of one caller; maxEach but for tests
	record func(casemate.Receipt) error

	mu     sync.Mutex
	live   map[NameKey]*session
	owns   map[Caller]int       // live ones of each
	used   map[NameKey]struct{} // names that callers chose, ended ones too
	made   int                  // live ones whose names were made here
	closed bool
}

type session struct {
	Session
	owner Caller
	id    casemate.SessionID
	users int
	timer *time.Timer // runs while users is 0
}

// A Session is what its caller may know of it.
type Session struct {
	Name    string              `json:"id"`
	Created time.Time           `json:"created"`
	Used    time.Time           `json:"used"`  // when its last call began or ended
	Calls   int                 `json:"calls"` // that run
	Tools   []casemate.ToolName `json:"tools"` // that it has called, of those that keep a guest for it
}

// NewSessions makes an empty Sessions; an idle of 0 is DefaultIdle.
func NewSessions(r Router, idle time.Duration) *Sessions {
	if idle == 0 {
		idle = DefaultIdle
	}
	return &Sessions{router: r, idle: idle, most: maxNames, each: maxEach, live: map[NameKey]*session{}, owns: map[Caller]int{}, used: map[NameKey]struct{}{}, record: func(casemate.Receipt) error { return nil }}
}

// Keep lets names outlive the process: record keeps the event that a name is
// used, before it is, and past are the keys of the names of former processes,
// joined. It must be called before every other method.
func (s *Sessions) Keep(record func(casemate.Receipt) error, past []byte) {
	s.record = record
	for k := range slices.Chunk(past, len(NameKey{})) {
		if len(k) == len(NameKey{}) {
			s.used[NameKey(k)] = struct{}{}
		}
	}
}

// Use returns the session that caller names, for one call, and what must be
// called after it. The empty name is a session for that call alone. Errors
// are of kind Invalid (no such name can be), Gone, Busy, and Internal where a
// new name cannot be recorded.
func (s *Sessions) Use(caller Caller, name string) (casemate.SessionID, func(), error) {
	if name == "" {
		id := s.router.NewSession()
		return id, func() { s.router.EndSession(id) }, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x, _, err := s.open(caller, name)
	if err != nil {
		return "", nil, err
	}
	x.users++
	x.Used = time.Now()
	x.timer.Stop()
	return x.id, func() { s.release(x) }, nil
}

// New begins the session of that name, or, where the name is empty, of one
// that it makes; it returns the one that is there already where there is one.
func (s *Sessions) New(caller Caller, name string) (x Session, created bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" {
		if s.closed || s.made >= maxMade {
			return Session{}, false, &casemate.Error{Op: "session", Kind: casemate.Busy, Err: fmt.Errorf("%d sessions that were made here live, which is the limit", s.made), Fix: "end some that are not used"}
		}
		if err := s.room(caller); err != nil {
			return Session{}, false, err
		}
		x := s.begin(caller, random(ours), s.router.NewSession())
		s.made++
		return x.info(), true, nil
	}
	o, created, err := s.open(caller, name)
	if err != nil {
		return Session{}, false, err
	}
	return o.info(), created, nil
}

// maxMade is how many sessions that New named may live: as many as a router
// holds.
const maxMade = 10_000

// open finds a live session, or begins one; s.mu is held.
func (s *Sessions) open(caller Caller, name string) (x *session, created bool, err error) {
	if err := checkName(name); err != nil {
		return nil, false, err
	}
	key := keyOf(caller, name)
	_, used := s.used[key]
	switch x := s.live[key]; {
	case s.closed:
		return nil, false, gone()
	case x != nil:
		return x, false, nil
	case used || strings.HasPrefix(name, ours):
		return nil, false, gone()
	case len(s.used) >= s.most:
		return nil, false, &casemate.Error{Op: "session", Kind: casemate.Busy,
			Err: fmt.Errorf("%d sessions were named already", s.most), Fix: "let POST /v1/sessions make the name"}
	}
	if err := s.room(caller); err != nil {
		return nil, false, err
	}
	h := hashOf(caller, name)
	id := s.router.NewSession()
	r := casemate.Receipt{Time: time.Now(), Event: "session", Call: NewCall(), Session: id, Name: casemate.Digest("sha256:" + hex.EncodeToString(h[:]))}
	if err := s.record(r); err != nil {
		s.router.EndSession(id)
		return nil, false, &casemate.Error{Op: "session", Kind: casemate.Internal, Err: fmt.Errorf("its name cannot be recorded, so it is not begun: %w", err), Fix: "make room for, and writable, the record file"}
	}
	s.used[key] = struct{}{}
	return s.begin(caller, name, id), true, nil
}

// room says whether a caller may begin one more: where a router has too many it
// ends others, and those must not be another caller's. s.mu is held.
func (s *Sessions) room(caller Caller) error {
	if n := s.owns[caller]; n >= s.each {
		return &casemate.Error{Op: "session", Kind: casemate.Busy, Err: fmt.Errorf("%d of your sessions live, which is the limit", n), Fix: "end some that are not used"}
	}
	return nil
}

// begin begins a session; s.mu is held.
func (s *Sessions) begin(caller Caller, name string, id casemate.SessionID) *session {
	now := time.Now()
	x := &session{Session: Session{Name: name, Created: now, Used: now, Tools: []casemate.ToolName{}}, owner: caller, id: id}
	key := keyOf(caller, name)
	x.timer = time.AfterFunc(s.idle, func() { s.endIdle(key) })
	s.live[key] = x
	s.owns[caller]++
	return x
}

// info is a copy of what its caller may know; s.mu is held.
func (x *session) info() Session {
	i := x.Session
	i.Calls, i.Tools = x.users, slices.Clone(x.Tools)
	return i
}

func gone() error {
	return &casemate.Error{Op: "session", Kind: casemate.Gone, Err: errors.New("the session was ended, or is not one of yours"), Fix: "begin another"}
}

// Called remembers that a session has called a tool that keeps a guest for it.
func (s *Sessions) Called(caller Caller, name string, tool casemate.ToolName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.live[keyOf(caller, name)]; x != nil && !slices.Contains(x.Tools, tool) {
		x.Tools = append(x.Tools, tool)
	}
}

func (s *Sessions) release(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.Used = time.Now()
	if x.users--; x.users == 0 && s.live[keyOf(x.owner, x.Name)] == x {
		x.timer.Reset(s.idle)
	}
}

func (s *Sessions) endIdle(key NameKey) {
	s.mu.Lock()
	x := s.live[key]
	if x == nil || x.users > 0 { // used again since the timer fired
		s.mu.Unlock()
		return
	}
	s.forget(key, x)
	s.mu.Unlock()
	s.router.EndSession(x.id)
}

// forget makes a session gone; s.mu is held.
func (s *Sessions) forget(key NameKey, x *session) {
	x.timer.Stop()
	delete(s.live, key)
	if s.owns[x.owner]--; s.owns[x.owner] == 0 {
		delete(s.owns, x.owner)
	}
	if strings.HasPrefix(x.Name, ours) {
		s.made--
	}
}

// End ends what caller names, with its running calls. It reports whether
// there was such a session.
func (s *Sessions) End(caller Caller, name string) bool {
	key := keyOf(caller, name)
	s.mu.Lock()
	x := s.live[key]
	if x != nil {
		s.forget(key, x)
	}
	s.mu.Unlock()
	if x == nil {
		return false
	}
	s.router.EndSession(x.id)
	return true
}

// Close ends all sessions that were named.
func (s *Sessions) Close() {
	s.mu.Lock()
	s.closed = true
	var live []*session
	for key, x := range s.live {
		live = append(live, x)
		s.forget(key, x)
	}
	s.mu.Unlock()
	for _, x := range live {
		s.router.EndSession(x.id)
	}
}
