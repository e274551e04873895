package cgroup

import (
	"slices"
	"strings"
)

// A hierarchy is one cgroup mount.
type hierarchy struct {
	root  string // the group that is mounted
	at    string // where
	v2    bool
	names []string // controllers of version 1, and mount options
}

// A membership is one line of /proc/PID/cgroup.
type membership struct {
	names []string // of version 1; none for version 2
	path  string
}

// parseMounts returns the cgroup mounts of a mountinfo, in its order.
func parseMounts(text string) []hierarchy {
	var all []hierarchy
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		i := slices.Index(f, "-")
		if i < 6 || len(f) < i+4 {
			continue
		}
		switch kind := f[i+1]; kind {
		case "cgroup", "cgroup2":
			all = append(all, hierarchy{root: unescape(f[3]), at: unescape(f[4]), v2: kind == "cgroup2", names: strings.Split(f[i+3], ",")})
		}
	}
	return all
}

// unescape undoes the octal escapes that the kernel writes for space, tab,
// newline and backslash.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return '0' <= c && c <= '7' }

// parseOwn returns the memberships of a /proc/PID/cgroup.
func parseOwn(text string) []membership {
	var all []membership
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		names, path, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 {
			continue
		}
		m := membership{path: strings.TrimSuffix(path, " (deleted)")}
		if names != "" {
			m.names = strings.Split(names, ",")
		}
		all = append(all, m)
	}
	return all
}

// A location is where a controller's own group should be: the folder below
// the mount, or why there is none. With doubt the mount may itself be the own
// group, which only its cgroup.procs can tell.
type location struct {
	at, below string
	v2        bool
	doubt     bool
	why       string
}

// locate finds the own group of one controller of the kernel. The controller
// is of version 1 wherever the kernel says so, else of version 2.
func locate(controller string, mounts []hierarchy, own []membership) location {
	i := slices.IndexFunc(own, func(m membership) bool { return slices.Contains(m.names, controller) })
	v2 := i < 0
	if v2 {
		i = slices.IndexFunc(own, func(m membership) bool { return m.names == nil })
	}
	if i < 0 {
		return location{why: "/proc/self/cgroup names no hierarchy for " + controller}
	}
	found := location{v2: v2, why: "the cgroup hierarchy of " + controller + " is not mounted here (/proc/self/mountinfo)"}
	for _, m := range mounts {
		if m.v2 != v2 || !v2 && !slices.Contains(m.names, controller) {
			continue
		}
		below, ok := beneath(m.root, own[i].path)
		if ok {
			return location{at: m.at, below: below, v2: v2}
		}
		found = location{at: m.at, below: ".", v2: v2, doubt: true}
	}
	return found
}

// beneath returns a group's path relative to the group that is mounted. A
// path that begins with /.. lies outside the cgroup namespace.
func beneath(root, path string) (string, bool) {
	if root == "/.." || strings.HasPrefix(root, "/../") || path == "/.." || strings.HasPrefix(path, "/../") {
		return "", false
	}
	if path == root {
		return ".", true
	}
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/")+"/")
	return rest, ok
}
