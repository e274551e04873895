package spawner

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// A template is a sandbox with an interpreter that forks the sandboxes of all
// tools that differ in nothing which an interpreter has before its first call.
// It reads nothing that a tool or a planner wrote, and is never given to a
// call. See package contain, Template and Late.
type template struct {
	s    *server
	key  string
	box  *box
	conn *os.File // to it, and until their walls are up to its children; no thread waits for it
	raw  syscall.RawConn
	told chan struct{} // closed when base is known, or err
	base uint64
	room int
	err  error

	in  [8 << 10]byte // of recv, which one goroutine calls at a time
	oob [roomForRights]byte

	mu       sync.Mutex
	out      []byte // the last packet
	next     uint64
	programs map[string]*contain.Program
	making   map[uint64]*child
	reaping  map[int]chan ended
	over     bool
	retired  bool // no new child
	children int
	idle     *time.Timer
}

// idleTemplate is how long a template without children is kept.
const idleTemplate = 2 * time.Minute

// templateKey names what two guests must have in common to share a template.
func templateKey(g plan.Guest) string {
	g.Tool, g.Digest = "", ""
	g.Output, g.Timeout, g.Disk, g.Processes, g.MilliCPU = 0, 0, 0, 0, 0
	g.DenySyscalls = nil
	return string(plan.EncodeGuest(g))
}

// templateOf returns the template of g, with room for one more child, which the
// caller lets go by left. It blocks while it starts.
func (s *server) templateOf(g plan.Guest, host plan.Host) (*template, error) {
	key := templateKey(g)
	for {
		s.mu.Lock()
		t := s.templates[key]
		mine := t == nil
		if mine {
			t = &template{s: s, key: key, told: make(chan struct{}), programs: map[string]*contain.Program{}, making: map[uint64]*child{}, reaping: map[int]chan ended{}}
			s.templates[key] = t
		}
		s.mu.Unlock()
		if mine {
			t.start(g, host)
		}
		<-t.told
		if t.err != nil {
			return nil, t.err
		}
		if t.enter() {
			return t, nil
		}
		t.drop() // it ended meanwhile, or shall
	}
}

func (t *template) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.retired {
		return false
	}
	t.children++
	if t.idle != nil {
		t.idle.Stop()
	}
	return true
}

// left says that a child is gone.
func (t *template) left() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.children--
	if t.children > 0 {
		return
	}
	if t.retired {
		t.box.kill()
		return
	}
	t.idle = time.AfterFunc(idleTemplate, func() {
		t.mu.Lock()
		unused := t.children == 0
		t.retired = t.retired || unused
		t.mu.Unlock()
		if unused {
			t.drop()
			t.box.kill()
		}
	})
}

// retire ends the template when it has no child any more.
func (t *template) retire() {
	t.drop()
	<-t.told
	if t.err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retired = true
	if t.children == 0 {
		t.box.kill()
	}
}

func (t *template) drop() {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.s.templates[t.key] == t {
		delete(t.s.templates, t.key)
	}
}

// retireOthers ends the templates that no guest of p has.
func (s *server) retireOthers(p *plan.Plan) {
	keep := map[string]bool{}
	for _, g := range p.Guests {
		if g.Fork {
			keep[templateKey(g)] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, t := range s.templates {
		if !keep[key] {
			go t.retire()
		}
	}
}

// start makes the template's sandbox and waits for its first word.
func (t *template) start(g plan.Guest, host plan.Host) {
	defer close(t.told)
	g.Runner, g.Fork, g.Cwd, g.Tool = contain.TemplateRunner, false, "/", "template of "+g.Tool
	g.MilliCPU = 0 // what it runs is the operator's, and every child waits for it
	b, conn, _, err := t.s.make(g, host)
	if err != nil { // and nothing of it is left
		t.err = err
		t.drop()
		return
	}
	t.box = b
	unix.SetNonblock(conn, true)
	t.conn = os.NewFile(uintptr(conn), "template")
	if t.raw, t.err = t.conn.SyscallConn(); t.err == nil {
		t.err = t.hello()
	}
	if t.err != nil {
		t.drop()
		t.s.forget(b)
		t.conn.Close()
		if b.limit != "" {
			t.err = t.lost()
		}
		return
	}
	go t.read()
}

// hello waits for the template's first word: its modules are imported.
func (t *template) hello() error {
	t.conn.SetReadDeadline(time.Now().Add(setupTime * time.Second))
	m, err := t.recv()
	t.conn.SetReadDeadline(time.Time{})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &spawn.Failed{Kind: "tool-failed", What: "the tool's interpreter and the modules of preload were not ready after " + strconv.Itoa(setupTime) + " s", Fix: templateFix}
	case err != nil:
		return &spawn.Failed{Kind: "tool-failed", What: err.Error(), Fix: templateFix}
	case m.kind != contain.LateHello || m.b <= 0:
		closeFDs(m.fds)
		return &spawn.Failed{Kind: "tool-failed", What: errTalk.Error(), Fix: templateFix}
	}
	t.base, t.room = uint64(m.a), int(m.b)
	return nil
}

const templateFix = "see what the interpreter and the modules of preload do when they start; fork: false starts an interpreter for each call"

// read hands on what the template and its children say, until it is gone.
func (t *template) read() {
	for {
		w, err := t.recv()
		if err != nil {
			t.gone()
			return
		}
		t.mu.Lock()
		k := t.making[uint64(w.id)]
		switch {
		case w.kind == contain.LateReaped:
			if ch := t.reaping[int(w.id)]; ch != nil {
				ch <- ended{syscall.WaitStatus(w.a), time.Duration(w.b)}
				delete(t.reaping, int(w.id))
			}
		case k == nil:
		case w.kind == contain.LateForked && w.a > 0 && len(w.fds) == 1:
			k.number = int(w.a)
			k.watch(uint64(w.id), w.fds[0])
			w.fds = nil
		case w.kind == contain.LateForked && w.a > 0: // its descriptor did not fit; it ends with its socket
			k.err = explainClone(unix.EMFILE)
			go t.reap(int(w.a))
			t.made(uint64(w.id), k)
		case w.kind == contain.LateForked:
			k.err = explainClone(syscall.Errno(-w.a))
			t.made(uint64(w.id), k)
		case w.kind == contain.LateFailed:
			k.err = explain(k.program.Failed(w.a, w.b))
		case w.kind == contain.LateReady:
			k.pid, k.ready, k.uppers, w.fds = w.pid, true, w.fds, nil
		}
		if k != nil && k.ready && k.fd != nil {
			t.made(uint64(w.id), k)
		}
		t.mu.Unlock()
		for _, fd := range w.fds {
			unix.Close(fd)
		}
	}
}

// made says that what became of a child is known; t.mu is held.
func (t *template) made(id uint64, k *child) {
	if t.making[id] == k {
		delete(t.making, id)
		close(k.done)
	}
}

// lost ends a template, waits until nothing of it is left, and says why it is
// not there.
func (t *template) lost() error {
	t.box.kill()
	<-t.box.gone
	if l := t.box.limit; l != "" {
		return &spawn.Failed{Kind: "killed-by-limit", What: "the " + l + " that the tool has does not hold its interpreter and the modules of preload", Fix: "raise " + l + " in the manifest, or preload less"}
	}
	return errTemplate
}

// gone ends everything that waits for a template that is not there.
func (t *template) gone() {
	t.drop()
	err := t.lost()
	t.mu.Lock()
	t.over = true
	for id, k := range t.making {
		k.err = err
		t.made(id, k)
	}
	for number, ch := range t.reaping {
		ch <- ended{ws: syscall.WaitStatus(unix.SIGKILL)} // what it forked is killed with it
		delete(t.reaping, number)
	}
	t.conn.Close()
	t.mu.Unlock()
	t.s.forget(t.box)
}

var errTemplate = &spawn.Failed{Kind: "internal", What: "the template of the tool's interpreter ended", Fix: "call it again; where that fails too, give the tool fork: false"}
