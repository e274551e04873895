package spawner

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

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
	if contain.Contained(g) {
		if setup, err = contain.Nest(setup, host.Without); err != nil {
			return nil, 0, nil, explain(&contain.Report{Step: string(contain.Seccomp), What: err.Error()})
		}
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
	closeFDs(b.carried)
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
	if err := s.openCarried(b); err != nil {
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
	closeFDs(b.carried)
	b.theirs, b.carried = nil, nil
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
	p, err := s.fork("init", &os.ProcAttr{Files: append([]*os.File{s.null, s.null, os.Stderr}, theirs...), Env: initEnv(), Dir: "/", Sys: s.weaken(s.namespaces(b.slot, hostNetwork, template))}, b.group)
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
	fds = append(append(fds, b.theirs...), b.carried...)
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
