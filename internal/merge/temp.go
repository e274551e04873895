package merge

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A desk is one folder of the host's that a merge or an undo works in: open,
// and locked, so that no other merge takes its temporary names for those of
// a killed one.
type desk struct {
	fd   int
	name string // of the entry that is worked on
}

// sitDown opens and locks the folder of rel beneath host. The first time in a
// folder that nobody else works in, what killed merges left there is moved to
// left/ of keep.
func (k *keep) sitDown(host int, rel string) (*desk, error) {
	fd, name, err := openParent(host, rel)
	if err != nil {
		return nil, err
	}
	d := &desk{fd, name}
	e, err := statFd(fd)
	if err != nil {
		d.leave()
		return nil, err
	}
	id := [2]uint64{e.dev, e.ino}
	if !k.swept[id] {
		k.swept[id] = true
		if flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			k.sweep(fd)
		}
	}
	// A merge that sweeps holds the folder for a moment: wait for it. File
	// systems without locks are never swept by others either.
	if err := flock(fd, unix.LOCK_SH); err != nil && err != unix.ENOLCK && err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		d.leave()
		return nil, err
	}
	return d, nil
}

func (d *desk) leave() { unix.Close(d.fd) } // and with it the lock

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}

const (
	tempLen   = 32 // hexadecimal digits of a temporary name
	hexDigits = "0123456789abcdef"
)

// tempName returns an unguessable temporary name.
func tempName() string {
	var b [tempLen / 2]byte
	for n := 0; n < len(b); { // up to 256 bytes it does not fail, nor come short, but for a signal
		m, err := unix.Getrandom(b[n:], 0)
		if err != nil && err != unix.EINTR {
			panic("merge: bug: getrandom: " + err.Error())
		}
		n += max(m, 0)
	}
	name := []byte(TempPrefix)
	for _, c := range b {
		name = append(name, hexDigits[c>>4], hexDigits[c&15])
	}
	return string(name)
}

func isTemp(name string) bool {
	rest, ok := strings.CutPrefix(name, TempPrefix)
	return ok && len(rest) == tempLen && strings.Trim(rest, hexDigits) == ""
}

// sweep moves what killed merges left in a folder to left/. It never deletes:
// a merge killed between two renames may have left the host's own file. What
// cannot be moved stays for the next merge.
func (k *keep) sweep(fd int) {
	names, err := list(fd, MaxEntries)
	if err != nil {
		return // too many to look through, or unreadable
	}
	for _, name := range names {
		if isTemp(name) {
			k.moveTo("left", name, fd, name)
		}
	}
}

// moveTo moves the entry at name in dir to to in a folder of Keep, or copies
// it there and removes it. Of a folder that cannot be moved only the empty
// one is removed.
func (k *keep) moveTo(folder, to string, dir int, name string) error {
	sub, err := k.folder(folder)
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	err = unix.Renameat2(dir, name, sub, to, unix.RENAME_NOREPLACE)
	if err != unix.EXDEV && err != unix.EINVAL && err != unix.EACCES && err != unix.EPERM {
		return err
	}
	e, err := statAt(dir, name)
	if err != nil {
		return err
	}
	if e.folder() {
		return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	if err := copyEntry(sub, to, dir, name, e, 0o600); err != nil {
		return err
	}
	if now, err := statAt(dir, name); err != nil || !e.untouched(now) {
		unix.Unlinkat(sub, to, 0)
		return unix.EBUSY // written to while it was copied
	}
	return unix.Unlinkat(dir, name, 0)
}

// copyEntry makes at to in dst, which must not exist, what src has at name:
// e, a file or a link.
func copyEntry(dst int, to string, src int, name string, e entry, mode uint32) error {
	switch {
	case e.link():
		target, err := readLink(src, name)
		if err != nil {
			return err
		}
		return unix.Symlinkat(target, dst, to)
	case !e.regular():
		return unix.EXDEV
	}
	from, err := open(src, name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	if now, err := statFd(from); err != nil || !e.body(now) {
		return unix.EBUSY
	}
	return newFile(dst, to, mode, func(fd int) error { return copyData(fd, from, e.size) })
}

// newFile makes a file that was not there, with exactly that mode. Nothing is
// left of it if fill fails.
func newFile(dir int, name string, mode uint32, fill func(fd int) error) error {
	fd, err := open(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err = fill(fd); err == nil {
		err = unix.Fchmod(fd, mode)
	}
	if err != nil {
		unix.Unlinkat(dir, name, 0)
	}
	return err
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
