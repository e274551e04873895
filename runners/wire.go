package runners

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A wire is the connection to the router. Its descriptor does not block, so
// that a stream waits for everything at once; Read and Write block all the
// same.
type wire struct {
	file *os.File // kept: what nobody holds is closed
	fd   int
}

func newWire(conn *os.File) *wire {
	w := &wire{file: conn, fd: int(conn.Fd())}
	unix.SetNonblock(w.fd, true)
	return w
}

// Read blocks until there is something; io.EOF says that the router hung up.
func (w *wire) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(w.fd, b)
		switch {
		case err == unix.EAGAIN:
			poll(want{w.fd, unix.POLLIN})
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write blocks until all of b is written.
func (w *wire) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := w.some(b[done:])
		done += n
		if err != nil {
			return done, err
		}
		if n == 0 {
			poll(want{w.fd, unix.POLLOUT})
		}
	}
	return done, nil
}

// some writes what the router has room for, which may be nothing.
func (w *wire) some(b []byte) (int, error) {
	n, err := unix.Write(w.fd, b)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("write", err)
	}
	return n, nil
}
