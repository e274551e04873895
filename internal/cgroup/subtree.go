package cgroup

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A subtree is where groups of version 2 are made.
type subtree struct {
	parent string            // absolute
	move   bool              // the spawner's family leaves the parent first
	why    map[string]string // controllers that cannot be had; "" is the group itself
	fix    string
	mark   string
	wanted []string // controllers that can be had

	mu   sync.Mutex
	base *folder // made by the first Create
}

// wants are the controllers of version 2 that are used, cpu last: it is the
// one that hosts most often keep.
var wants = [...]string{"memory", "pids", "cpu"}

func (s *subtree) place(controller string) place {
	if s == nil {
		return place{why: "cgroup version 2 is not mounted here", fix: "mount -t cgroup2 none /sys/fs/cgroup"}
	}
	for _, c := range []string{"", controller} {
		if why := s.why[c]; why != "" {
			return place{why: why, fix: s.fix}
		}
	}
	return place{v2: true}
}

// probe2 finds the subtree. If controllers are not needed, as in a hybrid,
// the own group does: it may hold processes beside its children.
func probe2(l location, mark string, needed bool) *subtree {
	s := &subtree{why: map[string]string{}, mark: mark, fix: fix2()}
	own, why := settle(l)
	if why != "" {
		s.why[""] = why
		return s
	}
	defer own.close()
	if top, err := openMount(l.at, true); err == nil {
		offered, err := top.read("cgroup.controllers")
		top.close()
		if err == nil && len(offers(offered)) == 0 {
			needed = false
			for _, c := range wants {
				s.why[c] = l.at + "/cgroup.controllers does not list " + c
			}
		}
	}
	if !needed {
		if file, err := own.writable(".", "cgroup.procs"); err != nil {
			s.why[""] = failure(strings.TrimSuffix(file, "/."), err)
		}
		s.parent = own.path
		return s
	}
	s.choose(own, l.at)
	return s
}

func fix2() string {
	switch {
	case inContainer():
		return "let the container own its cgroups: docker run --privileged --cgroupns=private, casemate in a group that holds nothing else"
	case isRoot():
		return "start it in a delegated scope: systemd-run --scope -p Delegate=yes -- casemate …"
	}
	return "start it in a delegated scope: systemd-run --user --scope -p Delegate=yes -- casemate …; " +
		"if a controller is still missing, as root: mkdir -p /etc/systemd/system/user@.service.d && " +
		`printf '[Service]\nDelegate=cpu memory pids\n' > /etc/systemd/system/user@.service.d/casemate.conf && ` +
		"systemctl daemon-reload, and log in again (without a login: loginctl enable-linger USER)"
}

// choose takes the candidate that has most controllers, the nearest of equals.
func (s *subtree) choose(own folder, mount string) {
	best := consider(own)
	family, stranger := familyIn(own)
	s.parent, s.move = own.path, len(family) > 0 && own.has("cgroup.events")
	if stranger != 0 && own.has("cgroup.events") {
		best = candidate{why: own.path + "/cgroup.subtree_control: " + unix.EBUSY.Error() + ", " + strangers(stranger) + " in this group too"}
	}
	limited := limit(own)
	for at := own.path; at != mount && limited == "" && len(best.has) < len(wants); {
		at = at[:strings.LastIndexByte(at, '/')]
		d, err := openFolder(unix.AT_FDCWD, at, at)
		if err != nil {
			break
		}
		if c := consider(d); len(c.has) > len(best.has) {
			best, s.parent, s.move = c, at, false
		}
		if at != mount {
			limited = limit(d)
		}
		d.close()
	}
	s.wanted = best.has
	if best.why != "" && len(best.has) == 0 {
		s.why[""] = best.why
		return
	}
	for _, c := range wants {
		if !slices.Contains(best.has, c) {
			s.why[c] = s.parent + "/cgroup.controllers does not list " + c
		}
	}
}

func strangers(pid int) string {
	if pid < 0 {
		return "processes of another pid namespace are"
	}
	return "process " + strconv.Itoa(pid) + " is"
}

// A candidate is a group that may become the parent.
type candidate struct {
	has []string // controllers that its children can have
	why string
}

func consider(d folder) candidate {
	if file, err := d.writable(".", "cgroup.procs", "cgroup.subtree_control"); err != nil {
		return candidate{why: failure(strings.TrimSuffix(file, "/."), err)}
	}
	offered, err := d.read("cgroup.controllers")
	if err != nil {
		return candidate{why: failure(d.path+"/cgroup.controllers", err)}
	}
	c := candidate{has: offers(offered)}
	if kind, err := d.read("cgroup.type"); err == nil && strings.TrimSpace(kind) != "domain" {
		return candidate{why: d.path + "/cgroup.type: " + strings.TrimSpace(kind)}
	}
	if len(c.has) == 0 {
		c.why = d.path + "/cgroup.controllers lists none of memory, pids and cpu"
	}
	return c
}

// offers returns those controllers of a cgroup.controllers that are used.
func offers(text string) []string {
	var has []string
	for _, w := range wants {
		if slices.Contains(strings.Fields(text), w) {
			has = append(has, w)
		}
	}
	return has
}

// limit names a limit of a group that what stands beside it would escape.
func limit(d folder) string {
	for _, f := range []string{"memory.max", "memory.high", "cpu.max"} {
		if s, err := d.read(f); err == nil && !strings.HasPrefix(s, "max") {
			return d.path + "/" + f
		}
	}
	return ""
}

// familyIn returns the processes of a group that are the spawner's: itself,
// its parent, and the children of both; and the first that is not, -1
// if it cannot be told.
func familyIn(d folder) (family []int, stranger int) {
	pids, err := d.pids()
	if err != nil {
		return nil, -1
	}
	for _, p := range pids {
		parent := parentOf(p)
		switch {
		case p == os.Getpid(), p == os.Getppid() && p != 1, parent == os.Getpid(), parent == os.Getppid() && parent != 1:
			family = append(family, p)
		case p == 0: // of a pid namespace that is not seen from here
			return nil, -1
		default:
			return nil, p
		}
	}
	return family, 0
}

// open returns the folder in which groups are made, making it at the first
// call. It may move the spawner's family.
func (s *subtree) open() (folder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base != nil {
		return *s.base, nil
	}
	parent, err := openFolder(unix.AT_FDCWD, s.parent, s.parent)
	if err != nil {
		return folder{}, err
	}
	base := parent
	if len(s.wanted) > 0 {
		if base, err = s.prepare(parent); err != nil {
			parent.close()
			return folder{}, err
		}
		parent.close()
	}
	s.base = &base
	return base, nil
}

// prepare makes the folder that hands the controllers on.
func (s *subtree) prepare(parent folder) (folder, error) {
	if s.move {
		leaf, err := parent.make(s.mark + "-spawner")
		if err != nil {
			return folder{}, err
		}
		defer leaf.close()
		family, stranger := familyIn(parent)
		if stranger != 0 {
			return folder{}, unix.EBUSY
		}
		for _, p := range family {
			if err := leaf.write("cgroup.procs", strconv.Itoa(p)); err != nil && !errors.Is(err, unix.ESRCH) {
				return folder{}, err
			}
		}
	}
	if err := enable(parent, s.wanted); err != nil {
		return folder{}, err
	}
	base, err := parent.make(s.mark)
	if err != nil {
		return folder{}, err
	}
	if err := enable(base, s.wanted); err != nil {
		base.close()
		return folder{}, err
	}
	return base, nil
}

// enable hands controllers to a group's children.
func enable(d folder, names []string) error {
	have, err := d.read("cgroup.subtree_control")
	if err != nil {
		return err
	}
	var add []string
	for _, n := range names {
		if !slices.Contains(strings.Fields(have), n) {
			add = append(add, "+"+n)
		}
	}
	if len(add) == 0 {
		return nil
	}
	return d.write("cgroup.subtree_control", strings.Join(add, " "))
}
