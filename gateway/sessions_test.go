package gateway

import (
	"errors"
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
	s.most = 1000
	kept(t, r, s, "a", "known", "set X")
	for i := range s.most - 1 {
		s.used[keyOf("a", fmt.Sprint(i))] = struct{}{} // ended
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
	if x, created, err := s.New("a", ""); err != nil || !created || kept(t, r, s, "a", x.Name, "get") != "kept" {
		t.Errorf("one that is made here: %+v %v %v", x, created, err)
	}
}

// TestSessionsOfOneCaller: who begins sessions without end costs no other
// caller any.
func TestSessionsOfOneCaller(t *testing.T) {
	r, _ := gatewaytest.New(t)
	s := NewSessions(r, 0)
	defer s.Close()
	s.each = 3
	kept(t, r, s, "a", "one", "set X")
	made, _, err := s.New("a", "")
	if err != nil {
		t.Fatal(err)
	}
	kept(t, r, s, "a", "two", "get")
	if got := kept(t, r, s, "a", "three", "get"); got != "busy" {
		t.Errorf("a fourth that is named: %q", got)
	}
	if _, _, err := s.New("a", ""); casemate.KindOf(err) != casemate.Busy {
		t.Errorf("a fourth that is made: %v", err)
	}
	if got := kept(t, r, s, "a", "one", "get"); got != "kept X" {
		t.Errorf("one that is there: %q", got)
	}
	if got := kept(t, r, s, "b", "three", "get"); got != "kept" {
		t.Errorf("another caller's: %q", got)
	}
	s.End("a", made.Name)
	if got := kept(t, r, s, "a", "three", "get"); got != "kept" {
		t.Errorf("after the end of one: %q", got)
	}
}

// TestUnrecordedNames: a name that cannot be recorded begins nothing, or it
// might name something else after a restart.
func TestUnrecordedNames(t *testing.T) {
	r, _ := gatewaytest.New(t)
	s := NewSessions(r, 0)
	defer s.Close()
	full := true
	s.Keep(func(casemate.Receipt) error {
		if full {
			return errors.New("no space")
		}
		return nil
	}, nil)
	if got := kept(t, r, s, "a", "x", "set X"); got != "internal" {
		t.Errorf("%q", got)
	}
	if _, _, err := s.New("a", "x"); casemate.KindOf(err) != casemate.Internal {
		t.Error(err)
	}
	if l := s.List("a"); len(l) != 0 {
		t.Errorf("%+v", l)
	}
	full = false
	if got := kept(t, r, s, "a", "x", "get"); got != "kept" {
		t.Errorf("%q", got)
	}
}

func TestPeekBeginsNothing(t *testing.T) {
	r, _ := gatewaytest.New(t)
	s := NewSessions(r, 0)
	defer s.Close()
	kept(t, r, s, "a", "live", "get")
	kept(t, r, s, "a", "over", "get")
	s.End("a", "over")
	for name, want := range map[string]casemate.Kind{"live": "", "over": casemate.Gone, "new": "", "": "", "s_new": casemate.Gone, "a b": casemate.Invalid} {
		id, err := s.Peek("a", name)
		if err != nil && casemate.KindOf(err) != want || err == nil && want != "" || (id != "") != (name == "live") {
			t.Errorf("%q: %q %v", name, id, err)
		}
	}
	if l := s.List("a"); len(l) != 1 || l[0].Name != "live" {
		t.Errorf("%+v", l)
	}
}
