// Package runners is what runs inside a sandbox, between the router's pipe
// and the tool. It is part of casemate-init, the first process of every
// sandbox, and runs after that process confined itself: it is no boundary.
// What a tool can do to it, it does to its own sandbox, and what it sends is
// a hostile guest's word to the router.
//
// The runners are
//   - exec: a program of a fixed argv template, which arguments fill (argv);
//   - shell: the argument "command" by /bin/sh -c;
//   - mcp: a program that runs from the start, and speaks through one open
//     call for as long as it lives;
//   - files: the functions of package builtin/files;
//   - python and node: the argument "code" in an interpreter that waits with
//     its imports done. Code shares its process with the program that runs it
//     (python.py, node.js), which is a convenience and no wall: whatever the
//     language lets code reach there, it may have.
//
// A tool's process has only the descriptors 0, 1 and 2, an interpreter a
// socket at 3 besides, closed on exec. Standard output and error come back in
// frames of at most 64 KiB as they are written; when the router does not
// read, the tool waits. A call is over when its main process ends (for
// interpreters: when the code does), even if a process that it left behind
// still holds its output; what had been written by then is sent. Regular
// files that the call left in /out come back as File frames.
//
// An open call of exec and shell (stream.go) has its standard input from the
// router while it runs, its process group gets the router's signals, and it
// may have a terminal of its own: a session with that as its controlling
// terminal, standard error merged into standard output. An interpreter takes
// no open call.
//
// The files of a guest of exec, shell, python and node are read and written by
// this process between two calls (transfer.go), by the same rights as the
// tool's and no others.
//
// A guest that serves a session is stopped while what it wrote is carried to
// the host. Whoever stops it holds the lock that Serve and Interpret were
// given: until it is let go this process starts nothing, signals nothing and
// writes no file, whatever the router says.
//
// This process is the first of its namespace, and so reaps every orphan.
package runners

import (
	_ "embed"
	"errors"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/builtin/files"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/wasm"
)

//go:embed python.py
var python []byte

//go:embed node.js
var node []byte

// Python returns the program that a Python interpreter (3.8 or newer) runs.
func Python() []byte { return python }

// Node returns the program that node (18 or newer) runs.
func Node() []byte { return node }

// Command returns the argv of g's interpreter, where program is the path of
// Python or Node in the sandbox. Interpret starts it.
func Command(g plan.Guest, program string) []string {
	argv := []string{g.Interpreter}
	if wasm.Is(g) {
		return append(argv, "serve")
	}
	if g.Runner == "python" {
		argv = append(argv, pythonFlags()...)
	}
	return append(append(argv, program), g.Preload...)
}

// pythonFlags are for an interpreter that is isolated: no PYTHON* variable, no
// user site, no working folder before the library, UTF-8 whatever the locale. The
// runner does what -S leaves out (sites in python.py).
func pythonFlags() []string { return []string{"-I", "-S", "-B", "-X", "utf8"} }

// Serve says that the guest is ready and answers calls for the runners exec,
// shell, files and mcp, one at a time, until the router hangs up (nil), or after
// one call where g does not serve a session. It blocks meanwhile, and waits
// for every child of this process. Who holds stopped has stopped the guest.
// std, which it takes over, are the standard descriptors of an MCP server;
// without them its streams are frames of its call.
func Serve(conn *os.File, g plan.Guest, stopped *sync.Mutex, std ...int) error {
	return serve(&server{conn: newWire(conn), guest: g, out: outFolder, stopped: stopped, std: std})
}

func serve(s *server) error {
	private(s.conn)
	switch s.guest.Runner {
	case "files":
	case "exec", "shell", "mcp":
		var err error
		if s.reap, err = newReaper(s.stopped); err != nil {
			return err
		}
	default:
		return errors.New("unknown runner " + s.guest.Runner)
	}
	if s.guest.Runner == "mcp" {
		return s.mcp()
	}
	if err := s.ready(); err != nil {
		return err
	}
	for {
		f, args, err := s.next()
		if f.Type == 0 {
			return err
		}
		s.call, s.spent = f.Call, 0
		switch f.Type {
		case guest.Call:
			err = s.answer(args)
		case guest.Open:
			err = s.open(args)
		case guest.Files:
			err = s.transfer(args)
		}
		if err != nil {
			return hungUp(err)
		}
		if !s.guest.Session {
			return nil
		}
	}
}

// private sees to it that no program that is started inherits a descriptor
// of this process, whatever was open.
func private(conn *wire) {
	unix.CloseOnExec(conn.fd)
	unix.CloseRange(3, ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC) // Linux 5.11
}

// A server answers the calls of one guest.
type server struct {
	conn  *wire
	guest plan.Guest
	call  uint32        // being answered
	size  *unix.Winsize // of the terminal that it gets, or nil
	reap  *reaper
	std   []int // see Serve

	stopped *sync.Mutex      // held by who stopped the guest; in whatever changes something
	out     string           // folder whose files come back
	sent    map[string]stamp // of them, by name, what came back before
	spent   int64            // bytes that the call has sent
	buf     []byte
}

func (s *server) ready() error {
	ready := []guest.Pair{{Key: "version", Value: strconv.Itoa(guest.Version)}, {Key: "runtime", Value: s.guest.Runner}}
	return guest.Write(s.conn, guest.Frame{Type: guest.Ready, Body: guest.AppendPairs(nil, ready)})
}

// next blocks for a Call, an Open or Files. A zero frame means that there is
// none, and err why.
func (s *server) next() (guest.Frame, []guest.Pair, error) {
	s.size = nil
	var sized uint32
	for {
		f, err := guest.Read(s.conn, guest.MaxCall)
		if err != nil {
			return guest.Frame{}, nil, hungUp(err)
		}
		switch f.Type {
		case guest.Call, guest.Open, guest.Files:
			if s.size != nil && (f.Type != guest.Open || f.Call != sized) {
				return guest.Frame{}, nil, errors.New("the router asked for a terminal and opened no call")
			}
			args, err := guest.ParsePairs(f.Body)
			if err != nil {
				return guest.Frame{}, nil, err
			}
			return f, args, nil
		case guest.Stdin, guest.Signal, guest.Size:
			if f.Call == s.call {
				continue // it was on the way when the call ended
			}
			if f.Type == guest.Size && len(f.Body) == 4 {
				s.size, sized = size(f.Body), f.Call
				continue
			}
		}
		return guest.Frame{}, nil, errors.New("the router sent no call")
	}
}

func (s *server) answer(args []guest.Pair) error {
	if s.guest.Runner == "files" {
		s.stopped.Lock()
		text, err := files.Do(s.guest.Function, args, s.guest.Mounts)
		s.stopped.Unlock()
		if err != nil {
			return s.fail(1, err.Error())
		}
		for len(text) > 0 {
			n := min(len(text), chunk)
			if err := s.send(guest.Stdout, []byte(text[:n])); err != nil {
				return err
			}
			text = text[n:]
		}
		return s.done(0)
	}
	c, err := s.command(args)
	if err != nil {
		return s.fail(exitStatus(err), err.Error())
	}
	t, err := s.start(c)
	if err != nil {
		return s.fail(exitStatus(err), err.Error())
	}
	defer t.close()
	ws, err := t.wait()
	if err != nil {
		return err
	}
	if err := s.files(); err != nil {
		return err
	}
	return s.done(status(ws))
}

// send sends one frame of the call, and blocks while the router does not read.
func (s *server) send(t guest.Type, body []byte) error {
	s.spent += int64(len(body))
	s.buf = guest.Append(s.buf[:0], guest.Frame{Type: t, Call: s.call, Body: body})
	_, err := s.conn.Write(s.buf)
	if cap(s.buf) > 2*chunk {
		s.buf = nil
	}
	return err
}

func (s *server) done(status int) error {
	return s.send(guest.Done, []byte{0, 0, byte(status >> 8), byte(status)})
}

func (s *server) fail(status int, why string) error {
	if len(why) > 64<<10 {
		why = why[:64<<10]
	}
	if err := s.send(guest.Failure, []byte(why)); err != nil {
		return err
	}
	return s.done(status)
}
