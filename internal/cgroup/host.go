package cgroup

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Probe finds what this host offers to this process. It changes nothing and
// does not block.
func Probe() Host {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nothing(failure("/proc/self/mountinfo", err))
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nothing(failure("/proc/self/cgroup", err))
	}
	h := Host{places: map[string]place{}, mark: ownMark(), mounts: parseMounts(string(mounts))}
	member := parseOwn(string(own))
	needed := false // version 2, with controllers
	for control, controller := range controllers {
		if control == Freezer {
			continue
		}
		l := locate(controller, h.mounts, member)
		switch {
		case l.v2 && l.why == "":
			needed = true
			h.places[control] = place{v2: true}
		default:
			h.places[control] = probe1(controller, l)
		}
	}
	h.v2 = probe2(locate("", h.mounts, member), h.mark, needed)
	for control, p := range h.places {
		if p.v2 {
			h.places[control] = h.v2.place(controllers[control])
		}
	}
	h.places[Freezer] = h.v2.place("")
	if h.places[Freezer].why != "" {
		if l := locate("freezer", h.mounts, member); !l.v2 {
			h.places[Freezer] = probe1("freezer", l)
		}
	}
	return h
}

func nothing(why string) Host {
	h := Host{places: map[string]place{}}
	for control := range controllers {
		h.places[control] = place{why: why, fix: "mount /proc"}
	}
	return h
}

// settle returns the folder of a location, or why there is none. It asks
// cgroup.procs where the location is in doubt.
func settle(l location) (folder, string) {
	if l.why != "" {
		return folder{}, l.why
	}
	top, err := openMount(l.at, l.v2)
	if err != nil {
		return folder{}, failure(l.at, err)
	}
	if !l.doubt && l.below != "." {
		d, err := top.open(l.below)
		if err == nil {
			top.close()
			return d, ""
		}
	}
	if l.doubt || l.below != "." {
		pids, err := top.pids()
		if err != nil || !slices.Contains(pids, os.Getpid()) {
			top.close()
			return folder{}, "this process's own group is not below " + l.at + " (/proc/self/cgroup)"
		}
	}
	return top, ""
}

func probe1(controller string, l location) place {
	d, why := settle(l)
	if why == "" {
		file, err := d.writable(".", "cgroup.procs")
		if err == nil {
			return place{own: &d}
		}
		d.close()
		why = failure(strings.TrimSuffix(file, "/."), err)
	}
	return place{why: why, fix: fix1(controller, l)}
}

func fix1(controller string, l location) string {
	switch {
	case l.at == "":
		return "mount it: mkdir -p /sys/fs/cgroup/" + controller + " && mount -t cgroup -o " + controller + " " + controller + " /sys/fs/cgroup/" + controller
	case inContainer():
		return "let the container write its cgroups: docker run --privileged --cgroupns=private, or mount " + l.at + " writable"
	case isRoot():
		return "mount it writable: mount -o remount,rw " + l.at
	}
	return "run casemate as root, or boot with systemd.unified_cgroup_hierarchy=1 and delegate to users (cgroup v1 has no delegation to users)"
}

// inContainer is a guess, for the wording of a fix alone.
func inContainer() bool {
	for _, f := range []string{"/.dockerenv", "/run/.containerenv"} {
		var st unix.Stat_t
		if unix.Lstat(f, &st) == nil {
			return true
		}
	}
	return os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}
