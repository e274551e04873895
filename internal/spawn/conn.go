package spawn

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Conn carries messages over one end of a SOCK_SEQPACKET pair. Send may be
// called from any goroutine, Recv from one at a time; both block. Every system
// call holds the descriptor by raw, so that Close cannot give its number to
// another file under it.
type Conn struct {
	f   *os.File // owns the descriptor
	raw syscall.RawConn
	buf []byte
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
	raw, err := f.SyscallConn()
	if err != nil {
		panic(err) // only of a nil file
	}
	return &Conn{f: f, raw: raw, buf: make([]byte, MaxPacket+1)}
}

// do calls f, again when a signal came between. A connection that was closed
// here is like one that was closed there.
func (c *Conn) do(name string, f func(fd int) error) error {
	var err error
	closed := c.raw.Control(func(fd uintptr) {
		for err = f(int(fd)); err == unix.EINTR; err = f(int(fd)) {
		}
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
	return c.do("sendmsg", func(fd int) error { return unix.Sendmsg(fd, b, oob, nil, unix.MSG_NOSIGNAL) })
}

// Recv returns the next message and the descriptors that came with it, which
// the caller owns. It returns io.EOF when the other end is gone.
func (c *Conn) Recv() (*Message, []int, error) {
	oob := make([]byte, unix.CmsgSpace(4*16))
	var n, oobn, flags int
	err := c.do("recvmsg", func(fd int) (err error) {
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
	if n > MaxPacket || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
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
	c.do("shutdown", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })
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
