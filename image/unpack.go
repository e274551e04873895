package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

// A Result is what Unpack says of what it made: it is for people, and decides
// nothing.
type Result struct {
	Entries int                 `json:"entries"`           // of all layers
	Bytes   int64               `json:"bytes"`             // of their files
	Skipped int                 `json:"skipped,omitempty"` // devices and FIFOs
	Error   *casemate.ErrorJSON `json:"error,omitempty"`
}

// A step says what follows it in the stream: a layer, of Size bytes.
type step struct {
	Limits      Limits          `json:"limits,omitzero"` // with the first
	Compression string          `json:"compression,omitempty"`
	Diff        casemate.Digest `json:"diff,omitempty"` // of what it unpacks to; "" where that is compared already
	Size        int64           `json:"size"`
	Last        bool            `json:"last,omitempty"` // nothing follows: the tree is whole
}

// Unpack reads the layers of an image from stream, as [Store.Pull] writes
// them, and makes their files beneath root, an empty folder. The stream is
// hostile. It is meant for a process that can do nothing else, whose umask is
// 0 and which has one thing to lose, the folder. An error that the image is
// the cause of has the kind Invalid.
func Unpack(root *os.File, stream io.Reader) Result {
	u := &unpacker{root: int(root.Fd()), depth: map[uint64]int{}}
	err := u.all(stream)
	runtime.KeepAlive(root) // its finalizer would close it
	r := Result{Entries: u.entries, Bytes: u.written, Skipped: u.skipped}
	if err != nil {
		r.Error = casemate.JSON(full(err))
	}
	return r
}

// full makes an error of a disk that is full say so.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &casemate.Error{Op: "image", Kind: casemate.Internal, Err: err, Fix: "make room: casemate image prune removes what no configuration uses"}
	}
	return err
}

// An unpacker makes the tree of one image.
type unpacker struct {
	root    int // the tree's root folder
	limits  Limits
	entries int
	written int64
	skipped int
	checked int64 // of written, when the disk's free space was looked at

	layer map[place]bool // what this layer made
	depth map[uint64]int // of each folder, by its number
	dir   parent         // the folder of the entry before
	buf   []byte
}

// A place is a name in a folder, by the folder's number: several paths may
// lead there.
type place struct {
	folder uint64
	name   string
}

// A parent is an open folder, and the path by which it was opened.
type parent struct {
	path  string
	fd    int
	inode uint64
	open  bool
	stale bool // the path may lead elsewhere by now: a link of it may have been replaced
}

func (u *unpacker) all(stream io.Reader) error {
	defer u.forget()
	u.buf = make([]byte, 1<<20)
	left := &counter{}
	for first := true; ; first = false {
		s, err := readStep(stream)
		if err != nil {
			return err
		}
		if first {
			u.limits = s.Limits.orDefault()
			left.left = u.limits.Bytes
		}
		if s.Last {
			return nil
		}
		if err := u.unpackLayer(s, io.LimitReader(stream, s.Size), left); err != nil {
			return err
		}
	}
}

// readStep reads a line of JSON: of our own process, and short.
func readStep(stream io.Reader) (s step, err error) {
	var line []byte
	for b := []byte{0}; ; line = append(line, b[0]) {
		if _, err := io.ReadFull(stream, b); err != nil {
			return s, err
		}
		if b[0] == '\n' || len(line) > 1<<10 {
			return s, json.Unmarshal(line, &s)
		}
	}
}

func (u *unpacker) unpackLayer(s step, blob io.Reader, left *counter) error {
	plain, err := decompress(blob, s.Compression, left, s.Diff != "")
	if err != nil {
		return err
	}
	defer plain.Close()
	u.layer = map[place]bool{}
	t := tar.NewReader(plain)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return readError(err, "a layer is no tar archive: ")
		}
		if u.entries++; u.entries > u.limits.Entries {
			return tooMuch("more than %d entries", u.limits.Entries)
		}
		if err := u.entry(h, t); err != nil {
			return err
		}
	}
	// What follows the archive's end is part of the layer's digest.
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{plain}, u.buf); err != nil {
		return readError(err, "a layer cannot be read: ")
	}
	if got := plain.sum(); s.Diff != "" && got != s.Diff {
		return lies("the digest of an unpacked layer is %s, and its configuration says %s", got, s.Diff)
	}
	// The bytes that its compression did not need would be unread, and the next
	// step would be taken from them.
	if n, _ := io.CopyBuffer(io.Discard, blob, u.buf); n > 0 {
		return lies("something follows a layer's end")
	}
	return nil
}

// readError is an error of the layer's, unless it has a kind already.
func readError(err error, what string) error {
	if _, ok := errors.AsType[*casemate.Error](err); ok {
		return err
	}
	return lies("%s%.200s", what, err.Error())
}

func tooMuch(format string, args ...any) error {
	return &casemate.Error{Op: "image", Kind: casemate.Invalid, Err: fmt.Errorf("it unpacks to "+format, args...), Fix: "take a smaller image"}
}

// refused is an entry that no image may hold.
func refused(name, format string, args ...any) error {
	return &casemate.Error{Op: "image", Kind: casemate.Invalid, Err: fmt.Errorf("its entry %.200q "+format, append([]any{name}, args...)...),
		Fix: "build the image without that entry"}
}

// entry makes one entry of a layer.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	folder, base, err := split(h.Name)
	if err != nil {
		return err
	}
	if base == "" { // the root itself
		if h.Typeflag != tar.TypeDir {
			return refused(h.Name, "is the root, and no folder")
		}
		return nil
	}
	if rest, ok := strings.CutPrefix(base, whiteout); ok {
		return u.whiteout(h.Name, folder, rest)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		u.skipped++
		return nil
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return refused(h.Name, "is of the unknown type %q", h.Typeflag)
	}
	d, err := u.folder(h.Name, folder)
	if err != nil {
		return err
	}
	at := place{d.inode, base}
	if h.Typeflag == tar.TypeDir {
		return u.makeFolder(h, d.fd, at)
	}
	if u.layer[at] {
		return refused(h.Name, "stands twice in a layer")
	}
	u.layer[at] = true
	switch h.Typeflag {
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxPath {
			return refused(h.Name, "is a link to nowhere")
		}
		return u.replacing(h, d, base, func() error { return unix.Symlinkat(h.Linkname, d.fd, base) })
	case tar.TypeLink:
		return u.hardLink(h, d, base)
	}
	return u.file(h, d, base, content)
}

// split parts a name in the folder it lies in and its last element; both are
// empty for the root.
func split(name string) (folder, base string, err error) {
	if len(name) > maxPath || strings.IndexByte(name, 0) >= 0 {
		return "", "", refused(name, "has a name that is too long, or no name")
	}
	var kept []string
	for el := range strings.SplitSeq(name, "/") {
		switch el {
		case "", ".":
		case "..":
			return "", "", refused(name, "climbs out of where it lies")
		default:
			kept = append(kept, el)
		}
	}
	if len(kept) > maxDepth {
		return "", "", refused(name, "lies too deep")
	}
	if len(kept) == 0 {
		return "", "", nil
	}
	last := len(kept) - 1
	return strings.Join(kept[:last], "/"), kept[last], nil
}
