package cgroup

// The bounds of a walk of Sweep, for each hierarchy.
const (
	sweepDepth   = 8
	sweepFolders = 4096
)

// Sweep removes the empty groups that spawners which are gone left behind,
// wherever this process sees them and may. It touches nothing that does not
// carry such a spawner's mark, and the kernel removes no group that holds a
// process.
func (h Host) Sweep() {
	for _, m := range h.mounts {
		if top, err := openMount(m.at, m.v2); err == nil {
			left := sweepFolders
			sweep(top, sweepDepth, &left)
			top.close()
		}
	}
}

func sweep(d folder, depth int, left *int) {
	for _, name := range d.children(*left) {
		if *left--; *left <= 0 || depth == 0 {
			return
		}
		_, _, _, marked := parseMark(name)
		if marked && !gone(name) {
			continue // a living spawner's own affair
		}
		if c, err := d.open(name); err == nil {
			sweep(c, depth-1, left)
			c.close()
		}
		if marked {
			rmdir(d, name)
		}
	}
}
