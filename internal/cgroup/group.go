package cgroup

import (
	"errors"
	"maps"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Group is one sandbox's, in every hierarchy that it needs.
type Group struct {
	host    Host
	name    string
	members map[string]*member // by control; several may share one
	all     []*member
	missing map[string]*Missing // by control, why it is none of members
	held    map[string]string
	oom     atomic.Bool // seen by Watch
	watch   *watch      // nil before
}

// A member is the group in one hierarchy.
type member struct {
	folder
	parent folder // the host's, and stays open
	v2     bool
}

// Create makes a fresh group and sets its limits. What cannot be held is a
// *Missing, unless degrade says that its control may be.
func (h Host) Create(name string, l Limits, degrade func(control string) bool) (*Group, error) {
	g := h.make(name, l)
	if err := g.Limit(l, degrade); err != nil {
		g.Remove()
		return nil, err
	}
	return g, nil
}

// Prepare makes a fresh group for every control, without limits: Limit sets
// them, and says what is missing.
func (h Host) Prepare(name string) *Group {
	return h.make(name, Limits{1, 1, 1})
}

// make makes a group in the hierarchies of what l asks, and of the freezer.
func (h Host) make(name string, l Limits) *Group {
	g := &Group{host: h, name: h.mark + "-" + name, members: map[string]*member{}, missing: map[string]*Missing{}, held: map[string]string{}}
	for _, control := range [...]string{Memory, CPU, Processes, Freezer} {
		if control == Freezer || l.of(control) > 0 {
			if _, missing := h.join(g, control); missing != nil {
				g.missing[control] = missing
			}
		}
	}
	return g
}

// Short returns a control that the group lacks for what may pass, or nil.
func (g *Group) Short() *Missing {
	for _, m := range g.missing {
		if m.Short {
			return m
		}
	}
	return nil
}

func (l Limits) of(control string) int64 {
	return map[string]int64{Memory: l.Memory, CPU: l.MilliCPU, Processes: l.Processes}[control]
}

// Limit sets limits of controls that the group was made for, once. What cannot
// be held is a *Missing, unless degrade says that its control may be; a limit
// that the group is over already, or that the host is too short of something to
// set, always is.
func (g *Group) Limit(l Limits, degrade func(control string) bool) error {
	for _, control := range [...]string{Memory, CPU, Processes} {
		n := l.of(control)
		if n <= 0 {
			continue
		}
		missing := g.missing[control]
		if m := g.members[control]; m != nil {
			if err := m.set(control, n); err != nil {
				missing = &Missing{control, failure(m.path, err), g.host.fixOf(control), short(err), errors.Is(err, unix.EBUSY)}
			}
		}
		switch {
		case missing == nil:
			g.held[control] = "cgroup"
		case missing.Over || missing.Short || !degrade(control):
			return missing
		}
	}
	return nil
}

func (m *member) set(control string, n int64) error {
	switch control {
	case Memory:
		return m.setMemory(n)
	case CPU:
		return m.setCPU(n)
	}
	return m.write("pids.max", strconv.FormatInt(n, 10))
}

func (h Host) fixOf(control string) string {
	if p := h.places[control]; p.fix != "" {
		return p.fix
	}
	return "accept less by allow_degraded: [" + control + "] in the operator's file"
}

// join makes the group in the hierarchy of a control, once for each.
func (h Host) join(g *Group, control string) (*member, *Missing) {
	p := h.places[control]
	if p.why != "" || p.own == nil && !p.v2 {
		return nil, &Missing{Control: control, Why: p.why, Fix: h.fixOf(control)}
	}
	for _, m := range g.all {
		if m.v2 == p.v2 && (p.v2 || m.parent.path == p.own.path) {
			g.members[control] = m
			return m, nil
		}
	}
	m := &member{v2: p.v2}
	where, err := "", error(nil)
	if p.v2 {
		where = h.v2.parent
		m.parent, err = h.v2.open()
	} else {
		where, m.parent = p.own.path, *p.own
	}
	if err == nil {
		m.folder, err = m.parent.make(g.name)
	}
	if err != nil {
		return nil, &Missing{Control: control, Why: failure(where, err), Fix: h.fixOf(control), Short: short(err)}
	}
	g.members[control] = m
	g.all = append(g.all, m)
	return m, nil
}

// setMemory forbids swap as well. A version 1 group has the limit of memory
// and swap together, which may not be below that of memory.
func (m *member) setMemory(bytes int64) error {
	n := strconv.FormatInt(bytes, 10)
	if m.v2 {
		if err := m.write("memory.max", n); err != nil {
			return err
		}
		if err := m.write("memory.oom.group", "1"); err != nil {
			return err
		}
		return absentIsFine(m.write("memory.swap.max", "0")) // a kernel without swap
	}
	if err := m.write("memory.limit_in_bytes", n); err != nil {
		return err
	}
	if m.has("memory.memsw.limit_in_bytes") {
		return m.write("memory.memsw.limit_in_bytes", n)
	}
	return absentIsFine(m.write("memory.swappiness", "0"))
}

func absentIsFine(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// setCPU sets a quota. The kernel takes 1 ms to 1 s, so a small share has the
// long period.
func (m *member) setCPU(milli int64) error {
	quota, period := quotaOf(milli)
	if m.v2 {
		return m.write("cpu.max", quota+" "+period)
	}
	if err := m.write("cpu.cfs_period_us", period); err != nil {
		return err
	}
	err := m.write("cpu.cfs_quota_us", quota)
	if err != nil && errors.Is(err, unix.EINVAL) && m.parentHasLess(milli) {
		return nil // version 1 refuses a child more than its parent, which then holds it
	}
	return err
}

func quotaOf(milli int64) (quota, period string) {
	p := int64(100_000)
	if milli < 10 {
		p = 1_000_000
	}
	return strconv.FormatInt(milli*p/1000, 10), strconv.FormatInt(p, 10)
}

func (m *member) parentHasLess(milli int64) bool {
	quota, err1 := m.parent.number("cpu.cfs_quota_us")
	period, err2 := m.parent.number("cpu.cfs_period_us")
	return err1 == nil && err2 == nil && quota > 0 && quota*1000 < milli*period
}

// Lower lowers limits of a group that is in use; 0 leaves one as it is, and one
// that the group does not hold is not held afterwards either. Memory below what
// the group uses now is an error, and not the end of its processes.
func (g *Group) Lower(l Limits) error {
	for _, ask := range []struct {
		control string
		value   int64
		set     func(*member) error
	}{
		{Memory, l.Memory, func(m *member) error {
			if used, err := m.number("memory.current"); err == nil && used > l.Memory { // version 1 says EBUSY itself
				return unix.EBUSY
			}
			return m.setMemory(l.Memory)
		}},
		{CPU, l.MilliCPU, func(m *member) error { return m.setCPU(l.MilliCPU) }},
		{Processes, l.Processes, func(m *member) error { return m.write("pids.max", strconv.FormatInt(l.Processes, 10)) }},
	} {
		if ask.value <= 0 || g.held[ask.control] == "" {
			continue
		}
		m := g.members[ask.control]
		if err := ask.set(m); err != nil {
			return errors.New(ask.control + ": " + failure(m.path, err))
		}
	}
	return nil
}

// Add moves a process into the group. It costs milliseconds where the kernel
// must wait for every processor; Enter and FD have no such cost.
func (g *Group) Add(pid int) error {
	for _, m := range g.all {
		if err := m.write("cgroup.procs", strconv.Itoa(pid)); err != nil {
			return &fileError{m.path + "/cgroup.procs", err}
		}
	}
	return nil
}

// ErrStuck says that the calling thread is still in a group that it entered: it
// must fork no more.
var ErrStuck = errors.New("cannot leave the group")

// Enter moves the calling thread, which the caller has locked, into the
// group's hierarchies of version 1: what it forks is born there, and need not
// be moved, which would wait for every processor. A thread that moves itself
// does not. leave moves it back; its error, and one of Enter's, can be
// ErrStuck.
func (g *Group) Enter() (leave func() error, err error) {
	// In a group of little memory not even a file can be opened, so the way out
	// is opened before the way in.
	var ways, outs []*os.File
	inside := 0
	leave = func() error {
		var stuck error
		for _, out := range outs[:inside] {
			if _, err := out.WriteString("0"); err != nil {
				stuck = errors.Join(ErrStuck, &fileError{out.Name(), err})
			}
		}
		for _, f := range append(ways, outs...) {
			f.Close()
		}
		return stuck
	}
	for _, m := range g.all {
		if m.v2 {
			continue
		}
		for _, way := range []struct {
			of folder
			to *[]*os.File
		}{{m.folder, &ways}, {m.parent, &outs}} {
			f, err := way.of.file("tasks", unix.O_WRONLY)
			if err != nil {
				return nil, errors.Join(&fileError{way.of.path + "/tasks", err}, leave())
			}
			*way.to = append(*way.to, f)
		}
	}
	for _, way := range ways {
		if _, err := way.WriteString("0"); err != nil {
			return nil, errors.Join(&fileError{way.Name(), err}, leave())
		}
		inside++
	}
	return leave, nil
}

// FD returns a descriptor of the group of version 2, where there is one, for
// CLONE_INTO_CGROUP. The group keeps it.
func (g *Group) FD() (int, bool) {
	for _, m := range g.all {
		if m.v2 {
			return m.fd(), true
		}
	}
	return -1, false
}

// Held returns the controls that the group holds, and by what.
func (g *Group) Held() map[string]string { return maps.Clone(g.held) }

// Remove removes the group, waiting at most half a second for what was killed
// to leave it.
func (g *Group) Remove() error {
	var first error
	if g.watch != nil {
		g.watch.close()
		g.watch = nil
	}
	for _, m := range g.all {
		if err := m.remove(g.name); err != nil && first == nil {
			first = &fileError{m.path, err}
		}
		m.close()
	}
	g.all = nil
	return first
}

func (m *member) remove(name string) error {
	err := rmdir(m.parent, name)
	for wait := time.Millisecond; err == unix.EBUSY && wait < 300*time.Millisecond; wait *= 2 {
		time.Sleep(wait)
		err = rmdir(m.parent, name)
	}
	return err
}

// rmdir removes a group that holds no process and no group.
func rmdir(parent folder, name string) error {
	err := unix.Unlinkat(parent.fd(), name, unix.AT_REMOVEDIR)
	if err == unix.ENOENT {
		return nil
	}
	return err
}
