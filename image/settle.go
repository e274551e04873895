package image

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// settle looks at every entry of a tree that another process made, takes from
// its folders the right to write, and counts. It believes nothing: what no
// tree may hold is an error.
func settle(root int, l Limits) (Result, error) {
	s := settling{limits: l.orDefault(), uid: uint32(os.Geteuid())}
	err := s.folder(root, 0)
	return s.Result, err
}

type settling struct {
	Result
	limits Limits
	uid    uint32
}

func (s *settling) folder(dir, depth int) error {
	if depth > maxDepth {
		return errors.New("a tree that was unpacked is too deep")
	}
	names, err := list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if s.Entries++; s.Entries > s.limits.Entries {
			return fmt.Errorf("a tree that was unpacked has more than %d entries", s.limits.Entries)
		}
		var st unix.Stat_t
		if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return os.NewSyscallError("fstatat", err)
		}
		switch mode := st.Mode &^ unix.S_IFMT; {
		case st.Uid != s.uid:
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			continue
		case st.Mode&unix.S_IFMT == unix.S_IFREG && (mode == 0o444 || mode == 0o555):
			s.Bytes += st.Size
			continue
		case st.Mode&unix.S_IFMT == unix.S_IFDIR && mode&0o7000 == 0:
			fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return os.NewSyscallError("openat", err)
			}
			err = s.folder(fd, depth+1)
			unix.Close(fd)
			if err != nil {
				return err
			}
			continue
		}
		return fmt.Errorf("a tree that was unpacked holds %.200q, of mode %#o and user %d", name, st.Mode, st.Uid)
	}
	return os.NewSyscallError("fchmod", unix.Fchmod(dir, 0o555))
}

// unseal gives the right to write back, before a tree is removed. No link is
// followed.
func unseal(dir int) error {
	if err := unix.Fchmod(dir, 0o700); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	names, err := list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // a file, or a link
		}
		if err != nil {
			return os.NewSyscallError("openat", err)
		}
		err = unseal(fd)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
