package guest

import (
	"strconv"
	"strings"
)

// The words that a Failure about files begins with, before a colon. What the
// kernel says that is none of them is Failed.
const (
	FileNotFound     = "file_not_found"
	IsDirectory      = "is_directory" // also: remove of a folder that is not empty
	NotADirectory    = "not_a_directory"
	PermissionDenied = "permission_denied"
	InvalidPath      = "invalid_path" // empty, too long, a loop of links, or no regular file and no folder
	NoSpace          = "no_space"     // of the disk that the profile gives
	TooLarge         = "too_large"    // a folder of more than MaxEntries
	Failed           = "failed"
)

// MaxEntries bounds what list answers; one Value frame carries MaxPairs of
// them at most.
const MaxEntries = 16384

// An Entry is what Files says of one file, in a Value frame: list answers
// with as many frames as the folder needs (one, empty, for an empty folder),
// ordered by name, and does not follow a link; stat answers with one entry,
// whose name is the last part of the path, and follows links.
type Entry struct {
	Name     string
	Kind     string // file, folder, link, other
	Size     int64  // bytes, of a file
	Modified int64  // nanoseconds since 1970
	Mode     uint32 // the permission bits
}

// AppendEntries encodes es as pairs: the name, and kind, size, time and mode
// in decimal with a space between.
func AppendEntries(b []byte, es []Entry) []byte {
	ps := make([]Pair, len(es))
	for i, e := range es {
		ps[i] = Pair{e.Name, e.Kind + " " + strconv.FormatInt(e.Size, 10) + " " + strconv.FormatInt(e.Modified, 10) + " " + strconv.FormatUint(uint64(e.Mode), 10)}
	}
	return AppendPairs(b, ps)
}

// ParseEntries decodes what AppendEntries made. A name may hold any byte but
// NUL and "/", and is empty, "." and ".." never, "/" only for the root itself.
func ParseEntries(b []byte) ([]Entry, error) {
	ps, err := ParsePairs(b)
	if err != nil {
		return nil, err
	}
	es := make([]Entry, 0, len(ps))
	for _, p := range ps {
		f := strings.Split(p.Value, " ")
		if len(f) != 4 {
			return nil, breach("an entry does not have four words")
		}
		e := Entry{Name: p.Key, Kind: f[0]}
		var err1, err2, err3 error
		var mode uint64
		e.Size, err1 = strconv.ParseInt(f[1], 10, 64)
		e.Modified, err2 = strconv.ParseInt(f[2], 10, 64)
		mode, err3 = strconv.ParseUint(f[3], 10, 12)
		e.Mode = uint32(mode)
		switch {
		case err1 != nil || err2 != nil || err3 != nil || e.Size < 0:
			return nil, breach("an entry has a bad number")
		case e.Kind != "file" && e.Kind != "folder" && e.Kind != "link" && e.Kind != "other":
			return nil, breach("an entry is of no kind")
		case e.Name == "" || e.Name == "." || e.Name == ".." || e.Name != "/" && strings.ContainsAny(e.Name, "/\x00"):
			return nil, breach("an entry has a bad name")
		}
		es = append(es, e)
	}
	return es, nil
}
