package spawner

import (
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/cgroup"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// A box is one sandbox as the spawner holds it.
type box struct {
	id        uint64
	guest     plan.Guest
	template  bool // the router does not know of it
	slot      int
	proc      *os.Process
	group     *cgroup.Group
	offspring *child   // instead of proc and setup
	setup     *os.File // this end; its close ends the sandbox
	pipe      int      // the router's end to the guest, until the router has it
	grants    []source
	inputs    *os.File // a mount of the folder of inputs that can be written, or nil
	std       []int    // the router's ends of an MCP server's standard input, output and error, until the router has them
	theirs    []int    // and the server's, until the sandbox has them
	carried   []int    // mounts of what is neither granted nor of the system, until the sandbox has them
	unwatch   func()
	gone      chan struct{} // closed when no process of it is left

	mu       sync.Mutex        // of setup, of commits, and of what follows
	stamps   map[string]stamps // by where the grant is
	held     hold
	enforced spawn.Enforced
	narrowed bool
	donated  int // inputs

	groupMu sync.Mutex    // of the group's files; after mu
	ended   bool          // and they are closed
	limit   string        // that ended it, once it is gone
	limits  cgroup.Limits // of the group of a forked guest
}

func (s *server) start(c *spawn.Conn, m *spawn.Message) {
	g, host, err := s.guestOf(m.Start)
	if err != nil {
		s.reply(c, m, err)
		return
	}
	s.starts.Add(1)
	defer s.restock()
	s.keepUp()
	var b *box
	var started *spawn.Started
	ends := []int{-1}
	if g.Fork {
		b, ends, started, err = s.makeForked(g, host)
		if err == errTemplate { // once more: nothing of the guest's ran, and there is another
			b, ends, started, err = s.makeForked(g, host)
		}
	} else {
		b, ends[0], started, err = s.make(g, host)
		if err == nil {
			ends, b.std = append(ends, b.std...), nil
		}
	}
	if err != nil {
		s.reply(c, m, err)
		return
	}
	err = c.Send(&spawn.Message{Op: spawn.OpStarted, Seq: m.Seq, Started: *started}, ends...)
	closeFDs(ends)
	if err != nil { // such as too many descriptors of this user under way
		s.forget(b)
		s.reply(c, m, err)
	}
}

// guestOf returns the pinned guest that a request names, narrowed; a request
// that would widen it is refused.
func (s *server) guestOf(r spawn.Start) (plan.Guest, plan.Host, error) {
	s.mu.Lock()
	p := s.plan
	s.mu.Unlock()
	i := slices.IndexFunc(p.Guests, func(g plan.Guest) bool { return g.Digest == r.Digest })
	if i < 0 {
		return plan.Guest{}, p.Host, refuse("denied", "no pinned tool has that digest")
	}
	g, err := narrow(p.Guests[i], r)
	return g, p.Host, err
}

// register counts a sandbox whose guest waits among those that are there, and
// waits for its end.
func (s *server) register(b *box, e *spawn.Enforced) *spawn.Started {
	b.enforced = *e
	s.mu.Lock()
	s.next++
	b.id = s.next
	over := s.ended
	s.boxes[b.id] = b
	s.mu.Unlock()
	go s.reap(b)
	if over {
		b.kill()
	}
	return &spawn.Started{ID: b.id, Pid: int64(b.pid()), Enforced: *e}
}

// reap waits until the sandbox is gone and says so to the router.
func (s *server) reap(b *box) {
	ws, used := b.wait()
	if b.offspring != nil {
		b.offspring.template.left()
	}
	b.unwatch()
	x := spawn.Exited{ID: b.id}
	if ws.Signaled() {
		x.Signal = int64(ws.Signal())
	} else {
		x.Status = int64(ws.ExitStatus())
	}
	if b.group.OOM() {
		x.Limit = "memory"
	}
	b.limit = x.Limit
	cpu, memory := b.group.Usage()
	x.CPU, x.Memory = int64(cpu), memory
	if x.CPU == 0 {
		x.CPU = int64(used)
	}
	b.groupMu.Lock()
	s.letGroup(b)
	b.ended = true
	b.groupMu.Unlock()
	// Before whoever waits for the end hears of it: an answer to a kill comes
	// after this.
	if !b.template {
		s.router.Send(&spawn.Message{Op: spawn.OpExited, Exited: x})
	}
	close(b.gone)
}

// pid is the first process.
func (b *box) pid() int {
	if b.offspring != nil {
		return b.offspring.pid
	}
	return b.proc.Pid
}

// wait blocks until the first process has ended, and every other with it, and
// returns how, and the processor time that is known of it.
func (b *box) wait() (syscall.WaitStatus, time.Duration) {
	if b.offspring != nil {
		how := b.offspring.wait()
		return how.ws, how.used
	}
	state, err := b.proc.Wait()
	if err != nil { // nobody else waits for it
		os.Exit(fatal(err))
	}
	ws, _ := state.Sys().(syscall.WaitStatus)
	return ws, state.UserTime() + state.SystemTime()
}

// kill ends every process of the sandbox; reap does the rest.
func (b *box) kill() { b.signal(unix.SIGKILL) }

// signal sends sig to the first process; it is an error where that has ended.
func (b *box) signal(sig unix.Signal) error {
	if b.offspring != nil {
		return b.offspring.signal(sig)
	}
	return b.proc.Signal(sig)
}
