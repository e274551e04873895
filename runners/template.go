package runners

import (
	_ "embed"
	"errors"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/plan"
)

//go:embed template.py
var templateProgram []byte

// Template returns the program of a template: an interpreter that forks the
// sandboxes of a Python tool.
func Template() []byte { return templateProgram }

// ServeTemplate runs g's interpreter with the program at path until it ends,
// which is an error that quotes the last that it printed. The interpreter
// speaks to the spawner itself, over conn. It blocks meanwhile, and waits for
// every child of this process.
func ServeTemplate(conn *os.File, g plan.Guest, path string, stopped *sync.Mutex) error {
	s := &server{conn: newWire(conn), guest: g, stopped: stopped}
	private(s.conn)
	unix.SetNonblock(s.conn.fd, false)
	var err error
	if s.reap, err = newReaper(stopped); err != nil {
		return err
	}
	argv := append(append([]string{g.Interpreter}, append(pythonFlags(), path)...), g.Preload...)
	t, err := s.start(command{argv: argv, socket: s.conn.fd})
	if err != nil {
		return err
	}
	defer t.close()
	var last []byte
	keep := func(b []byte) error {
		last = append(last, b...)
		last = last[max(0, len(last)-4096):]
		return nil
	}
	for {
		p := poll(want{t.ended(), unix.POLLIN}, want{t.stdout, unix.POLLIN}, want{t.stderr, unix.POLLIN})
		if p[1] {
			t.pump(&t.stdout, keep)
		}
		if p[2] {
			t.pump(&t.stderr, keep)
		}
		if p[0] {
			return errors.New("the template of the tool's interpreter ended with status " + strconv.Itoa(status(t.reap.status())) + ": " + string(last))
		}
	}
}
