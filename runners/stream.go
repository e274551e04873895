package runners

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
)

// A stream is a task that answers an Open: its standard input comes from the
// router while it runs. Nothing waits for anything else: a program that does
// not read holds up neither signals nor its output, and a router that does
// not read holds up only the program.
type stream struct {
	*task
	in    []byte // not yet written; guest.Window at most, and first
	first int    // bytes of it that an argument gave, and are not acknowledged
	final bool   // the router's last Stdin is in it
	told  bool   // the program knows that
	last  byte   // that was written
	taken uint32 // of it, not yet said
	queue []byte // frames that the router has no room for yet
	out   []byte // what queue is made in
}

// open answers an Open of runner exec or shell.
func (s *server) open(args []guest.Pair) error {
	if s.guest.Runner != "exec" && s.guest.Runner != "shell" {
		return s.fail(2, "a tool of runner "+s.guest.Runner+" takes no standard input while it runs, and no terminal")
	}
	c, err := s.command(args)
	if err != nil {
		return s.fail(exitStatus(err), err.Error())
	}
	first := c.stdin // an argument that is its standard input comes before the rest
	c.stdin, c.feed, c.size = "", true, s.size
	t, err := s.start(c)
	if err != nil {
		return s.fail(exitStatus(err), err.Error())
	}
	defer t.close()
	ws, err := (&stream{task: t, in: []byte(first), first: len(first)}).wait()
	if err != nil {
		return err
	}
	s.spent = 0 // what was streamed is not kept in the result
	if err := s.files(); err != nil {
		return err
	}
	return s.done(status(ws))
}

// wait carries everything until the main process ends, and returns how it
// did.
func (x *stream) wait() (unix.WaitStatus, error) {
	for {
		if x.final && !x.told && len(x.in) == 0 {
			x.endInput()
		}
		if err := x.flush(); err != nil {
			return 0, err
		}
		over, stdout, stderr, room, in := x.ended(), x.stdout, x.stderr, -1, -1
		if len(x.queue) > 0 {
			over, stdout, stderr, room = -1, -1, -1, x.conn.fd
		}
		if len(x.in) > 0 {
			in = x.stdin
		}
		p := poll(want{over, unix.POLLIN}, want{x.conn.fd, unix.POLLIN | unix.POLLRDHUP}, want{room, unix.POLLOUT},
			want{stdout, unix.POLLIN}, want{stderr, unix.POLLIN}, want{in, unix.POLLOUT})
		if p[1] {
			if err := x.frame(); err != nil {
				return 0, err
			}
		}
		if p[5] {
			x.feed()
		}
		if p[3] {
			x.pump(&x.stdout, x.queued(guest.Stdout))
		}
		if p[4] {
			x.pump(&x.stderr, x.queued(guest.Stderr))
		}
		if p[0] {
			ws := x.reap.status()
			if _, err := x.conn.Write(x.queue); err != nil {
				return 0, err
			}
			return ws, x.drain()
		}
	}
}

// frame carries out one frame of the router.
func (x *stream) frame() error {
	f, err := guest.ReadFunc(x.conn, func(t guest.Type, n int64) error {
		switch {
		case t == guest.Stdin && n <= guest.Window, t == guest.Signal && n == 1, t == guest.Size && n == 4:
			return nil
		}
		return errors.New("the router sent something else while a call was open")
	})
	if err != nil {
		return err
	}
	if f.Call != x.call {
		return errors.New("the router sent a frame of another call")
	}
	switch f.Type {
	case guest.Signal:
		x.reap.signal(unix.Signal(f.Body[0]))
	case guest.Size:
		resize(x.terminal(), size(f.Body))
	case guest.Stdin:
		if x.final || len(x.in)+len(f.Body) > guest.Window+x.first {
			return errors.New("the router sent more standard input than it may")
		}
		x.final = len(f.Body) == 0
		x.in = append(x.in, f.Body...)
		if x.stdin < 0 {
			x.drop()
		} else if len(x.in) > 0 {
			x.feed()
		}
	}
	return nil
}

// terminal is the terminal of the task, or -1.
func (x *stream) terminal() int {
	if x.tty {
		return x.stdout
	}
	return -1
}

// feed writes what the program's end takes.
func (x *stream) feed() {
	n, err := unix.Write(x.stdin, x.in[:min(len(x.in), chunk)])
	switch {
	case err == nil && n > 0:
		x.last = x.in[n-1]
		x.in = x.in[n:]
		x.take(n)
	case err != nil && err != unix.EAGAIN && err != unix.EINTR: // EPIPE: the program does not want it
		unix.Close(x.stdin)
		x.stdin = -1
		x.drop()
	}
}

// drop takes what nobody will read.
func (x *stream) drop() {
	x.take(len(x.in))
	x.in = nil
}

// take counts what the router will hear of.
func (x *stream) take(n int) {
	own := min(n, x.first)
	x.first -= own
	x.taken += uint32(n - own)
}

// endInput tells the program, once, that no more comes. A terminal stays:
// there the end is a character, which ends a line that has begun first.
func (x *stream) endInput() {
	x.told = true
	switch {
	case x.stdin < 0:
	case x.tty:
		end := []byte{4, 4}
		if x.last == 0 || x.last == '\n' {
			end = end[1:]
		}
		unix.Write(x.stdin, end)
	default:
		unix.Close(x.stdin)
		x.stdin = -1
	}
}

// queued returns what puts a frame of that type in the queue.
func (x *stream) queued(t guest.Type) func([]byte) error {
	return func(b []byte) error {
		f := guest.Frame{Type: t, Call: x.call, Body: b}
		if len(x.queue) > 0 {
			x.queue = guest.Append(x.queue, f)
			return nil
		}
		x.out = guest.Append(x.out[:0], f)
		x.queue = x.out
		return nil
	}
}

// owed is how much of the window may stay unsaid until there is output, in
// bytes: a frame of its own wakes the router for nothing.
const owed = guest.Window / 4

// flush writes what the router has room for, and with it what was taken.
func (x *stream) flush() error {
	for len(x.queue) > 0 || x.taken >= owed {
		if x.taken > 0 {
			x.queued(guest.Taken)(binary.BigEndian.AppendUint32(nil, x.taken))
			x.taken = 0
		}
		n, err := x.conn.some(x.queue)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		x.queue = x.queue[n:]
	}
	return nil
}
