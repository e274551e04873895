package casemate

import (
	"slices"
)

// A Label says who may have written a value and who may read it. The zero
// label is the user's own words, which anyone may read.
type Label struct {
	Writers []string `json:"writers,omitempty"` // principals; sorted
	Readers []string `json:"readers,omitempty"` // sorted; nil is everyone
	Nobody  bool     `json:"nobody,omitempty"`  // nobody may read it: no reader is left
}

// Join returns the label of a value made of both: written by either, read by
// those who may read both.
func (l Label) Join(m Label) Label {
	out := Label{Writers: union(l.Writers, m.Writers), Nobody: l.Nobody || m.Nobody}
	switch {
	case out.Nobody:
	case l.Readers == nil:
		out.Readers = slices.Clone(m.Readers)
	case m.Readers == nil:
		out.Readers = slices.Clone(l.Readers)
	default:
		for _, r := range l.Readers {
			if slices.Contains(m.Readers, r) {
				out.Readers = append(out.Readers, r)
			}
		}
		out.Nobody = out.Readers == nil
	}
	return out
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}
