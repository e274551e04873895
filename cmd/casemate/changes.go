package main

import (
	"context"
	"encoding/binary"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
)

// What is parked is as old as its start. Two things are watched for it, by this
// process, which has files, and not by the router, which has none: the programs
// and folders that guests are made of, and the memory of the machine. The kernel
// tells of both; nothing is asked for again and again.

// A watch tells of them. Where the kernel cannot (no inotify left, no PSI), it
// is silent: parked guests are then what they were when they started, and a
// reload (SIGHUP) or a restart replaces them.
type watch struct {
	changed chan struct{} // some guests are to be made anew: take says which
	pressed chan struct{} // the machine lacks memory

	inotify, psi int
	wake         [2]int // closing the second ends the watch
	ended        chan struct{}

	mu     sync.Mutex
	guests map[string][]casemate.Digest // by the path that they are made of
	names  map[int32]string             // folders, by the number of their watch
	dirty  map[casemate.Digest]bool
}

// pressure is when the machine lacks memory: for a tenth of two seconds some
// process waited for it. Users may ask for windows of two seconds alone.
const pressure = "some 200000 2000000\x00"

// settle is how long it must be quiet before a change counts as done: a package
// that is upgraded writes many files.
const settle = 200 * time.Millisecond

func newWatch() *watch {
	w := &watch{changed: make(chan struct{}, 1), pressed: make(chan struct{}, 1), ended: make(chan struct{}), dirty: map[casemate.Digest]bool{}, names: map[int32]string{}}
	var err error
	if w.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		w.inotify = -1
	}
	if w.psi, err = unix.Open("/proc/pressure/memory", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		if _, err = unix.Write(w.psi, []byte(pressure)); err != nil {
			unix.Close(w.psi)
		}
	}
	if err != nil {
		w.psi = -1
	}
	if err := unix.Pipe2(w.wake[:], unix.O_CLOEXEC); err != nil {
		w.wake = [2]int{-1, -1}
		close(w.ended)
		return w
	}
	go w.run()
	return w
}

// close ends the watch.
func (w *watch) close() {
	if w.wake[1] >= 0 {
		unix.Close(w.wake[1])
	}
	<-w.ended
	for _, fd := range []int{w.inotify, w.psi, w.wake[0]} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// sources are the files of the host that a guest is made of: its interpreter, a
// server's program, and what it is granted.
func sources(g plan.Guest) []string {
	names := []string{g.Interpreter}
	if g.Runner == "mcp" && len(g.Command) > 0 {
		names = append(names, g.Command[0].Text)
	}
	for _, m := range g.Mounts {
		names = append(names, m.Source)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !filepath.IsAbs(name) })
}

// ways are the name of a file, and of what it leads to where it is a link.
func ways(name string) []string {
	out := []string{filepath.Clean(name)}
	if real, err := filepath.EvalSymlinks(name); err == nil && real != out[0] {
		out = append(out, real)
	}
	return out
}

// follow watches for what these guests are made of, and for nothing else. What
// lies in a granted folder is the same for whoever looks, and is not watched.
func (w *watch) follow(guests []plan.Guest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.guests = map[string][]casemate.Digest{}
	if w.inotify < 0 {
		return
	}
	folders, of := map[string]bool{}, map[string][]casemate.Digest{} // many tools have one interpreter
	for _, g := range guests {
		for _, name := range sources(g) {
			of[name] = append(of[name], casemate.Digest(g.Digest))
		}
	}
	for name, ds := range of {
		for _, path := range ways(name) {
			w.guests[path] = append(w.guests[path], ds...)
			folders[filepath.Dir(path)] = true
		}
	}
	for wd, dir := range w.names {
		if !folders[dir] {
			unix.InotifyRmWatch(w.inotify, uint32(wd))
			delete(w.names, wd)
		}
	}
	for dir := range folders {
		wd, err := unix.InotifyAddWatch(w.inotify, dir, unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE|unix.IN_ONLYDIR)
		if err == nil {
			w.names[int32(wd)] = dir
		}
	}
}

// take returns the guests that are to be made anew, once.
func (w *watch) take() []casemate.Digest {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Sorted(maps.Keys(w.dirty))
	w.dirty = map[casemate.Digest]bool{}
	return out
}

func (w *watch) run() {
	defer close(w.ended)
	timeout, psi := -1, w.psi
	for {
		fds := []unix.PollFd{{Fd: int32(w.wake[0]), Events: unix.POLLIN}, {Fd: int32(w.inotify), Events: unix.POLLIN}, {Fd: int32(psi), Events: unix.POLLPRI}}
		n, err := unix.Poll(fds, timeout) // a negative descriptor is left out
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || fds[0].Revents != 0:
			return
		case n == 0:
			timeout = -1
			tell(w.changed)
			continue
		}
		if fds[2].Revents&unix.POLLERR != 0 {
			psi = -1
		}
		if fds[2].Revents&unix.POLLPRI != 0 {
			tell(w.pressed)
		}
		if fds[1].Revents != 0 && w.read() {
			timeout = int(settle / time.Millisecond)
		}
	}
}

func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// read takes what inotify has, and says whether it is of a guest.
func (w *watch) read() (found bool) {
	buf := make([]byte, 64<<10)
	n, err := unix.Read(w.inotify, buf)
	if err != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		wd, mask, length := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:]), int(binary.NativeEndian.Uint32(b[12:]))
		name := unix.ByteSliceToString(b[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+length])
		b = b[unix.SizeofInotifyEvent+length:]
		if mask&unix.IN_Q_OVERFLOW != 0 { // too much happened: anything may have
			for _, ds := range w.guests {
				for _, d := range ds {
					w.dirty[d], found = true, true
				}
			}
			continue
		}
		for _, d := range w.guests[filepath.Join(w.names[wd], name)] {
			w.dirty[d], found = true, true
		}
	}
	return found
}

// staleBody names guests that are made differently from now on.
type staleBody struct {
	Guests []casemate.Digest `json:"guests"`
}

// stale throws away what is parked of these guests, and the templates that they
// are forked from. In between they start an interpreter of their own.
func (h *host) stale(ctx context.Context, guests []casemate.Digest) error {
	if len(guests) == 0 {
		return nil
	}
	p, forked := h.whole(), false
	p.Guests = slices.Clone(p.Guests)
	for i := range p.Guests {
		if g := &p.Guests[i]; g.Fork && slices.Contains(guests, casemate.Digest(g.Digest)) {
			g.Fork, forked = false, true
		}
	}
	if forked {
		if err := h.spawner.Reload(p); err != nil {
			return err
		}
		if err := h.spawner.Reload(h.whole()); err != nil {
			return err
		}
	}
	return h.ctl.do(ctx, opStale, staleBody{guests}, nil)
}

// differing are the guests that the plan b makes otherwise than a did, by the
// same digests.
func differing(a, b plan.Plan) (out []casemate.Digest) {
	before := map[string][]byte{}
	for _, g := range a.Guests {
		before[g.Digest] = plan.EncodeGuest(g)
	}
	policy := slices.Equal(a.Host.AllowDegraded, b.Host.AllowDegraded) && slices.Equal(a.Host.Without, b.Host.Without)
	for _, g := range b.Guests {
		if old, ok := before[g.Digest]; ok && !(policy && string(old) == string(plan.EncodeGuest(g))) {
			out = append(out, casemate.Digest(g.Digest))
		}
	}
	return out
}
