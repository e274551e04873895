package runners

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
)

// A lostRouter is an error of the connection, and not of a file.
type lostRouter struct{ error }

// A wrong is a failure that is not the kernel's.
type wrong struct{ word, text string }

func (w wrong) Error() string { return w.text }

// word is the protocol's word for what the kernel said.
func word(err error) string {
	var w wrong
	var errno unix.Errno
	switch {
	case errors.As(err, &w):
		return w.word
	case !errors.As(err, &errno):
		return guest.Failed
	}
	switch errno {
	case unix.ENOENT:
		return guest.FileNotFound
	case unix.EISDIR, unix.ENOTEMPTY, unix.EEXIST:
		return guest.IsDirectory
	case unix.ENOTDIR:
		return guest.NotADirectory
	case unix.EACCES, unix.EPERM, unix.EROFS, unix.ETXTBSY, unix.EBUSY, unix.EXDEV:
		return guest.PermissionDenied
	case unix.EINVAL, unix.ENAMETOOLONG, unix.ELOOP, unix.ENXIO, unix.EILSEQ:
		return guest.InvalidPath
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG, unix.ENOMEM:
		return guest.NoSpace
	}
	return guest.Failed
}

func reason(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
