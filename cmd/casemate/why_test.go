package main

import (
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/router"
)

// TestWhyUnenforceable: what the host withholds is denied by why as it is by call.
func TestWhyUnenforceable(t *testing.T) {
	controls := []casemate.Control{
		{Name: "seccomp", State: "on"},
		{Name: "own uid", State: "degraded"},
		{Name: "memory limit", State: "missing", Why: "no cgroup", Fix: "delegate one"},
	}
	for _, c := range []struct {
		accepted []string
		before   *casemate.ErrorJSON
		effect   string
		kind     casemate.Kind
	}{
		{nil, nil, "deny", casemate.Unsupported},
		{[]string{"cpu"}, nil, "deny", casemate.Unsupported},
		{[]string{"memory"}, nil, "allow", ""},
		{nil, &casemate.ErrorJSON{Kind: casemate.Invalid}, "allow", casemate.Invalid},
	} {
		w := &router.Why{Tool: "x", Decision: &casemate.Decision{Effect: "allow"}, Error: c.before, Controls: controls}
		unenforceable(w, c.accepted)
		kind := casemate.Kind("")
		if w.Error != nil {
			kind = w.Error.Kind
		}
		if w.Decision.Effect != c.effect || kind != c.kind {
			t.Errorf("%v: %s, %+v", c.accepted, w.Decision.Effect, w.Error)
		}
	}
}
