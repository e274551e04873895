package oci

import (
	"strings"

	"github.com/casemate/casemate/internal/plan"
)

// A Runtime is a program that makes containers.
type Runtime struct {
	Path    string // absolute, without a link
	Version string // "runc 1.1.5": its name, and what it says of itself
	File    string // contain.FileID of Path when that was asked: no other is run
}

// Contain turns a guest of the process backend into one of this: the same in a
// container that rt makes. layers are the folders of an image, the top one first;
// without any its root is made of the host's own system folders.
func Contain(g plan.Guest, rt Runtime, layers []string) (plan.Guest, error) {
	g.Backend = Name
	if strings.HasPrefix(rt.Version, "runsc ") {
		g.Backend = Sentry
	}
	g.Runtime, g.Version, g.File, g.Layers = rt.Path, rt.Version, rt.File, layers
	g.Fork = false // a template stands in one sandbox with its children
	b, err := Spec(g)
	g.Bundle = string(b)
	return g, err
}
