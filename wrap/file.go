package wrap

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/casemate/casemate"
	"golang.org/x/sys/unix"
)

func isFile(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.Mode().IsRegular()
}

// A File is a configuration of the user's on disk, as it was read.
type File struct {
	Path    string // real: no part of it is a link
	Content []byte
	stat    unix.Stat_t
	acl     []byte
}

// Open reads the file at path. It refuses (Invalid) a link, which the user
// should see turned into what it leads to before anything is replaced, and a
// file with a second name, which would keep the old content; and (Denied) a
// file that another user owns or that may not be read and replaced.
func Open(path string) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, invalid(path, err.Error(), "change to a folder that exists")
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return nil, cannot(path, err)
	}
	f := &File{Path: filepath.Join(dir, filepath.Base(abs))}
	if info, err := os.Lstat(f.Path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		real, err := filepath.EvalSymlinks(f.Path)
		if err != nil {
			return nil, cannot(path, err)
		}
		return nil, invalid(path, "is a link", "name the file that it leads to: "+real)
	}
	fd, err := unix.Open(f.Path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, cannot(path, err)
	}
	h := os.NewFile(uintptr(fd), f.Path)
	defer h.Close()
	if err := unix.Fstat(fd, &f.stat); err != nil {
		return nil, cannot(path, err)
	}
	switch {
	case f.stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, invalid(path, "is not a regular file", "name the client's configuration")
	case int(f.stat.Uid) != unix.Geteuid():
		return nil, &casemate.Error{Op: "wrap", Kind: casemate.Denied, Err: fmt.Errorf("%s: belongs to user %d, and you are %d", path, f.stat.Uid, unix.Geteuid()), Fix: "run casemate as the user whose client it is"}
	case f.stat.Nlink > 1:
		return nil, invalid(path, "has another name as well (a hard link), which would keep the old content", "make it a file of its own: cp -p it elsewhere, and mv the copy back")
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK, unix.AT_EACCESS); err != nil {
		return nil, cannot(dir, err)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, f.Path, unix.W_OK, unix.AT_EACCESS); err != nil {
		return nil, cannot(path, err)
	}
	if f.Content, err = io.ReadAll(io.LimitReader(h, maxSource+1)); err != nil {
		return nil, cannot(path, err)
	}
	acl := make([]byte, 64<<10)
	if n, err := unix.Fgetxattr(fd, aclName, acl); err == nil {
		f.acl = acl[:n]
	}
	return f, nil
}

const aclName = "system.posix_acl_access"

// cannot is an error of the host about a file.
func cannot(path string, err error) error {
	e := &casemate.Error{Op: "wrap", Kind: casemate.Internal, Err: fmt.Errorf("%s: %w", path, err)}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		e.Kind, e.Fix = casemate.Denied, "run casemate as the user whose client it is, and make the file and its folder writable"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		e.Kind, e.Fix = casemate.Invalid, "casemate wrap without a file lists the configurations of this machine"
	}
	return e
}

// Replace writes new content in the place of what was read, or nothing at
// all: a new file beside it, of the same mode and owner, synced, takes its
// name. If the client has written the file in the meantime, its version is
// put back and the error is of kind Busy.
func (f *File) Replace(content []byte) error {
	tmp := filepath.Join(filepath.Dir(f.Path), ".casemate-"+rand.Text())
	if err := f.create(tmp, content); err != nil {
		return cannot(f.Path, err)
	}
	defer os.Remove(tmp)
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, f.Path, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system without it
		if !f.unchanged(f.Path) {
			return f.busy()
		}
		err = os.Rename(tmp, f.Path)
	} else if err == nil && !f.unchanged(tmp) {
		if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, f.Path, unix.RENAME_EXCHANGE); err != nil {
			kept := f.Path + ".before-casemate"
			if os.Rename(tmp, kept) == nil {
				return &casemate.Error{Op: "wrap", Kind: casemate.Internal, Err: fmt.Errorf("%s changed while it was read, and what the client wrote could not be put back: %w", f.Path, err), Fix: "it lies in " + kept}
			}
		}
		return f.busy()
	}
	if err != nil {
		return cannot(f.Path, err)
	}
	return syncFolder(filepath.Dir(f.Path))
}

func (f *File) busy() error {
	return &casemate.Error{Op: "wrap", Kind: casemate.Busy, Err: errors.New(f.Path + ": changed while casemate read it; nothing was changed"), Fix: "close the client and try again"}
}

// unchanged says whether the file of that name is the one that was read.
func (f *File) unchanged(name string) bool {
	var st unix.Stat_t
	if unix.Lstat(name, &st) != nil || st.Ino != f.stat.Ino || st.Dev != f.stat.Dev || st.Size != f.stat.Size {
		return false
	}
	now, err := os.ReadFile(name)
	return err == nil && bytes.Equal(now, f.Content)
}

// closeAs has Replace write a file that nobody may read who may not read o:
// what it gets, such as arguments, may be secret.
func (f *File) closeAs(o *File) {
	open := f.stat.Mode & 0o077 &^ o.stat.Mode
	if f.stat.Mode &^= open; open != 0 || f.acl != nil && o.stat.Mode&0o077 == 0 {
		f.acl = nil
	}
}

// create writes a new file of f's mode, owner and access control list.
func (f *File) create(name string, content []byte) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	h := os.NewFile(uintptr(fd), name)
	_, err = h.Write(content)
	if err == nil && int(f.stat.Gid) != unix.Getegid() {
		err = unix.Fchown(fd, -1, int(f.stat.Gid))
	}
	if err == nil {
		err = unix.Fchmod(fd, f.stat.Mode&0o7777)
	}
	if err == nil && f.acl != nil {
		err = unix.Fsetxattr(fd, aclName, f.acl, 0)
	}
	if err = errors.Join(err, h.Sync(), h.Close()); err != nil {
		os.Remove(name)
	}
	return err
}

// syncFolder makes the names in a folder last.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return cannot(dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return cannot(dir, err)
	}
	return nil
}
