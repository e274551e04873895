package contain

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/plan"
)

// A contained guest stands in a container within the sandbox: the sandbox's
// first process makes the guest's root as ever, and then starts a runtime (runc,
// crun, runsc) on it by the specification that the plan holds. That process is
// the outer one. It keeps the capabilities of its own user namespace, which the
// runtime needs, and reaches nothing of the host: its root is a tmpfs with the
// system folders, read-only, the guest's root and the specification. Process 1 of
// the container is casemate-init once more, which puts the last walls on itself
// (Inner) and is the runner.

// Where things lie in the root of the outer process.
const (
	RootPath    = "/rootfs"  // the guest's root
	BundlePath  = "/bundle"  // a folder with config.json
	RuntimePath = "/runtime" // the program
	StatePath   = "/run"     // the runtime's own files
)

// groupsPath is where a runtime looks whether it can make a group, which it then
// does without: it asks nowhere else which version there is.
const groupsPath = "sys/fs/cgroup"

// InsideUID is the user that the sandbox's first process is in its own user
// namespace; the guest of a container is 0 in one of its own, which is this.
const InsideUID = 1000

// InnerPath is where casemate-init lies in a container.
const InnerPath = "/.casemate/init"

// Contained says whether the guest stands in a container.
func Contained(g plan.Guest) bool { return g.Backend == "oci" || g.Backend == "gvisor" }

// Carried are the paths of the host that stand in no grant and that the
// sandbox's own user may have no way to: the runtime, and the layers of the image.
// As root their mounts come with the setup, behind all other descriptors.
func Carried(g plan.Guest) []string {
	if !Contained(g) {
		return nil
	}
	return append([]string{g.Runtime}, g.Layers...)
}

// contained is Plan for the outer process.
func (p *planner) contained(g plan.Guest, f Facts) {
	p.add(Step{Kind: Private}, Step{Kind: Stage})
	p.allow("/", "list")
	if len(g.Layers) > 0 {
		p.names(g)
	} else {
		p.system(f, false)
	}
	p.devices()
	p.allow("/proc", "read")
	p.writable(g, f)
	p.dir(".casemate")
	p.add(Step{Kind: File, Path: InnerPath[1:]}, Step{Kind: Init, Path: InnerPath[1:]})
	if len(g.Layers) > 0 {
		p.steps = onImage(p.steps, g)
		p.allow("/", imageAccess)
	}
	p.add(Step{Kind: Seal}, Step{Kind: Runtime, Path: RootPath[1:]})
	p.dirs = nil // of another root from here on
	for _, d := range []string{"dev", "proc", RootPath[1:], BundlePath[1:], StatePath[1:], groupsPath} {
		p.dir(d)
	}
	if Sentry(g) {
		p.dir("tmp") // over which it mounts the root that it stands in itself
	}
	for _, e := range f.System {
		rel := e.Path[1:]
		switch {
		case len(rel) > 4 && rel[:4] == "etc/" && rel != "etc/ld.so.cache":
			continue
		case e.Target != "":
			p.parent(rel)
			p.add(Step{Kind: Link, Path: rel, Text: e.Target})
			continue
		case e.Folder:
			p.dir(rel)
		default:
			p.parent(rel)
			p.add(Step{Kind: File, Path: rel})
		}
		p.add(Step{Kind: Bind, Path: rel, Text: e.Path, Exec: true})
	}
	for _, d := range devices {
		p.add(Step{Kind: File, Path: "dev/" + d}, Step{Kind: Device, Path: "dev/" + d, Text: "/dev/" + d})
	}
	p.add(Step{Kind: File, Path: RuntimePath[1:]}, Step{Kind: Bind, Path: RuntimePath[1:], Text: g.Runtime, N: 1, Exec: true})
	p.add(Step{Kind: File, Path: BundlePath[1:] + "/config.json", Text: bundle(g)}, Step{Kind: Proc, Path: "proc"}, Step{Kind: Groups, Path: groupsPath})
	for _, c := range counts {
		if c.name == "max_user_namespaces" {
			c.most = spaces(g)
		}
		p.add(Step{Kind: Count, Path: "proc/sys/user/" + c.name, Size: c.most})
	}
	p.add(Step{Kind: Pivot}, Step{Kind: Name, Text: "sandbox"})
	if g.Loopback {
		p.add(Step{Kind: Loopback})
	}
	p.add(Step{Kind: Privs}, Step{Kind: Dump}, Step{Kind: Seccomp})
}

// Inner returns the steps of the first process of a container: the last of Plan,
// in its order.
func Inner(g plan.Guest, without []string) []Step {
	w := walls(g)
	if Sentry(g) { // which has neither
		w = slices.DeleteFunc(w, func(s Step) bool { return s.Kind == Landlock || s.Kind == Keyring })
	}
	return leaveOut(w, without)
}

// Nest turns the setup of a contained guest, with its rules and its filter, into
// that of the outer process, which holds the guest's own.
func Nest(s Setup, without []string) (Setup, error) {
	g := s.Guest
	g.Bundle, g.Layers = "", nil // they are of use outside
	inner := Setup{Guest: g, Steps: Inner(g, without), Rules: s.Rules, Filter: s.Filter}
	s.Inner, s.Rules = string(inner.Encode()), nil
	f, err := outerFilter(g)
	s.Filter = string(f.Bytes())
	return s, err
}

// walls are the steps after which a process is the guest's.
func walls(g plan.Guest) []Step {
	return []Step{{Kind: Keyring}, {Kind: Privs}, {Kind: Landlock}, {Kind: Caps}, {Kind: Limits, Size: g.Processes}, {Kind: Dump}, {Kind: Seccomp}}
}

// openSelf opens this program, which is hidden once the root is staged: where
// its path leads to it, and nobody has put another there, to be mounted.
func (in *Inside) openSelf() error {
	read, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open /proc/self/exe", err)
	}
	in.self = read
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	var want, got unix.Stat_t
	if err := unix.Fstat(read, &want); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
		if unix.Fstat(fd, &got) == nil && got.Dev == want.Dev && got.Ino == want.Ino {
			in.selfPath = fd
		} else {
			unix.Close(fd)
		}
	}
	return nil
}

// program puts this program at a path of the root: as a mount, and where its own
// path is not this process's to see, as a copy.
func (in *Inside) program(path string) error {
	defer unix.Close(in.self)
	if in.selfPath > 0 {
		defer unix.Close(in.selfPath)
		if fd, err := clone(in.selfPath, "", readOnly&^unix.MOUNT_ATTR_NOEXEC, false); err == nil {
			defer unix.Close(fd)
			return in.attachTo(fd, path)
		}
	}
	const at = staging + "/self"
	if err := in.mkdir(at); err != nil {
		return err
	}
	if err := in.mountNew("tmpfs", at, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, "size", "64m"); err != nil {
		return err
	}
	to, err := unix.Openat(in.root, at+"/init", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o555)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	for n := 1; n > 0; {
		if n, err = unix.Sendfile(to, in.self, nil, 1<<20); err != nil {
			unix.Close(to)
			return os.NewSyscallError("sendfile", err)
		}
	}
	unix.Close(to) // a file that is open to write cannot be run
	fd, err := clone(in.root, at+"/init", readOnly&^unix.MOUNT_ATTR_NOEXEC, false)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := in.attachTo(fd, path); err != nil {
		return err
	}
	// The copy alone goes on into the container.
	if err := unix.Fchdir(in.root); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	return os.NewSyscallError("umount", unix.Unmount(at, unix.MNT_DETACH))
}

// runtime stages the root of the outer process, with the guest's in it.
func (in *Inside) runtime(path string) error {
	tree, err := unix.OpenTree(in.root, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	unix.Close(in.root)
	if err := in.stage(); err != nil {
		return err
	}
	in.dev = 0
	if err := in.mkdir(path); err != nil {
		return err
	}
	return in.attachTo(tree, path)
}
