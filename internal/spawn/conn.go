package spawn

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/linux"
)

// A Conn carries messages over one end of a SOCK_SEQPACKET pair. Send may be
// called from any goroutine, Recv from one at a time; both block, and hold a
// thread for it unless the descriptor does not block (see Polled). Every system
// call holds the descriptor by raw, so that Close cannot give its number to
// another file under it.
type Conn struct {
	f   *os.File // owns the descriptor
	raw syscall.RawConn
	buf []byte

	quick bool // it does not block; see linux.Quick
}

// Pair returns both ends of a new connection.
func Pair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "spawner"), os.NewFile(uintptr(fds[1]), "spawner"), nil
}

// NewConn takes f over.
func NewConn(f *os.File) *Conn {
	f.Fd() // makes it blocking
	return newConn(f)
}

// Polled is NewConn for who waits for much else: the runtime waits for the
// connection, and no thread does.
func Polled(f *os.File) *Conn {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil { // no descriptor is left: a thread waits
		return newConn(f)
	}
	f.Close()
	c := newConn(os.NewFile(uintptr(fd), "spawner"))
	c.quick = true
	return c
}

func newConn(f *os.File) *Conn {
	raw, err := f.SyscallConn()
	if err != nil {
		panic(err) // only of a nil file
	}
	return &Conn{f: f, raw: raw, buf: make([]byte, MaxPacket+1)}
}

// do calls f, again when a signal came between. A connection that was closed
// here is like one that was closed there.
func (c *Conn) do(name string, wait func(func(fd uintptr) bool) error, f func(fd int) error) error {
	var err error
	closed := wait(func(fd uintptr) bool {
		for err = f(int(fd)); err == unix.EINTR; err = f(int(fd)) {
		}
		return err != unix.EAGAIN
	})
	if closed != nil {
		err = unix.EPIPE
	}
	return os.NewSyscallError(name, err)
}

// Send sends one message and copies of the descriptors.
func (c *Conn) Send(m *Message, fds ...int) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	return c.do("sendmsg", c.raw.Write, func(fd int) error {
		if c.quick && oob == nil {
			_, err := linux.TrySend(fd, b)
			return err
		}
		return unix.Sendmsg(fd, b, oob, nil, unix.MSG_NOSIGNAL)
	})
}

// Recv returns the next message and the descriptors that came with it, which
// the caller owns; none where not all of them could be taken. It returns io.EOF when the other end is gone.
func (c *Conn) Recv() (*Message, []int, error) {
	oob := make([]byte, unix.CmsgSpace(4*16))
	var n, oobn, flags int
	err := c.do("recvmsg", c.raw.Read, func(fd int) (err error) {
		if c.quick {
			n, oobn, flags, err = linux.TryRecv(fd, c.buf, oob)
			return err
		}
		n, oobn, flags, _, err = unix.Recvmsg(fd, c.buf, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	fds := Rights(oob[:oobn])
	if n == 0 {
		closeAll(fds)
		return nil, nil, io.EOF
	}
	if flags&unix.MSG_CTRUNC != 0 { // this process may have no more descriptors: none, and not some
		closeAll(fds)
		fds = nil
	}
	if n > MaxPacket || flags&unix.MSG_TRUNC != 0 {
		closeAll(fds)
		return nil, nil, errors.New("a message is longer than allowed")
	}
	m, err := Decode(c.buf[:n])
	if err != nil {
		closeAll(fds)
		return nil, nil, err
	}
	return m, fds, nil
}

// Close ends both directions; a blocked Recv returns.
func (c *Conn) Close() error {
	c.Shutdown()
	return c.f.Close()
}

// Shutdown ends both directions as Close does, and leaves the descriptor to
// whoever receives.
func (c *Conn) Shutdown() {
	c.raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_RDWR) })
}

// Rights returns the descriptors of a control message.
func Rights(oob []byte) (fds []int) {
	ms, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range ms {
		if got, err := unix.ParseUnixRights(&ms[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
