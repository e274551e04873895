package catalog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/casemate/casemate"
	"golang.org/x/sys/unix"
)

// Load reads and checks the configuration at path. It refuses (Denied) a file
// that does not belong to the caller or root, and one that others could
// change, or replace by way of a folder or a link that leads to it.
func Load(path string, opt Options) (*Config, error) {
	real, src, err := openOwned(path, maxSource)
	if err != nil {
		return nil, err
	}
	return Parse(real, src, opt)
}

// maxLinks bounds the links of one path, as the kernel does.
const maxLinks = 40

// openOwned returns the real path and the content of a file of the caller's.
// It walks from the root by descriptor, one component at a time, and checks
// each folder, link and the file on the descriptor that it then goes on with:
// no rename in between makes it read what it did not check.
func openOwned(path string, most int64) (string, []byte, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", nil, unusable(path, err)
	}
	if strings.ContainsRune(abs, 0) {
		return "", nil, unusable(path, errors.New("its name holds a NUL byte"))
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, unusable("/", err)
	}
	dirs, at := []int{root}, []string{"/"} // of the folders on the way
	defer func() {
		for _, d := range dirs {
			unix.Close(d)
		}
	}()
	rest, links := components(abs), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		dir, here := dirs[len(dirs)-1], at[len(at)-1]
		if name == ".." {
			if len(dirs) > 1 {
				unix.Close(dir)
				dirs, at = dirs[:len(dirs)-1], at[:len(at)-1]
			}
			continue
		}
		if err := owned(dir, here, true); err != nil {
			return "", nil, err
		}
		full := filepath.Join(here, name)
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", nil, unusable(full, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return "", nil, unusable(full, err)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := readlink(fd)
			unix.Close(fd)
			if links++; err == nil && links > maxLinks {
				err = unix.ELOOP
			}
			if err != nil {
				return "", nil, unusable(full, err)
			}
			if foreign(st.Uid) {
				return "", nil, refused(full, fmt.Sprintf("is a link of uid %d, who can turn it elsewhere", st.Uid), "name the file that it leads to")
			}
			if filepath.IsAbs(target) {
				for _, d := range dirs[1:] {
					unix.Close(d)
				}
				dirs, at = dirs[:1], at[:1]
			}
			rest = append(components(target), rest...)
		case unix.S_IFDIR:
			dirs, at = append(dirs, fd), append(at, full)
		default:
			unix.Close(fd)
			if len(rest) > 0 {
				return "", nil, unusable(full, unix.ENOTDIR)
			}
			src, err := readOwned(dir, name, full, st, most)
			return full, src, err
		}
	}
	return "", nil, unusable(path, errors.New("is a folder"))
}

func components(p string) []string {
	var out []string
	for _, c := range strings.Split(p, "/") {
		if c != "" && c != "." {
			out = append(out, c)
		}
	}
	return out
}

func readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// readOwned opens the last component once, and reads what it checked.
func readOwned(dir int, name, full string, seen unix.Stat_t, most int64) ([]byte, error) {
	if seen.Mode&unix.S_IFMT != unix.S_IFREG { // nothing is opened that could block or act
		return nil, unusable(full, errors.New("is not a regular file"))
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, unusable(full, err)
	}
	f := os.NewFile(uintptr(fd), full)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, unusable(full, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unusable(full, errors.New("is not a regular file"))
	}
	if err := owned(fd, full, false); err != nil {
		return nil, err
	}
	src, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, unusable(full, err)
	}
	if int64(len(src)) > most {
		return nil, unusable(full, fmt.Errorf("is larger than %d bytes", most))
	}
	return src, nil
}

// owned refuses a file or folder that someone else could change. A sticky
// folder lets others add names and not replace them, so it passes. An access
// control list that lets others write shows in the group's bits.
func owned(fd int, path string, folder bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return unusable(path, err)
	}
	what := "file"
	if folder {
		what = "folder"
	}
	if foreign(st.Uid) {
		return refused(path, fmt.Sprintf("belongs to uid %d, neither to you (uid %d) nor to root, and its owner could change the configuration", st.Uid, unix.Geteuid()),
			fmt.Sprintf("keep the configuration in a folder of your own, or: chown %d %s", unix.Geteuid(), quoted(path)))
	}
	if st.Mode&0o022 != 0 && !(folder && st.Mode&unix.S_ISVTX != 0) {
		return refused(path, fmt.Sprintf("is a %s that others may write (mode %04o), and they could change the configuration", what, st.Mode&0o7777),
			"chmod go-w "+quoted(path))
	}
	return nil
}

// foreign says whether uid is neither the caller nor root.
func foreign(uid uint32) bool { return uid != 0 && int(uid) != unix.Geteuid() }

func refused(path, why, fix string) error {
	return &casemate.Error{Op: "load", Kind: casemate.Denied, Err: errors.New(visible(path) + " " + why), Fix: fix}
}

func unusable(path string, err error) error {
	why := visible(err.Error())
	if _, ok := errors.AsType[unix.Errno](err); ok {
		why = cannot(err)
	}
	return &casemate.Error{Op: "load", Kind: casemate.Invalid, Err: errors.New(visible(path) + " " + why), Fix: "name another file with --config, or run casemate init"}
}

// quoted is a path for a command line that a person may copy.
func quoted(path string) string {
	return "'" + strings.ReplaceAll(visible(path), "'", `'\''`) + "'"
}
