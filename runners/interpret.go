package runners

import (
	"errors"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

// Interpret starts g's interpreter with the runner at program, says that the
// guest is ready when the interpreter does, and carries calls to it and
// answers back: until the router hangs up (nil), the interpreter ends, or one
// call is answered where g does not serve a session. It blocks meanwhile, and
// waits for every child of this process. An interpreter that does not get
// ready is an error that quotes it. Who holds stopped has stopped the guest.
//
// The interpreter speaks frames at its descriptor 3; what its code and the
// processes of its code print comes through pipes, so that a crash, os._exit
// and another program that takes the interpreter's place lose nothing.
func Interpret(conn *os.File, g plan.Guest, program string, stopped *sync.Mutex) error {
	return interpret(&server{conn: newWire(conn), guest: g, out: outFolder, stopped: stopped}, Command(g, program))
}

func interpret(s *server, argv []string) error {
	private(s.conn)
	var err error
	if s.reap, err = newReaper(s.stopped); err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	t, err := s.start(command{argv: argv, socket: pair[1]})
	unix.Close(pair[1])
	i := &interpreter{task: t, pipe: os.NewFile(uintptr(pair[0]), "interpreter"), fd: pair[0]}
	defer i.pipe.Close()
	if err != nil {
		return err
	}
	defer t.close()
	if err := i.ready(); err != nil {
		return hungUp(err)
	}
	for {
		p := poll(want{s.ended(), unix.POLLIN}, want{s.hangUp(), unix.POLLIN}, want{i.fd, unix.POLLIN})
		if p[0] || p[2] {
			return errors.New(s.guest.Runner + " ended or spoke between two calls")
		}
		f, args, err := s.next()
		if f.Type == 0 {
			return err
		}
		s.call, s.spent = f.Call, 0
		alive := true
		switch f.Type {
		case guest.Call:
			alive, err = i.answer(f)
		case guest.Open:
			err = s.open(args)
		case guest.Files:
			err = s.transfer(args)
		}
		if err != nil || !alive || !s.guest.Session {
			return hungUp(err)
		}
	}
}

// An interpreter is a task that answers calls at a socket.
type interpreter struct {
	*task
	pipe *os.File
	fd   int // of pipe, or -1 once the other end is closed
}

// ready waits for the interpreter, and drops what it prints until then:
// nobody asked for it. It keeps some for the error.
func (i *interpreter) ready() error {
	var last []byte
	keep := func(b []byte) error {
		last = append(last, b...)
		last = last[max(0, len(last)-4096):]
		return nil
	}
	for {
		p := poll(want{i.ended(), unix.POLLIN}, want{i.hangUp(), unix.POLLRDHUP}, want{i.fd, unix.POLLIN}, want{i.stdout, unix.POLLIN}, want{i.stderr, unix.POLLIN})
		if p[1] {
			return errHungUp
		}
		if p[3] {
			i.pump(&i.stdout, keep)
		}
		if p[4] {
			i.pump(&i.stderr, keep)
		}
		if p[2] {
			f, err := guest.Read(i.pipe, guest.MaxReply)
			if err == nil && f.Type == guest.Ready && f.Call == 0 {
				return guest.Write(i.conn, f)
			}
			i.fd = -1
		}
		if p[0] {
			return errors.New(i.guest.Runner + " ended with status " + strconv.Itoa(status(i.reap.status())) + " before it was ready: " + string(last))
		}
	}
}

// answer carries the call f out, and says whether the interpreter lives on.
func (i *interpreter) answer(f guest.Frame) (bool, error) {
	if err := guest.Write(i.pipe, f); err != nil {
		i.closed() // it died just now; its status follows
	}
	for {
		p := poll(want{i.ended(), unix.POLLIN}, want{i.hangUp(), unix.POLLRDHUP}, want{i.fd, unix.POLLIN}, want{i.stdout, unix.POLLIN}, want{i.stderr, unix.POLLIN})
		if p[1] {
			return false, errHungUp
		}
		if err := i.carry(p[3], p[4]); err != nil {
			return false, err
		}
		if p[2] { // before its end: what it had said by then counts
			if done, err := i.frame(); done || err != nil {
				return true, err
			}
			continue
		}
		if p[0] {
			return false, i.end()
		}
	}
}

// frame carries one frame of the interpreter, and says whether it was the
// last of the call. What had been printed before it goes first.
func (i *interpreter) frame() (bool, error) {
	f, err := guest.Read(i.pipe, guest.MaxReply)
	switch {
	case errors.Is(err, guest.ErrProtocol):
		return false, err
	case err != nil:
		i.closed()
		return false, nil
	}
	if f.Call != i.call || f.Type != guest.Value && f.Type != guest.Failure && f.Type != guest.Done || f.Type == guest.Done && len(f.Body) != 4 {
		return false, errors.New(i.guest.Runner + " broke the protocol")
	}
	if err := i.drain(); err != nil {
		return false, err
	}
	if f.Type == guest.Done {
		if err := i.files(); err != nil {
			return false, err
		}
	}
	return f.Type == guest.Done, i.send(f.Type, f.Body)
}

// closed notes that the interpreter closed its end: its code closed it, or
// another program took its place. The call ends with the process.
func (i *interpreter) closed() { i.fd = -1 }

// end answers a call whose interpreter ended before it did.
func (i *interpreter) end() error {
	ws := i.reap.status()
	if err := i.drain(); err != nil {
		return err
	}
	if err := i.files(); err != nil {
		return err
	}
	if ws.Signaled() {
		return i.fail(status(ws), i.guest.Runner+" was ended by signal "+strconv.Itoa(int(ws.Signal()))+" ("+ws.Signal().String()+")")
	}
	return i.done(status(ws))
}
