package merge

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A keep is the folder of one call: what undo needs, and what was not
// carried.
type keep struct {
	fd      int
	journal int
	swept   map[[2]uint64]bool // folders, by device and inode, that were swept
}

func openKeep(fd int) *keep { return &keep{fd: fd, journal: -1, swept: map[[2]uint64]bool{}} }

func (k *keep) close() {
	if k.journal >= 0 {
		unix.Close(k.journal)
	}
}

// folder opens a folder beneath Keep, made with those above it where it is
// absent.
func (k *keep) folder(rel string) (int, error) {
	fd, err := openFolder(k.fd, rel)
	if err != unix.ENOENT {
		return fd, err
	}
	up, name := path.Split(rel)
	above, err := k.folder(strings.TrimSuffix(up, "/"))
	if err != nil {
		return -1, err
	}
	defer unix.Close(above)
	if err := unix.Mkdirat(above, name, 0o700); err != nil && err != unix.EEXIST {
		return -1, err
	}
	return openFolder(above, name)
}

// keepAside copies the guest's version of a step's file to conflicts/, and
// returns its path beneath Keep. A link becomes a file that holds its target.
func (k *keep) keepAside(upper int, s Step) (string, error) {
	if !s.upper.regular() && !s.upper.link() {
		return "", nil
	}
	rel := "conflicts/" + s.Path
	dir, name := path.Split(rel)
	to, err := k.folder(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return "", err
	}
	defer unix.Close(to)
	if s.upper.link() {
		return rel, newFile(to, name, 0o600, func(fd int) error { return pwrite(fd, []byte(s.target), 0) })
	}
	from, src, err := openParent(upper, s.Path)
	if err != nil {
		return "", err
	}
	defer unix.Close(from)
	return rel, copyEntry(to, name, from, src, s.upper, 0o600)
}
