// Package merge carries what a guest wrote to a write grant, the upper tree
// of an overlay file system, to the folder on the host that was granted.
package merge

import "errors"

// Bounds of one merge. Over any of them nothing at all is carried.
const (
	MaxEntries = 100_000 // entries of the upper tree and of host folders that are deleted, together
	MaxDepth   = 256     // folders beneath each other
	MaxPath    = 3 << 10 // bytes of a path beneath the grant
)

// A Grant is one write grant of one call.
type Grant struct {
	Upper    int              // descriptor of the overlay's upper folder; the guest is dead or frozen
	Host     int              // descriptor of the granted folder
	HostPath string           // its real path
	At       string           // where the guest saw it
	Names    []string         // protected names that the operator grants all the same
	Pinned   []string         // absolute host paths that are never written
	Since    int64            // CLOCK_REALTIME_COARSE at the claim of the call, Unix nanoseconds
	Known    map[string]Stamp // by path beneath the grant: what earlier merges of this session settled
	Keep     int              // descriptor of an empty folder, of this grant and call alone
}

// A Stamp is one settled entry.
type Stamp struct {
	Ino        uint64 // of the host's entry after the merge; 0: there is none
	Ctime      int64
	UpperIno   uint64 // of the guest's entry then; 0: deleted
	UpperCtime int64
}

// A Change is one thing that a call did, or tried to do, to its grant.
type Change struct {
	Path string // as the guest saw it
	Did  string // created, changed, deleted, held, conflict
	Why  string
	Kept string
}

// A Step is one thing that Apply will do.
type Step struct {
	Path string // beneath the grant
	Do   string
	Why  string
}

var errNot = errors.New("not built")

// Plan computes what Apply will do. It only reads.
func Plan(g Grant) ([]Step, error) { return nil, errNot }

// Apply carries out steps.
func Apply(g Grant, steps []Step) ([]Change, error) { return nil, errNot }

// Undo takes back what a call wrote.
func Undo(keep, host int) ([]Change, error) { return nil, errNot }

// Protected says whether a host path is protected, and by which name.
func Protected(hostPath string, granted []string) (name string, yes bool) { return "", true }

// EncodeChanges returns the wire form of cs.
func EncodeChanges(cs []Change) []byte { return nil }

// DecodeChanges is the inverse of EncodeChanges.
func DecodeChanges(b []byte) ([]Change, error) { return nil, errNot }

// EncodeKnown returns the wire form of k.
func EncodeKnown(k map[string]Stamp) []byte { return nil }

// DecodeKnown is the inverse of EncodeKnown.
func DecodeKnown(b []byte) (map[string]Stamp, error) { return nil, errNot }
