package cgroup

import "strings"

// leftover is the most memory that a group may hold when another sandbox gets
// it, in bytes: the kernel's own of what is gone, which it takes back when the
// limit is reached.
const leftover = 4 << 20

// Renew returns the group, which was entered by Ways, for another sandbox with
// the same limits, when nothing is in it any more; false where it has to be removed: it ran out of
// memory, something of the former is left, or the kernel does not forget what
// was counted (version 2). The former Group is not to be used after that. It
// saves the kernel, and who waits for it, the making and removing of a folder in
// each hierarchy.
func (g *Group) Renew() (*Group, bool) {
	for _, m := range g.all {
		if !g.limits(m) {
			continue
		}
		if tasks, err := m.read("tasks"); m.v2 || err != nil || strings.TrimSpace(tasks) != "" {
			return nil, false
		}
	}
	if m := g.members[CPU]; m != nil {
		if err := absentIsFine(m.write("cpuacct.usage", "0")); err != nil {
			return nil, false
		}
	}
	if m := g.members[Memory]; m != nil {
		if n, err := m.number("memory.usage_in_bytes"); err != nil || n > leftover || g.OOM() {
			return nil, false
		}
		if err := m.write("memory.max_usage_in_bytes", "0"); err != nil {
			return nil, false
		}
	}
	n := &Group{host: g.host, name: g.name, members: g.members, all: g.all, missing: g.missing, held: g.held, watch: g.watch}
	g.all, g.members, g.watch = nil, nil, nil
	return n, true
}
