// Package process is the backend that confines a process by the kernel's own
// facilities: namespaces, Landlock, seccomp, cgroups. It is the router's side
// of the spawner (package internal/spawn), which alone can make sandboxes; a
// bug of the shared kernel is what it does not contain.
package process

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/spawn"
)

// A Backend starts sandboxes through one spawner at a time. It is also the
// recorder of receipts, which the spawner appends.
type Backend struct {
	mu      sync.Mutex
	link    *link         // to the last spawner
	changed chan struct{} // closed when there is another link
	closed  bool
	caps    *casemate.Capabilities
}

// A link is the connection to one spawner, with the sandboxes that it made:
// they die with it, and their numbers mean nothing to another.
type link struct {
	conn *spawn.Conn
	done chan struct{} // closed when the spawner is gone

	mu      sync.Mutex
	seq     uint64
	waiting map[uint64]chan answer
	boxes   map[uint64]*sandbox
	early   map[uint64]spawn.Exited // of sandboxes whose Started is not read yet
	over    bool                    // the spawner is gone
}

// replaced is how long what needs a spawner waits for another where there is
// none: the operator starts one at once.
const replaced = 3 * time.Second

type answer struct {
	m   *spawn.Message
	fds []int
}

// New speaks to the spawner at the other end of conn, which it takes over.
func New(conn *os.File) *Backend {
	return &Backend{link: newLink(conn), changed: make(chan struct{})}
}

func newLink(conn *os.File) *link {
	b := &link{conn: spawn.Polled(conn), done: make(chan struct{}), waiting: map[uint64]chan answer{}, boxes: map[uint64]*sandbox{}, early: map[uint64]spawn.Exited{}}
	go b.read()
	return b
}

// Reconnect speaks to another spawner from now on, at the other end of conn,
// which it takes over. What the former one made is dead when it returns.
func (b *Backend) Reconnect(conn *os.File) {
	b.mu.Lock()
	old := b.link
	b.mu.Unlock()
	old.end()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		conn.Close()
		return
	}
	b.link = newLink(conn)
	close(b.changed)
	b.changed = make(chan struct{})
}

// spawner returns the link to a spawner that lives; where it is gone it waits
// for another, for a short time.
func (b *Backend) spawner(ctx context.Context) (*link, error) {
	var late *time.Timer
	for {
		b.mu.Lock()
		l, changed, closed := b.link, b.changed, b.closed
		b.mu.Unlock()
		select {
		case <-l.done:
		default:
			return l, nil
		}
		if closed {
			return nil, errSpawner
		}
		if late == nil {
			late = time.NewTimer(replaced)
			defer late.Stop()
		}
		select {
		case <-changed:
		case <-late.C:
			return nil, errSpawner
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Name is "process".
func (b *Backend) Name() string { return Name }

// Close ends the connection, and with it every sandbox.
func (b *Backend) Close() error {
	b.mu.Lock()
	b.closed = true
	l := b.link
	b.mu.Unlock()
	l.end()
	return nil
}

// Done is closed when the spawner that there is now is gone.
func (b *Backend) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.link.done
}

// end closes the connection and returns when everything knows.
func (b *link) end() {
	select {
	case <-b.done:
	default:
		b.conn.Shutdown()
		<-b.done
	}
}

func (b *link) read() {
	defer close(b.done)
	defer b.conn.Close()
	for {
		m, fds, err := b.conn.Recv()
		if err != nil {
			b.gone()
			return
		}
		b.mu.Lock()
		if m.Op == spawn.OpExited {
			if s := b.boxes[m.Exited.ID]; s != nil {
				s.exit(m.Exited)
			} else if len(b.early) < 1024 {
				b.early[m.Exited.ID] = m.Exited
			}
			b.mu.Unlock()
			continue
		}
		ch := b.waiting[m.Seq]
		delete(b.waiting, m.Seq)
		b.mu.Unlock()
		if ch == nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			continue
		}
		ch <- answer{m, fds}
	}
}

// gone ends everything that waits for a spawner that is not there.
func (b *link) gone() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	for seq, ch := range b.waiting {
		close(ch)
		delete(b.waiting, seq)
	}
	for _, s := range b.boxes {
		s.die()
	}
}

var errDescriptors = &casemate.Error{Op: "start", Kind: casemate.Busy, Err: errors.New("the router may have no more descriptors"), Fix: "try again; where that fails too, raise its limit of open files (ulimit -n)"}

var errSpawner = &casemate.Error{Op: "start", Kind: casemate.Internal, Err: errors.New("the spawner ended, and every sandbox with it"), Fix: "call it again; where that fails too, start casemate again"}

// ask sends one request and waits for its answer. When ctx is done first, the
// answer is given to abandoned, in its time.
func (b *link) ask(ctx context.Context, m *spawn.Message, abandoned func(answer)) (answer, error) {
	ch, err := b.send(m)
	if err != nil {
		return answer{}, err
	}
	return b.await(ctx, ch, abandoned)
}

// send sends one request, whose answer comes through the channel.
func (b *link) send(m *spawn.Message) (chan answer, error) {
	ch := make(chan answer, 1)
	b.mu.Lock()
	b.seq++
	m.Seq = b.seq
	b.waiting[m.Seq] = ch
	b.mu.Unlock()
	if err := b.conn.Send(m); err != nil {
		b.mu.Lock()
		delete(b.waiting, m.Seq)
		b.mu.Unlock()
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			return nil, errSpawner
		}
		return nil, &casemate.Error{Op: "start", Kind: casemate.Internal, Err: errors.New("the spawner does not answer: " + err.Error()), Fix: "start casemate again"}
	}
	return ch, nil
}

// await waits for the answer to what was sent.
func (b *link) await(ctx context.Context, ch chan answer, abandoned func(answer)) (answer, error) {
	var a answer
	var ok bool
	select {
	case a, ok = <-ch:
	case <-b.done:
		select {
		case a, ok = <-ch:
		default:
		}
	case <-ctx.Done():
		go func() {
			if a, ok := <-ch; ok && abandoned != nil {
				abandoned(a)
			}
		}()
		return answer{}, ctx.Err()
	}
	if !ok {
		return answer{}, errSpawner
	}
	if a.m.Op == spawn.OpFailed {
		f := a.m.Failed
		kind := casemate.Kind(f.Kind)
		fix := f.Fix
		if kind == casemate.Unsupported {
			fix += degradedFix(f.Control)
		}
		return a, &casemate.Error{Op: "start", Kind: kind, Err: errors.New(f.What), Fix: fix}
	}
	return a, nil
}

// Start asks the spawner for a sandbox of the pinned tool. It blocks until the
// sandbox is confined; its Ready frame is still to be read from Guest.
func (b *Backend) Start(ctx context.Context, spec casemate.Spec) (casemate.Sandbox, error) {
	g := spec.Grant
	digest := g.Tool
	if digest == "" {
		digest = spec.Tool.Guest()
	}
	l, err := b.spawner(ctx)
	if err != nil {
		return nil, err
	}
	a, err := l.ask(ctx, &spawn.Message{Op: spawn.OpStart, Start: startOf(string(digest), g)}, l.abandon)
	var s *sandbox
	if err == nil {
		s, err = l.started(a)
	}
	if err != nil {
		return nil, ofTool(err, spec.Tool.Name)
	}
	return s, nil
}

// ofTool names the tool in an error.
func ofTool(err error, name casemate.ToolName) error {
	e, ok := errors.AsType[*casemate.Error](err)
	if !ok {
		return err
	}
	copied := *e
	copied.Tool = name
	return &copied
}

func (b *link) abandon(a answer) {
	if a.m.Op == spawn.OpStarted {
		if s, err := b.started(a); err == nil {
			s.Close()
		}
	}
}

// refused has a sandbox killed whose descriptors could not be taken, and says so.
func (b *link) refused(a answer) error {
	if a.m.Op == spawn.OpStarted {
		b.ask(context.Background(), &spawn.Message{Op: spawn.OpKill, ID: a.m.Started.ID}, nil)
	}
	return errDescriptors
}

func (b *link) started(a answer) (*sandbox, error) {
	if a.m.Op != spawn.OpStarted || len(a.fds) != 1 && len(a.fds) != 3 && len(a.fds) != 4 {
		closeFDs(a.fds)
		return nil, b.refused(a)
	}
	st := a.m.Started
	s := &sandbox{b: b, id: st.ID, pid: int(st.Pid), enforced: enforced(st.Enforced), gone: make(chan struct{})}
	if len(a.fds) == 3 { // it is forked
		m, err := newMux([3]int(a.fds), s.gone, func() (spawn.Exited, bool) { return s.over, !s.orphan })
		if err != nil {
			return nil, b.refused(a)
		}
		s.guest, s.mux = &m.pipe, m
	} else {
		s.guest = &pipe{}
		for i, fd := range a.fds {
			unix.SetNonblock(fd, true) // so that closing it wakes whoever reads
			q, err := linux.NewQuick(os.NewFile(uintptr(fd), "guest"))
			if i == 0 {
				s.guest.File, s.guest.quick = q.File, q
			} else {
				s.guest.std = append(s.guest.std, q)
			}
			if err != nil {
				s.guest.Close()
				closeFDs(a.fds[i+1:])
				return nil, b.refused(a)
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.boxes[st.ID] = s
	if x, ok := b.early[st.ID]; ok {
		delete(b.early, st.ID)
		s.exit(x)
	}
	if b.over {
		s.die()
	}
	return s, nil
}

func enforced(e spawn.Enforced) casemate.Enforced {
	out := casemate.Enforced{Namespaces: e.Namespaces, Seccomp: casemate.Digest(e.Seccomp), Landlock: int(e.Landlock), NoNewPrivs: e.NoNewPrivs, Runtime: e.Runtime, Uid: e.Uid, Degraded: e.Degraded}
	if out.Degraded == nil {
		out.Degraded = []string{}
	}
	for _, l := range e.Limits {
		at := map[string]**casemate.Limit{"memory": &out.Memory, "processes": &out.Processes, "cpu": &out.CPU, "disk": &out.Disk}[l.Name]
		if at != nil {
			*at = &casemate.Limit{Limit: l.Value, By: l.By}
		}
	}
	return out
}

// Probe asks the spawner to make a sandbox and say what was on. It takes some
// tens of milliseconds; the answer is kept.
func (b *Backend) Probe(ctx context.Context) (casemate.Capabilities, error) {
	b.mu.Lock()
	have := b.caps
	b.mu.Unlock()
	if have != nil {
		return *have, nil
	}
	c, err := b.probe(ctx, Name)
	if err != nil {
		return c, err
	}
	b.mu.Lock()
	b.caps = &c
	b.mu.Unlock()
	return c, nil
}

// probe asks about a backend by its name.
func (b *Backend) probe(ctx context.Context, name string) (casemate.Capabilities, error) {
	l, err := b.spawner(ctx)
	if err != nil {
		return casemate.Capabilities{}, err
	}
	a, err := l.ask(ctx, &spawn.Message{Op: spawn.OpProbe, Line: name}, nil)
	if err != nil {
		return casemate.Capabilities{}, err
	}
	return capabilities(name, a.m.Probed), nil
}

func capabilities(name string, rows []spawn.Control) casemate.Capabilities {
	c := casemate.Capabilities{Name: name, Available: true}
	for _, r := range rows {
		if r.State == "missing" {
			r.Fix += degradedFix(strings.TrimSuffix(r.Name, " limit"))
		}
		c.Controls = append(c.Controls, casemate.Control{Name: r.Name, State: r.State, Why: r.Why, Fix: r.Fix})
		if r.State == "missing" {
			c.Available, c.Fix = false, r.Fix
		}
	}
	c.Assurance = assurance(c.Controls)
	return c
}

// Record appends one receipt. It blocks until the spawner has written it.
func (b *Backend) Record(r casemate.Receipt) error {
	appended, err := b.Post(r)
	if err != nil {
		return err
	}
	return appended()
}

// Post hands one receipt to the spawner, which appends them in the order in
// which they come; see casemate.Poster. It blocks only while there is no
// spawner, or that does not read.
func (b *Backend) Post(r casemate.Receipt) (appended func() error, err error) {
	line, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if len(line) > spawn.MaxRecord {
		r.Changes = append(r.Changes[:min(8, len(r.Changes)):min(8, len(r.Changes))], casemate.Change{Did: "more", Why: "the record is cut; see casemate diff"})
		if line, err = json.Marshal(r); err != nil {
			return nil, err
		}
	}
	l, err := b.spawner(context.Background())
	if err != nil {
		return nil, err
	}
	ch, err := l.send(&spawn.Message{Op: spawn.OpRecord, Line: string(line)})
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := l.await(context.Background(), ch, nil)
		return err
	}, nil
}

// A sandbox is one guest of the process backend.
type sandbox struct {
	b        *link
	id       uint64
	pid      int
	enforced casemate.Enforced
	guest    *pipe
	mux      *mux // before guest, where it is forked
	gone     chan struct{}
	over     spawn.Exited // once gone is closed
	orphan   bool         // it died with the spawner
	once     sync.Once
	closed   error
	narrower atomic.Pointer[casemate.Enforced] // instead of enforced
}

// A pipe notes when the guest got its first byte since the last commit: what
// others changed on the host after that is a conflict.
type pipe struct {
	*os.File
	quick *linux.Quick   // of a guest that is not forked
	std   []*linux.Quick // of an MCP server: its standard input, output and error
	mu    sync.Mutex
	since int64
	used  bool // it got a byte
}

func (p *pipe) Write(b []byte) (int, error) {
	p.note()
	if p.quick != nil {
		return p.quick.Write(b)
	}
	return p.File.Write(b)
}

// note notes that the guest gets bytes.
func (p *pipe) note() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = true
	if p.since == 0 {
		var ts unix.Timespec
		unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts)
		p.since = ts.Nano()
	}
}

// An input notes what a server is written.
type input struct{ p *pipe }

func (i input) Write(b []byte) (int, error) {
	i.p.note()
	return i.p.std[0].Write(b)
}

// Streams are the ends of an MCP server's own standard input, output and error,
// beside which the guest's pipe says only how it ended; ok says whether it has
// them. They are closed with the pipe.
func (p *pipe) Streams() (in io.Writer, out, err io.Reader, ok bool) {
	if len(p.std) != 3 {
		return nil, nil, nil, false
	}
	return input{p}, p.std[1], p.std[2], true
}

// Close closes everything; who reads or writes wakes.
func (p *pipe) Close() error {
	for _, q := range p.std {
		q.Close()
	}
	return p.File.Close()
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func (p *pipe) Read(b []byte) (int, error) {
	if p.quick != nil {
		return p.quick.Read(b)
	}
	return p.File.Read(b)
}

func (p *pipe) written() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

func (p *pipe) claimed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := p.since
	p.since = 0
	return since
}

// Guest is a unix stream socket, or what makes one stream of a forked guest's
// socket and pipes.
func (s *sandbox) Guest() io.ReadWriteCloser {
	if s.mux != nil {
		return s.mux
	}
	return s.guest
}

// Enforced says what is on.
func (s *sandbox) Enforced() casemate.Enforced {
	if e := s.narrower.Load(); e != nil {
		return *e
	}
	return s.enforced
}

// Pid is the sandbox's first process as the host sees it.
func (s *sandbox) Pid() int { return s.pid }

// exit is called once; b.mu is held.
func (s *sandbox) exit(x spawn.Exited) {
	select {
	case <-s.gone:
	default:
		s.over = x
		close(s.gone)
	}
}

// die is exit for a sandbox that died with the spawner; b.mu is held.
func (s *sandbox) die() {
	select {
	case <-s.gone:
	default:
		s.orphan = true
		close(s.gone)
	}
}

// Wait blocks until the sandbox is gone. It is an error where the spawner
// ended first, so that nobody knows how the sandbox did.
func (s *sandbox) Wait(ctx context.Context) (casemate.Exit, error) {
	select {
	case <-s.gone:
	case <-ctx.Done():
		return casemate.Exit{}, ctx.Err()
	}
	if s.orphan {
		return casemate.Exit{}, errSpawner
	}
	x := s.over
	return casemate.Exit{Status: int(x.Status), Signal: int(x.Signal), Limit: x.Limit,
		Usage: casemate.Usage{CPU: time.Duration(x.CPU), Memory: x.Memory}}, nil
}

// Commit carries what the guest wrote to the host; see casemate.Committer.
func (s *sandbox) Commit(ctx context.Context, call casemate.CallID) ([]casemate.Change, error) {
	a, err := s.b.ask(ctx, &spawn.Message{Op: spawn.OpCommit, Commit: spawn.Commit{ID: s.id, Call: string(call), Since: s.guest.claimed()}}, nil)
	if err != nil {
		return nil, err
	}
	var out []casemate.Change
	for _, c := range a.m.Changes {
		out = append(out, casemate.Change(c))
	}
	return out, nil
}

// Close kills the sandbox and returns when nothing of it is left.
func (s *sandbox) Close() error {
	s.once.Do(func() {
		if s.mux != nil {
			s.mux.killed.Store(true) // what ends it now is no answer
		}
		_, s.closed = s.b.ask(context.Background(), &spawn.Message{Op: spawn.OpKill, ID: s.id}, nil)
		if s.closed == errSpawner {
			s.closed = nil // its sandboxes die with it
		}
		s.Guest().Close()
		s.b.mu.Lock()
		delete(s.b.boxes, s.id)
		s.b.mu.Unlock()
	})
	return s.closed
}
