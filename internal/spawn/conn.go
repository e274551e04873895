package spawn

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Conn carries messages over one end of a SOCK_SEQPACKET pair. Send may be
// called from any goroutine, Recv from one at a time; both block.
type Conn struct {
	f   *os.File // owns the descriptor
	fd  int
	buf []byte
	mu  sync.Mutex // one Send at a time, and none on a number that was closed
	end bool
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
	return &Conn{f: f, fd: int(f.Fd()), buf: make([]byte, MaxPacket+1)}
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end {
		return os.NewSyscallError("sendmsg", unix.EPIPE)
	}
	for {
		err := unix.Sendmsg(c.fd, b, oob, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// Recv returns the next message and the descriptors that came with it, which
// the caller owns. It returns io.EOF when the other end is gone.
func (c *Conn) Recv() (*Message, []int, error) {
	oob := make([]byte, unix.CmsgSpace(4*16))
	var n, oobn, flags int
	var err error
	for {
		n, oobn, flags, _, err = unix.Recvmsg(c.fd, c.buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, nil, os.NewSyscallError("recvmsg", err)
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
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = true
	return c.f.Close()
}

// Shutdown ends both directions as Close does, and leaves the descriptor to
// whoever receives. It must not be called after Close.
func (c *Conn) Shutdown() { unix.Shutdown(c.fd, unix.SHUT_RDWR) }

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
