package process

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
)

// more waits until there is something of a guest that has not answered, and
// returns what of it is a stream's.
func (m *mux) more(p []byte) int {
	if m.set == nil {
		m.fill(true)
		return 0
	}
	if m.hot == [3]bool{} {
		m.fail(m.poll())
	}
	return m.serve(p)
}

// serve reads what the set said has something.
func (m *mux) serve(p []byte) int {
	for i := range m.streams {
		if m.hot[i] {
			m.hot[i] = false
			if n := m.pump(i, p); n > 0 {
				return n
			}
		}
	}
	if m.hot[2] {
		m.hot[2] = false
		m.fill(false)
	}
	return 0
}

func (m *mux) fail(err error) {
	if err != nil && m.err == nil {
		m.err = err
	}
}

// fill reads more of the socket into buf.
func (m *mux) fill(wait bool) {
	asked := m.asked.Load() != 0
	if m.space == nil || asked && len(m.space) < 4<<10 {
		space := make([]byte, 512) // Ready is short
		if asked {
			space = make([]byte, 4<<10)
		}
		m.space = space
	}
	m.buf = m.space[:copy(m.space, m.buf)]
	n, err := m.socket(m.space[len(m.buf):], wait)
	m.buf = m.space[:len(m.buf)+n]
	if err == io.EOF {
		m.over = true
		if m.set != nil {
			m.forget()
		}
		return
	}
	m.fail(err)
	if n > 0 && asked {
		m.owed = [2]int{maxPipe, maxPipe}
	}
}

// socket reads from the socket. It returns 0 where nothing is there and wait
// is false, or the call stopped being a quick one.
func (m *mux) socket(b []byte, wait bool) (n int, err error) {
	var errno error
	err = m.raw.Read(func(fd uintptr) bool {
		n, errno = retry(int(fd), b)
		return errno != unix.EAGAIN || !wait
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, m.watch()
	case err != nil:
		return 0, err
	case errno == unix.EAGAIN:
		return 0, nil
	case errno != nil:
		return 0, os.NewSyscallError("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func retry(fd int, b []byte) (n int, err error) {
	for n, err = unix.Read(fd, b); err == unix.EINTR; n, err = unix.Read(fd, b) {
	}
	return max(n, 0), err
}

// pump reads one piece of a stream, as a frame of the call, into p, or into
// ready where p is short. It returns what is in p.
func (m *mux) pump(i int, p []byte) int {
	b := p[:min(len(p), head+piece)]
	short := len(p) < 512
	if short {
		b = make([]byte, 4<<10)
	}
	m.mu.Lock()
	n, err := 0, error(nil)
	if m.streams[i] >= 0 {
		if n, err = retry(m.streams[i], b[head:]); n == 0 && err != unix.EAGAIN {
			m.end(i) // which takes it out of the set
		}
	}
	m.mu.Unlock()
	m.owed[i] -= n
	if n < len(b)-head {
		m.owed[i] = 0
	}
	if n == 0 {
		return 0
	}
	b[0] = byte([]guest.Type{guest.Stdout, guest.Stderr}[i])
	binary.BigEndian.PutUint32(b[1:], uint32(m.asked.Load()))
	binary.BigEndian.PutUint32(b[5:], uint32(n))
	if short {
		m.ready = b[:head+n]
		n = copy(p, m.ready) - head
		m.ready = m.ready[head+n:]
	}
	return head + n
}

// watch makes the set.
func (m *mux) watch() error {
	m.SetReadDeadline(time.Time{})
	if m.set != nil {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	unix.SetNonblock(fd, true) // so that the runtime waits for it
	set := os.NewFile(uintptr(fd), "streams")
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.closed:
		set.Close()
		return os.ErrClosed
	default:
	}
	m.set = set
	add := func(member, i int) {
		if member >= 0 && err == nil {
			err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, member, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
		}
	}
	add(m.streams[0], 0)
	add(m.streams[1], 1)
	if !m.over {
		if e := m.raw.Control(func(socket uintptr) { add(int(socket), 2) }); e != nil {
			return e
		}
	}
	if err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	m.wait, err = set.SyscallConn()
	return err
}

// forget takes the socket out of the set: at its end it always has something.
func (m *mux) forget() {
	m.raw.Control(func(socket uintptr) {
		m.wait.Control(func(set uintptr) { unix.EpollCtl(int(set), unix.EPOLL_CTL_DEL, int(socket), nil) })
	})
}

// poll blocks until something of the set is hot.
func (m *mux) poll() error {
	var events [3]unix.EpollEvent
	var n int
	var errno error
	err := m.wait.Read(func(set uintptr) bool {
		n, errno = unix.EpollWait(int(set), events[:], 0)
		return n > 0 || errno != nil && errno != unix.EINTR
	})
	if err == nil && errno != nil {
		err = os.NewSyscallError("epoll_wait", errno)
	}
	for _, e := range events[:max(n, 0)] {
		m.hot[e.Fd] = true
	}
	return err
}
