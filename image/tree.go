package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

// beneath opens what a path leads to in the tree of root, as the image would:
// its links are followed, and lead nowhere else.
func beneath(root int, path string, flags uint64) (int, error) {
	if path == "" {
		path = "."
	}
	for {
		fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV})
		// The kernel cannot be sure that a name with ".." stayed beneath while
		// anything anywhere was renamed.
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// folder opens the folder of an entry, and makes it where no entry did. It
// stays open for the entries that follow.
func (u *unpacker) folder(name, path string) (parent, error) {
	if u.dir.open && !u.dir.stale && u.dir.path == path {
		return u.dir, nil
	}
	u.forget()
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	fd, err := beneath(u.root, path, flags)
	if errors.Is(err, unix.ENOENT) {
		if err := u.makeFolders(name, path); err != nil {
			return parent{}, err
		}
		fd, err = beneath(u.root, path, flags)
	}
	if err != nil {
		return parent{}, u.hostOr(name, err, "lies in no folder")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return parent{}, os.NewSyscallError("fstat", err)
	}
	u.dir = parent{path: path, fd: fd, inode: st.Ino, open: true}
	return u.dir, nil
}

// forget closes the folder that is open.
func (u *unpacker) forget() {
	if u.dir.open {
		unix.Close(u.dir.fd)
		u.dir = parent{}
	}
}

// makeFolders makes what is missing of a path.
func (u *unpacker) makeFolders(name, path string) error {
	for i := 0; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		above, base := "", path[:i]
		if j := strings.LastIndexByte(base, '/'); j >= 0 {
			above, base = base[:j], base[j+1:]
		}
		fd, err := beneath(u.root, above, unix.O_PATH|unix.O_DIRECTORY)
		if err == nil {
			var st unix.Stat_t
			if err = unix.Fstat(fd, &st); err == nil {
				err = u.mkdir(name, fd, place{st.Ino, base})
			}
			unix.Close(fd)
		}
		if err == nil {
			// Each costs an inode, though no entry stands for it.
			if u.entries++; u.entries > u.limits.Entries {
				return tooMuch("more than %d entries", u.limits.Entries)
			}
		} else if !errors.Is(err, unix.EEXIST) {
			return u.hostOr(name, err, "lies in no folder")
		}
	}
	return nil
}

// mkdir makes one folder. Links of the image can lead a short name deep down,
// so depth is counted by the folders themselves.
func (u *unpacker) mkdir(name string, dir int, at place) error {
	depth := u.depth[at.folder] + 1
	if depth > maxDepth {
		return refused(name, "lies too deep")
	}
	if err := unix.Mkdirat(dir, at.name, 0o755); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, at.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	u.depth[st.Ino] = depth
	return nil
}

// hostOr is an error of the image's, unless it is the host's.
func (u *unpacker) hostOr(name string, err error, why string) error {
	if _, ok := errors.AsType[*casemate.Error](err); ok {
		return err
	}
	switch err {
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.EEXIST, unix.EXDEV, unix.EMLINK, unix.EINVAL, unix.EISDIR:
		return refused(name, "%s (%v)", why, err)
	}
	return &os.PathError{Op: "unpack", Path: name, Err: err}
}

// makeFolder makes a folder, or finds it. What else a layer below had there
// goes.
func (u *unpacker) makeFolder(h *tar.Header, dir int, at place) error {
	err := u.mkdir(h.Name, dir, at)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, at.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return u.hostOr(h.Name, err, "cannot be made")
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			u.layer[at] = true
			return nil
		}
		if u.layer[at] {
			return refused(h.Name, "stands twice in a layer")
		}
		if err = unix.Unlinkat(dir, at.name, 0); err == nil {
			u.dir.stale = true
			err = u.mkdir(h.Name, dir, at)
		}
	}
	if err != nil {
		return u.hostOr(h.Name, err, "cannot be made")
	}
	u.layer[at] = true
	return nil
}

// replacing makes an entry other than a folder; what a layer below had there
// goes first.
func (u *unpacker) replacing(h *tar.Header, d parent, base string, create func() error) error {
	err := create()
	if errors.Is(err, unix.EEXIST) {
		if _, err := u.remove(d.fd, d.inode, base, false); err != nil {
			return u.hostOr(h.Name, err, "cannot replace what lies below")
		}
		u.dir.stale = true
		if err = create(); errors.Is(err, unix.EEXIST) {
			return refused(h.Name, "replaces a folder in which its layer has entries")
		}
	}
	if err != nil {
		return u.hostOr(h.Name, err, "cannot be made")
	}
	return nil
}

// hardLink gives a file or a link of the tree one more name.
func (u *unpacker) hardLink(h *tar.Header, d parent, base string) error {
	folder, old, err := split(h.Linkname)
	if err != nil || old == "" {
		return refused(h.Name, "is a hard link to %.200q, which is no path beneath the root", h.Linkname)
	}
	from, err := beneath(u.root, folder, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return u.hostOr(h.Name, err, "is a hard link to what is not there")
	}
	defer unix.Close(from)
	var st, own unix.Stat_t
	if err := unix.Fstatat(from, old, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return u.hostOr(h.Name, err, "is a hard link to what is not there")
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFLNK {
		return refused(h.Name, "is a hard link to a folder")
	}
	if err := unix.Fstatat(d.fd, base, &own, unix.AT_SYMLINK_NOFOLLOW); err == nil && own.Ino == st.Ino {
		return nil // it is that already
	}
	return u.replacing(h, d, base, func() error { return unix.Linkat(from, old, d.fd, base, 0) })
}

// file makes a regular file.
func (u *unpacker) file(h *tar.Header, d parent, base string, content io.Reader) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return refused(h.Name, "is a file with holes")
		}
	}
	if h.Size < 0 || h.Size > u.limits.Bytes-u.written {
		return tooMuch("more than %d bytes", u.limits.Bytes)
	}
	mode := uint32(0o444)
	if h.Mode&0o111 != 0 {
		mode = 0o555
	}
	fd := -1
	err := u.replacing(h, d, base, func() (err error) {
		fd, err = unix.Openat(d.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return err
	}
	err = u.copy(fd, h, content)
	if err == nil {
		t := unix.NsecToTimespec(h.ModTime.UnixNano())
		if s := h.ModTime.Unix(); s < 0 || s > 1<<40 { // beyond what UnixNano can say
			t = unix.Timespec{}
		}
		err = os.NewSyscallError("utimensat", unix.UtimesNanoAt(d.fd, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW))
	}
	if e := unix.Close(fd); err == nil {
		err = os.NewSyscallError("close", e)
	}
	return err
}

func (u *unpacker) copy(fd int, h *tar.Header, content io.Reader) error {
	for left := h.Size; left > 0; {
		n, err := io.ReadFull(content, u.buf[:min(left, int64(len(u.buf)))])
		if err != nil {
			return readError(err, "a layer is cut short: ")
		}
		for b := u.buf[:n]; len(b) > 0; {
			m, err := unix.Write(fd, b)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return &os.PathError{Op: "write", Path: h.Name, Err: err}
			}
			b = b[m:]
		}
		left -= int64(n)
		if u.written += int64(n); u.written-u.checked >= 32<<20 {
			if err := u.room(); err != nil {
				return err
			}
		}
	}
	return nil
}

// room is an error where the disk is as good as full: others need it too.
func (u *unpacker) room() error {
	u.checked = u.written
	var st unix.Statfs_t
	if err := unix.Fstatfs(u.root, &st); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	if int64(st.Bavail)*st.Bsize < u.limits.Reserve {
		return &os.PathError{Op: "unpack", Path: "the image", Err: unix.ENOSPC}
	}
	return nil
}
