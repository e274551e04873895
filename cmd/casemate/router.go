package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/router"
	"github.com/casemate/casemate/sandbox/process"
)

// drain is how long calls in flight have to finish at a shutdown.
const drain = 10 * time.Second

// routerCommand is the router process: casemate starts itself as this one
// with the descriptors that it may hold, and it cannot be used otherwise.
func (a *app) routerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "router",
		Short:  "The router process; casemate serve and casemate call start it",
		Hidden: true,
		Args:   noArgs,
		RunE:   runs(func(*cobra.Command, []string) error { return routerMain(a.console) }),
	}
}

// routerMain confines this process and then serves until its operator goes
// away or says so. Nothing that a planner or a tool wrote is read before.
func routerMain(c *console) error {
	ctl, err := inherited(fdControl, "control")
	if err != nil {
		return invalid("router", "use casemate serve", "this command is started by casemate alone")
	}
	give := func(err error) error {
		writeMessage(ctl, message{Error: casemate.JSON(err)})
		return err
	}
	var s settings
	f := os.NewFile(fdSettings, "settings")
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return give(err)
	}
	signal.Ignore(syscall.SIGPIPE) // a client that hangs up is an error of a write, not the end
	// A router of small calls has next to nothing on its heap, and would collect
	// garbage all the time. This is never touched, and takes no memory.
	room := make([]byte, 16<<20)
	defer runtime.KeepAlive(room)
	if err := confine(); err != nil {
		return give(&casemate.Error{Op: "confine router", Kind: casemate.Unsupported, Err: err, Fix: "casemate doctor says what this host lacks"})
	}
	if len(s.HTTP) == 0 {
		// The clients of one person wait for one answer at a time: it is there
		// sooner where no other thread is woken to help.
		runtime.GOMAXPROCS(1)
	}
	srv, err := newServer(s, ctl, c)
	if err != nil {
		return give(err)
	}
	return srv.serve()
}

// inherited returns the stream socket at a descriptor of this process.
func inherited(fd uintptr, name string) (net.Conn, error) {
	f := os.NewFile(fd, name)
	if f == nil {
		return nil, errors.New("no descriptor")
	}
	defer f.Close()
	return net.FileConn(f)
}

// server is the router process.
type server struct {
	settings settings
	router   *router.Router
	backend  *process.Backend
	ctl      net.Conn
	console  *console

	stderr *os.File            // of a command; see streamed
	events chan casemate.Event // of the caller of a command
	joined joined              // the shims
	chosen atomic.Pointer[map[casemate.Digest]router.Choice]

	ctx    context.Context // of everything that serves
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // of the front ends

	once sync.Once // shutdown
}

// errDone is why a server ends that was told to, or whose client is gone.
var errDone = errors.New("done")

func newServer(s settings, ctl net.Conn, c *console) (*server, error) {
	b := process.New(os.NewFile(fdSpawner, "spawner"))
	srv := &server{settings: s, backend: b, ctl: ctl, console: c, events: make(chan casemate.Event, 64)}
	srv.chosen.Store(&s.Chosen)
	r, err := router.New(router.Config{
		Tools: s.Tools, Refused: refused(s.Refused), Choose: srv.choice,
		Backends: []casemate.Backend{b, b.As("wasm"), b.As("oci"), b.As("gvisor")}, Recorder: b, Pool: s.Pool,
		Concurrency: s.Concurrency, PerTool: s.PerTool, Recent: s.Recent, ServerLog: serverLog(os.Stderr), Version: version(),
	})
	if err != nil {
		return nil, err
	}
	srv.router = r
	srv.ctx, srv.cancel = context.WithCancelCause(context.Background())
	return srv, nil
}

// choice is the backend that a tool was compiled for.
func (s *server) choice(t *casemate.Tool) router.Choice { return (*s.chosen.Load())[t.Guest()] }

// refused gives errors that came over the wire their type again.
func refused(in map[casemate.ToolName]*casemate.ErrorJSON) map[casemate.ToolName]*casemate.Error {
	out := map[casemate.ToolName]*casemate.Error{}
	for name, j := range in {
		out[name] = &casemate.Error{Tool: name, Kind: j.Kind, Err: errors.New(j.Message), Fix: j.Fix}
	}
	return out
}

// serve blocks until the server is told to end, its operator or its MCP
// client is gone, or something breaks; then it lets calls in flight finish,
// for ten seconds at most.
func (s *server) serve() error {
	next := uintptr(fdListeners)
	listener := func() (net.Listener, error) {
		f := os.NewFile(next, "listener")
		next++
		defer f.Close()
		return net.FileListener(f)
	}
	var http []net.Listener
	for range s.settings.HTTP {
		l, err := listener()
		if err != nil {
			return err
		}
		http = append(http, l)
	}
	if len(http) > 0 {
		s.goServe(func() error { return s.serveHTTP(http) })
	}
	if s.settings.Operator {
		l, err := listener()
		if err != nil {
			return err
		}
		s.goServe(func() error { return s.operators(l) })
	}
	if s.settings.Stdio {
		s.goServe(s.serveStdio)
	}
	if s.settings.Streams {
		s.stderr = os.NewFile(next, "stderr")
	}
	go s.connection(s.ctl, true)
	<-s.ctx.Done()
	s.shutdown()
	s.ended()
	if err := context.Cause(s.ctx); !errors.Is(err, errDone) {
		return err
	}
	return nil
}

// goServe runs one front end; when it ends, the server does.
func (s *server) goServe(f func() error) {
	s.wg.Go(func() {
		err := f()
		if err == nil {
			err = errDone
		}
		s.cancel(err)
	})
}

// ended waits for the front ends, which end with s.ctx.
func (s *server) ended() {
	all := make(chan struct{})
	go func() { s.wg.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(2 * streamGrace): // one that is stuck in a write to its client ends with this process
	}
}

// shutdown ends the router; it blocks until no sandbox is left.
func (s *server) shutdown() {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		if err := s.router.Shutdown(ctx); err != nil {
			s.console.note("shutdown: %v", err)
		}
	})
}

// operators serves the commands of this user.
func (s *server) operators(l net.Listener) error {
	context.AfterFunc(s.ctx, func() { l.Close() })
	for {
		c, err := l.Accept()
		if err != nil {
			if s.ctx.Err() != nil {
				return nil
			}
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			return err
		}
		uid, err := peerUid(c.(*net.UnixConn))
		if err != nil || uid != s.settings.Uid && uid != 0 {
			c.Close()
			continue
		}
		go func() {
			stop := context.AfterFunc(s.ctx, func() { c.Close() })
			defer stop()
			s.connection(c, false)
		}()
	}
}

// connection serves one control connection until it ends: of the process
// that started this one, or of another command of the same user.
func (s *server) connection(c net.Conn, owner bool) error {
	defer c.Close()
	p := &peer{server: s, conn: c, owner: owner, calls: map[uint64]context.CancelFunc{}}
	var ctx context.Context
	ctx, p.hangUp = context.WithCancel(s.ctx)
	defer p.hangUp()
	p.session = s.router.NewSession()
	defer s.router.EndSession(p.session)
	most := int64(maxMessage)
	if !owner {
		most = 64 << 10
	}
	in := bufio.NewReader(c)
	var rights *rightsReader
	if u, ok := c.(*net.UnixConn); ok && owner {
		rights = &rightsReader{conn: u}
		in = bufio.NewReader(rights)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer p.hangUp()
	for {
		m, err := readMessage(in, most)
		if err != nil {
			if owner && s.ctx.Err() == nil {
				// The operator is gone, in whatever way: nobody answers for
				// what would still run.
				os.Exit(1)
			}
			return nil
		}
		if (m.Op == opSpawner || m.Op == opShim) && rights != nil {
			m.file = rights.take()
		}
		if m.Op == opShim && owner {
			// At once, so that what follows about its session finds that.
			serve, err := s.shim(m)
			if m.serve = serve; err != nil {
				m.serve = func(context.Context) error { return err }
			}
		}
		ctx, done := context.WithCancel(ctx)
		p.mu.Lock()
		p.calls[m.ID] = done
		p.mu.Unlock()
		wg.Go(func() {
			defer done()
			p.answer(ctx, m)
		})
	}
}

// peer is one control connection.
type peer struct {
	server  *server
	conn    net.Conn
	owner   bool
	session casemate.SessionID
	hangUp  context.CancelFunc
	out     sync.Mutex // of writing; never taken with mu held

	mu    sync.Mutex
	calls map[uint64]context.CancelFunc
}

// answer carries out one request and writes its reply.
func (p *peer) answer(ctx context.Context, m message) {
	out, err := p.do(ctx, m)
	reply := message{ID: m.ID, Error: casemate.JSON(err)}
	if err == nil {
		if reply.Body, err = json.Marshal(out); err != nil {
			reply.Error = casemate.JSON(err)
		}
	}
	p.mu.Lock()
	delete(p.calls, m.ID)
	p.mu.Unlock()
	p.out.Lock()
	defer p.out.Unlock()
	if writeMessage(p.conn, reply) != nil {
		p.hangUp()
	}
}

func (p *peer) do(ctx context.Context, m message) (any, error) {
	s := p.server
	switch m.Op {
	case opStatus:
		return s.router.Status(), nil
	case opTools:
		var out []*router.Why
		for _, t := range s.router.Tools() {
			out = append(out, s.router.Why(ctx, casemate.Call{Tool: t.Name}))
		}
		return out, nil
	case opStop:
		var in stopBody
		if err := json.Unmarshal(m.Body, &in); err != nil {
			return nil, err
		}
		if in.All {
			return stoppedBody{s.router.StopAll()}, nil
		}
		n := s.router.Stop(in.Session)
		s.router.EndSession(in.Session)
		return stoppedBody{n}, nil
	}
	if !p.owner {
		return nil, &casemate.Error{Op: "control", Kind: casemate.Denied, Err: errors.New("this socket knows status, tools and stop")}
	}
	switch m.Op {
	case opReady:
		return struct{}{}, nil
	case opCall, opWhy:
		var in callBody
		if err := json.Unmarshal(m.Body, &in); err != nil {
			return nil, err
		}
		c := casemate.Call{Session: p.session, Tool: in.Tool, Arguments: in.Arguments, Limits: in.Limits, Inputs: in.Inputs, Settle: true}
		if m.Op == opWhy {
			return s.router.Why(ctx, c), nil
		}
		return s.router.Call(ctx, c), nil
	case opListing:
		var in listingBody
		if err := json.Unmarshal(m.Body, &in); err != nil {
			return nil, err
		}
		out := listedBody{Outcome: s.router.Call(ctx, casemate.Call{Session: p.session, Tool: in.Server, Method: "casemate/listing", Arguments: []byte("{}")})}
		if out.Outcome.Result != nil {
			out.Listing = out.Outcome.Result.Raw
		}
		return out, nil
	case opExec:
		var in execBody
		if err := json.Unmarshal(m.Body, &in); err != nil {
			return nil, err
		}
		return s.streamed(ctx, p.session, in)
	case opEvent:
		var in casemate.Event
		if err := json.Unmarshal(m.Body, &in); err != nil {
			return nil, err
		}
		select {
		case s.events <- in:
			return struct{}{}, nil
		default:
			return nil, &casemate.Error{Op: "exec", Kind: casemate.Busy, Err: errors.New("the command takes no more signals")}
		}
	case opCancel:
		var in cancelBody
		if err := json.Unmarshal(m.Body, &in); err != nil {
			return nil, err
		}
		p.mu.Lock()
		cancel := p.calls[in.ID]
		p.mu.Unlock()
		if cancel != nil {
			cancel()
		}
		return struct{}{}, nil
	case opReload:
		var in reloadBody
		if err := json.Unmarshal(m.Body, &in); err != nil {
			return nil, err
		}
		before := s.chosen.Swap(&in.Chosen)
		err := s.router.Reload(in.Tools, refused(in.Refused))
		if err != nil {
			s.chosen.Store(before)
		}
		return struct{}{}, err
	case opStale:
		var in staleBody
		if err := json.Unmarshal(m.Body, &in); err != nil {
			return nil, err
		}
		s.router.Stale(in.Guests...)
		return struct{}{}, nil
	case opPressure:
		s.router.Pressure()
		return struct{}{}, nil
	case opSpawner:
		if m.file == nil {
			return nil, errors.New("no connection came with it")
		}
		s.backend.Reconnect(m.file)
		return struct{}{}, nil
	case opShim:
		return struct{}{}, m.serve(ctx)
	case opVariants:
		var in variantsBody
		if err := json.Unmarshal(m.Body, &in); err != nil {
			return nil, err
		}
		return struct{}{}, s.vary(in)
	case opShutdown:
		// First the calls, which are answered, and then the front ends.
		s.shutdown()
		s.cancel(errDone)
		return struct{}{}, nil
	}
	return nil, &casemate.Error{Op: "control", Kind: casemate.Invalid, Err: errors.New("unknown request " + m.Op)}
}
