package cgroup

import (
	"os"

	"golang.org/x/sys/unix"
)

// Ways opens, for each hierarchy, the file by which a process of one thread
// enters the group: it writes "0". The kernel asks for the rights of who opened
// it, so the process needs none. The caller closes them.
//
// A hierarchy that only freezes is left out: entering one of version 2 waits for
// every processor (cgroup_threadgroup_rwsem), and what enters by this way runs
// nothing that would have to be frozen.
func (g *Group) Ways() (ways []*os.File, err error) {
	for _, m := range g.all {
		if !g.limits(m) {
			continue
		}
		name := "tasks" // of which a thread that moves itself waits for no processor
		if m.v2 {
			name = "cgroup.procs"
		}
		f, err := m.file(name, unix.O_WRONLY)
		if err != nil {
			for _, w := range ways {
				w.Close()
			}
			return nil, &fileError{m.path + "/" + name, err}
		}
		ways = append(ways, f)
	}
	return ways, nil
}

// limits says whether m holds any limit.
func (g *Group) limits(m *member) bool {
	return g.members[Memory] == m || g.members[CPU] == m || g.members[Processes] == m
}

// WaysFreeze says whether what entered by Ways is in the hierarchy that freezes.
func (g *Group) WaysFreeze() bool {
	m := g.members[Freezer]
	return m != nil && g.limits(m)
}
