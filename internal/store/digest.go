package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Digest returns the digest of the tree at dir. An entry that a tree may not
// hold, and a tree beyond the bounds, is an error that is ErrRefused.
func Digest(dir string) (string, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer r.Close()
	w := &walker{sum: sha256.New(), buf: make([]byte, 256<<10)}
	if err := w.folder(r, "", 0); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(w.sum.Sum(nil)), nil
}

// A walker goes through a tree by descriptors: each folder is opened in the
// one above it, and no link is followed.
type walker struct {
	sum     hash.Hash
	buf     []byte
	entries int
	bytes   int64
}

func (w *walker) folder(r *os.Root, at string, depth int) error {
	if depth > MaxDepth {
		return refused(at, "lies too deep")
	}
	d, err := r.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(MaxEntries - w.entries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if w.entries += len(names); w.entries > MaxEntries {
		return refused(at, fmt.Sprintf("is part of more than %d entries", MaxEntries))
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.entry(r, name, path.Join(at, name), depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(r *os.Root, name, at string, depth int) error {
	if len(at) > MaxPath {
		return refused(at, "has too long a path")
	}
	fi, err := r.Lstat(name)
	if err != nil {
		return err
	}
	switch mode := fi.Mode(); {
	case mode.IsDir():
		w.line('d', at)
		sub, err := r.OpenRoot(name)
		if err != nil {
			return err
		}
		defer sub.Close()
		return w.folder(sub, at, depth+1)
	case mode&os.ModeSymlink != 0:
		target, err := r.Readlink(name)
		if err != nil {
			return err
		}
		if !inside(at, target) {
			return refused(at, fmt.Sprintf("is a link out of it, to %.200q", target))
		}
		w.line('l', at)
		w.sum.Write(append([]byte(target), 0))
		return nil
	case !mode.IsRegular():
		return refused(at, "is neither a file, a folder nor a link")
	case mode&(os.ModeSetuid|os.ModeSetgid) != 0:
		return refused(at, "would run as its owner (setuid or setgid)")
	case mode.Perm()&0o111 != 0:
		w.line('x', at)
	default:
		w.line('f', at)
	}
	return w.content(r, name, at)
}

func (w *walker) line(kind byte, at string) {
	w.sum.Write(append(append([]byte{kind}, at...), 0))
}

func (w *walker) content(r *os.Root, name, at string) error {
	f, err := r.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return refused(at, "was replaced meanwhile")
	}
	sum := sha256.New()
	n, err := io.CopyBuffer(sum, struct{ io.Reader }{io.LimitReader(f, MaxBytes-w.bytes+1)}, w.buf)
	if err != nil {
		return err
	}
	if w.bytes += n; w.bytes > MaxBytes {
		return refused(at, fmt.Sprintf("is part of more than %d bytes", int64(MaxBytes)))
	}
	w.sum.Write(sum.Sum(nil))
	return nil
}

// inside says whether a link at that path beneath a tree stays in it: it is
// relative, and each ".." stands before every other element, so that it counts
// the real folders in which the link lies and not those of another link.
func inside(at, target string) bool {
	if target == "" || target[0] == '/' || len(target) > MaxPath || strings.IndexByte(target, 0) >= 0 {
		return false
	}
	up, down := strings.Count(at, "/"), false
	for el := range strings.SplitSeq(target, "/") {
		switch {
		case el == "" || el == ".":
		case el != "..":
			down = true
		case down || up == 0:
			return false
		default:
			up--
		}
	}
	return true
}
