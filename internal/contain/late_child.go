package contain

import (
	"encoding/binary"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/plan"
)

// A Late is what a child of a template differs in from the plan of its guest.
type Late struct {
	Base     uint64   // where the template wants packets
	Own      bool     // each child is a user of its own
	Cgroups  int      // descriptors by which it enters its groups, after the first three
	Detached bool     // and after those one of each grant: a detached mount
	Modes    []uint32 // of each grant: type and permissions
	Lower    []int    // and its number among those of the template
	Caps     int      // capabilities of this kernel
	Filter   string   // the seccomp program, as linux.Filter has its bytes
	Rlimits  []Rlimit
}

func (l Late) folder(grant int) bool { return l.Modes[grant]&unix.S_IFMT == unix.S_IFDIR }

// Where the parts of a template's root lie that its children use.
const (
	lateScratch = "/" + staging + "/scratch"
	lateEmpty   = "/" + staging + "/empty"
)

// Program returns what a child of g's template does. The walls, their order and
// their values are those of Plan; what the template's root has already, every
// child has with it.
func (l Late) Program(g plan.Guest, f Facts, without []string) *Program {
	steps, rules := Plan(g, f, without)
	p := newProgram(l.Base)
	p.room = g.Output
	p.step = Step{Kind: Private}
	p.call(0, unix.SYS_CLOSE_RANGE, 4, LateFD-1, 0)
	for i := range l.Cgroups {
		p.call(1, unix.SYS_WRITE, LateFD+3+i, "0", 1)
	}
	p.call(1, unix.SYS_SETSID)
	spaces := unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	if g.Loopback {
		spaces |= unix.CLONE_NEWNET
	}
	p.call(0, unix.SYS_UNSHARE, spaces)
	if l.Own {
		for _, nr := range [...]int64{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			for arg := range 3 {
				p.users = append(p.users, [2]int{len(p.calls), arg})
			}
			p.call(0, nr, 0, 0, 0)
		}
	}
	sys, user := -1, false
	var uppers []int
	var counts []Step
	// What the template has in the folders that are new for each child is hidden.
	fresh := func(path string) bool {
		return slices.ContainsFunc(p.subs, func(sub string) bool { return path != sub && Within(path, sub) })
	}
	for _, s := range steps {
		p.step = s
		switch s.Kind {
		case Dir:
			if fresh(s.Path) {
				p.call(0, unix.SYS_MKDIRAT, unix.AT_FDCWD, "/"+s.Path, 0o755)
			}
		case Scratch:
			p.mount("tmpfs", lateScratch, data, "size", strconv.FormatInt(s.Size, 10), "nr_inodes", strconv.FormatInt(inodes(s.Size), 10), "mode", "0700")
		case Sub:
			from := lateScratch + "/" + s.Text
			p.call(0, unix.SYS_MKDIRAT, unix.AT_FDCWD, from, 0o700)
			p.same(from, "/"+s.Path)
			p.subs = append(p.subs, s.Path)
		case Input:
			from := lateScratch + "/" + s.Text
			p.call(0, unix.SYS_MKDIRAT, unix.AT_FDCWD, from, 0o755)
			uppers = append(uppers, p.open(unix.SYS_OPEN_TREE, unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW))
			p.bind(from, "/"+s.Path, readOnly)
		case Grant:
			if at := "/" + s.Path; fresh(s.Path) && l.folder(int(s.N)) {
				p.call(0, unix.SYS_MKDIRAT, unix.AT_FDCWD, at, 0o755)
			} else if fresh(s.Path) {
				p.close(p.open(unix.SYS_OPENAT, unix.AT_FDCWD, at, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o444))
			}
			uppers = append(uppers, p.grant(l, g, s)...)
		case Pts:
			p.mount("devpts", "/"+s.Path, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, "newinstance", "", "ptmxmode", "0666", "mode", "0600")
		case Proc:
			fd := p.fs("proc", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
			// Over the template's, beside which alone the kernel makes another. That
			// one, and /tmp, are covered and not taken away: this waits for every
			// processor, and what covers is held by the template's user namespace, in
			// which the child has no capability when it reads code.
			p.attach(fd, "/proc")
			sys = p.open(unix.SYS_OPENAT, unix.AT_FDCWD, "/proc/sys", unix.O_PATH|unix.O_CLOEXEC, 0)
		case Count:
			counts = append(counts, s) // of the user namespace, which is not there yet
		case Mask:
			if slices.Contains(f.Folders, "/"+s.Path) {
				p.bind(lateEmpty, "/"+s.Path, readOnly)
			} else {
				p.same("/dev/null", "/"+s.Path)
			}
		case ReadOnly:
			p.bind("/"+s.Path, "/"+s.Path, readOnly)
		case Seal:
			p.seal(l, g)
		case Loopback:
			p.loopback()
		case Keyring:
			// The last that needs the template's capabilities was before this.
			p.user(l, sys, counts)
			user = true
			p.step = s
			p.keyring()
		case Limits:
			for _, r := range l.Rlimits {
				p.call(0, unix.SYS_PRLIMIT64, 0, r.Resource, words(r.Soft, r.Hard), 0)
			}
		case Landlock:
			p.landlock(rules, g, f, l)
		case Caps:
			p.caps(l.Caps)
		case Seccomp:
			p.call(0, unix.SYS_CHDIR, g.Cwd)
			p.filter(l.Filter)
		}
	}
	if !user { // a step that holds it was taken away
		p.step = Step{Kind: Keyring}
		p.user(l, sys, counts)
	}
	p.step = Step{Kind: "report"}
	p.report(uppers)
	p.call(1, unix.SYS_DUP3, LateFD, 1, 0)
	p.call(2, unix.SYS_DUP3, LateFD+1, 2, 0)
	p.call(3, unix.SYS_DUP3, LateFD+2, 3, unix.O_CLOEXEC)
	p.call(0, unix.SYS_CLOSE_RANGE, 4, int(^uint32(0)), 0)
	return p
}

// fs makes a filesystem and returns its detached mount.
func (p *Program) fs(name string, attr int, opts ...string) int {
	c := p.open(unix.SYS_FSOPEN, name, unix.FSOPEN_CLOEXEC)
	for i := 0; i+1 < len(opts); i += 2 {
		if opts[i+1] == "" {
			p.call(0, unix.SYS_FSCONFIG, c, unix.FSCONFIG_SET_FLAG, opts[i], 0, 0)
		} else {
			p.call(0, unix.SYS_FSCONFIG, c, unix.FSCONFIG_SET_STRING, opts[i], opts[i+1], 0)
		}
	}
	p.call(0, unix.SYS_FSCONFIG, c, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	fd := p.open(unix.SYS_FSMOUNT, c, unix.FSMOUNT_CLOEXEC, attr)
	p.close(c)
	return fd
}

// attach puts a detached mount at a path. No link in a grant that is there
// already can lead it elsewhere.
func (p *Program) attach(fd int, at string) {
	target := p.path(at)
	p.call(0, unix.SYS_MOVE_MOUNT, fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	p.close(target)
	p.close(fd)
}

// path opens what is at a path, in which no link is followed.
func (p *Program) path(at string) int {
	return p.open(unix.SYS_OPENAT2, unix.AT_FDCWD, at, words(unix.O_PATH|unix.O_CLOEXEC, 0, unix.RESOLVE_NO_SYMLINKS), 24)
}

func (p *Program) mount(name, at string, attr int, opts ...string) {
	p.attach(p.fs(name, attr, opts...), at)
}

// same puts what is at one path of ours at another: neither leads through a
// grant.
func (p *Program) same(from, at string) {
	p.call(0, unix.SYS_MOUNT, from, at, 0, unix.MS_BIND, 0)
}

// bind puts what is at one path at another, with attributes added.
func (p *Program) bind(from, at string, attr uint64) {
	fd := p.open(unix.SYS_OPEN_TREE, unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if attr != 0 {
		p.call(0, unix.SYS_MOUNT_SETATTR, fd, "", unix.AT_EMPTY_PATH, words(attr, 0, 0, 0), 32)
	}
	p.attach(fd, at)
}

// grant is what Inside.grant does, in a child; it returns the upper folder.
func (p *Program) grant(l Late, g plan.Guest, s Step) (uppers []int) {
	i := int(s.N)
	m, at := g.Mounts[i], "/"+s.Path
	lower := "/" + lowerPath(l.Lower[i])
	if l.Detached {
		to := lower
		if !l.folder(i) {
			to = at
		}
		target := p.path(to)
		p.call(0, unix.SYS_MOVE_MOUNT, LateFD+3+l.Cgroups+i, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		p.close(target)
	}
	if !l.folder(i) {
		if !l.Detached {
			p.bind(lower, at, 0)
		}
		return nil
	}
	opts := []string{"lowerdir", lower + ":" + lateEmpty, "userxattr", ""}
	attr := int(readOnly)
	if m.Write {
		up, work := lateScratch+"/up"+strconv.Itoa(i), lateScratch+"/work"+strconv.Itoa(i)
		p.call(0, unix.SYS_MKDIRAT, unix.AT_FDCWD, up, 0o755)
		p.call(0, unix.SYS_MKDIRAT, unix.AT_FDCWD, work, 0o755)
		// The upper folder is the root of the grant as the guest sees it.
		p.call(0, unix.SYS_FCHMODAT, unix.AT_FDCWD, up, int(l.Modes[i]&0o777))
		uppers = append(uppers, p.open(unix.SYS_OPENAT, unix.AT_FDCWD, up, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0))
		opts = []string{"lowerdir", lower, "upperdir", up, "workdir", work, "userxattr", ""}
		attr &^= unix.MOUNT_ATTR_RDONLY
	}
	if m.Execute || m.Prefix {
		attr &^= unix.MOUNT_ATTR_NOEXEC
	}
	p.mount("overlay", at, attr, opts...)
	return uppers
}

func (p *Program) seal(l Late, g plan.Guest) {
	for i := range g.Mounts {
		if l.folder(i) || !l.Detached {
			p.call(0, unix.SYS_UMOUNT2, "/"+lowerPath(l.Lower[i]), unix.MNT_DETACH)
		}
	}
	p.call(0, unix.SYS_UMOUNT2, lateScratch, unix.MNT_DETACH)
}

func (p *Program) loopback() {
	s := p.open(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	req := make([]byte, 40) // struct ifreq
	copy(req, "lo")
	binary.LittleEndian.PutUint16(req[16:], unix.IFF_UP|unix.IFF_RUNNING)
	p.call(0, unix.SYS_IOCTL, s, unix.SIOCSIFFLAGS, req)
	p.close(s)
}

// user makes the user namespace, in which the child has no capability over
// anything that was made so far, and bounds what the kernel counts by it.
func (p *Program) user(l Late, sys int, counts []Step) {
	p.call(0, unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	p.call(0, unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0, 0, 0) // its own files of /proc are its own
	p.write(unix.AT_FDCWD, "/proc/self/setgroups", []byte("deny"))
	for _, path := range [...]string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		if l.Own {
			one := strconv.Itoa(insideUID) + " "
			at := p.write(unix.AT_FDCWD, path, []byte(one+"0000000000 1"))
			p.texts = append(p.texts, at+len(one))
		} else {
			p.write(unix.AT_FDCWD, path, []byte(strconv.Itoa(insideUID)+" "+strconv.Itoa(insideUID)+" 1"))
		}
	}
	if sys < 0 {
		return
	}
	for _, s := range counts {
		p.step = s
		p.write(sys, s.Path[len("proc/sys/"):], strconv.AppendInt(nil, s.Size, 10))
	}
	p.close(sys)
}

// insideUID is the user that a guest is, in its own user namespace.
const insideUID = 1000

// write writes b to a file, and returns the offset of b.
func (p *Program) write(dir int, path string, b []byte) int {
	fd := p.open(unix.SYS_OPENAT, dir, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	at := p.bytes(b)
	p.call(int64(len(b)), unix.SYS_WRITE, fd, at, len(b))
	p.close(fd)
	return int(at - p.base)
}

// keyring gives the child an empty session keyring of its own. Where there is
// no room for one it keeps that of the template, which is empty too; no call
// about keys passes the filter of either.
func (p *Program) keyring() {
	p.call(whatever, unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
}

// whatever is what a call must return of which every result will do.
const whatever = -1 << 62

func (p *Program) caps(n int) {
	for c := range n {
		p.call(0, unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0)
	}
	p.call(0, unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, linux.Securebits, 0, 0, 0)
	header := binary.LittleEndian.AppendUint32(nil, unix.LINUX_CAPABILITY_VERSION_3)
	p.call(0, unix.SYS_CAPSET, append(header, 0, 0, 0, 0), make([]byte, 24))
}

func (p *Program) landlock(rules []Rule, g plan.Guest, f Facts, l Late) {
	attr, abi := linux.LandlockAttr(netOf(g))
	p.Landlock = int64(abi)
	set := p.open(unix.SYS_LANDLOCK_CREATE_RULESET, words(attr.Handled_access_fs, attr.Handled_access_net, attr.Scoped), 24, 0)
	for _, r := range rules {
		a := landlockAccess[r.Access] & linux.LandlockAccess(attr.Handled_access_fs)
		if l.file(r.Path, g, f) {
			a = a.OnFile()
		}
		if a == 0 {
			continue
		}
		p.step = Step{Kind: Landlock, Path: r.Path[1:]}
		fd := p.path(r.Path)
		rule := binary.LittleEndian.AppendUint32(words(uint64(a)), uint32(fd))
		p.call(0, unix.SYS_LANDLOCK_ADD_RULE, set, unix.LANDLOCK_RULE_PATH_BENEATH, rule, 0)
		p.close(fd)
	}
	p.step = Step{Kind: Landlock}
	p.call(0, unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0)
	p.close(set)
}

// file says whether what a rule names is no folder.
func (l Late) file(path string, g plan.Guest, f Facts) bool {
	for i, m := range g.Mounts {
		if m.At == path {
			return !l.folder(i)
		}
	}
	for _, e := range f.System {
		if e.Path == path {
			return !e.Folder
		}
	}
	for _, d := range devices {
		if path == "/dev/"+d {
			return true
		}
	}
	return false
}

func (p *Program) filter(f string) {
	if f, err := linux.ParseFilter([]byte(f)); err == nil {
		p.Seccomp = f.Digest()
	}
	prog := p.bytes([]byte(f))
	p.call(0, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, words(uint64(len(f)/8), prog))
}

// report says that the walls are up, and sends the upper folders.
func (p *Program) report(uppers []int) {
	word := p.bytes(words(LateReady, 0, 0, 0))
	p.ids = append(p.ids, int(word-p.base)+8)
	iov := p.bytes(words(word, LateReport))
	var control, length uint64
	if len(uppers) > 0 {
		length = uint64(unix.CmsgSpace(4 * len(uppers)))
		c := words(uint64(unix.CmsgLen(4 * len(uppers))))
		c = binary.LittleEndian.AppendUint32(c, unix.SOL_SOCKET)
		c = binary.LittleEndian.AppendUint32(c, unix.SCM_RIGHTS)
		for _, fd := range uppers {
			c = binary.LittleEndian.AppendUint32(c, uint32(fd))
		}
		control = p.bytes(append(c, make([]byte, int(length)-len(c))...))
	}
	p.call(LateReport, unix.SYS_SENDMSG, 3, words(0, 0, iov, 1, control, length, 0), unix.MSG_NOSIGNAL)
}
