package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
)

const (
	// sharedIdle is how long a shared router outlives its last shim, and
	// sharedFirst how long it waits for the first.
	sharedIdle  = 2 * time.Second
	sharedFirst = 10 * time.Second

	// maxShims is how many one shared router serves at once.
	maxShims = 256
)

// A shared router serves the shims of one user: this process has the
// operator's authority, as that of casemate serve, and speaks with shims until
// each is introduced. What clients and servers say goes to the confined router
// alone.
type shared struct {
	*app
	listener *net.UnixListener
	path     string // of its socket
	idle     *time.Timer

	count  sync.Mutex
	shims  int
	closed bool // nobody more comes in

	listing keyed // one at a time for each server

	mu       sync.Mutex // of what follows, and of changing what is served
	host     *host
	loaded   *loaded
	sessions []*clientSession
}

// sharedCommand is the process that the first casemate run starts.
func (a *app) sharedCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "shared",
		Short:  "The router that the servers of casemate run share; the first starts it",
		Hidden: true,
		Args:   noArgs,
		RunE:   runs(func(c *cobra.Command, _ []string) error { return a.shared(c.Context()) }),
	}
}

func (a *app) shared(ctx context.Context) error {
	unix.CloseOnExec(fdReady)
	var st unix.Stat_t
	if err := unix.Fstat(fdReady, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return invalid("shared", "use casemate run", "this command is started by casemate alone")
	}
	ready := os.NewFile(fdReady, "ready")
	s, err := a.newShared(ctx)
	if err != nil {
		fmt.Fprint(ready, err.Error())
		return err
	}
	defer s.host.kill()
	ready.WriteString("ready")
	ready.Close()
	return s.serve(ctx)
}

// newShared starts everything, and listens when it returns.
func (a *app) newShared(ctx context.Context) (*shared, error) {
	l, err := a.loadOwn()
	if err != nil {
		return nil, err
	}
	operator, remove, err := listenOperator()
	if err != nil {
		return nil, err
	}
	s := &shared{app: a, loaded: l, idle: time.NewTimer(sharedFirst)}
	if s.host, err = a.start(ctx, l.servers(), startOptions{operator: operator, pool: pool.Limits{Max: -1}}); err != nil {
		remove()
		return nil, err
	}
	s.host.keep = join(s.host.keep, remove)
	if err = s.host.ctl.do(ctx, opReady, struct{}{}, nil); err == nil {
		err = s.listen()
	}
	if err != nil {
		s.host.kill()
		return nil, err
	}
	return s, nil
}

func join(fs ...func()) func() {
	return func() {
		for _, f := range fs {
			f()
		}
	}
}

// listen makes the socket of this user's shared router; whoever started this
// process holds the lock.
func (s *shared) listen() error {
	dir, err := runtimeFolder()
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return sharedError(err, "")
	}
	defer d.Close()
	s.path = filepath.Join(dir, sharedSocket)
	if err := os.Remove(s.path); err != nil && !missing(err) { // of one that was killed
		return sharedError(err, "make the folder of XDG_RUNTIME_DIR writable")
	}
	old := syscall.Umask(0o177)
	l, err := net.ListenUnix("unix", socketIn(d, sharedSocket))
	syscall.Umask(old)
	if err != nil {
		return sharedError(err, "make the folder of XDG_RUNTIME_DIR writable")
	}
	l.SetUnlinkOnClose(false) // it knows the socket by a name that ends with d
	s.listener = l
	return nil
}

// serve blocks until nobody is served any more, or something breaks.
func (s *shared) serve(ctx context.Context) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.accept(ctx)
	trim := time.NewTicker(10 * time.Second)
	defer trim.Stop()
	h := s.host
	w := newWatch() // what its servers are made of comes and goes with the shims: it is not followed
	defer w.close()
	for {
		select {
		case <-w.pressed:
			h.ctl.do(ctx, opPressure, struct{}{}, nil) // an error is that the router is gone, which is seen
		case <-h.spawner.Gone():
			// It ends in order only when the router did.
			select {
			case <-h.exited:
				continue
			case <-time.After(50 * time.Millisecond):
			}
			s.complain(&casemate.ErrorJSON{Kind: casemate.Internal, Message: "the spawner ended, and the calls that ran with it; another is started", Fix: "see what it said before, or what killed it"})
			s.mu.Lock()
			err := h.respawn(ctx)
			s.mu.Unlock()
			if err != nil {
				return err
			}
		case <-h.exited:
			return &casemate.Error{Op: "router", Kind: casemate.Internal, Err: fmt.Errorf("the router ended: %v", h.state), Fix: "see what it said before"}
		case <-trim.C:
			if err := trimLog(os.Stderr); err != nil {
				s.note("the log: %v", err)
			}
		case <-s.idle.C:
			if s.retire() {
				h.stop()
				return nil
			}
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				l, err := s.loadOwn()
				if err == nil {
					err = s.refresh(ctx, l, "")
				}
				if err != nil {
					s.complain(casemate.JSON(err))
				}
				continue
			}
			s.shut()
			h.stop()
			return nil
		}
	}
}

// retire ends listening, where nobody is served and nobody is about to start
// another.
func (s *shared) retire() bool {
	release, err := lockShared(false)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		s.idle.Reset(sharedIdle) // who has the lock may come to us
		return false
	case err == nil:
		defer release()
	default: // the folder is gone: nobody finds us
	}
	s.count.Lock()
	defer s.count.Unlock()
	if s.shims > 0 {
		return false // the last that leaves sets the timer
	}
	s.closed = true
	s.listener.Close()
	os.Remove(s.path)
	return true
}

// shut lets nobody more in.
func (s *shared) shut() {
	s.count.Lock()
	defer s.count.Unlock()
	s.closed = true
	s.listener.Close()
}

// accept serves every shim that comes.
func (s *shared) accept(ctx context.Context) {
	for {
		c, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is free: one is when a shim leaves
			time.Sleep(10 * time.Millisecond)
			continue
		}
		s.count.Lock()
		ok := !s.closed && s.shims < maxShims
		if ok {
			s.shims++
			s.idle.Stop()
		}
		s.count.Unlock()
		if !ok {
			c.Close()
			continue
		}
		go func() {
			s.shim(ctx, c)
			s.count.Lock()
			defer s.count.Unlock()
			if s.shims--; s.shims == 0 {
				s.idle.Reset(sharedIdle)
			}
		}()
	}
}

// keyed is a lock for each name.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

func (k *keyed) lock(name string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*sync.Mutex{}
	}
	l := k.locks[name]
	if l == nil {
		l = &sync.Mutex{}
		k.locks[name] = l
	}
	k.mu.Unlock()
	l.Lock()
	return l.Unlock
}
