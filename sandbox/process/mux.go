package process

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/spawn"
)

// A mux is the router's end of a guest that was forked: no init stands before
// it, and so its frames come over a socket, and what its processes print over
// two pipes. Read makes one stream of frames of them, as an init would:
//
//   - what had been printed when a frame was sent comes before that frame. Of
//     each pipe that is at most what a pipe can hold, for a process that was
//     left behind may write for ever;
//   - a call whose guest closed the socket without an answer ends with its
//     first process, by the exit that the spawner tells. Where that is a limit
//     or the sandbox was closed here, the stream just ends, and who asks the
//     sandbox learns why.
//
// The guest may send anything over the socket. It is looked at only as far as
// the stream needs it: types that a guest may send, and lengths. Whoever reads
// judges the rest.
//
// Nothing is read that Read was not called for, and nothing is buffered but
// one piece of a stream: a guest that prints more than is read waits. There is
// no goroutine, but for a call that lost its socket. A call that is short
// (quick) costs no wake for what it prints: its pipes are read when it
// answers.
//
// Read is called by one goroutine at a time, Write by another, each Write with
// one frame; Close at any time.
type mux struct {
	pipe // to the guest's socket; it does not block, and the runtime waits for it
	raw  syscall.RawConn

	gone    <-chan struct{}             // closed when the sandbox is
	exited  func() (spawn.Exited, bool) // then: how, where that is known
	killed  atomic.Bool                 // it ends because we want it
	asked   atomic.Uint64               // 1<<32 and the number of the Call last written; 0 before
	closed  chan struct{}               // by Close
	streams [2]int                      // standard output and error; -1 at their end. Not blocking, and unknown to the runtime
	mu      sync.Mutex                  // of streams and set, held in system calls that do not block, so that Close does not give their numbers away
	set     *os.File                    // an epoll set of socket and streams, once the call is not quick
	wait    syscall.RawConn             // of set

	// Read's own.
	ready   []byte  // goes out next, as it is
	buf     []byte  // of the socket, not gone out
	space   []byte  // what buf lies in
	left    int64   // bytes of the socket's frame that goes out
	owed    [2]int  // bytes of a stream that still come before what is in buf
	hot     [3]bool // has something, says set: the streams, the socket
	over    bool    // the socket is at its end
	waiting bool    // for the end of the sandbox
	mourned bool    // it is gone, and what its streams still hold is owed
	done    bool    // Done came
	err     error   // once nothing comes any more

	owned sync.WaitGroup // the goroutine that waits for the end
}

const (
	quick   = time.Millisecond // after which a call's streams are watched
	piece   = 64 << 10         // most bytes of a stream in one frame
	maxPipe = 1 << 20          // most that a pipe holds, unless its owner is privileged (fs.pipe-max-size)
	head    = 9                // bytes of a frame before its body
)

// newMux takes the descriptors over. exited is called once gone is closed.
func newMux(fds [3]int, gone <-chan struct{}, exited func() (spawn.Exited, bool)) (*mux, error) {
	m := &mux{gone: gone, exited: exited, closed: make(chan struct{}), streams: [2]int{fds[1], fds[2]}}
	for _, fd := range fds {
		unix.SetNonblock(fd, true)
	}
	m.File = os.NewFile(uintptr(fds[0]), "guest")
	var err error
	if m.raw, err = m.SyscallConn(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Write sends one frame to the guest.
func (m *mux) Write(b []byte) (int, error) {
	if len(b) >= head && guest.Type(b[0]) == guest.Call {
		number := 1<<32 | uint64(binary.BigEndian.Uint32(b[1:]))
		if m.asked.Swap(number) == 0 {
			m.SetReadDeadline(time.Now().Add(quick)) // of a Read under way, too
		}
	}
	return m.pipe.Write(b)
}

// Close closes everything; a Read and a Write under way return. Idempotent.
func (m *mux) Close() error {
	defer m.owned.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.closed:
		return nil
	default:
	}
	close(m.closed)
	for i := range m.streams {
		m.end(i)
	}
	if m.set != nil {
		m.set.Close()
	}
	return m.File.Close()
}

// end closes a stream; m.mu is held.
func (m *mux) end(i int) {
	if m.streams[i] >= 0 {
		unix.Close(m.streams[i])
		m.streams[i] = -1
	}
}

// Read blocks until there is something of the stream. io.EOF is the end of a
// guest that answered, was never asked, or was ended from outside.
func (m *mux) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(m.ready) > 0:
			n := copy(p, m.ready)
			m.ready = m.ready[n:]
			return n, nil
		case m.left > 0 && len(m.buf) > 0:
			n := copy(p, m.buf[:min(int64(len(m.buf)), m.left)])
			m.buf, m.left = m.buf[n:], m.left-int64(n)
			if len(m.buf) == 0 && m.asked.Load() == 0 {
				m.buf, m.space = nil, nil // a parked guest holds none
			}
			return n, nil
		case m.left > 0: // the rest of a long frame does not stop over here
			n, err := m.socket(p[:min(int64(len(p)), m.left)], true)
			m.left -= int64(n)
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			if n > 0 || err != nil {
				return n, err
			}
		case m.err != nil:
			return 0, m.err
		case m.owed[0] > 0 || m.owed[1] > 0:
			for i := range m.owed {
				if m.owed[i] > 0 {
					if n := m.pump(i, p); n > 0 {
						return n, nil
					}
				}
			}
		case len(m.buf) >= head:
			m.begin()
		case m.over:
			if n := m.mourn(p); n > 0 {
				return n, nil
			}
		default:
			if n := m.more(p); n > 0 {
				return n, nil
			}
		}
	}
}

// begin looks at the head of the socket's next frame.
func (m *mux) begin() {
	t, n := guest.Type(m.buf[0]), int64(binary.BigEndian.Uint32(m.buf[5:]))
	limit := int64(guest.MaxReply)
	switch t {
	case guest.File:
		limit = guest.MaxCall
	case guest.Ready, guest.Stdout, guest.Stderr, guest.Value, guest.Failure, guest.Taken:
	case guest.Done:
		m.done = true
	default:
		limit = -1
	}
	if n > limit {
		m.err = fmt.Errorf("%w: its frame of type %q has %d bytes", guest.ErrProtocol, t, n)
		m.buf = nil
		return
	}
	m.left = head + n
}
