package spawner

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/guest"
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

	mu       sync.Mutex
	next     uint64
	programs map[string]*contain.Program
	making   map[uint64]*child
	reaping  map[int]chan ended
	over     bool
	retired  bool // no new child
	children int
	idle     *time.Timer
}

// A child is one sandbox that a template forked; the template's mu guards it
// until it is done.
type child struct {
	template *template

	program *contain.Program
	number  int           // as the template's namespace has it
	pid     int           // as ours has it
	fd      *os.File      // a pidfd
	gone    chan struct{} // closed when it has ended, with every other process of its namespace
	uppers  []int         // with its report
	err     error         //
	done    chan struct{} // closed when its walls are up, or err is why not
	ready   bool          // it said so
	ended
}

// ended is how a child ended, and the processor time that it and what it waited
// for had used.
type ended struct {
	ws   syscall.WaitStatus
	used time.Duration
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
			t.err = &spawn.Failed{Kind: "killed-by-limit", What: "the " + b.limit + " that the tool has does not hold its interpreter and the modules of preload", Fix: "raise " + b.limit + " in the manifest, or preload less"}
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

// A word is one packet from a template or its children.
type word struct {
	kind, id, a, b int64
	pid            int // of who sent it
	fds            []int
}

// recv returns the next packet; it blocks. What the first process of the sandbox
// says last is an error.
func (t *template) recv() (word, error) {
	buf, oob := make([]byte, 8<<10), make([]byte, unix.CmsgSpace(4*maxGrants)+unix.CmsgSpace(unix.SizeofUcred))
	var n, oobn int
	var err error
	closed := t.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, err = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if closed != nil {
		n, oobn, err = 0, 0, closed
	}
	w := word{}
	messages, _ := unix.ParseSocketControlMessage(oob[:max(oobn, 0)])
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			w.fds = append(w.fds, fds...)
		}
		if c, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			w.pid = int(c.Pid)
		}
	}
	switch {
	case err != nil:
		err = os.NewSyscallError("the template does not answer: recvmsg", err)
	case n == 0:
		err = errors.New("the template ended")
	case n != contain.LateReport && n > 9 && buf[0] == byte(guest.Failure):
		err = errors.New(printable(buf[9:n]))
	case n != contain.LateReport:
		err = errTalk
	}
	if err != nil {
		closeFDs(w.fds)
		return word{}, err
	}
	for i, to := range []*int64{&w.kind, &w.id, &w.a, &w.b} {
		*to = int64(binary.LittleEndian.Uint64(buf[8*i:]))
	}
	return w, nil
}

var errTalk = errors.New("the interpreter does not speak as a template does: it is no Python, or a module of preload wrote to its descriptor 3")

func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\n' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(b), "?"))
}

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

// gone ends everything that waits for a template that is not there.
func (t *template) gone() {
	t.drop()
	t.box.kill()
	t.mu.Lock()
	t.over = true
	for id, k := range t.making {
		k.err = errTemplate
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

// send sends a packet; t.mu is held.
func (t *template) send(packet []byte, fds ...int) error {
	if t.over {
		return unix.EPIPE
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	var err error
	closed := t.raw.Write(func(fd uintptr) bool {
		for {
			err = unix.Sendmsg(int(fd), packet, oob, nil, unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if closed != nil {
		return unix.EPIPE
	}
	return err
}

// fork makes a child by its program, and waits until its walls are up.
func (t *template) fork(p *contain.Program, user int, fds []int) (*child, error) {
	k := &child{template: t, program: p, done: make(chan struct{})}
	t.mu.Lock()
	t.next++
	packet := p.Packet(t.next, user, len(fds))
	err := error(nil)
	if len(packet) > t.room {
		err = refuse("unsupported", "the tool has more walls than its template takes: fewer mounts, or fork: false")
	} else if err = t.send(packet, fds...); err == nil {
		t.making[t.next] = k
	} else if err == unix.EPIPE || err == unix.ECONNRESET {
		err = errTemplate
		t.retired = true // whoever comes next has another
	}
	t.mu.Unlock()
	if err != nil {
		return nil, err
	}
	late := time.AfterFunc(setupTime*time.Second, t.box.kill)
	<-k.done
	late.Stop()
	if k.err == nil {
		return k, nil
	}
	if k.fd != nil {
		k.wait()
	}
	closeFDs(k.uppers) // it may have been ready when its template ended
	return nil, k.err
}

// watch waits for the end of a child, by its pidfd, which it takes over. No
// thread waits.
func (k *child) watch(id uint64, pidfd int) {
	unix.SetNonblock(pidfd, true)
	k.fd, k.gone = os.NewFile(uintptr(pidfd), "guest"), make(chan struct{})
	go func() {
		if raw, err := k.fd.SyscallConn(); err == nil {
			raw.Read(func(fd uintptr) bool {
				p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
				for {
					n, err := unix.Poll(p, 0)
					if err != unix.EINTR {
						return n > 0 || err != nil
					}
				}
			})
		}
		// Its answer comes after everything that the child said.
		how := k.template.reap(k.number)
		k.fd.Close()
		k.template.mu.Lock()
		k.ended = how
		if k.err == nil && !k.ready {
			k.err = &spawn.Failed{Kind: "internal", What: "the sandbox died while it was set up: wait status " + strconv.Itoa(int(how.ws)), Fix: "see whether the host or the tool's memory is short"}
		}
		k.template.made(id, k)
		k.template.mu.Unlock()
		close(k.gone)
	}()
}

// wait blocks until the first process has ended, with all others of its
// namespace, and returns how.
func (k *child) wait() ended {
	<-k.gone
	return k.ended
}

// signal sends sig to the first process; SIGKILL ends every process of its
// namespace. It is an error where that has ended.
func (k *child) signal(sig unix.Signal) error {
	raw, err := k.fd.SyscallConn()
	if err != nil {
		return err
	}
	gone := raw.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	return errors.Join(gone, err)
}

// reap returns how a child ended that has ended. A template that does not say
// so in time is killed, with everything that it forked.
func (t *template) reap(number int) ended {
	ch := make(chan ended, 1)
	var packet [contain.LateHeader]byte
	binary.LittleEndian.PutUint64(packet[:], contain.LateReap)
	binary.LittleEndian.PutUint64(packet[8:], uint64(number))
	t.mu.Lock()
	err := t.send(packet[:])
	if err == nil {
		t.reaping[number] = ch
	}
	t.mu.Unlock()
	if err != nil {
		return ended{ws: syscall.WaitStatus(unix.SIGKILL)}
	}
	late := time.AfterFunc(setupTime*time.Second, t.box.kill)
	defer late.Stop()
	return <-ch
}
