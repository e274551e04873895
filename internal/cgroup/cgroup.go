// Package cgroup holds a sandbox to its memory, cpu and number of processes
// by control groups: version 2, version 1, or both at once (hybrid).
//
// Probe finds once where this process may make groups. Nothing is changed
// until the first Create.
//
// Version 1 has a hierarchy for each controller, or for several together; a
// group is made below the spawner's own in each that is needed.
//
// Version 2 has one hierarchy, and a group that hands controllers to its
// children holds no process itself. The candidates, in this order:
//   - the spawner's own group, if it may be written and only the spawner, its
//     parent and their children are in it: they move into a group beside the
//     sandboxes' (a unit or scope with Delegate=yes);
//   - the nearest group above that may be written and has, or takes, the
//     controllers, unless a limit stands between it and the spawner's own
//     group, which sandboxes put beside it would escape.
//
// There a folder of the spawner's own hands the controllers on: while a child
// has a controller enabled the kernel refuses to disable it above, so nobody
// takes a limit away silently. In a hybrid the hierarchy of version 2 has no
// controllers, and serves to freeze, to kill and to count cpu time.
//
// A group is named casemate-MARK-NAME. The mark is the spawner's process id,
// start time and pid namespace: Sweep removes only what carries the mark of a
// spawner that is gone.
//
// Limits: cpuset, io and hugetlb are not used. Swap is off by memory.swap.max
// or memory.memsw; a version 1 kernel without swap accounting has swappiness
// 0 instead. A version 1 group shows cpu time only where cpuacct shares the
// hierarchy of cpu. Files are opened by descriptor and no link is followed.
// Methods of a Group may be called at the same time, but none after Remove.
package cgroup

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// The controls, in the words of the manifest.
const (
	Memory    = "memory"
	CPU       = "cpu"
	Processes = "processes"
	Freezer   = "freezer"
)

// controllers names each control's kernel controller.
var controllers = map[string]string{Memory: "memory", CPU: "cpu", Processes: "pids", Freezer: "freezer"}

// Limits are what a group holds; 0 is not asked. Memory is in bytes and
// counts tmpfs, MilliCPU in thousandths of one processor, Processes counts
// threads too.
type Limits struct{ Memory, MilliCPU, Processes int64 }

// A Missing is a control that this host does not give to this user; or not now,
// being short of descriptors or memory, which may pass; or never to this group,
// which is over the limit already.
type Missing struct {
	Control, Why, Fix string
	Short, Over       bool
}

// short says whether an error may pass.
func short(err error) bool {
	for _, errno := range [...]unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (m *Missing) Error() string {
	return m.Control + " cannot be held by a cgroup: " + m.Why + "; " + m.Fix
}

// A Host is what this host offers to this user.
type Host struct {
	places map[string]place
	mark   string
	v2     *subtree // or nil
	mounts []hierarchy
}

// A place is where the groups of one control are made.
type place struct {
	own *folder // of version 1: the spawner's own group
	v2  bool    // in the subtree instead
	why string  // it cannot be
	fix string
}

// Control says whether a control (memory, cpu, processes, freezer) is on or
// missing, and if missing which file refuses it and what to do.
func (h Host) Control(name string) (state, why, fix string) {
	p, ok := h.places[name]
	switch {
	case !ok:
		return "missing", "no such control", ""
	case p.why != "":
		return "missing", p.why, p.fix
	}
	return "on", "", ""
}

// failure is an errno at a file, without the operation that os.PathError
// would put before it.
func failure(file string, err error) string {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = u.Unwrap()
	}
	return file + ": " + err.Error()
}

// A fileError is a failure that keeps what it came of.
type fileError struct {
	file string
	err  error
}

func (e *fileError) Error() string { return failure(e.file, e.err) }
func (e *fileError) Unwrap() error { return e.err }

func isRoot() bool { return os.Geteuid() == 0 }
