// Package spawner is the process that holds the right to create sandboxes,
// and only of the guests in its plan. It speaks package spawn's protocol with
// the router, which is assumed hijacked, and with the operator, who alone may
// change the plan. It parses nothing that a tool wrote: guests talk to the
// router, and what they wrote to files is read by a process of its own
// (package merge). Records are appended here, so that the router cannot cut
// them.
package spawner

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/cgroup"
	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// The descriptors of the spawner, beside its standard ones.
const (
	RouterFD   = 3 // spawn.Conn
	OperatorFD = 4 // spawn.Conn; the plan comes first
)

// MaxSandboxes bounds the sandboxes of one spawner at a time; the uids of
// own.go are enough for them.
const MaxSandboxes = 256

type server struct {
	facts  contain.Facts
	cg     cgroup.Host
	own    bool // as root: every sandbox has a uid of its own, and mounts are made here
	spaces []string
	caps   []uintptr
	forks  chan fork
	router *spawn.Conn

	null   *os.File // /dev/null
	lost   lost
	starts atomic.Int64  // under way
	groups atomic.Uint64 // made so far; a name that could not be removed does not come again

	mu        sync.Mutex
	plan      *plan.Plan
	records   *os.File
	boxes     map[uint64]*box
	next      uint64
	slots     [MaxSandboxes]bool
	idmaps    map[idmap]*os.File
	commits   sync.Mutex // one commit at a time
	ended     bool
	ending    int        // sandboxes
	fewer     *sync.Cond // of mu; they are
	stock     stock
	ready     []readyGroup
	templates map[string]*template // by templateKey
	filters   map[string]string    // of guests, by their digests
}

// warmThreads is how many threads wait to be blocked in system calls. It is a
// guess that leaves room: crashes were seen with eight threads in all.
const warmThreads = 16

// Main is the spawner's process: it returns its exit status when the router
// or the operator is gone, and every sandbox with them.
func Main() int {
	own := ownUIDs()
	if own {
		// A user cannot: the id maps of a child of a process that is not dumpable
		// belong to root. There the router is kept away by its own confinement.
		if err := linux.NotDumpable(); err != nil {
			return fatal(err)
		}
	}
	if err := linux.NoNewPrivs(); err != nil {
		return fatal(err)
	}
	unix.CloseOnExec(RouterFD)
	unix.CloseOnExec(OperatorFD)
	os.Chdir("/")
	unix.Umask(0o077)
	s := &server{
		facts: contain.ReadFacts(), own: own, spaces: contain.Spaces(), caps: everyCap(), forks: make(chan fork),
		router: spawn.Polled(os.NewFile(RouterFD, "router")),
		boxes:  map[uint64]*box{}, idmaps: map[idmap]*os.File{}, filters: map[string]string{}, templates: map[string]*template{},
	}
	s.fewer = sync.NewCond(&s.mu)
	var err error
	if s.null, err = os.OpenFile("/dev/null", os.O_RDWR, 0); err != nil {
		return fatal(err)
	}
	if s.lost.folder, err = os.Open("/proc/self/fd"); err != nil {
		return fatal(err)
	}
	operator := spawn.Polled(os.NewFile(OperatorFD, "operator"))
	m, fds, err := operator.Recv()
	if err != nil || m.Op != spawn.OpPlan || len(fds) != 1 {
		return fatal(os.ErrInvalid)
	}
	if err := s.setPlan(fds[0]); err != nil {
		return fatal(err)
	}
	if err := operator.Send(&spawn.Message{Op: spawn.OpDone, Seq: m.Seq}); err != nil {
		return fatal(err)
	}
	s.cg = cgroup.Probe()
	s.cg.Sweep()
	contain.Warm(warmThreads) // before the user's processes may run out
	go s.forker()
	over := make(chan struct{}, 2)
	for _, c := range []*spawn.Conn{operator, s.router} {
		go func() {
			s.serve(c, c == operator)
			over <- struct{}{}
		}()
	}
	<-over
	s.end()
	return 0
}

func fatal(err error) int {
	os.Stderr.WriteString("casemate-init: " + err.Error() + "\n")
	return 1
}

// end kills every sandbox and waits until nothing of them is left.
func (s *server) end() {
	s.router.Close() // nothing waits for a router that does not read
	s.mu.Lock()
	s.ended = true
	var all []*box
	for _, b := range s.boxes {
		all = append(all, b)
	}
	s.mu.Unlock()
	s.fewer.Broadcast()
	for _, b := range all {
		b.kill()
	}
	for s.dropBlank() {
	}
	for _, b := range all {
		<-b.gone
	}
	s.dropGroups()
}

func (s *server) setPlan(fd int) error {
	f := os.NewFile(uintptr(fd), "plan")
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() > 16<<20 {
		return os.ErrInvalid
	}
	b := make([]byte, st.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	p, err := plan.Decode(b)
	if err != nil {
		return err
	}
	s.retireOthers(p)
	s.dropGroups()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil && p.Host.Records != "" {
		s.records, err = os.OpenFile(p.Host.Records, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
	}
	s.plan = p
	clear(s.filters)
	return nil
}

// maxRequests bounds the requests of one connection that are being answered: a
// start, a commit and a kill of every sandbox, and some. Over it nothing more is
// read, so that a router which does not read its answers waits itself.
const maxRequests = 4 * MaxSandboxes

// serve answers the requests of one connection until it ends.
func (s *server) serve(c *spawn.Conn, operator bool) {
	room := make(chan struct{}, maxRequests)
	answer := func(f func(*spawn.Conn, *spawn.Message), m *spawn.Message) {
		room <- struct{}{}
		go func() {
			f(c, m)
			<-room
		}()
	}
	for {
		m, fds, err := c.Recv()
		if err != nil {
			return
		}
		if m.Op == spawn.OpPlan && operator && len(fds) == 1 {
			s.reply(c, m, s.setPlan(fds[0]))
			continue
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
		switch {
		case m.Op == spawn.OpStart:
			answer(s.start, m)
		case m.Op == spawn.OpCommit:
			answer(s.commit, m)
		case m.Op == spawn.OpInput:
			answer(s.input, m)
		case m.Op == spawn.OpNarrow:
			answer(s.narrowed, m)
		case m.Op == spawn.OpFreeze:
			answer(s.frozen, m)
		case m.Op == spawn.OpKill:
			answer(s.killed, m)
		case m.Op == spawn.OpRecord:
			s.reply(c, m, s.record(m.Line))
		case m.Op == spawn.OpProbe:
			answer(s.probed, m)
		case m.Op == spawn.OpUndo && operator:
			answer(s.undo, m)
		default:
			s.reply(c, m, refuse("denied", "this connection may not ask that"))
		}
	}
}

// boxOf returns the sandbox that the router has by that number, or nil: it has
// no template.
func (s *server) boxOf(id uint64) *box {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.boxes[id]
	if b == nil || b.template {
		return nil
	}
	return b
}

func (s *server) reply(c *spawn.Conn, m *spawn.Message, err error) {
	if err == nil {
		c.Send(&spawn.Message{Op: spawn.OpDone, Seq: m.Seq})
		return
	}
	f, ok := err.(*spawn.Failed)
	if !ok {
		f = &spawn.Failed{Kind: "internal", What: err.Error(), Fix: "run casemate doctor"}
		if short(err) {
			f.Kind, f.Fix = "busy", shortFix
		}
	}
	c.Send(&spawn.Message{Op: spawn.OpFailed, Seq: m.Seq, Failed: *f})
}

func refuse(kind, what string) *spawn.Failed { return &spawn.Failed{Kind: kind, What: what} }

// record appends one line. A line that holds another, or is too long, is
// refused, so that one record cannot pass for two.
func (s *server) record(line string) error {
	if len(line) > spawn.MaxRecord || len(line) == 0 {
		return refuse("invalid", "a record is 1 to 49152 bytes")
	}
	for i := range len(line) {
		if line[i] < 0x20 {
			return refuse("invalid", "a record holds a control character")
		}
	}
	s.mu.Lock()
	f := s.records
	s.mu.Unlock()
	if f == nil {
		return nil // the operator asked for none
	}
	n, err := f.Write([]byte(line + "\n"))
	if err == nil && n != len(line)+1 {
		err = os.ErrInvalid
	}
	if err != nil {
		return &spawn.Failed{Kind: "internal", What: "cannot append to the record file: " + err.Error(), Fix: "free space on the disk that holds " + f.Name()}
	}
	return nil
}

// A fork asks the one thread that makes processes for one. A child is told
// to die with the thread that made it, so that thread lives as long as the
// spawner.
type fork struct {
	argv  []string
	attr  *os.ProcAttr
	group *cgroup.Group // that it is born in, or nil
	done  chan<- forked
}

type forked struct {
	p   *os.Process
	err error
}

func (s *server) forker() {
	runtime.LockOSThread()
	for f := range s.forks {
		p, err := f.start()
		if err != nil {
			s.lost.look(lostAge)
		}
		f.done <- forked{p, err}
	}
}

func (f fork) start() (*os.Process, error) {
	if f.group == nil {
		return os.StartProcess("/proc/self/exe", f.argv, f.attr)
	}
	if err := linux.FreshKeyring(); err != nil {
		return nil, err
	}
	leave, err := f.group.Enter()
	if errors.Is(err, cgroup.ErrStuck) {
		os.Exit(fatal(err))
	}
	if err != nil {
		return nil, err
	}
	if fd, ok := f.group.FD(); ok {
		f.attr.Sys.UseCgroupFD, f.attr.Sys.CgroupFD = true, fd
	}
	p, err := os.StartProcess("/proc/self/exe", f.argv, f.attr)
	if stuck := leave(); stuck != nil {
		os.Exit(fatal(stuck)) // what it forked next would be in the wrong sandbox
	}
	return p, err
}

func (s *server) fork(mode string, attr *os.ProcAttr, group *cgroup.Group) (*os.Process, error) {
	done := make(chan forked, 1)
	s.forks <- fork{[]string{"casemate-init", mode}, attr, group, done}
	r := <-done
	return r.p, r.err
}

// coarse is the clock by which the kernel stamps files, in nanoseconds.
func coarse() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts)
	return ts.Nano()
}
