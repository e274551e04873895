// Package store keeps folders of programs that came from a registry, each
// under the digest of all that is in it.
//
// A package is installed by a sandbox, which hands over one tar archive and
// nothing else: the archive is hostile, and no file of it stands on the host
// until Unpack has made it. What is unpacked is walked once more (Digest),
// made read-only, and moved to its place by one rename, so that a folder of
// the store is whole or not there. Several processes may do this at a time.
//
// # What a tree may hold
//
// Folders, regular files, and links that are relative and stay inside: ".."
// stands only at the beginning of a link's target, where it counts real
// folders. Everything else (hard links, devices, FIFOs, sockets, absolute
// links) is refused, and so are setuid and setgid bits: of a mode only "may be
// run" is kept. Owners, times and extended attributes are not kept.
//
// # The digest
//
// SHA-256 over the entries of the tree in the order of a walk that takes the
// names of each folder sorted by bytes: a letter (d folder, f file, x file
// that may be run, l link), the path beneath the tree, NUL, and for a file the
// SHA-256 of its content, for a link its target and NUL. A path holds no NUL,
// so no two trees have one text.
//
// # Verification
//
// Verify reads every byte of a tree again and compares the digest. It is done
// once by each process that starts a server of the tree: about a second for a
// gigabyte. Between that and the server's reading, the folder is guarded by
// its owner alone: guests see it read-only, and other users cannot enter the
// state folder. Whoever can write there as its owner can write the lock too.
//
// # Limits
//
// See the constants. Nothing is synced: a folder that a power failure cut
// short fails to verify and is made again.
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of one tree.
const (
	MaxEntries = 200_000
	MaxBytes   = 2 << 30 // content of all files
	MaxPath    = 2 << 10 // bytes of a path beneath the tree
	MaxDepth   = 64      // folders beneath each other
)

// ErrRefused is wrapped by every error that what a tree holds is the cause of.
var ErrRefused = errors.New("the package is refused")

func refused(path, why string) error { return fmt.Errorf("%w: %.200q %s", ErrRefused, path, why) }

// A Store is one folder of trees, of the caller's own (0700).
type Store struct{ dir string }

// Open returns the store in dir and makes the folder.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() || fi.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s may be written by others (mode %#o)", dir, fi.Mode().Perm())
	}
	return &Store{dir}, nil
}

// Path is where the tree of that digest lies, if it is there; "" where digest
// is none.
func (s *Store) Path(digest string) string {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return ""
	}
	return filepath.Join(s.dir, "sha256-"+hex)
}

// Lock keeps every other process from preparing in this store until unlock is
// called. It blocks until the lock is had, or done is closed.
func (s *Store) Lock(done <-chan struct{}) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, os.NewSyscallError("flock", err)
		}
		select {
		case <-done:
			f.Close()
			return nil, errors.New("another process is preparing a package")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Staging makes a fresh folder beside the trees; whoever holds the lock
// removes it, and what killed processes left of theirs.
func (s *Store) Staging() (dir string, err error) {
	old, err := filepath.Glob(filepath.Join(s.dir, ".staging-*"))
	if err != nil {
		return "", err
	}
	for _, d := range old {
		if err := Remove(d); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(s.dir, ".staging-")
}

// Admit moves the tree at dir, which is in a staging folder of this store,
// to its place and returns its digest.
func (s *Store) Admit(dir string) (digest string, err error) {
	if digest, err = Digest(dir); err != nil {
		return "", err
	}
	if err := Settle(dir); err != nil {
		return "", err
	}
	to := s.Path(digest)
	if err := os.Chmod(dir, 0o700); err != nil { // a folder that is moved must be writable
		return "", err
	}
	err = os.Rename(dir, to)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		if s.Verify(digest) == nil {
			return digest, nil // the same package was there
		}
		if err = Remove(to); err == nil {
			err = os.Rename(dir, to)
		}
	}
	if err != nil {
		return "", err
	}
	return digest, os.Chmod(to, 0o555)
}

// Verify reads the tree of that digest and says whether it is still that; an
// error that is fs.ErrNotExist says that it is not there.
func (s *Store) Verify(digest string) error {
	p := s.Path(digest)
	if p == "" {
		return fmt.Errorf("%.80q is no digest", digest)
	}
	got, err := Digest(p)
	if err != nil {
		return err
	}
	if got != digest {
		return fmt.Errorf("%s was changed since it was prepared: it is %s now", p, got)
	}
	return nil
}

// Settle takes the right to write from all that is beneath dir.
func Settle(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		mode := fs.FileMode(0o444)
		if fi, err := d.Info(); err != nil {
			return err
		} else if d.IsDir() || fi.Mode().Perm()&0o111 != 0 {
			mode = 0o555
		}
		return os.Chmod(p, mode)
	})
}

// Remove deletes dir and all in it, read-only folders too. A link is removed,
// not followed. It is no error where dir is not there.
func Remove(dir string) error {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(p, 0o700)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// Head returns the first n bytes of a regular file beneath a tree. No link
// leads out of it.
func Head(tree, path string, n int64) ([]byte, error) {
	r, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := r.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return io.ReadAll(io.LimitReader(f, n))
}
