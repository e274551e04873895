package runners

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
)

// chunk is the most that one frame of output carries.
const chunk = 64 << 10

// maxPipe is the most that a pipe can hold (fs.pipe-max-size of Linux, which
// its writer may ask for): reading so much gets everything that had been
// written when the reading began.
const maxPipe = 1 << 20

// errHungUp means that the router is gone, and the sandbox with it.
var errHungUp = errors.New("the router hung up")

// hungUp turns the ways in which a connection ends into nil.
func hungUp(err error) error {
	if err == io.EOF || err == errHungUp || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return err
}

// A task is a running process whose output is sent to the router. It is
// driven by one goroutine in one loop around poll(2): the order of events is
// the kernel's, nothing is shared, and no thread is needed for a descriptor.
type task struct {
	*server
	stdout, stderr, stdin int  // our ends, not blocking, or -1
	tty                   bool // they are a terminal's
	input                 string
	bytes                 []byte
}

// start starts c with pipes, or a terminal, for its standard descriptors, as
// the leader of a session of its own.
func (s *server) start(c command) (*task, error) {
	t := &task{server: s, stdout: -1, stderr: -1, stdin: -1, tty: c.size != nil, input: c.stdin, bytes: make([]byte, chunk)}
	files, err := t.ends(c)
	defer func() {
		for _, fd := range files {
			unix.Close(int(fd))
		}
	}()
	if err != nil {
		t.close()
		return nil, failure{126, "cannot make its standard descriptors: " + err.Error()}
	}
	path, err := find(c.argv[0], s.guest.Env)
	if err != nil {
		t.close()
		return nil, err
	}
	env := s.guest.Env
	if t.tty {
		env = withTerm(env)
	}
	if env == nil {
		env = []string{}
	}
	theirs := files
	if c.socket > 0 {
		theirs = append(theirs[:len(theirs):len(theirs)], uintptr(c.socket))
	}
	attr := &syscall.ProcAttr{Dir: s.guest.Cwd, Env: env, Files: theirs, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: t.tty}}
	if err := s.reap.start(path, c.argv, attr); err != nil {
		t.close()
		return nil, explain(path, s.guest.Cwd, err)
	}
	return t, nil
}

// ends makes the standard descriptors and returns the program's, which the
// caller closes, on an error too.
func (t *task) ends(c command) (theirs []uintptr, err error) {
	if c.std != nil {
		for _, fd := range c.std {
			theirs = append(theirs, uintptr(fd))
		}
		return theirs, nil
	}
	if t.tty {
		var master, slave int
		if master, slave, err = openTerminal(c.size); err != nil {
			return nil, err
		}
		t.stdout = master
		theirs = []uintptr{uintptr(slave)}
		for range 2 {
			fd, err := unix.FcntlInt(uintptr(slave), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return theirs, err
			}
			theirs = append(theirs, uintptr(fd))
		}
		t.stdin, err = unix.FcntlInt(uintptr(master), unix.F_DUPFD_CLOEXEC, 0)
		return theirs, err
	}
	pipe := func(ours *int, child int) error {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return os.NewSyscallError("pipe2", err)
		}
		unix.SetNonblock(p[1-child], true)
		*ours, theirs = p[1-child], append(theirs, uintptr(p[child]))
		return nil
	}
	if c.feed {
		err = pipe(&t.stdin, 0)
	} else {
		var null int
		if null, err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			theirs = append(theirs, uintptr(null))
		}
	}
	if err == nil {
		err = pipe(&t.stdout, 1)
	}
	if err == nil {
		err = pipe(&t.stderr, 1)
	}
	return theirs, err
}

// close closes our ends; idempotent. The end of a terminal continues what it
// controls (SIGHUP and SIGCONT), and so waits for who stopped that.
func (t *task) close() {
	if t.tty {
		t.stopped.Lock()
		defer t.stopped.Unlock()
	}
	for _, fd := range []*int{&t.stdout, &t.stderr, &t.stdin} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// wait carries output until the process ends and returns how it did. It
// blocks, also while the router does not read.
func (t *task) wait() (unix.WaitStatus, error) {
	for {
		if t.stdin >= 0 && t.input == "" {
			unix.Close(t.stdin)
			t.stdin = -1
		}
		p := poll(want{t.ended(), unix.POLLIN}, want{t.hangUp(), unix.POLLRDHUP}, want{t.stdout, unix.POLLIN}, want{t.stderr, unix.POLLIN}, want{t.stdin, unix.POLLOUT})
		if p[1] {
			return 0, errHungUp
		}
		if p[4] {
			t.feed()
		}
		if err := t.carry(p[2], p[3]); err != nil {
			return 0, err
		}
		if p[0] {
			return t.reap.status(), t.drain()
		}
	}
}

func (s *server) ended() int  { return s.reap.r }
func (s *server) hangUp() int { return s.conn.fd }

// feed writes what the pipe takes of the input.
func (t *task) feed() {
	n, err := unix.Write(t.stdin, []byte(t.input[:min(len(t.input), chunk)]))
	switch {
	case err == nil:
		t.input = t.input[n:]
	case err != unix.EAGAIN && err != unix.EINTR:
		t.input = "" // EPIPE: the program does not want it
	}
}

// carry sends one chunk of each stream that has some.
func (t *task) carry(stdout, stderr bool) error {
	if stdout {
		if _, err := t.pump(&t.stdout, t.sender(guest.Stdout)); err != nil {
			return err
		}
	}
	if stderr {
		if _, err := t.pump(&t.stderr, t.sender(guest.Stderr)); err != nil {
			return err
		}
	}
	return nil
}

// drain sends what the pipes hold now, and waits for nothing: a process that
// was left behind may write for ever.
func (t *task) drain() error {
	for _, s := range []struct {
		fd *int
		t  guest.Type
	}{{&t.stdout, guest.Stdout}, {&t.stderr, guest.Stderr}} {
		for sum := 0; sum < maxPipe; {
			n, err := t.pump(s.fd, t.sender(s.t))
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			sum += n
		}
	}
	return nil
}

func (t *task) sender(ft guest.Type) func([]byte) error {
	return func(b []byte) error { return t.send(ft, b) }
}

// pump hands on one chunk of a stream and returns its length, 0 if there is
// none now. It closes a stream that is at its end, for that is always ready.
func (t *task) pump(fd *int, to func([]byte) error) (int, error) {
	if *fd < 0 {
		return 0, nil
	}
	n, err := unix.Read(*fd, t.bytes)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return 0, nil
	case err != nil || n == 0:
		unix.Close(*fd)
		*fd = -1
		return 0, nil
	}
	return n, to(t.bytes[:n])
}

// A want is a descriptor to wait for; a negative one is never ready.
type want struct {
	fd     int
	events int16
}

// poll blocks until one of ws is ready, hung up or broken, and says which.
func poll(ws ...want) []bool {
	fds := make([]unix.PollFd, len(ws))
	for i, w := range ws {
		fds[i] = unix.PollFd{Fd: int32(w.fd), Events: w.events}
	}
	for {
		n, err := unix.Poll(fds, -1)
		if err == unix.EINTR || n == 0 {
			continue
		}
		ready := make([]bool, len(ws))
		for i := range fds {
			ready[i] = err != nil || fds[i].Revents != 0
		}
		return ready
	}
}
