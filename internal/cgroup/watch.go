package cgroup

import (
	"os"
	"strconv"
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

// Watch calls onOOM once when the group reaches its memory limit and nothing
// more can be reclaimed. In version 2 the kernel kills the whole group by
// itself, and onOOM is never called. Call stop before Remove.
func (g *Group) Watch(onOOM func()) (stop func(), err error) {
	m := g.members[Memory]
	if m == nil || m.v2 {
		return func() {}, nil
	}
	control, err := m.file("memory.oom_control", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer control.Close() // the kernel keeps its own reference
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	event := os.NewFile(uintptr(fd), "memory.oom_control")
	if err := m.write("cgroup.event_control", strconv.Itoa(fd)+" "+strconv.Itoa(int(control.Fd()))); err != nil {
		event.Close()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var count [8]byte
		if _, err := event.Read(count[:]); err != nil {
			return
		}
		// The removal of a group is an event too.
		if _, ok := m.field("memory.oom_control", "under_oom"); ok {
			g.oom.Store(true)
			onOOM()
		}
	}()
	return func() {
		event.Close()
		<-ended
	}, nil
}

// Usage returns the cpu time of the group, 0 where its hierarchies do not
// count it, and the most memory that it held, in bytes.
func (g *Group) Usage() (cpu time.Duration, memoryPeak int64) {
	for _, m := range g.all {
		if m.v2 {
			us, _ := m.field("cpu.stat", "usage_usec")
			cpu = time.Duration(us) * time.Microsecond
		} else if ns, err := m.number("cpuacct.usage"); err == nil {
			cpu = time.Duration(ns)
		}
	}
	if m := g.members[Memory]; m != nil {
		for _, f := range []string{"memory.peak", "memory.max_usage_in_bytes", "memory.current"} {
			if n, err := m.number(f); err == nil {
				return cpu, n
			}
		}
	}
	return cpu, 0
}
