package gateway

import (
	"crypto/sha256"
	"errors"
	"fmt"
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
	maxNames       = 1 << 16   // names that one process remembers, ended ones too
)

// Sessions gives each name of each caller a session of the router. A session
// begins with the first use of its name, and ends by End, when it was idle
// too long, or with Close. Then it is gone for good: a name never makes a
// replacement of what it once named, for a planner that goes on with an empty
// sandbox as if it were the full one does harm.
//
// To keep that promise every name is remembered (32 bytes) as long as the
// process lives; when there are too many, new ones are refused.
type Sessions struct {
	router Router
	idle   time.Duration

	mu     sync.Mutex
	named  map[nameKey]*session // nil once ended
	closed bool
}

// A nameKey is the hash of caller and name.
type nameKey [sha256.Size]byte

type session struct {
	id    casemate.SessionID
	users int
	timer *time.Timer // runs while users is 0
}

// NewSessions makes an empty Sessions; an idle of 0 is DefaultIdle.
func NewSessions(r Router, idle time.Duration) *Sessions {
	if idle == 0 {
		idle = DefaultIdle
	}
	return &Sessions{router: r, idle: idle, named: map[nameKey]*session{}}
}

func keyOf(caller Caller, name string) nameKey {
	return sha256.Sum256([]byte(string(caller) + "\x00" + name))
}

// Use returns the session that caller names, for one call, and what must be
// called after it. The empty name is a session for that call alone. Errors
// are of kind Invalid (no such name can be), Gone and Busy.
func (s *Sessions) Use(caller Caller, name string) (casemate.SessionID, func(), error) {
	if name == "" {
		id := s.router.NewSession()
		return id, func() { s.router.EndSession(id) }, nil
	}
	if err := checkName(name); err != nil {
		return "", nil, err
	}
	key := keyOf(caller, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	x, known := s.named[key]
	switch {
	case s.closed || known && x == nil:
		return "", nil, &casemate.Error{Op: "session", Kind: casemate.Gone,
			Err: errors.New("the session was ended"), Fix: "begin another under a name of its own"}
	case !known && len(s.named) >= maxNames:
		return "", nil, &casemate.Error{Op: "session", Kind: casemate.Busy,
			Err: fmt.Errorf("%d sessions were named already", maxNames), Fix: "use one name for one conversation, or restart casemate serve"}
	case !known:
		x = &session{id: s.router.NewSession()}
		x.timer = time.AfterFunc(s.idle, func() { s.endIdle(key) })
		s.named[key] = x
	}
	x.users++
	x.timer.Stop()
	return x.id, func() { s.release(x) }, nil
}

func checkName(name string) error {
	bad := len(name) > maxSessionName
	for i := 0; i < len(name); i++ {
		bad = bad || name[i] <= ' ' || name[i] > '~'
	}
	if bad {
		return &casemate.Error{Op: "session", Kind: casemate.Invalid,
			Err: fmt.Errorf("session: the name %.64q is not 1 to %d visible ASCII characters", name, maxSessionName), Fix: "use a UUID, for example"}
	}
	return nil
}

func (s *Sessions) release(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.users--; x.users == 0 {
		x.timer.Reset(s.idle)
	}
}

func (s *Sessions) endIdle(key nameKey) {
	s.mu.Lock()
	x := s.named[key]
	if x == nil || x.users > 0 { // used again since the timer fired
		s.mu.Unlock()
		return
	}
	s.named[key] = nil
	s.mu.Unlock()
	s.router.EndSession(x.id)
}

// End ends what caller names, with its running calls. It reports whether
// there was such a session.
func (s *Sessions) End(caller Caller, name string) bool {
	key := keyOf(caller, name)
	s.mu.Lock()
	x := s.named[key]
	if x != nil {
		x.timer.Stop()
		s.named[key] = nil
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
	for key, x := range s.named {
		if x != nil {
			x.timer.Stop()
			live = append(live, x)
			s.named[key] = nil
		}
	}
	s.mu.Unlock()
	for _, x := range live {
		s.router.EndSession(x.id)
	}
}
