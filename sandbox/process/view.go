package process

import (
	"context"

	"github.com/casemate/casemate"
)

// As is the same backend by another name: a sandbox of every kind that the
// spawner makes begins as one of this backend, and what stands in it is the
// guest's own, which the plan says.
func (b *Backend) As(name string) casemate.Backend { return view{b, name} }

type view struct {
	*Backend
	name string
}

// Name is the name that it was given.
func (v view) Name() string { return v.name }

// Probe asks the spawner to make a sandbox of this backend, and says what was on.
// A backend whose sandboxes hold a container has one only where a tool of the
// plan is of it. The answer is not kept.
func (v view) Probe(ctx context.Context) (casemate.Capabilities, error) {
	return v.Backend.probe(ctx, v.name)
}
