package process

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// A Spawner is the operator's side of one spawner process.
type Spawner struct {
	// Router is the end of the connection that the router uses. Whoever hands it
	// on closes it: New takes it over.
	Router *os.File

	proc *os.Process
	conn *spawn.Conn
	mu   sync.Mutex
	seq  uint64
	gone chan struct{}
}

// StartSpawner starts the casemate-init at that path as the spawner of p. It
// blocks until the spawner has the plan. The spawner ends, and every sandbox
// with it, when the operator's or the router's connection closes.
func StartSpawner(init string, p *plan.Plan) (*Spawner, error) {
	router, theirRouter, err := spawn.Pair()
	if err != nil {
		return nil, err
	}
	operator, theirOperator, err := spawn.Pair()
	if err != nil {
		router.Close()
		theirRouter.Close()
		return nil, err
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	var proc *os.Process
	var gone chan struct{}
	if err == nil {
		proc, gone, err = start(init, []*os.File{null, null, os.Stderr, theirRouter, theirOperator})
		null.Close()
	}
	theirRouter.Close() // only the spawner has them now, so that its end is seen
	theirOperator.Close()
	if err != nil {
		router.Close()
		operator.Close()
		return nil, &casemate.Error{Op: "start", Kind: casemate.Internal, Err: errors.New("cannot start the spawner: " + err.Error()), Fix: "casemate-init belongs beside casemate: make build"}
	}
	s := &Spawner{Router: router, proc: proc, conn: spawn.NewConn(operator), gone: gone}
	if err := s.Reload(p); err != nil {
		router.Close()
		s.Close()
		return nil, err
	}
	return s, nil
}

// start keeps the thread that starts the spawner for the life of the spawner,
// which is told to die with it. The channel is closed when that has ended.
func start(init string, files []*os.File) (*os.Process, chan struct{}, error) {
	type result struct {
		p   *os.Process
		err error
	}
	done := make(chan result, 1)
	gone := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		// What the spawner forks copies its page tables: it keeps its heap small.
		p, err := os.StartProcess(init, []string{"casemate-init", "spawner"}, &os.ProcAttr{
			Files: files, Env: []string{"GOGC=30"}, Dir: "/", Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}})
		done <- result{p, err}
		if err == nil {
			p.Wait() // the thread stays for as long as the spawner
			close(gone)
		}
	}()
	r := <-done
	return r.p, gone, r.err
}

// Reload gives the spawner a new plan; what runs is not touched. It blocks
// until the spawner has it; on an error it keeps the old one.
func (s *Spawner) Reload(p *plan.Plan) error {
	fd, err := unix.MemfdCreate("plan", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "plan")
	defer f.Close()
	if _, err := f.Write(p.Encode()); err != nil {
		return err
	}
	_, err = s.ask(&spawn.Message{Op: spawn.OpPlan}, fd)
	return err
}

// Probe asks the spawner what this host can enforce.
func (s *Spawner) Probe() (casemate.Capabilities, error) {
	m, err := s.ask(&spawn.Message{Op: spawn.OpProbe})
	if err != nil {
		return casemate.Capabilities{}, err
	}
	return capabilities(Name, m.Probed), nil
}

// Undo takes back what a call wrote to its grants.
func (s *Spawner) Undo(call casemate.CallID) ([]casemate.Change, error) {
	m, err := s.ask(&spawn.Message{Op: spawn.OpUndo, Line: string(call)})
	if err != nil {
		return nil, err
	}
	var out []casemate.Change
	for _, c := range m.Changes {
		out = append(out, casemate.Change(c))
	}
	return out, nil
}

func (s *Spawner) ask(m *spawn.Message, fds ...int) (*spawn.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	m.Seq = s.seq
	err := s.conn.Send(m, fds...)
	var reply *spawn.Message
	if err == nil {
		reply, _, err = s.conn.Recv()
	}
	if err != nil {
		return nil, &casemate.Error{Op: "start", Kind: casemate.Internal, Err: errors.New("the spawner does not answer: " + err.Error()), Fix: "see its message above"}
	}
	if reply.Op == spawn.OpFailed {
		return nil, &casemate.Error{Op: "start", Kind: casemate.Kind(reply.Failed.Kind), Err: errors.New(reply.Failed.What), Fix: reply.Failed.Fix}
	}
	return reply, nil
}

// Gone is closed when the spawner has ended, in whatever way.
func (s *Spawner) Gone() <-chan struct{} { return s.gone }

// Close ends the spawner and every sandbox, and waits for both. Router is not
// closed.
func (s *Spawner) Close() error {
	s.conn.Close()
	<-s.gone
	return nil
}

// Probe starts a spawner without tools, asks it what this host can enforce,
// and ends it.
func Probe(ctx context.Context, init string) (casemate.Capabilities, error) {
	s, err := StartSpawner(init, &plan.Plan{})
	if err != nil {
		return casemate.Capabilities{}, err
	}
	defer s.Close()
	defer s.Router.Close()
	return s.Probe()
}
