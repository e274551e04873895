package spawner

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// lateUID is the number, in a template's user namespace, of the uid of slot 0;
// those of the others follow. See own.go.
const lateUID = 100_000

// makeForked is make for a guest that a template forks. The descriptors are the
// guest's socket, and the ends of the pipes of its standard output and error.
func (s *server) makeForked(g plan.Guest, host plan.Host) (_ *box, fds []int, _ *spawn.Started, err error) {
	whole, _, err := s.guestOf(spawn.Start{Digest: g.Digest})
	if err != nil {
		return nil, nil, nil, err
	}
	t, err := s.templateOf(whole, host)
	if err != nil {
		return nil, nil, nil, err
	}
	undo := []func(){t.left}
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
		}
	}()
	b, err := s.newBox()
	if err != nil {
		return nil, nil, nil, err
	}
	b.guest = g
	undo = append(undo, func() { b.closeGrants(); s.freeSlot(b.slot) })
	var degraded []string
	b.limits = limitsOf(g, host)
	if b.group, err = s.groupFor(b.limits, g, host, &degraded); err != nil {
		return nil, nil, nil, err
	}
	undo = append(undo, func() { b.group.Remove() })
	if err := s.openGrants(b); err != nil {
		return nil, nil, nil, err
	}
	ours, theirs, err := guestEnds()
	if err != nil {
		return nil, nil, nil, err
	}
	undo = append(undo, func() { closeFDs(ours) })
	k, err := s.forkChild(t, b, whole, host, theirs)
	closeFDs(theirs)
	if err != nil {
		if b.group.OOM() {
			err = tooLittleMemory()
		}
		return nil, nil, nil, err
	}
	b.offspring = k
	undo = append(undo, func() { b.kill(); k.wait() })
	for i, m := range g.Mounts {
		if m.Write && len(k.uppers) > 0 {
			b.grants[i].upper, k.uppers = k.uppers[0], k.uppers[1:]
		}
	}
	b.takeInputs(k.uppers)
	if !b.whole() {
		return nil, nil, nil, os.NewSyscallError("recvmsg", unix.EMFILE)
	}
	if b.unwatch, err = b.group.Watch(b.kill); err != nil {
		return nil, nil, nil, watchError{err}
	}
	enforced, err := s.enforced(b, &contain.Report{Spaces: contain.SpacesOf(strconv.Itoa(k.pid)), Seccomp: k.program.Seccomp, Landlock: k.program.Landlock}, host, degraded)
	if err != nil {
		select {
		case <-k.gone: // one that ended shows no namespace
			err = &spawn.Failed{Kind: "internal", What: "the sandbox was killed before it was handed out", Fix: "call it again"}
		case <-time.After(time.Second):
		}
		return nil, nil, nil, err
	}
	return b, ours, s.register(b, enforced), nil
}

// forkChild has a child made, which gets the ends of the guest.
func (s *server) forkChild(t *template, b *box, whole plan.Guest, host plan.Host, ends []int) (*child, error) {
	ways, err := b.group.Ways()
	if err != nil {
		return nil, err
	}
	defer closeFiles(ways)
	fds := append([]int{}, ends...)
	for _, w := range ways {
		fds = append(fds, int(w.Fd()))
	}
	l := contain.Late{Base: t.base, Own: s.own, Cgroups: len(ways), Detached: s.own, Caps: len(s.caps)}
	for i, src := range b.grants {
		l.Modes = append(l.Modes, src.stat.Mode)
		l.Lower = append(l.Lower, slices.IndexFunc(whole.Mounts, func(m plan.Mount) bool { return m.At == b.guest.Mounts[i].At }))
		if s.own {
			fds = append(fds, src.mount)
		}
	}
	if len(fds) > contain.LateFDs {
		return nil, refuse("unsupported", "a tool that is forked has at most 48 mounts: fewer of them, or fork: false")
	}
	p, err := t.programOf(b.guest, l, host)
	if err != nil {
		return nil, err
	}
	return t.fork(p, lateUID+b.slot, fds)
}

// programOf returns what a child of g does, which is the same as long as the
// host is: a group may be there for one child and not for the next.
func (t *template) programOf(g plan.Guest, l contain.Late, host plan.Host) (*contain.Program, error) {
	key := string(plan.EncodeGuest(g)) + strings.Join(host.Without, " ") + " " + strconv.Itoa(l.Cgroups)
	for i, m := range l.Modes {
		key += " " + strconv.FormatUint(uint64(m), 8) + " " + strconv.Itoa(l.Lower[i])
	}
	t.mu.Lock()
	p := t.programs[key]
	t.mu.Unlock()
	if p != nil {
		return p, nil
	}
	var err error
	if l.Filter, err = t.s.filterOf(g); err != nil {
		return nil, err
	}
	if l.Rlimits, err = contain.Rlimits(g.Processes, contain.FileSize(g)); err != nil {
		return nil, err
	}
	p = l.Program(g, t.s.facts, host.Without)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.programs) >= 64 { // grants that differ from call to call
		clear(t.programs)
	}
	t.programs[key] = p
	return p, nil
}

// guestEnds makes the socket of a guest and the pipes of its standard output
// and error: socket first on our side, last on theirs.
func guestEnds() (ours, theirs []int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs = []int{pair[0]}, []int{pair[1]}
	for range 2 {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			closeFDs(ours)
			closeFDs(theirs)
			return nil, nil, os.NewSyscallError("pipe2", err)
		}
		ours, theirs = append(ours, p[0]), append(theirs, p[1])
	}
	return ours, append(theirs[1:], theirs[0]), nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
