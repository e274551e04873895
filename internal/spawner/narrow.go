package spawner

import (
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/cgroup"
	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// narrow returns g with no more than r asks for; more than g has is refused.
func narrow(g plan.Guest, r spawn.Start) (plan.Guest, error) {
	for _, l := range []struct {
		name string
		have *int64
		want int64
	}{{"memory", &g.Memory, r.Memory}, {"cpu", &g.MilliCPU, r.MilliCPU}, {"disk", &g.Disk, r.Disk}, {"processes", &g.Processes, r.Processes}} {
		if l.want > *l.have {
			return g, refuse("denied", "the grant asks for more "+l.name+" than its tool has")
		}
		if l.want > 0 {
			*l.have = l.want
		}
	}
	for _, m := range g.Mounts {
		if r.Inputs && (contain.Within(m.At, contain.InputPath) || contain.Within(contain.InputPath, m.At)) {
			return g, refuse("invalid", "its tool has a mount at "+m.At+", where inputs would lie")
		}
	}
	g.Inputs = g.Inputs || r.Inputs
	for _, at := range r.Without {
		if !slices.ContainsFunc(g.Mounts, func(m plan.Mount) bool { return m.At == at }) {
			return g, refuse("denied", "the grant leaves out a mount that its tool does not have")
		}
	}
	g.Mounts = slices.DeleteFunc(slices.Clone(g.Mounts), func(m plan.Mount) bool { return slices.Contains(r.Without, m.At) })
	return g, nil
}

// narrowed gives a parked sandbox less than it was started with. It is done from
// outside: nothing in a sandbox has the power to, and nothing in it is asked.
// What cannot be done so is refused before anything was changed, as unsupported;
// a start with the same words does it; and a sandbox that lost a mount before
// something could not be done is killed. So are refused
//   - inputs: the place for them is made with the sandbox;
//   - disk: the filesystem of what a guest writes was sealed with its size;
//   - mounts, where this process is not root, for it cannot enter the sandbox's
//     mount namespace; and those which hold another mount or the working folder,
//     or lie in another; and those of a container, which are locked in there;
//   - processes and mounts of an MCP server, whose program runs already: it may
//     hold a file open, and fork past a limit that is set to each of its processes;
//   - processes on gVisor, whose kernel counts them;
//   - memory below what the guest holds already.
//
// A hijacked router can narrow a guest that had its call: that has less from
// then on, but keeps the files that it opened.
func (s *server) narrowed(c *spawn.Conn, m *spawn.Message) {
	b := s.boxOf(m.Narrow.ID)
	if b == nil {
		s.reply(c, m, refuse("invalid", "no such sandbox"))
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.narrow(m.Narrow.Start); err != nil {
		s.reply(c, m, err)
		return
	}
	c.Send(&spawn.Message{Op: spawn.OpNarrowed, Seq: m.Seq, Started: spawn.Started{ID: b.id, Pid: int64(b.pid()), Enforced: b.enforced}})
}

// narrow is for once; b.mu is held.
func (b *box) narrow(r spawn.Start) error {
	if b.narrowed {
		return refuse("conflict", "a sandbox is narrowed once")
	}
	if r.Digest != "" && r.Digest != b.guest.Digest {
		return refuse("denied", "the grant is one of another tool")
	}
	g, err := narrow(b.guest, r)
	if err == nil {
		err = late(b.guest, g, r.Without)
	}
	if err != nil {
		return err
	}
	b.groupMu.Lock()
	defer b.groupMu.Unlock()
	if b.ended || b.grants == nil && len(b.guest.Mounts) > 0 {
		return errEnded
	}
	b.narrowed = true
	if err := b.leaveOut(r.Without, g.Mounts); err != nil {
		return err
	}
	if err := b.lower(g); err != nil {
		if len(r.Without) > 0 { // it has neither what it had nor what was asked
			b.kill()
		}
		return err
	}
	b.guest = g
	for i, l := range b.enforced.Limits {
		b.enforced.Limits[i].Value = map[string]int64{"memory": g.Memory, "cpu": g.MilliCPU, "processes": g.Processes, "disk": g.Disk}[l.Name]
	}
	return nil
}

// lower lowers the limits to those of g.
func (b *box) lower(g plan.Guest) error {
	if g.Processes < b.guest.Processes {
		if err := b.limitProcesses(b.guest.Processes - g.Processes); err != nil {
			return err
		}
	}
	l := cgroup.Limits{}
	for _, x := range []struct {
		to        *int64
		have, now int64
	}{{&l.Memory, b.guest.Memory, g.Memory}, {&l.MilliCPU, b.guest.MilliCPU, g.MilliCPU}, {&l.Processes, contain.Tasks(b.guest) + slack, contain.Tasks(g) + slack}} {
		if x.now < x.have {
			*x.to = x.now
		}
	}
	if err := b.group.Lower(l); err != nil {
		return refuse("unsupported", "cannot lower the limits of a sandbox that is there: "+err.Error())
	}
	return nil
}

// late says why what was started as have cannot become now.
func late(have, now plan.Guest, without []string) error {
	no := func(why string) error { return refuse("unsupported", why) }
	running := have.Runner == "mcp"
	switch {
	case now.Inputs && !have.Inputs:
		return no("the sandbox was made without a place for inputs")
	case now.Disk < have.Disk:
		return no("the disk of a sandbox that is there cannot be made smaller")
	case running && now.Processes < have.Processes:
		return no("the server runs already, and its processes cannot be counted anew")
	case running && len(without) > 0:
		return no("the server runs already, and may hold files of " + without[0])
	}
	if contain.Sentry(have) && now.Processes < have.Processes {
		return no("gVisor's kernel counts the processes, and takes no other limit from outside")
	}
	if contain.Contained(have) && len(without) > 0 {
		return no("the mounts of a container cannot be taken out of it")
	}
	for _, at := range without {
		if contain.Within(have.Cwd, at) {
			return no(at + " holds the working folder")
		}
		for _, m := range have.Mounts {
			if m.At == at && m.Prefix {
				return no("the interpreter lies in " + at)
			}
			if m.At != at && (contain.Within(m.At, at) || contain.Within(at, m.At)) {
				return no(at + " and " + m.At + " lie in each other")
			}
		}
	}
	return nil
}

// leaveOut takes mounts out of the sandbox's mount namespace, and their grants
// from what a commit carries. No program of the guest ran yet, so that nothing
// holds a file of them; and no link can lead elsewhere, for their paths lie in
// the sealed root. left are the mounts that it has afterwards.
func (b *box) leaveOut(without []string, left []plan.Mount) error {
	if len(without) == 0 {
		return nil
	}
	theirs, err := os.Open("/proc/" + strconv.Itoa(b.pid()) + "/ns/mnt")
	if err != nil {
		return refuse("unsupported", "cannot open the sandbox's mount namespace: "+err.Error())
	}
	defer theirs.Close()
	if !b.alive() { // else the number was nobody else's when it was opened
		return errEnded
	}
	done := make(chan error, 1)
	n := 0
	go func() {
		runtime.LockOSThread() // for good: the thread ends here
		var err error
		n, err = unmount(int(theirs.Fd()), without)
		done <- err
	}()
	if err := <-done; err != nil {
		if n > 0 {
			b.kill()
		}
		return refuse("unsupported", "cannot take a mount out of the sandbox: "+err.Error())
	}
	for i := len(b.guest.Mounts) - 1; i >= 0; i-- {
		if !slices.Contains(without, b.guest.Mounts[i].At) {
			continue
		}
		for _, fd := range []int{b.grants[i].host, b.grants[i].mount, b.grants[i].upper} {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
		b.grants = slices.Delete(b.grants, i, i+1)
	}
	b.guest.Mounts = left // one for each of grants, whatever fails after this
	return nil
}

// unmount unmounts paths of another mount namespace, and returns how many. The
// calling thread is of no use afterwards; but as the first of a process cannot
// end, it goes back.
func unmount(ns int, paths []string) (n int, err error) {
	own, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("open", err)
	}
	defer unix.Close(own)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 0, os.NewSyscallError("unshare", err)
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return 0, os.NewSyscallError("setns", err)
	}
	for _, p := range paths {
		if err = unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			break
		}
		n++
	}
	if back := unix.Setns(own, unix.CLONE_NEWNS); back != nil {
		os.Exit(fatal(os.NewSyscallError("setns", back)))
	}
	return n, os.NewSyscallError("umount", err)
}

// alive says whether the sandbox's first process has not ended.
func (b *box) alive() bool { return b.signal(0) == nil }
