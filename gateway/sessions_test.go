package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway/gatewaytest"
)

// kept runs code in the guest of a session, and returns what it printed.
func kept(t *testing.T, r Router, s *Sessions, caller Caller, name, code string) string {
	t.Helper()
	id, release, err := s.Use(caller, name)
	if err != nil {
		return string(casemate.KindOf(err))
	}
	defer release()
	o := r.Call(t.Context(), casemate.Call{Session: id, Tool: "kept", Arguments: []byte(fmt.Sprintf(`{"code":%q}`, code))})
	if o.Error != nil {
		return string(o.Error.Kind)
	}
	var out strings.Builder
	for _, c := range o.Result.Content {
		out.WriteString(c.Text)
	}
	return strings.TrimSpace(out.String())
}

func TestSessionsArePrivateAndGoneForGood(t *testing.T) {
	r, _ := gatewaytest.New(t)
	s := NewSessions(r, 0)
	kept(t, r, s, "alice", "work", "set ALICE")
	kept(t, r, s, "alice\x00work", "x", "set JOINED") // no caller and name make another's together
	for _, c := range []struct {
		caller     Caller
		name, want string
	}{
		{"alice", "work", "kept ALICE"},
		{"bob", "work", "kept"},
		{"", "work", "kept"},
		{"alice", "work2", "kept"},
		{"alice", "", "kept"},
		{"alice", strings.Repeat("x", maxSessionName), "kept"},
		{"alice", strings.Repeat("x", maxSessionName+1), "invalid"},
		{"alice", "a b", "invalid"},
		{"alice", "a\x00b", "invalid"},
		{"alice", "é", "invalid"},
	} {
		if got := kept(t, r, s, c.caller, c.name, "get"); got != c.want {
			t.Errorf("%q of %q: %q, want %q", c.name, c.caller, got, c.want)
		}
	}
	if s.End("mallory", "work") || !s.End("alice", "work") || s.End("alice", "work") {
		t.Error("a session was ended by another, or not by its own caller, or twice")
	}
	if got := kept(t, r, s, "alice", "work", "get"); got != "gone" {
		t.Errorf("after its end: %q", got)
	}
	if got := kept(t, r, s, "bob", "work", "get"); got != "kept" {
		t.Errorf("bob's, after the end of alice's: %q", got)
	}
	s.Close()
	for _, name := range []string{"work", "new"} {
		if got := kept(t, r, s, "bob", name, "get"); got != "gone" {
			t.Errorf("%s after Close: %q", name, got)
		}
	}
	for _, p := range r.Status().Pools {
		if p.Busy != 0 {
			t.Errorf("guests are left: %+v", p)
		}
	}
}

// TestIdle: a session with a call is not idle, however long the call.
func TestIdle(t *testing.T) {
	r, _ := gatewaytest.New(t)
	s := NewSessions(r, 40*time.Millisecond)
	defer s.Close()
	_, release, err := s.Use("a", "n")
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(120 * time.Millisecond)
	if got := kept(t, r, s, "a", "n", "get"); got != "kept" {
		t.Errorf("while it is used: %q", got)
	}
	release()
	time.Sleep(200 * time.Millisecond)
	if got := kept(t, r, s, "a", "n", "get"); got != "gone" {
		t.Errorf("idle: %q", got)
	}
}

func TestTooManyNames(t *testing.T) {
	r, _ := gatewaytest.New(t)
	s := NewSessions(r, 0)
	defer s.Close()
	kept(t, r, s, "a", "known", "set X")
	for i := range maxNames - 1 {
		s.named[keyOf("a", fmt.Sprint(i))] = nil // ended
	}
	if got := kept(t, r, s, "a", "new", "get"); got != "busy" {
		t.Errorf("one name too many: %q", got)
	}
	if got := kept(t, r, s, "a", "known", "get"); got != "kept X" {
		t.Errorf("a known one: %q", got)
	}
	if got := kept(t, r, s, "a", "", "get"); got != "kept" {
		t.Errorf("none: %q", got)
	}
}
