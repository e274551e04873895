package cgroup

import (
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// OOM says whether the group, or one in it, reached its memory limit and a
// process was killed for it.
func (g *Group) OOM() bool {
	m := g.members[Memory]
	if m == nil {
		return false
	}
	if g.oom.Load() {
		return true
	}
	if m.v2 {
		kills, _ := m.field("memory.events", "oom_kill")
		groups, _ := m.field("memory.events", "oom_group_kill")
		return kills > 0 || groups > 0
	}
	if kills, ok := m.field("memory.oom_control", "oom_kill"); ok {
		return kills > 0
	}
	failed, err := m.number("memory.failcnt") // before Linux 4.13
	return err == nil && failed > 0
}

// A watch waits for the group of a Watch, and those that it is renewed for.
type watch struct {
	event *os.File
	ended chan struct{}

	mu    sync.Mutex
	onOOM func() // nil while nobody watches
}

// Watch calls onOOM when the group reaches its memory limit and nothing more
// can be reclaimed, until stop, which waits for it. In version 2 the kernel
// kills the whole group by itself, and onOOM is never called.
func (g *Group) Watch(onOOM func()) (stop func(), err error) {
	m := g.members[Memory]
	if m == nil || m.v2 {
		return func() {}, nil
	}
	if g.watch == nil {
		if g.watch, err = m.watch(); err != nil {
			return nil, err
		}
	}
	w := g.watch
	w.set(func() {
		g.oom.Store(true)
		onOOM()
	})
	return func() { w.set(nil) }, nil
}

func (w *watch) set(onOOM func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onOOM = onOOM
}

func (w *watch) close() {
	w.event.Close()
	<-w.ended
}

func (m *member) watch() (*watch, error) {
	control, err := m.raw("memory.oom_control", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(control) // the kernel keeps its own reference
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w := &watch{event: os.NewFile(uintptr(fd), "memory.oom_control"), ended: make(chan struct{})}
	if err := m.write("cgroup.event_control", strconv.Itoa(fd)+" "+strconv.Itoa(control)); err != nil {
		w.event.Close()
		return nil, err
	}
	go func() {
		defer close(w.ended)
		for {
			var count [8]byte
			if _, err := w.event.Read(count[:]); err != nil {
				return
			}
			w.mu.Lock()
			// The removal of a group is an event too.
			if _, ok := m.field("memory.oom_control", "under_oom"); ok && w.onOOM != nil {
				w.onOOM()
			}
			w.mu.Unlock()
		}
	}()
	return w, nil
}

// Usage returns the cpu time of the group, 0 where its hierarchies do not
// count it, and the most memory that it held, in bytes.
func (g *Group) Usage() (cpu time.Duration, memoryPeak int64) {
	for _, m := range g.all {
		if m.v2 {
			us, _ := m.field("cpu.stat", "usage_usec")
			cpu = time.Duration(us) * time.Microsecond
		} else if m == g.members[CPU] { // cpuacct is usually mounted with it
			ns, _ := m.number("cpuacct.usage")
			cpu = max(cpu, time.Duration(ns))
		}
	}
	if m := g.members[Memory]; m != nil {
		files := []string{"memory.max_usage_in_bytes"}
		if m.v2 {
			files = []string{"memory.peak", "memory.current"} // the first since Linux 5.19
		}
		for _, f := range files {
			if n, err := m.number(f); err == nil {
				return cpu, n
			}
		}
	}
	return cpu, 0
}
