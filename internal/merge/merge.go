// Package merge carries what a guest wrote to a write grant, the upper tree
// of an overlay file system, to the folder on the host that was granted.
//
// The upper tree is hostile: its names, contents, links, modes and extended
// attributes are a guest's. It is an overlay of the kernel mounted with
// userxattr (so metacopy and redirect_dir are off): a whiteout is a character
// device 0/0, an opaque folder has user.overlay.opaque "y". The guest is dead
// or frozen. The host's folder is not hostile, but its owner, other programs
// of the owner and other merges work in it meanwhile.
//
// # What is carried
//
// Files, folders, and links that are relative and stay in the grant; deletes;
// the lower nine mode bits, of files and of new folders. Never: devices,
// FIFOs, sockets; setuid, setgid and sticky bits (a new folder inherits what
// its parent on the host gives); extended attributes, ACLs, owners, times;
// the mode of a folder that the host had. Protected names (names.go, git.go),
// pinned files and what exceeds a bound is held: reported, and not carried.
// What equals the host's is no change. A hard link becomes a file of its own,
// and a hard-linked file of the host is replaced, never written through. A
// replaced file belongs to whom the merge runs as, with that user's group or
// the folder's; its own ACL and extended attributes go with the old one.
//
// # Conflicts
//
// What changed on the host since the guest got its grant (by ctime: the clock
// must not have been set back) is never overwritten or deleted: the guest's
// version is kept aside, in conflicts/ of the call's folder, and reported.
// Grant.Since is a coarse clock: a change up to one tick before it counts.
// An entry deleted on the host while the guest changed it is told from a new
// one only where nothing was renamed; else it is made anew.
//
// # By descriptor
//
// Every entry on both sides is reached by openat2 from the two descriptors,
// beneath them, through no link, no magic link and no mount point. A file is
// written under a temporary name beside its place, and takes the place by one
// rename: killed at any moment, each file is old or new. RENAME_NOREPLACE
// makes, RENAME_EXCHANGE replaces; what was exchanged is looked at afterwards
// and, if it is not what was planned on, put back. What remains: in those
// microseconds another program can see the guest's version; a program that
// holds the old file open writes on into what was moved to the call's folder;
// a folder that its owner moves at that very moment is written where it went;
// on a file system without RENAME_EXCHANGE a change in the microsecond before
// the rename is lost to it, though not to undo where it was made in place.
// Temporary names begin with TempPrefix; the next merge that writes in a
// folder moves those of a killed one to left/ of its own call's folder. It
// tells them from those of a merge at work by flock on the folder.
//
// # Keep
//
// The call's folder gets journal, old/ (what was replaced and deleted: moved
// there if it is of the same file system and Landlock lets (REFER), else
// copied), conflicts/ and left/. It must be private to the owner. Undo works
// from it. Nothing in it is synced: it outlives processes, not power.
//
// # Limits
//
// A grant is a folder; the overlay has no way for a single file. The merging
// process must be able to read the upper tree: give it an idmapped mount of
// it, or CAP_DAC_READ_SEARCH; what it cannot read is held. A link is checked
// lexically: one that passes through a link which the owner made leads where
// that leads. That somebody runs what is ordinary work (Makefile, a test, an
// executable) is not prevented here.
package merge

// Bounds of one merge.
const (
	MaxEntries = 100_000 // entries of the upper tree and of host folders that are deleted, together; over it Plan fails
	MaxDepth   = 256     // folders beneath each other; what lies deeper is held
	MaxPath    = 3 << 10 // bytes of a path beneath the grant; longer ones are held
)

// TempPrefix begins every temporary name; a guest's own entry of such a name
// is held.
const TempPrefix = ".casemate-merge-"

// A Grant is one write grant of one call. The descriptors stay the caller's.
type Grant struct {
	Upper    int              // of the overlay's upper folder, O_PATH or O_RDONLY
	Host     int              // of the granted folder, O_PATH or O_RDONLY
	HostPath string           // its real path
	At       string           // where the guest saw it
	Names    []string         // protected names that the operator grants all the same
	Pinned   []string         // absolute host paths that are never written
	Since    int64            // CLOCK_REALTIME_COARSE at the claim of the call, Unix nanoseconds
	Known    map[string]Stamp // of a session, not nil: what its earlier merges settled, by path beneath the grant; Apply adds to it
	Keep     int              // of a folder for this grant and call alone, empty
}

// A Stamp says how one entry stood when a merge of the session settled it.
// Later merges neither take the merge's own work for a change by the host,
// nor carry again what the guest has not touched since.
type Stamp struct {
	Ino        uint64 // on the host; 0: it was gone
	Ctime      int64  // Unix nanoseconds
	UpperIno   uint64 // in the upper tree; 0: a whiteout, or nothing
	UpperCtime int64
}

// The values of Change.Did.
const (
	Created  = "created"
	Changed  = "changed"
	Deleted  = "deleted"
	Held     = "held"     // not carried
	Conflict = "conflict" // not carried, and kept aside where there is content
)

// A Change is one thing that a call did, or tried to do, to its grant. The
// path holds any byte but NUL: whoever prints it escapes it.
type Change struct {
	Path string // as the guest saw it
	Did  string
	Why  string // of held and conflict
	Kept string // of conflict: beneath Keep, where the guest's version lies
}

// The values of Step.Do.
const (
	doCreate   = "create"
	doChange   = "change"
	doDelete   = "delete"
	doFinish   = "finish" // a new folder gets its mode, when all is in it
	doHold     = "hold"
	doConflict = "conflict"
	doSettle   = "settle" // nothing to carry; a session remembers how it stood
)

// A Step is one thing that Apply will do, for tests and dry runs to read.
type Step struct {
	Path string // beneath the grant
	Do   string
	Why  string

	upper  entry  // as planned; zero where there is none
	host   entry  // as planned; zero where there is none
	target string // of a link
}
