package spawner

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/cgroup"
	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// A box is one sandbox as the spawner holds it.
type box struct {
	id        uint64
	guest     plan.Guest
	template  bool // the router does not know of it
	slot      int
	proc      *os.Process
	group     *cgroup.Group
	offspring *child   // instead of proc and setup
	setup     *os.File // this end; its close ends the sandbox
	pipe      int      // the router's end to the guest, until the router has it
	grants    []source
	inputs    *os.File // a mount of the folder of inputs that can be written, or nil
	std       []int    // the router's ends of an MCP server's standard input, output and error, until the router has them
	theirs    []int    // and the server's, until the sandbox has them
	unwatch   func()
	gone      chan struct{} // closed when no process of it is left

	mu       sync.Mutex        // of setup, of commits, and of what follows
	stamps   map[string]stamps // by where the grant is
	held     hold
	enforced spawn.Enforced
	narrowed bool
	donated  int // inputs

	groupMu sync.Mutex    // of the group's files; after mu
	ended   bool          // and they are closed
	limit   string        // that ended it, once it is gone
	limits  cgroup.Limits // of the group of a forked guest
}

// A source is one opened grant.
type source struct {
	host  int // O_PATH, of the host's file
	stat  unix.Stat_t
	mount int // detached, or -1
	upper int // of a write grant, once the guest waits; or -1
}

func (s *server) start(c *spawn.Conn, m *spawn.Message) {
	g, host, err := s.guestOf(m.Start)
	if err != nil {
		s.reply(c, m, err)
		return
	}
	s.starts.Add(1)
	defer s.restock()
	s.keepUp()
	var b *box
	var started *spawn.Started
	ends := []int{-1}
	if g.Fork {
		b, ends, started, err = s.makeForked(g, host)
		if err == errTemplate { // once more: nothing of the guest's ran, and there is another
			b, ends, started, err = s.makeForked(g, host)
		}
	} else {
		b, ends[0], started, err = s.make(g, host)
		if err == nil {
			ends, b.std = append(ends, b.std...), nil
		}
	}
	if err != nil {
		s.reply(c, m, err)
		return
	}
	err = c.Send(&spawn.Message{Op: spawn.OpStarted, Seq: m.Seq, Started: *started}, ends...)
	closeFDs(ends)
	if err != nil { // such as too many descriptors of this user under way
		s.forget(b)
		s.reply(c, m, err)
	}
}

// guestOf returns the pinned guest that a request names, narrowed; a request
// that would widen it is refused.
func (s *server) guestOf(r spawn.Start) (plan.Guest, plan.Host, error) {
	s.mu.Lock()
	p := s.plan
	s.mu.Unlock()
	i := slices.IndexFunc(p.Guests, func(g plan.Guest) bool { return g.Digest == r.Digest })
	if i < 0 {
		return plan.Guest{}, p.Host, refuse("denied", "no pinned tool has that digest")
	}
	g, err := narrow(p.Guests[i], r)
	return g, p.Host, err
}

// make starts one sandbox and returns when its guest waits.
func (s *server) make(g plan.Guest, host plan.Host) (_ *box, guestFD int, _ *spawn.Started, err error) {
	facts := s.facts
	if g.HostNetwork {
		facts.ReadNames()
	}
	setup := contain.Setup{Guest: g, Detached: s.own}
	setup.Steps, setup.Rules = contain.Plan(g, facts, host.Without)
	if g.Runner == contain.TemplateRunner {
		setup.Steps, setup.Rules = contain.Template(g, facts, host.Without), nil
	}
	if setup.Filter, err = s.filterOf(g); err != nil {
		return nil, 0, nil, explain(&contain.Report{Step: string(contain.Seccomp), What: err.Error()})
	}
	if b, done := s.takeBlank(g, setup.Steps, host); b != nil {
		rest := setup
		rest.Steps = setup.Steps[done:]
		if started, err := s.dress(b, rest, host); err == nil {
			return b, b.pipe, started, nil
		}
		// The host, or the blank, changed since it was made: a fresh one says what
		// is wrong, if anything is.
	}
	b, err := s.bare(g.HostNetwork, g.Runner == contain.TemplateRunner)
	if err != nil {
		return nil, 0, nil, err
	}
	started, err := s.dress(b, setup, host)
	return b, b.pipe, started, err
}

// newBox takes a slot.
func (s *server) newBox() (*box, error) {
	slot, ok := s.takeSlot()
	for !ok && s.dropBlank() {
		slot, ok = s.takeSlot()
	}
	if !ok {
		return nil, refuse("busy", "the spawner has all the sandboxes that it may have")
	}
	return &box{slot: slot, gone: make(chan struct{}), stamps: map[string]stamps{}}, nil
}

// bare makes a sandbox without a guest: its first process waits for a setup.
func (s *server) bare(hostNetwork, template bool) (*box, error) {
	b, err := s.newBox()
	if err != nil {
		return nil, err
	}
	b.group = s.cg.Prepare(strconv.FormatUint(s.groups.Add(1), 10))
	if missing := b.group.Short(); missing != nil { // it would get no limit
		b.group.Remove()
		s.freeSlot(b.slot)
		return nil, shortOf(missing)
	}
	b.template = template
	if b.proc, b.setup, b.pipe, err = s.spawnInit(b, hostNetwork, template); err != nil {
		b.group.Remove()
		s.freeSlot(b.slot)
		return nil, explainClone(err)
	}
	return b, nil
}

// scrap ends a sandbox that the router never heard of.
func (s *server) scrap(b *box) {
	unix.Close(b.pipe)
	closeFDs(b.std)
	closeFDs(b.theirs)
	b.setup.Close()
	b.proc.Kill()
	b.proc.Wait()
	if b.unwatch != nil {
		b.unwatch()
	}
	b.closeGrants()
	b.group.Remove()
	s.freeSlot(b.slot)
}

// dress gives a sandbox its guest and returns when that waits. On an error
// nothing of the sandbox is left.
func (s *server) dress(b *box, setup contain.Setup, host plan.Host) (_ *spawn.Started, err error) {
	b.guest = setup.Guest
	defer func() {
		if err != nil {
			s.scrap(b)
		}
	}()
	var degraded []string
	if err := limitGroup(b.group, b.guest, host, &degraded); err != nil {
		return nil, err
	}
	if err := s.openGrants(b); err != nil {
		return nil, err
	}
	// The whole sandbox ends when it is out of memory; nothing runs in it yet.
	if b.unwatch, err = b.group.Watch(b.kill); err != nil {
		return nil, watchError{err}
	}
	if b.guest.Runner == "mcp" {
		if err := s.streams(b); err != nil {
			return nil, err
		}
	}
	report, err := b.contain(setup)
	if err != nil {
		return nil, err
	}
	closeFDs(b.theirs)
	b.theirs = nil
	enforced, err := s.enforced(b, report, host, degraded)
	if err != nil {
		return nil, err
	}
	return s.register(b, enforced), nil
}

// streams makes the standard input, output and error of an MCP server, whose
// other ends the router has, so that nothing of the sandbox stands between. They
// are the sandbox's own files, which it may open again by their names.
func (s *server) streams(b *box) error {
	for i := range 3 {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return os.NewSyscallError("pipe2", err)
		}
		if i > 0 {
			p[0], p[1] = p[1], p[0] // it writes
		}
		b.theirs, b.std = append(b.theirs, p[0]), append(b.std, p[1])
		if s.own {
			if err := unix.Fchown(p[0], uidOf(b.slot), uidOf(b.slot)); err != nil {
				return os.NewSyscallError("fchown", err)
			}
		}
	}
	return nil
}

// register counts a sandbox whose guest waits among those that are there, and
// waits for its end.
func (s *server) register(b *box, e *spawn.Enforced) *spawn.Started {
	b.enforced = *e
	s.mu.Lock()
	s.next++
	b.id = s.next
	over := s.ended
	s.boxes[b.id] = b
	s.mu.Unlock()
	go s.reap(b)
	if over {
		b.kill()
	}
	return &spawn.Started{ID: b.id, Pid: int64(b.pid()), Enforced: *e}
}

// slack is the most threads that a sandbox's first process has, beside the
// processes that its profile allows; the exact bound is the rlimit.
const slack = 32

func limitsOf(g plan.Guest, host plan.Host) cgroup.Limits {
	l := cgroup.Limits{Memory: g.Memory, MilliCPU: g.MilliCPU, Processes: g.Processes + slack}
	if slices.Contains(host.Without, "memory") {
		l.Memory = 0
	}
	return l
}

// limitGroup sets the limits of g, and adds to degraded what the host does not
// hold and may leave out.
func limitGroup(group *cgroup.Group, g plan.Guest, host plan.Host, degraded *[]string) error {
	err := group.Limit(limitsOf(g, host), func(control string) bool {
		// The rlimit holds the number of processes wherever no cgroup can, so its
		// absence is not a weaker wall.
		if control == "processes" {
			return true
		}
		ok := slices.Contains(host.AllowDegraded, control) || slices.Contains(host.Without, control)
		if ok {
			*degraded = append(*degraded, control)
		}
		return ok
	})
	if missing, ok := errors.AsType[*cgroup.Missing](err); ok && missing.Short {
		return shortOf(missing)
	} else if ok && missing.Over {
		return tooLittleMemory()
	} else if ok {
		return &spawn.Failed{Kind: "unsupported", Control: missing.Control,
			What: missing.Control + " cannot be limited here: " + missing.Why, Fix: missing.Fix}
	}
	return err
}

func shortOf(m *cgroup.Missing) *spawn.Failed {
	return &spawn.Failed{Kind: "busy", What: m.Control + " cannot be limited now: " + m.Why, Fix: shortFix}
}

// openGrants opens what is granted and, as root, makes the mounts.
func (s *server) openGrants(b *box) error {
	for _, m := range b.guest.Mounts {
		fd, st, err := contain.OpenSource(m)
		if err != nil {
			b.closeGrants()
			if short(err) {
				return err
			}
			return &spawn.Failed{Kind: "invalid", What: "cannot grant " + m.At + ": " + err.Error(), Fix: "make it readable, or change the path in the configuration and trust it again"}
		}
		src := source{host: fd, stat: st, mount: -1, upper: -1}
		b.grants = append(b.grants, src)
		if !s.own {
			continue
		}
		if src.mount, err = s.mountOf(b, fd, st, m); err != nil {
			b.closeGrants()
			return err
		}
		b.grants[len(b.grants)-1] = src
	}
	return nil
}

func (s *server) mountOf(b *box, fd int, st unix.Stat_t, m plan.Mount) (int, error) {
	if !m.Prefix {
		at, err := mountBelow(m.Source)
		if err != nil {
			return -1, err
		}
		if at != "" {
			return -1, &spawn.Failed{Kind: "invalid", What: "cannot grant " + m.Source + ": " + at + " is mounted in it", Fix: "grant " + at + " by itself, or not at all"}
		}
	}
	mount, err := contain.Clone(fd, m)
	if short(err) {
		return -1, err
	}
	if err != nil {
		return -1, &spawn.Failed{Kind: "unsupported", Control: "mounts", What: "cannot mount " + m.Source + ": " + err.Error(), Fix: "Linux 5.12 or newer, and CAP_SYS_ADMIN"}
	}
	ns, err := s.idmapped(idmap{st.Uid, st.Gid, b.slot})
	if err == nil {
		err = idmapMount(mount, ns)
	}
	if short(err) {
		unix.Close(mount)
		return -1, err
	}
	if err != nil && m.Write {
		unix.Close(mount)
		return -1, &spawn.Failed{Kind: "unsupported", Control: "idmapped mounts", What: "the filesystem of " + m.Source + " cannot show its files to a sandbox's own uid: " + err.Error(), Fix: "grant it read-only, or move it to ext4, xfs, btrfs or tmpfs"}
	}
	return mount, nil // a read grant that is not mapped shows what everyone may read
}

func (b *box) closeGrants() {
	b.inputs.Close() // an error where there is none
	b.inputs = nil
	for _, g := range b.grants {
		for _, fd := range []int{g.host, g.mount, g.upper} {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}
	b.grants = nil
}

// spawnInit starts the sandbox's first process in its namespaces. It waits
// for its Setup before it does anything.
func (s *server) spawnInit(b *box, hostNetwork, template bool) (_ *os.Process, ours *os.File, guest int, err error) {
	setup, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, 0, err
	}
	kind := unix.SOCK_STREAM
	if template { // which speaks to us, in packets
		kind = unix.SOCK_SEQPACKET
	}
	pipe, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		unix.Close(setup[0])
		unix.Close(setup[1])
		return nil, nil, 0, err
	}
	if template { // so that its children say who they are
		if err := unix.SetsockoptInt(pipe[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
			closeFDs(append(setup[:], pipe[:]...))
			return nil, nil, 0, err
		}
	}
	theirs := []*os.File{os.NewFile(uintptr(setup[1]), "setup"), os.NewFile(uintptr(pipe[1]), "guest")}
	p, err := s.fork("init", &os.ProcAttr{Files: append([]*os.File{s.null, s.null, os.Stderr}, theirs...), Env: initEnv(), Dir: "/", Sys: s.namespaces(b.slot, hostNetwork, template)}, b.group)
	closeFiles(theirs)
	if err != nil {
		unix.Close(setup[0])
		unix.Close(pipe[0])
		return nil, nil, 0, err
	}
	return p, os.NewFile(uintptr(setup[0]), "setup"), pipe[0], nil
}

// initEnv is for the Go runtime of a sandbox's first process alone, which
// clears it: two threads of Go run at a time.
func initEnv() []string { return []string{"GOMAXPROCS=2"} }

func (s *server) namespaces(slot int, hostNetwork, template bool) *syscall.SysProcAttr {
	var network uintptr = syscall.CLONE_NEWNET
	if hostNetwork {
		network = 0
	}
	hostUID, hostGID := os.Geteuid(), os.Getegid()
	if s.own {
		hostUID, hostGID = uidOf(slot), uidOf(slot)
	}
	ids := func(host int) []syscall.SysProcIDMap {
		m := []syscall.SysProcIDMap{{ContainerID: insideUID, HostID: host, Size: 1}}
		for _, r := range [...][2]int{{0, slot}, {slot + 1, MaxSandboxes}} {
			if s.own && template && r[0] < r[1] { // each of its children has its own
				m = append(m, syscall.SysProcIDMap{ContainerID: lateUID + r[0], HostID: uidOf(r[0]), Size: r[1] - r[0]})
			}
		}
		return m
	}
	return &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP | network,
		Unshareflags:               unix.CLONE_NEWTIME,
		UidMappings:                ids(hostUID),
		GidMappings:                ids(hostGID),
		GidMappingsEnableSetgroups: s.own,
		// A user cannot drop supplementary groups (user_namespaces(7)); root does.
		Credential:  &syscall.Credential{Uid: insideUID, Gid: insideUID, NoSetGroups: !s.own},
		AmbientCaps: s.caps, // of its own user namespace, for the steps; dropped by the last of them
		Setsid:      true,
		Pdeathsig:   syscall.SIGKILL,
	}
}

// setupTime bounds how long a sandbox may take to confine itself, in seconds.
const setupTime = 30

// contain sends the setup and waits for the report.
func (b *box) contain(setup contain.Setup) (*contain.Report, error) {
	fd := int(b.setup.Fd())
	if err := unix.Sendmsg(fd, setup.Encode(), b.rights(), nil, unix.MSG_NOSIGNAL); err != nil && err != unix.EPIPE {
		return nil, &spawn.Failed{Kind: "internal", What: "cannot tell the sandbox its setup: " + err.Error()}
	}
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: setupTime})
	buf, oob := make([]byte, 8<<10), make([]byte, unix.CmsgSpace(4*len(b.guest.Mounts)+4))
	n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
	for err == unix.EINTR { // a socket with a timeout is not read again after a signal (signal(7)), such as a child's end
		n, oobn, _, _, err = unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil || n == 0 {
		return nil, b.died(err)
	}
	report, err := contain.DecodeReport(buf[:n])
	if err != nil {
		return nil, &spawn.Failed{Kind: "internal", What: "the sandbox's report is malformed"}
	}
	if report.Step != "" {
		return nil, explain(report)
	}
	uppers := spawn.Rights(oob[:oobn])
	for i, m := range b.guest.Mounts {
		if m.Write && len(uppers) > 0 {
			b.grants[i].upper, uppers = uppers[0], uppers[1:]
		}
	}
	b.takeInputs(uppers)
	if !b.whole() {
		return nil, os.NewSyscallError("recvmsg", unix.EMFILE)
	}
	return report, nil
}

// rights are the descriptors that go with the setup, as the kernel takes them.
func (b *box) rights() []byte {
	var fds []int
	for _, g := range b.grants {
		if g.mount >= 0 {
			fds = append(fds, g.mount)
		} else {
			fds = append(fds, g.host)
		}
	}
	fds = append(fds, b.theirs...)
	if len(fds) == 0 {
		return nil
	}
	return unix.UnixRights(fds...)
}

// whole says whether everything came that a sandbox sends of itself: the kernel
// leaves out descriptors that do not fit. A template sends none: its children
// have the upper folders.
func (b *box) whole() bool {
	if b.template {
		return true
	}
	for i, m := range b.guest.Mounts {
		if m.Write && b.grants[i].upper < 0 {
			return false
		}
	}
	return b.inputs != nil || !b.guest.Inputs
}

// died says how a sandbox ended that sent no report.
func (b *box) died(read error) *spawn.Failed {
	b.proc.Kill() // nothing, where it ended by itself
	how := "its end is not known"
	if state, err := b.proc.Wait(); err == nil {
		how = state.String()
	}
	if b.group.OOM() {
		return tooLittleMemory()
	}
	if read != nil {
		how += ", " + read.Error()
	}
	return &spawn.Failed{Kind: "internal", What: "the sandbox died while it was set up: " + how, Fix: "call it again; where that fails too, run casemate doctor"}
}

func tooLittleMemory() *spawn.Failed {
	return &spawn.Failed{Kind: "killed-by-limit", What: "the memory that the call has does not hold a sandbox", Fix: "raise memory in the manifest, or the limit that the call has"}
}

// ownSpaces are the namespaces that every sandbox has for itself; that of time is new
// in Linux 5.6 and may be absent.
var ownSpaces = [...]string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"}

// enforced compares the namespaces with the spawner's own and says what is
// on; a namespace that is shared, or not seen, is an error.
func (s *server) enforced(b *box, r *contain.Report, host plan.Host, degraded []string) (*spawn.Enforced, error) {
	e := &spawn.Enforced{Seccomp: r.Seccomp, Landlock: r.Landlock, NoNewPrivs: !slices.Contains(host.Without, string(contain.Privs)), Uid: "caller", Degraded: degraded}
	for _, n := range ownSpaces {
		if !slices.ContainsFunc(r.Spaces, func(s string) bool { return strings.HasPrefix(s, n+":") }) {
			return nil, &spawn.Failed{Kind: "unsupported", Control: "namespaces", What: "the sandbox does not show its " + n + " namespace", Fix: "mount /proc where Casemate runs"}
		}
	}
	names := map[string]string{"mnt": "mount", "net": "network"}
	for _, space := range r.Spaces {
		n, _, _ := strings.Cut(space, ":")
		if slices.Contains(s.spaces, space) {
			if n == "net" && b.guest.HostNetwork {
				continue // and the record does not name it
			}
			return nil, &spawn.Failed{Kind: "unsupported", Control: "namespaces", What: "the sandbox shares a namespace with the host: " + space}
		}
		if long, ok := names[n]; ok {
			n = long
		}
		e.Namespaces = append(e.Namespaces, n)
	}
	if s.own {
		e.Uid = "own"
	}
	held := b.group.Held()
	by := func(control, otherwise string) string {
		if how := held[control]; how != "" {
			return how
		}
		return otherwise
	}
	for _, l := range []spawn.Limit{
		{Name: "memory", Value: b.guest.Memory, By: by("memory", "")},
		{Name: "processes", Value: b.guest.Processes, By: by("processes", "rlimit")},
		{Name: "cpu", Value: b.guest.MilliCPU, By: by("cpu", "")},
		{Name: "disk", Value: b.guest.Disk, By: "tmpfs"},
	} {
		if l.By != "" {
			e.Limits = append(e.Limits, l)
		}
	}
	return e, nil
}

// reap waits until the sandbox is gone and says so to the router.
func (s *server) reap(b *box) {
	ws, used := b.wait()
	if b.offspring != nil {
		b.offspring.template.left()
	}
	b.unwatch()
	x := spawn.Exited{ID: b.id}
	if ws.Signaled() {
		x.Signal = int64(ws.Signal())
	} else {
		x.Status = int64(ws.ExitStatus())
	}
	if b.group.OOM() {
		x.Limit = "memory"
	}
	b.limit = x.Limit
	cpu, memory := b.group.Usage()
	x.CPU, x.Memory = int64(cpu), memory
	if x.CPU == 0 {
		x.CPU = int64(used)
	}
	b.groupMu.Lock()
	s.letGroup(b)
	b.ended = true
	b.groupMu.Unlock()
	// Before whoever waits for the end hears of it: an answer to a kill comes
	// after this.
	if !b.template {
		s.router.Send(&spawn.Message{Op: spawn.OpExited, Exited: x})
	}
	close(b.gone)
}

// pid is the first process.
func (b *box) pid() int {
	if b.offspring != nil {
		return b.offspring.pid
	}
	return b.proc.Pid
}

// wait blocks until the first process has ended, and every other with it, and
// returns how, and the processor time that is known of it.
func (b *box) wait() (syscall.WaitStatus, time.Duration) {
	if b.offspring != nil {
		how := b.offspring.wait()
		return how.ws, how.used
	}
	state, err := b.proc.Wait()
	if err != nil { // nobody else waits for it
		os.Exit(fatal(err))
	}
	ws, _ := state.Sys().(syscall.WaitStatus)
	return ws, state.UserTime() + state.SystemTime()
}

// kill ends every process of the sandbox; reap does the rest.
func (b *box) kill() { b.signal(unix.SIGKILL) }

// signal sends sig to the first process; it is an error where that has ended.
func (b *box) signal(sig unix.Signal) error {
	if b.offspring != nil {
		return b.offspring.signal(sig)
	}
	return b.proc.Signal(sig)
}

// everyCap lists the capabilities of this kernel.
func everyCap() (caps []uintptr) {
	last := unix.CAP_LAST_CAP
	if b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n < 64 {
			last = n
		}
	}
	for c := range last + 1 {
		caps = append(caps, uintptr(c))
	}
	return caps
}

func closeFiles(fs []*os.File) {
	for _, f := range fs {
		f.Close()
	}
}
