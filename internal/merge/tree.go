package merge

import (
	"errors"
	"os"
	"path"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// An entry is what stat says of a name; the zero entry is a name that is
// absent.
type entry struct {
	kind         uint32 // S_IFMT
	mode         uint32 // 07777
	dev, ino     uint64
	size         int64
	used         int64 // bytes of storage
	ctime, mtime int64
	rdev         uint64
}

func (e entry) absent() bool   { return e.ino == 0 && e.kind == 0 }
func (e entry) folder() bool   { return e.kind == unix.S_IFDIR }
func (e entry) regular() bool  { return e.kind == unix.S_IFREG }
func (e entry) link() bool     { return e.kind == unix.S_IFLNK }
func (e entry) whiteout() bool { return e.kind == unix.S_IFCHR && e.rdev == 0 }

// untouched reports whether now is e and nothing was done to it since.
func (e entry) untouched(now entry) bool {
	return e.body(now) && e.ctime == now.ctime
}

// body is untouched for one that was renamed, which changes its ctime.
func (e entry) body(now entry) bool {
	if e.folder() && now.folder() {
		return e.dev == now.dev && e.ino == now.ino
	}
	return e.kind == now.kind && e.mode == now.mode && e.dev == now.dev && e.ino == now.ino && e.size == now.size && e.mtime == now.mtime
}

func newEntry(st *unix.Stat_t) entry {
	return entry{
		kind: st.Mode & unix.S_IFMT, mode: st.Mode & 0o7777, dev: uint64(st.Dev), ino: st.Ino, size: st.Size,
		used: st.Blocks * 512, ctime: st.Ctim.Nano(), mtime: st.Mtim.Nano(), rdev: uint64(st.Rdev),
	}
}

// statAt returns what is at name in dir, itself if it is a link; the zero
// entry if nothing is.
func statAt(dir int, name string) (entry, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == unix.ENOENT {
		return entry{}, nil
	} else if err != nil {
		return entry{}, err
	}
	return newEntry(&st), nil
}

func statFd(fd int) (entry, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return entry{}, err
	}
	return newEntry(&st), nil
}

// open opens rel beneath dir: through no link, no magic link and no mount
// point, at no step. A FIFO does not block it.
func open(dir int, rel string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY),
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for range 64 {
		fd, err := unix.Openat2(dir, rel, &how)
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: a rename elsewhere on the machine; try again
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

func openFolder(dir int, rel string) (int, error) {
	if rel == "" {
		rel = "."
	}
	return open(dir, rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// openParent opens the folder that holds rel beneath root, and returns rel's
// name in it.
func openParent(root int, rel string) (fd int, name string, err error) {
	dir, name := path.Split(rel)
	fd, err = openFolder(root, strings.TrimSuffix(dir, "/"))
	return fd, name, err
}

var errTooMany = errors.New("too many entries")

// list returns the names in a folder, sorted, of which there may be limit.
func list(dir, limit int) ([]string, error) {
	fd, err := openFolder(dir, "") // an offset of its own
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			sort.Strings(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
		if len(names) > limit {
			return nil, errTooMany
		}
	}
}

// overlayAttr returns the value of an attribute of the overlay's own; "" if
// it is not there.
func overlayAttr(fd int, name string) (string, error) {
	var buf [256]byte
	n, err := unix.Fgetxattr(fd, "user.overlay."+name, buf[:])
	switch err {
	case nil:
		if n == 0 {
			return " ", nil
		}
		return string(buf[:n]), nil
	case unix.ENODATA, unix.EOPNOTSUPP:
		return "", nil
	case unix.ERANGE:
		return "?", nil
	}
	return "", err
}

// readLink returns the target of the link at name in dir.
func readLink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	if n == len(buf) {
		return "", unix.ENAMETOOLONG
	}
	return string(buf[:n]), nil
}

func fail(op, path string, err error) error {
	return &os.PathError{Op: "merge: " + op, Path: path, Err: err}
}

// join is path.Join for a path beneath the grant, which holds no dots.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
