package cgroup

import (
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait for the kernel.
const patience = 2 * time.Second

// Freeze stops every process of the group and returns when they stand still.
func (g *Group) Freeze() error { return g.freeze(true) }

// Thaw lets them go on, and does not wait until each of them does.
func (g *Group) Thaw() error { return g.freeze(false) }

// Killable says whether the group can be frozen, and what is in it then still
// dies of a SIGKILL: so it is in version 2, and not in version 1.
func (g *Group) Killable() bool {
	m := g.members[Freezer]
	return m != nil && m.v2 && m.has("cgroup.freeze")
}

func (g *Group) freeze(on bool) error {
	m := g.members[Freezer]
	switch {
	case m == nil:
		return &Missing{Control: Freezer, Why: "the group has none", Fix: "see casemate doctor"}
	case m.v2:
		value := map[bool]string{true: "1", false: "0"}[on]
		if err := m.write("cgroup.freeze", value); err != nil || !on {
			return err
		}
		return m.until("frozen", 1)
	case !on:
		return m.write("freezer.state", "THAWED")
	}
	if err := m.write("freezer.state", "FROZEN"); err != nil {
		return err
	}
	for wait := 250 * time.Microsecond; wait < patience/2; wait *= 2 { // version 1 tells nobody
		state, err := m.read("freezer.state")
		if err != nil || strings.TrimSpace(state) == "FROZEN" {
			return err
		}
		time.Sleep(wait)
		if err := m.write("freezer.state", "FROZEN"); err != nil { // takes up what was forked meanwhile
			return err
		}
	}
	return os.ErrDeadlineExceeded
}

// until waits until a key of cgroup.events has a value; the kernel wakes its
// pollers at every change.
func (m *member) until(key string, value int64) error {
	f, err := m.file("cgroup.events", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	end := time.Now().Add(patience)
	var b [512]byte
	for {
		n, err := f.ReadAt(b[:], 0)
		if n == 0 && err != nil {
			return err
		}
		if v, ok := field(string(b[:n]), key); !ok || v == value {
			return nil
		}
		left := time.Until(end)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(p, int(left/time.Millisecond)+1); err != nil && err != unix.EINTR {
			return err
		}
	}
}

// Kill kills every process of the group and returns when none is left in it.
func (g *Group) Kill() error {
	for _, m := range g.all {
		if m.v2 && m.has("cgroup.kill") {
			if err := m.write("cgroup.kill", "1"); err != nil {
				return err
			}
			return m.until("populated", 0)
		}
	}
	if len(g.all) == 0 {
		return nil
	}
	// A frozen group cannot fork away; what is killed in it dies when it thaws.
	frozen := g.Freeze() == nil
	dying, err := g.all[0].signal()
	if frozen {
		if err := g.Thaw(); err != nil {
			return err
		}
	}
	for end := time.Now().Add(patience); err == nil; dying, err = g.all[0].signal() {
		if len(dying) == 0 {
			return nil
		}
		settled(dying)
		if time.Now().After(end) {
			return os.ErrDeadlineExceeded
		}
	}
	return err
}

// signal kills those that are in the group and returns their handles. None
// means that the group is empty.
func (m *member) signal() (dying []int, err error) {
	before, err := m.pids()
	if err != nil {
		return nil, err
	}
	handles := map[int]int{}
	for _, p := range before[:min(len(before), 512)] { // the others are for the next round
		fd, err := unix.PidfdOpen(p, 0)
		if err == unix.ESRCH || err == unix.EINVAL {
			continue
		}
		if err != nil {
			settled(dying)
			return nil, err
		}
		dying = append(dying, fd)
		handles[p] = fd
	}
	// A process that left before it was opened may have left its number to a
	// stranger: only what is in the group still is killed.
	after, err := m.pids()
	if err != nil {
		settled(dying)
		return nil, err
	}
	for _, p := range after {
		if fd, ok := handles[p]; ok {
			unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
	}
	if len(before) > 0 && len(dying) == 0 { // all ended meanwhile, or are not seen from here
		return nil, errUnseen
	}
	return dying, nil
}

var errUnseen = errors.New("cgroup.procs names no process that can be killed")

// settled waits until the processes have ended, each at most 50 ms, and
// closes their handles.
func settled(handles []int) {
	for _, h := range handles {
		unix.Poll([]unix.PollFd{{Fd: int32(h), Events: unix.POLLIN}}, 50)
		unix.Close(h)
	}
}
