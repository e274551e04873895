package gateway

import (
	"cmp"
	"slices"
	"strings"

	"github.com/casemate/casemate"
)

// Peek returns the session that caller names, without using it: "" where the
// name is empty or was never used, and an Error of kind Gone or Invalid where
// Use would have it.
func (s *Sessions) Peek(caller Caller, name string) (casemate.SessionID, error) {
	if name == "" {
		return "", nil
	}
	if err := checkName(name); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := keyOf(caller, name)
	_, used := s.used[key]
	switch x := s.live[key]; {
	case x != nil:
		return x.id, nil
	case used || s.closed || strings.HasPrefix(name, ours):
		return "", gone()
	}
	return "", nil
}

// Get returns a live session of caller, or an Error of kind Gone.
func (s *Sessions) Get(caller Caller, name string) (Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.live[keyOf(caller, name)]; x != nil {
		return x.info(), nil
	}
	return Session{}, gone()
}

// List returns the live sessions of caller, oldest first.
func (s *Sessions) List(caller Caller) []Session {
	list := []Session{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.live {
		if x.owner == caller {
			list = append(list, x.info())
		}
	}
	slices.SortFunc(list, func(a, b Session) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	return list
}
