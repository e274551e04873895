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

// Probe says what the outer walls are here, which are those of every backend.
func (v view) Probe(ctx context.Context) (casemate.Capabilities, error) {
	c, err := v.Backend.Probe(ctx)
	c.Name = v.name
	return c, err
}
