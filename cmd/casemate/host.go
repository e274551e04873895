package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/sandbox/process"
)

// The descriptors that a router inherits beside the standard three.
const (
	fdSettings = 3 + iota
	fdControl
	fdSpawner
	fdListeners // the first of them
)

// settings is what a router is told before it confines itself: the
// operator's bytes, none of anyone else.
type settings struct {
	reloadBody
	Stdio       bool        `json:"stdio,omitempty"`    // MCP on its standard input and output
	HTTP        []string    `json:"http,omitempty"`     // a listener is inherited for each: tcp or unix
	Operator    bool        `json:"operator,omitempty"` // a unix listener is inherited, after the former
	Streams     bool        `json:"streams,omitempty"`  // the streams of a command are inherited: standard input and output, and after the former its error
	Token       string      `json:"token,omitempty"`    // that HTTP demands
	Uid         int         `json:"uid"`                // of the operator
	Pool        pool.Limits `json:"pool"`
	Concurrency int         `json:"concurrency,omitempty"`
	PerTool     int         `json:"per_tool,omitempty"`

	Recent map[casemate.ToolName][]time.Time `json:"recent,omitempty"` // see recent

	Callers []gateway.Credential `json:"callers,omitempty"` // of HTTP, beside the one of Token
	Names   []byte               `json:"names,omitempty"`   // of sessions that callers named before; see sessionNames
}

// host is what the operator's process started: the spawner and the router.
type host struct {
	*compiled
	init    string       // path of casemate-init
	deaths  []time.Time  // of spawners, the last minute's
	varied  []plan.Guest // guests of single sessions, beside the plan's
	spawner *process.Spawner
	ctl     *client
	process *os.Process
	exited  chan struct{} // closed when the router is gone and its messages are written
	state   *os.ProcessState
	keep    func() // closes what only the operator's process holds
}

// hostOptions says what to start.
type hostOptions struct {
	init     string // path of casemate-init
	compiled *compiled
	settings settings
	http     []net.Listener
	operator net.Listener // nil: none
	stdio    bool
	std      [3]*os.File // of a command, as its standard streams; nil: none
	console  *console
}

// startHost starts a spawner with its plan and a router joined to it. Both
// end with this process, however that ends: the router is killed with the
// thread that started it, and the spawner ends with its connections.
func startHost(o hostOptions) (*host, error) {
	s, err := process.StartSpawner(o.init, &o.compiled.plan)
	if err != nil {
		return nil, err
	}
	h, err := startRouter(o, s)
	if err != nil {
		s.Close()
		return nil, err
	}
	return h, nil
}

func startRouter(o hostOptions, s *process.Spawner) (*host, error) {
	fail := func(err error, fix string) (*host, error) {
		return nil, &casemate.Error{Op: "start router", Kind: casemate.Internal, Err: err, Fix: fix}
	}
	mine := []io.Closer{s.Router} // the router's ends of things, closed here when it has them
	defer func() {
		for _, c := range mine {
			c.Close()
		}
	}()
	own := func(f *os.File) *os.File { mine = append(mine, f); return f }

	o.settings.reloadBody = o.compiled.serves
	o.settings.Stdio, o.settings.HTTP, o.settings.Operator = o.stdio, networks(o.http), o.operator != nil
	o.settings.Streams = o.std[0] != nil
	o.settings.Uid = os.Geteuid()
	var err error
	if o.settings.Recent, err = recent(o.compiled.plan.Host.Records, o.compiled.serves.Tools, time.Now()); err != nil {
		return nil, err
	}
	if len(o.http) > 0 {
		if o.settings.Names, err = sessionNames(o.compiled.plan.Host.Records); err != nil {
			return nil, err
		}
	}
	b, err := json.Marshal(o.settings)
	if err != nil {
		return fail(err, "")
	}
	conf, err := memfile("casemate-settings", b)
	if err != nil {
		return fail(err, "")
	}
	own(conf)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err, "")
	}
	theirs := own(os.NewFile(uintptr(pair[1]), "control"))
	ours := os.NewFile(uintptr(pair[0]), "control")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return fail(err, "")
	}
	extra := []*os.File{conf, theirs, s.Router}
	for _, l := range append(slices.Clone(o.http), o.operator) {
		if l == nil {
			continue
		}
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			conn.Close()
			return fail(err, "")
		}
		extra = append(extra, own(f))
	}
	if o.std[0] != nil {
		extra = append(extra, o.std[2])
	}
	said, say, err := os.Pipe()
	if err != nil {
		conn.Close()
		return fail(err, "")
	}
	own(say)

	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"casemate", "router"}, Env: []string{}, Dir: "/", Stderr: say, ExtraFiles: extra,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: routerCredential(os.Geteuid(), os.Getpid())}}
	keep := func() { conn.Close() }
	switch {
	case o.stdio:
		cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
		keep = join(keep, waitable(os.Stdin, os.Stdout))
	case o.std[0] != nil:
		cmd.Stdin, cmd.Stdout = o.std[0], o.std[1]
	}
	h := &host{init: o.init, compiled: o.compiled, spawner: s, exited: make(chan struct{}), keep: keep}
	logs := &serverLogs{dir: filepath.Join(filepath.Dir(o.compiled.plan.Host.Records), serverLogFolder)}
	started := make(chan error)
	go func() {
		// Pdeathsig follows the thread that forks: it is this goroutine's own
		// and stays until the router is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		h.process = cmd.Process
		started <- err
		if err != nil {
			said.Close()
			return
		}
		copied := make(chan struct{})
		go func() { relay(said, o.console, logs); close(copied) }()
		cmd.Wait()
		h.state = cmd.ProcessState
		<-copied
		close(h.exited)
	}()
	if err := <-started; err != nil {
		conn.Close()
		fix := ""
		if errors.Is(err, os.ErrPermission) {
			fix = "make the casemate binary executable by others (chmod 755): as root its router runs as a user of its own"
		}
		return fail(err, fix)
	}
	// A result may hold a control character a byte, six bytes each in JSON.
	h.ctl = newClient(conn, 16<<20+8*o.compiled.output)
	return h, nil
}

// memfile returns b as a sealed file without a name.
func memfile(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// stop ends the router in order: calls in flight finish, for ten seconds at
// most, and are answered. Then nothing of it is there.
func (h *host) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), drain+3*streamGrace)
	defer cancel()
	h.ctl.do(ctx, opShutdown, struct{}{}, nil)
	select {
	case <-h.exited:
	case <-ctx.Done():
	}
	h.kill()
}

// kill ends the router at once. Every sandbox ends with it.
func (h *host) kill() {
	h.process.Kill()
	<-h.exited
	h.keep()
	h.spawner.Close()
}

// maxDeaths is how many spawners are replaced within a minute.
const maxDeaths = 3

// respawn starts a spawner with the current plan instead of the one that
// ended, and gives the router its connection. It gives up where they end too
// often.
func (h *host) respawn(ctx context.Context) error {
	h.spawner.Close()
	var last error // one that ends while it starts is one that ended
	for {
		now := time.Now()
		h.deaths = slices.DeleteFunc(h.deaths, func(t time.Time) bool { return now.Sub(t) > time.Minute })
		if len(h.deaths) == maxDeaths {
			err := fmt.Errorf("it ended more than %d times within a minute", maxDeaths)
			return &casemate.Error{Op: "spawner", Kind: casemate.Internal, Err: errors.Join(err, last), Fix: "see what it said before and what kills it; start casemate serve again"}
		}
		h.deaths = append(h.deaths, now)
		var s *process.Spawner
		if s, last = process.StartSpawner(h.init, h.whole()); last != nil {
			continue
		}
		h.spawner = s
		ctx, cancel := context.WithTimeout(ctx, drain)
		defer cancel()
		p, err := h.ctl.hand(opSpawner, s.Router, struct{}{}) // only the router has it then, so that its end is seen
		if err != nil {
			return err
		}
		return p.wait(ctx, nil)
	}
}

// whole is the plan and what it has beside for single sessions.
func (h *host) whole() *plan.Plan {
	p := h.plan
	p.Guests = slices.Concat(p.Guests, h.varied)
	return &p
}

// vary gives the spawner guests for single sessions and takes others away.
func (h *host) vary(more []plan.Guest, gone map[casemate.Digest]casemate.Digest) error {
	if len(more)+len(gone) == 0 {
		return nil
	}
	before := h.varied
	h.varied = slices.Concat(more, slices.DeleteFunc(slices.Clone(before), func(g plan.Guest) bool {
		for _, d := range gone {
			if string(d) == g.Digest {
				return true
			}
		}
		return false
	}))
	err := h.spawner.Reload(h.whole())
	if err != nil && len(more) > 0 {
		h.varied = before
	}
	return err
}

// reload gives the spawner another plan and then the router its tools. In
// between the spawner knows the former guests too, so that no call is refused
// that the router sends meanwhile. Where the router refuses the tools the
// spawner gets the former plan again.
func (h *host) reload(ctx context.Context, c *compiled) error {
	both := c.plan
	both.Guests = slices.Concat(both.Guests, h.varied)
	for _, old := range h.plan.Guests {
		if !slices.ContainsFunc(c.plan.Guests, func(g plan.Guest) bool { return g.Digest == old.Digest }) {
			both.Guests = append(both.Guests, old)
		}
	}
	if err := h.spawner.Reload(&both); err != nil {
		return err
	}
	if err := h.ctl.do(ctx, opReload, c.serves, nil); err != nil {
		return errors.Join(err, h.spawner.Reload(h.whole()))
	}
	changed := differing(h.plan, c.plan)
	h.compiled = c
	if err := h.spawner.Reload(h.whole()); err != nil {
		return err
	}
	return h.stale(ctx, changed)
}
