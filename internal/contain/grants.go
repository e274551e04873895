package contain

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/plan"
)

// A granted folder reaches the guest through an overlay: a socket or a FIFO
// of the host in it is another object there, and what the guest writes stays
// in the upper layer until it is committed.

// OpenSource opens what m grants, on the host, by the path that was resolved
// when it was trusted: a link anywhere in it is refused. Only a regular file
// or a folder can be granted.
func OpenSource(m plan.Mount) (fd int, st unix.Stat_t, err error) {
	fd, err = unix.Openat2(unix.AT_FDCWD, m.Source, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return -1, st, &os.PathError{Op: "open", Path: m.Source, Err: err}
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, st, &os.PathError{Op: "stat", Path: m.Source, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
	case st.Mode&unix.S_IFMT == unix.S_IFREG && !m.Write:
	default:
		unix.Close(fd)
		return -1, st, &os.PathError{Op: "open", Path: m.Source, Err: errors.New("neither a folder nor a regular file to read")}
	}
	return fd, st, nil
}

// FileID says which file a path leads to, and in which state: another file, or the
// same written to, has another.
func FileID(path string) (string, error) {
	fd, st, err := OpenSource(plan.Mount{Source: path})
	if err != nil {
		return "", err
	}
	unix.Close(fd)
	return IDOf(st), nil
}

// IDOf is FileID of a file that is open.
func IDOf(st unix.Stat_t) string {
	id := ""
	for _, n := range [...]int64{int64(st.Dev), int64(st.Ino), st.Size, st.Ctim.Sec, st.Ctim.Nsec} {
		id += strconv.FormatInt(n, 10) + " "
	}
	return id
}

// Clone returns a detached mount of an opened source. It is read-only in any
// case: what a guest writes goes to the upper layer.
func Clone(fd int, m plan.Mount) (int, error) {
	attr := uint64(readOnly)
	if m.Execute || m.Prefix {
		attr &^= unix.MOUNT_ATTR_NOEXEC
	}
	return clone(fd, "", attr, false)
}

// openGrants turns the descriptors that the spawner passed into detached
// mounts. As root they are; a user's spawner cannot make them, so the file is
// opened again here, in the sandbox's own copy of the mount tree, and must be
// the same one.
func (in *Inside) openGrants() error {
	if len(in.Passed) != len(in.Guest.Mounts) {
		return errors.New("a descriptor did not come")
	}
	for i, m := range in.Guest.Mounts {
		passed := in.Passed[i]
		var want, got unix.Stat_t
		if err := unix.Fstat(passed, &want); err != nil {
			return os.NewSyscallError("fstat", err)
		}
		g := grant{fd: passed, folder: want.Mode&unix.S_IFMT == unix.S_IFDIR}
		if !in.Detached {
			src, _, err := OpenSource(m)
			if err != nil {
				return err
			}
			err = unix.Fstat(src, &got)
			if err != nil || got.Dev != want.Dev || got.Ino != want.Ino {
				return errors.New(m.Source + " was replaced meanwhile")
			}
			if g.fd, err = Clone(src, m); err == unix.EINVAL {
				err = errors.New(m.Source + " holds another mount: grant that one by itself")
			}
			unix.Close(src)
			unix.Close(passed)
			if err != nil {
				return err
			}
		}
		in.grants = append(in.grants, g)
	}
	return nil
}

func lowerPath(i int) string { return staging + "/lower" + strconv.Itoa(i) }

func (in *Inside) grant(s Step) error {
	i := int(s.N)
	g, m := in.grants[i], in.Guest.Mounts[i]
	defer unix.Close(g.fd)
	if !g.folder {
		if err := in.file(s.Path, ""); err != nil {
			return err
		}
		return in.attachTo(g.fd, s.Path)
	}
	if err := in.mkdir(s.Path); err != nil {
		return err
	}
	if err := in.mkdir(lowerPath(i)); err != nil {
		return err
	}
	if err := in.attachTo(g.fd, lowerPath(i)); err != nil {
		return err
	}
	// The layers are named beneath the root's own folder, and relative to it.
	if err := unix.Fchdir(in.root); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	opts := []string{"lowerdir", lowerPath(i) + ":" + staging + "/empty", "userxattr", ""}
	attr := int(readOnly)
	if m.Write {
		up, work := staging+"/scratch/up"+strconv.Itoa(i), staging+"/scratch/work"+strconv.Itoa(i)
		for _, d := range []string{up, work} {
			if err := in.mkdir(d); err != nil {
				return err
			}
		}
		// The upper folder is the root of the grant as the guest sees it.
		if err := in.sameMode(lowerPath(i), up); err != nil {
			return err
		}
		fd, err := unix.Openat(in.root, up, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return os.NewSyscallError("open", err)
		}
		in.uppers = append(in.uppers, fd)
		opts = []string{"lowerdir", lowerPath(i), "upperdir", up, "workdir", work, "userxattr", ""}
		attr &^= unix.MOUNT_ATTR_RDONLY
	}
	if m.Execute || m.Prefix {
		attr &^= unix.MOUNT_ATTR_NOEXEC
	}
	return in.mountNew("overlay", s.Path, attr, opts...)
}

func (in *Inside) sameMode(from, to string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(in.root, from, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	return os.NewSyscallError("chmod", unix.Fchmodat(in.root, to, st.Mode&0o777, 0))
}
