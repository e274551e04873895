// Package none is the backend that refuses everything. It is what a router
// has until a real backend is wired: no tool runs, and each refusal says so.
package none

import (
	"context"
	"errors"

	"github.com/casemate/casemate"
)

// Backend is the null backend; its zero value is ready.
type Backend struct{}

// Name returns "none".
func (Backend) Name() string { return "none" }

const fix = "run Casemate on Linux with a backend that casemate doctor shows as available"

// Probe says that nothing can be enforced.
func (Backend) Probe(context.Context) (casemate.Capabilities, error) {
	return casemate.Capabilities{Name: "none", Fix: fix, Controls: []casemate.Control{}}, nil
}

// Start refuses.
func (Backend) Start(_ context.Context, s casemate.Spec) (casemate.Sandbox, error) {
	e := &casemate.Error{Op: "start", Kind: casemate.Unsupported, Err: errors.New("no backend can confine it here"), Fix: fix}
	if s.Tool != nil {
		e.Tool = s.Tool.Name
	}
	return nil, e
}
