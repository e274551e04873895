package runners

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A reaper waits for every child of this process: as the first of its
// namespace it inherits all orphans, and a zombie counts against the
// sandbox's processes. One goroutine alone calls wait4, so that the status of
// the main process cannot be lost to another waiter.
type reaper struct {
	r, w int // a pipe; a byte is written when the main process ended
	kick chan struct{}

	stopped *sync.Mutex // see server; locked before mu

	mu   sync.Mutex // held while a process is started, so that its end is not seen before its pid
	main int
	ws   unix.WaitStatus
}

func newReaper(stopped *sync.Mutex) (*reaper, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	r := &reaper{r: p[0], w: p[1], kick: make(chan struct{}, 1), stopped: stopped}
	go r.loop()
	return r, nil
}

// start starts the main process.
func (r *reaper) start(path string, argv []string, attr *syscall.ProcAttr) error {
	r.stopped.Lock()
	defer r.stopped.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return err
	}
	r.main = pid
	select {
	case r.kick <- struct{}{}:
	default: // one is on its way
	}
	return nil
}

// signal sends sig to the main process and its group, if it has not ended. It
// may be the one that continues what is stopped, and so waits for who stopped
// it.
func (r *reaper) signal(sig unix.Signal) {
	r.stopped.Lock()
	defer r.stopped.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.main > 0 {
		unix.Kill(-r.main, sig)
	}
}

// status returns how the main process ended, once r.r is readable.
func (r *reaper) status() unix.WaitStatus {
	var b [1]byte
	unix.Read(r.r, b[:])
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ws
}

// loop lives as long as this process. Without a child it sleeps until one is
// started; with one, it also gets all orphans.
func (r *reaper) loop() {
	for range r.kick {
		for {
			var ws unix.WaitStatus
			pid, err := unix.Wait4(-1, &ws, 0, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				break // ECHILD
			}
			r.mu.Lock()
			if pid == r.main {
				r.main, r.ws = 0, ws
				unix.Write(r.w, []byte{0})
			}
			r.mu.Unlock()
		}
	}
}
