package image

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A layer removes what layers below it have by empty files of these names:
// ".wh.NAME" removes NAME, ".wh..wh..opq" all of its folder. Names that begin
// with ".wh..wh." else are those of a file system that few remember.
const (
	whiteout = ".wh."
	opaque   = ".wh..opq"
)

// whiteout removes of a folder what no entry of this layer made, wherever in
// the layer the whiteout stands.
func (u *unpacker) whiteout(name, folder, what string) error {
	switch {
	case what == "" || what == "." || what == "..":
		return refused(name, "removes nothing that has a name")
	case what != opaque && len(what) > len(whiteout) && what[:len(whiteout)] == whiteout:
		return nil
	}
	fd, err := beneath(u.root, folder, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // nothing is there that could go
	}
	if err != nil {
		return u.hostOr(name, err, "lies in no folder")
	}
	defer unix.Close(fd)
	u.forget()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if what != opaque {
		_, err = u.remove(fd, st.Ino, what, true)
	} else {
		_, err = u.empty(fd, st.Ino, true)
	}
	if err != nil {
		return u.hostOr(name, err, "cannot remove what lies below")
	}
	return nil
}

// remove removes what stands under a name in a folder, and all that is
// beneath. What this layer made stays, and so do the folders above it; keeps
// says whether the name itself may be such. gone is false where it stays.
func (u *unpacker) remove(dir int, inode uint64, name string, keeps bool) (gone bool, err error) {
	if keeps && u.layer[place{inode, name}] {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return false, err
		}
	}
	err = unix.Unlinkat(dir, name, 0)
	switch err {
	case nil, unix.ENOENT:
		return true, nil
	case unix.EISDIR, unix.EPERM: // of a folder, by POSIX
	default:
		return false, err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	all, err := u.empty(fd, st.Ino, true)
	if err != nil || !all || keeps && u.layer[place{inode, name}] {
		return false, err
	}
	return true, unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// empty removes all in a folder but what this layer made; all says whether
// nothing stays.
func (u *unpacker) empty(fd int, inode uint64, keeps bool) (all bool, err error) {
	names, err := list(fd)
	if err != nil {
		return false, err
	}
	all = true
	for _, name := range names {
		gone, err := u.remove(fd, inode, name, keeps)
		if err != nil {
			return false, err
		}
		all = all && gone
	}
	return all, nil
}

// list returns the names in an open folder.
func list(fd int) ([]string, error) {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(again), ".")
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}
