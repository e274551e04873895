package runners

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
)

// maxPath is PATH_MAX of Linux, the closing NUL included.
const maxPath = 4096

// transfer answers Files. This process reads and writes by the rights that it
// shares with the tool, whose files may be anything: a FIFO or a device is
// opened without waiting and refused, and /proc too, which would show this
// process and not the tool. A write changes the file that is there in place,
// and one that fails half-way leaves what it wrote.
func (s *server) transfer(args []guest.Pair) error {
	op, _ := guest.Get(args, "op")
	name, _ := guest.Get(args, "path")
	if s.guest.Runner == "files" || s.guest.Runner == "mcp" {
		return s.fail(1, guest.PermissionDenied+": a tool of runner "+s.guest.Runner+" gives its files by its own functions alone")
	}
	err := error(wrong{guest.InvalidPath, "it is empty, holds a NUL byte or has 4096 bytes or more"})
	if name != "" && len(name) < maxPath && strings.IndexByte(name, 0) < 0 {
		switch op {
		case "read":
			err = s.read(name)
		case "write":
			err = s.write(name)
		case "list":
			err = s.list(name)
		case "stat":
			err = s.stat(name)
		case "remove":
			err = s.remove(name)
		default:
			err = wrong{guest.Failed, "there is no operation " + op}
		}
	}
	var lost lostRouter
	switch {
	case errors.As(err, &lost):
		return lost.error
	case err != nil:
		return s.fail(1, word(err)+": "+name+": "+reason(err))
	}
	return s.done(0)
}

// openPlain opens what may be read or written: a regular file.
func openPlain(name string, flags int) (int, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Open(name, flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return -1, st, err
	}
	if err = notProc(fd); err == nil {
		err = unix.Fstat(fd, &st)
	}
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		err = unix.EISDIR
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = wrong{guest.InvalidPath, "it is no regular file"}
	}
	if err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

func notProc(fd int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return wrong{guest.PermissionDenied, "what lies in /proc is told by commands alone"}
	}
	return nil
}

func (s *server) read(name string) error {
	fd, _, err := openPlain(name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b := make([]byte, chunk)
	for {
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return nil
		}
		if err := s.send(guest.Stdout, b[:n]); err != nil {
			return lostRouter{err}
		}
	}
}

// write makes the folders above, and then the file.
func (s *server) write(name string) error {
	if strings.HasSuffix(name, "/") {
		return unix.EISDIR
	}
	fd, err := s.create(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		f, err := guest.ReadFunc(s.conn, func(t guest.Type, n int64) error {
			if t != guest.Stdin || n > guest.Window {
				return errors.New("the router sent something else while a file was written")
			}
			return nil
		})
		if err == nil && f.Call != s.call {
			err = errors.New("the router sent a frame of another call")
		}
		if err != nil {
			return lostRouter{err}
		}
		if len(f.Body) == 0 {
			return nil
		}
		if err := s.put(fd, f.Body); err != nil {
			return err
		}
		if err := s.send(guest.Taken, binary.BigEndian.AppendUint32(nil, uint32(len(f.Body)))); err != nil {
			return lostRouter{err}
		}
	}
}

// create makes the folders above a file, and the file, empty.
func (s *server) create(name string) (int, error) {
	s.stopped.Lock()
	defer s.stopped.Unlock()
	if err := os.MkdirAll(path.Dir(name), 0o777); err != nil {
		return -1, err
	}
	fd, _, err := openPlain(name, unix.O_WRONLY|unix.O_CREAT)
	if err != nil {
		return -1, err
	}
	if err := unix.Ftruncate(fd, 0); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s *server) put(fd int, b []byte) error {
	s.stopped.Lock()
	defer s.stopped.Unlock()
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (s *server) list(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := notProc(fd); err != nil {
		return err
	}
	names, err := f.Readdirnames(guest.MaxEntries + 1)
	if err != nil && err != io.EOF {
		return err
	}
	if len(names) > guest.MaxEntries {
		return wrong{guest.TooLarge, "the folder has too many entries to be listed"}
	}
	slices.Sort(names)
	for {
		var es []guest.Entry
		n := min(len(names), guest.MaxPairs)
		for _, name := range names[:n] {
			var st unix.Stat_t
			if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil { // else it is gone
				es = append(es, entry(name, &st))
			}
		}
		if err := s.send(guest.Value, guest.AppendEntries(nil, es)); err != nil {
			return lostRouter{err}
		}
		if names = names[n:]; len(names) == 0 {
			return nil
		}
	}
}

func (s *server) stat(name string) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := notProc(fd); err != nil {
		return err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	base := path.Base(name)
	if base == "." || base == ".." {
		if base, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err != nil {
			return err
		}
		base = path.Base(base)
	}
	if err := s.send(guest.Value, guest.AppendEntries(nil, []guest.Entry{entry(base, &st)})); err != nil {
		return lostRouter{err}
	}
	return nil
}

func entry(name string, st *unix.Stat_t) guest.Entry {
	e := guest.Entry{Name: name, Kind: "other", Modified: st.Mtim.Nano(), Mode: st.Mode & 0o7777}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Kind, e.Size = "file", st.Size
	case unix.S_IFDIR:
		e.Kind = "folder"
	case unix.S_IFLNK:
		e.Kind = "link"
	}
	return e
}

// remove takes away a file, a link, or an empty folder.
func (s *server) remove(name string) error {
	s.stopped.Lock()
	defer s.stopped.Unlock()
	err := unix.Unlink(name)
	if err == unix.EISDIR || err == unix.EPERM {
		if folder := unix.Rmdir(name); folder != unix.ENOTDIR {
			return folder
		}
	}
	return err
}
