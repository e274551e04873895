package main

import (
	"io/fs"
	"os"

	"github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"golang.org/x/sys/unix"
)

// A file is a regular file or a folder of a tree, open: the engine's own file
// over one of package os, and what that leaves out.
type file struct {
	sys.File
	file     *os.File
	appended bool
}

func newFile(root *os.Root, name string, f *os.File) (*file, sys.Errno) {
	inner, n := (&sysfs.AdaptFS{FS: &opened{root, f}}).OpenFile(name, 0, 0)
	return &file{File: inner, file: f}, n
}

// opened gives a file that is open to the engine; a folder is opened again
// whenever it is read from its beginning.
type opened struct {
	root *os.Root
	file *os.File
}

func (o *opened) Open(name string) (fs.File, error) {
	if f := o.file; f != nil {
		o.file = nil
		return f, nil
	}
	return o.root.OpenFile(name, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

func (f *file) IsAppend() bool { return f.appended }

// SetAppend is asked of regular files alone.
func (f *file) SetAppend(on bool) sys.Errno {
	if f.appended == on {
		return 0
	}
	flags, err := unix.FcntlInt(f.file.Fd(), unix.F_GETFL, 0)
	if err == nil {
		if flags &^= unix.O_APPEND; on {
			flags |= unix.O_APPEND
		}
		_, err = unix.FcntlInt(f.file.Fd(), unix.F_SETFL, flags)
	}
	if err == nil {
		f.appended = on
	}
	return errno(err)
}

func (f *file) Truncate(size int64) sys.Errno { return errno(f.file.Truncate(size)) }

func (f *file) Sync() sys.Errno { return errno(f.file.Sync()) }

func (f *file) Datasync() sys.Errno { return errno(unix.Fdatasync(int(f.file.Fd()))) }

func (f *file) Utimens(atim, mtim int64) sys.Errno {
	var ts [2]unix.Timespec
	for i, t := range [...]int64{atim, mtim} {
		if ts[i] = unix.NsecToTimespec(t); t == sys.UTIME_OMIT {
			ts[i] = unix.Timespec{Nsec: unix.UTIME_OMIT}
		}
	}
	return errno(unix.UtimesNanoAt(int(f.file.Fd()), "", ts[:], unix.AT_EMPTY_PATH))
}
