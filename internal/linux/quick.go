package linux

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Quick is a file that does not block, and is read and written without a
// word to Go's scheduler, which would have a thread look whether the system
// call blocks: in a process that waits between short messages that thread is
// woken for each of them, and takes a core from whom the message is for.
type Quick struct {
	*os.File
	raw syscall.RawConn
}

// NewQuick takes f over, which the runtime has to wait for; see ErrBlocks.
func NewQuick(f *os.File) (*Quick, error) {
	q := &Quick{File: f}
	var err error
	if q.raw, err = f.SyscallConn(); err != nil {
		return nil, err
	}
	blocks := true
	err = q.raw.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		blocks = err != nil || flags&unix.O_NONBLOCK == 0
	})
	if err == nil && blocks {
		err = ErrBlocks
	}
	return q, err
}

// ErrBlocks is of a file that does, and would stop everything.
var ErrBlocks = errors.New("the file blocks")

// Read is that of a file, but for its errors, which do not name it.
func (q *Quick) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	closed := q.raw.Read(func(fd uintptr) bool {
		n, err = TryRead(int(fd), b)
		return err != unix.EAGAIN
	})
	switch {
	case closed != nil:
		return 0, closed
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write is that of a file, but for its errors, which do not name it.
func (q *Quick) Write(b []byte) (done int, err error) {
	closed := q.raw.Write(func(fd uintptr) bool {
		for done < len(b) {
			var n int
			if n, err = TryWrite(int(fd), b[done:]); err != nil {
				return err != unix.EAGAIN
			}
			done += n
		}
		return true
	})
	if closed != nil {
		return done, closed
	}
	if err != nil {
		return done, os.NewSyscallError("write", err)
	}
	return done, nil
}
