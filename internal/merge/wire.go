package merge

import (
	"maps"
	"slices"

	"github.com/casemate/casemate/internal/codec"
)

// Bounds of what the process that merges tells its parent.
const (
	MaxChanges = 3*MaxEntries + 1024 // entries that a plan can hold steps for
	MaxWire    = 256 << 20           // bytes
	maxText    = 8 << 10             // of one string
)

// EncodeChanges returns the wire form of cs.
func EncodeChanges(cs []Change) []byte {
	w := &codec.Writer{}
	codec.List(w, cs, func(c Change) {
		for _, s := range []string{c.Path, c.Did, c.Why, c.Kept} {
			w.String(s)
		}
	})
	return w.B
}

// DecodeChanges is the inverse of EncodeChanges. It refuses more than
// MaxChanges, unknown words and overlong strings.
func DecodeChanges(b []byte) ([]Change, error) {
	r := &codec.Reader{B: b}
	n := r.Uint()
	if len(b) > MaxWire || n > MaxChanges || n > uint64(len(r.B))/4 { // four strings take four bytes
		return nil, codec.ErrMalformed
	}
	var cs []Change
	for range n {
		c := Change{Path: r.String(), Did: r.String(), Why: r.String(), Kept: r.String()}
		switch c.Did {
		case Created, Changed, Deleted, Held, Conflict:
		default:
			return nil, codec.ErrMalformed
		}
		if len(c.Path) > maxText || len(c.Why) > maxText || len(c.Kept) > maxText {
			return nil, codec.ErrMalformed
		}
		cs = append(cs, c)
	}
	return cs, r.End()
}

// EncodeKnown returns the wire form of k, which is the same for equal maps.
func EncodeKnown(k map[string]Stamp) []byte {
	w := &codec.Writer{}
	codec.List(w, slices.Sorted(maps.Keys(k)), func(path string) {
		s := k[path]
		w.String(path)
		for _, v := range []uint64{s.Ino, uint64(s.Ctime), s.UpperIno, uint64(s.UpperCtime)} {
			w.Uint(v)
		}
	})
	return w.B
}

// DecodeKnown is the inverse of EncodeKnown, under the bounds of
// DecodeChanges. The map is not nil.
func DecodeKnown(b []byte) (map[string]Stamp, error) {
	r := &codec.Reader{B: b}
	n := r.Uint()
	if len(b) > MaxWire || n > 4*MaxChanges || n > uint64(len(r.B))/5 {
		return nil, codec.ErrMalformed
	}
	k := map[string]Stamp{}
	last := ""
	for i := range n {
		path := r.String()
		s := Stamp{Ino: r.Uint(), Ctime: int64(r.Uint()), UpperIno: r.Uint(), UpperCtime: int64(r.Uint())}
		if i > 0 && path <= last || len(path) > maxText {
			return nil, codec.ErrMalformed
		}
		k[path], last = s, path
	}
	return k, r.End()
}
