package main

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/experimental/sys"
	"golang.org/x/sys/unix"

	wasisys "github.com/tetratelabs/wazero/sys"
)

// A tree is a folder as the engine asks for it. What is to read only refuses to
// be written here, and once more where it is mounted.
type tree struct {
	sys.UnimplementedFS
	root  *os.Root
	write bool
}

// errno is an error of package os as WASI has it. A path that would lead out of
// the folder is one that may not be followed.
func errno(err error) sys.Errno {
	if err == nil {
		return 0
	}
	if n, ok := errors.AsType[unix.Errno](err); ok {
		return sys.UnwrapOSError(n)
	}
	if n := sys.UnwrapOSError(err); n != 0 && n != sys.EIO {
		return n
	}
	if errors.Is(err, fs.ErrInvalid) {
		return sys.EINVAL
	}
	return sys.EPERM
}

// clean is a name as os.Root takes it: the folder itself is ".". The engine puts
// a slash before what it names relative to that.
func clean(name string) string { return path.Clean(strings.TrimLeft(name, "/")) }

// changing is the answer to what would change something; 0 is yes.
func (t *tree) changing() sys.Errno {
	if t.write {
		return 0
	}
	return sys.EROFS
}

func (t *tree) OpenFile(name string, flag sys.Oflag, perm fs.FileMode) (sys.File, sys.Errno) {
	name = clean(name)
	how := unix.O_NONBLOCK // of a FIFO, which nobody waits for
	switch flag & (sys.O_RDWR | sys.O_WRONLY) {
	case sys.O_RDWR:
		how |= os.O_RDWR
	case sys.O_WRONLY:
		how |= os.O_WRONLY
	}
	for _, f := range [...]struct {
		flag sys.Oflag
		how  int
	}{{sys.O_CREAT, os.O_CREATE}, {sys.O_EXCL, os.O_EXCL}, {sys.O_TRUNC, os.O_TRUNC}, {sys.O_DIRECTORY, unix.O_DIRECTORY}} {
		if flag&f.flag != 0 {
			how |= f.how
		}
	}
	if how&(os.O_RDWR|os.O_WRONLY|os.O_CREATE|os.O_TRUNC) != 0 {
		if n := t.changing(); n != 0 {
			return nil, n
		}
		if flag&sys.O_DIRECTORY != 0 && how&os.O_CREATE == 0 {
			return nil, sys.EISDIR
		}
	}
	if flag&sys.O_NOFOLLOW != 0 {
		if fi, err := t.root.Lstat(name); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
			return nil, sys.ELOOP
		}
	}
	f, err := t.root.OpenFile(name, how, perm&0o777)
	if err != nil {
		return nil, errno(err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.IsDir() && !fi.Mode().IsRegular() {
		err = unix.EACCES // a device, a socket or a FIFO is no file of a module
	}
	if err == nil && !fi.IsDir() && flag&sys.O_DIRECTORY != 0 {
		err = unix.ENOTDIR
	}
	if err != nil {
		f.Close()
		return nil, errno(err)
	}
	out, n := newFile(t.root, name, f)
	if n == 0 && !fi.IsDir() && flag&sys.O_APPEND != 0 {
		n = out.SetAppend(true)
	}
	return out, n
}

func (t *tree) Stat(name string) (wasisys.Stat_t, sys.Errno) { return stat(t.root.Stat(clean(name))) }

func (t *tree) Lstat(name string) (wasisys.Stat_t, sys.Errno) { return stat(t.root.Lstat(clean(name))) }

func stat(fi fs.FileInfo, err error) (wasisys.Stat_t, sys.Errno) {
	if err != nil {
		return wasisys.Stat_t{}, errno(err)
	}
	return wasisys.NewStat_t(fi), 0
}

func (t *tree) Readlink(name string) (string, sys.Errno) {
	s, err := t.root.Readlink(clean(name))
	return s, errno(err)
}

// change does something to the folder that may be done to it.
func (t *tree) change(do func() error) sys.Errno {
	if n := t.changing(); n != 0 {
		return n
	}
	return errno(do())
}

func (t *tree) Mkdir(name string, perm fs.FileMode) sys.Errno {
	return t.change(func() error { return t.root.Mkdir(clean(name), perm&0o777) })
}

func (t *tree) Rename(from, to string) sys.Errno {
	return t.change(func() error { return t.root.Rename(clean(from), clean(to)) })
}

func (t *tree) Link(old, name string) sys.Errno {
	return t.change(func() error { return t.root.Link(clean(old), clean(name)) })
}

func (t *tree) Symlink(old, name string) sys.Errno {
	return t.change(func() error { return t.root.Symlink(old, clean(name)) })
}

func (t *tree) Unlink(name string) sys.Errno { return t.remove(clean(name), false) }

func (t *tree) Rmdir(name string) sys.Errno { return t.remove(clean(name), true) }

// remove removes a folder, or what is none.
func (t *tree) remove(name string, folder bool) sys.Errno {
	return t.change(func() error {
		fi, err := t.root.Lstat(name)
		switch {
		case err != nil:
			return err
		case folder && !fi.IsDir():
			return unix.ENOTDIR
		case !folder && fi.IsDir():
			return unix.EISDIR
		}
		return t.root.Remove(name)
	})
}

func (t *tree) Utimens(name string, atim, mtim int64) sys.Errno {
	return t.change(func() error { return t.root.Chtimes(clean(name), when(atim), when(mtim)) })
}

// when is a time of WASI; the zero time is one that stays as it is.
func when(nanos int64) time.Time {
	if nanos == sys.UTIME_OMIT {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}
