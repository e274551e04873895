package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

// A Store is one folder of unpacked images, of the caller's own (0700):
//
//	sha256-HEX/root        the tree
//	sha256-HEX/image.json  what is known of it
//	sha256-HEX.lock        held by whoever makes or removes it
//	sha256-HEX.new/        what is being made; what a killed pull left goes with the next
//	sha256-HEX.index       of an index: the digest of the manifest for this machine
//
// An image is there or not: its folder is moved to its place whole.
type Store struct{ dir string }

// An Image is one that is in the store.
type Image struct {
	Digest    casemate.Digest `json:"digest"`    // of its manifest; of a docker-archive, of its configuration
	Reference string          `json:"reference"` // by which it was had first
	Entries   int             `json:"entries"`   // files, folders and links
	Bytes     int64           `json:"bytes"`     // of their files
	Skipped   int             `json:"skipped,omitempty"`
	Made      time.Time       `json:"made"`
	Layers    []string        `json:"-"` // absolute folders of this host, the top one first; now the tree alone
}

// Open returns the store in dir and makes the folder.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &casemate.Error{Op: "image", Kind: casemate.Internal, Err: err, Fix: "make the folder writable"}
	}
	fi, err := os.Lstat(dir)
	if err == nil && (!fi.IsDir() || fi.Mode().Perm()&0o022 != 0) {
		err = fmt.Errorf("%s may be written by others (mode %#o)", dir, fi.Mode().Perm())
	}
	if err != nil {
		return nil, &casemate.Error{Op: "image", Kind: casemate.Denied, Err: err, Fix: "chmod 700 it"}
	}
	return &Store{dir}, nil
}

// path is where something of a digest lies.
func (s *Store) path(d casemate.Digest, suffix string) string {
	return filepath.Join(s.dir, "sha256-"+strings.TrimPrefix(string(d), "sha256:")+suffix)
}

// Find returns the image of a digest, or for an index the one of this machine,
// if it is there. It reads one small file and no image.
func (s *Store) Find(d casemate.Digest) (Image, bool) {
	if !digest.MatchString(string(d)) {
		return Image{}, false
	}
	if b, err := os.ReadFile(s.path(d, ".index")); err == nil && digest.Match(b) {
		d = casemate.Digest(b)
	}
	b, err := os.ReadFile(filepath.Join(s.path(d, ""), "image.json"))
	var i Image
	if err != nil || json.Unmarshal(b, &i) != nil || i.Digest != d {
		return Image{}, false
	}
	i.Layers = []string{filepath.Join(s.path(d, ""), "root")}
	return i, true
}

// List returns all images, the newest first.
func (s *Store) List() ([]Image, error) {
	es, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var all []Image
	for _, e := range es {
		if hex, ok := strings.CutPrefix(e.Name(), "sha256-"); ok && e.IsDir() {
			if i, ok := s.Find(casemate.Digest("sha256:" + hex)); ok {
				all = append(all, i)
			}
		}
	}
	slices.SortFunc(all, func(a, b Image) int { return b.Made.Compare(a.Made) })
	return all, nil
}

// Remove removes an image. It waits for whoever makes it. A sandbox that has
// it open keeps its files until it ends.
func (s *Store) Remove(ctx context.Context, d casemate.Digest) error {
	if !digest.MatchString(string(d)) {
		return &casemate.Error{Op: "image", Kind: casemate.Invalid, Err: fmt.Errorf("%.100q is no digest", string(d)), Fix: "casemate image list shows them"}
	}
	unlock, err := s.lock(ctx, d)
	if err != nil {
		return err
	}
	defer unlock()
	return errors.Join(s.clear(d), s.discard(d))
}

// discard moves an image out of its place, so that it is whole or not there,
// and removes it.
func (s *Store) discard(d casemate.Digest) error {
	old := s.path(d, ".new")
	err := os.Rename(s.path(d, ""), old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return remove(old)
}

// clear removes what a killed process left of an image.
func (s *Store) clear(d casemate.Digest) error { return remove(s.path(d, ".new")) }

// Prune removes every image that keep does not hold, and what killed pulls
// left. It returns what it removed.
func (s *Store) Prune(ctx context.Context, keep map[casemate.Digest]bool) ([]Image, error) {
	kept := map[casemate.Digest]bool{}
	for d := range keep {
		if i, ok := s.Find(d); ok {
			kept[i.Digest] = true
		}
	}
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var gone []Image
	for _, i := range all {
		if kept[i.Digest] {
			continue
		}
		if err := s.Remove(ctx, i.Digest); err != nil {
			return gone, err
		}
		gone = append(gone, i)
	}
	left, err := filepath.Glob(filepath.Join(s.dir, "sha256-*.new"))
	if err != nil {
		return gone, err
	}
	for _, p := range left {
		hex := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(p), "sha256-"), ".new")
		if err := s.Remove(ctx, casemate.Digest("sha256:"+hex)); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// lock keeps other processes from making or removing an image until unlock is
// called; a process that dies lets go. It blocks until then or until ctx ends.
func (s *Store) lock(ctx context.Context, d casemate.Digest) (unlock func(), err error) {
	fail := func(err error) (func(), error) {
		return nil, &casemate.Error{Op: "image", Kind: casemate.Internal, Err: err, Fix: "make " + s.dir + " writable"}
	}
	f, err := os.OpenFile(s.path(d, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fail(err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return fail(os.NewSyscallError("flock", err))
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, &casemate.Error{Op: "image", Kind: casemate.Busy, Err: fmt.Errorf("another process is pulling %s: %w", d, ctx.Err()), Fix: "try again when it is done"}
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// remove removes a folder and all in it. A link is removed, not followed.
func remove(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		err = unseal(fd)
		unix.Close(fd)
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: dir, Err: err}
	}
	return os.RemoveAll(dir)
}
