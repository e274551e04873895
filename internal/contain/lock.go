package contain

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/plan"
)

func (in *Inside) name(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return os.NewSyscallError("sethostname", err)
	}
	return os.NewSyscallError("setdomainname", unix.Setdomainname([]byte("")))
}

// keyring makes sure that this process has a session keyring without a key. The
// spawner forked it with one of its own, for all threads of a process to get
// another is slow.
func keyring() error {
	if linux.EmptyKeyring() {
		return nil
	}
	return linux.NoKeyring()
}

// loopbackUp raises the loopback device of the sandbox's own network.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return os.NewSyscallError("ioctl SIOCSIFFLAGS", unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req))
}

// limits bounds what one process may hold. The bound of processes counts the
// threads of every process of this user in this user namespace, so this
// process's own are added to it; they are all made before, for a runtime
// that cannot start a thread dies.
func limits(processes, fileSize int64) error {
	Warm(6)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	ls, err := Rlimits(processes+int64(len(tasks)), fileSize)
	if err != nil {
		return err
	}
	for _, l := range ls {
		// Of package syscall, which then does not give a program that it starts the
		// limit of descriptors back which this process began with.
		err := syscall.Setrlimit(l.Resource, &syscall.Rlimit{Cur: l.Soft, Max: l.Hard})
		if err != nil && !within(l) {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	return nil
}

// within says whether a limit is on already. The Sentry does not let it be set
// for what it has none of, and begins with none.
func within(l Rlimit) bool {
	var have unix.Rlimit
	return unix.Getrlimit(l.Resource, &have) == nil && have.Cur <= l.Soft && have.Max <= l.Hard
}

// FileSize is how long a file of g may be, in bytes. Files in memory (memfd) count
// too, and are bounded by the memory first.
func FileSize(g plan.Guest) int64 { return max(g.Disk, 2*g.Memory) }

// An Rlimit is one limit of a process.
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

// Rlimits returns the limits of a guest's processes, none above what this
// process has itself: a user may have been given less.
func Rlimits(processes, fileSize int64) (out []Rlimit, err error) {
	for _, r := range [...]struct {
		resource int
		most     uint64
		soft     bool // a lower soft limit stays
	}{
		{unix.RLIMIT_CORE, 0, false},
		{unix.RLIMIT_FSIZE, uint64(fileSize), false},
		{unix.RLIMIT_NPROC, uint64(processes), false},
		{unix.RLIMIT_NOFILE, 4096, false},
		{unix.RLIMIT_RTPRIO, 0, true}, // a quota of cpu does not hold what runs in real time
		{unix.RLIMIT_NICE, 0, true},
		{unix.RLIMIT_SIGPENDING, 4096, true}, // counted for the user outside too
		{unix.RLIMIT_MSGQUEUE, 800 << 10, true},
		{unix.RLIMIT_MEMLOCK, 8 << 20, true},
	} {
		var have unix.Rlimit
		if err := unix.Getrlimit(r.resource, &have); err != nil {
			return nil, os.NewSyscallError("getrlimit", err)
		}
		l := Rlimit{r.resource, min(r.most, have.Max), min(r.most, have.Max)}
		if r.soft {
			l.Soft = min(have.Cur, l.Hard)
		}
		out = append(out, l)
	}
	return out, nil
}

// Warm makes so many threads, which Go keeps, for this process to block in system
// calls at once: where no more can be made, a Go process that needs one dies.
func Warm(threads int) {
	var ready, done sync.WaitGroup
	release := make(chan struct{})
	ready.Add(threads)
	for range threads {
		done.Go(func() {
			runtime.LockOSThread() // so that each has one of its own
			defer runtime.UnlockOSThread()
			ready.Done()
			<-release
		})
	}
	ready.Wait()
	close(release)
	done.Wait()
}

// seccomp installs the filter that the spawner sent: it is the same for every
// sandbox of a guest.
func (in *Inside) seccomp() error {
	f, err := linux.ParseFilter([]byte(in.Filter))
	if err != nil {
		return err
	}
	in.report.Seccomp = f.Digest()
	return f.Install()
}

// FilterOf returns the filter of a guest.
func FilterOf(g plan.Guest) (linux.Filter, error) {
	switch {
	case g.Runner == TemplateRunner:
		return linux.TemplateFilter()
	case g.HostNetwork:
		return linux.HostNetworkFilter(g.DenySyscalls)
	case g.Fork && !g.Loopback:
		return linux.ForkedFilter(g.DenySyscalls)
	}
	return linux.GuestFilter(g.DenySyscalls)
}

var landlockAccess = map[string]linux.LandlockAccess{
	"list": linux.LandlockList, "read": linux.LandlockRead, "exec": linux.LandlockReadExec,
	"write": linux.LandlockReadWrite, "write-exec": linux.LandlockReadWriteExec, "device": linux.LandlockDevice,
}

// netOf is what Landlock says of the network. It refuses to listen, and leaves
// connecting to the network namespace, which has nothing to connect to: what
// that says (the network is unreachable) programs give up at, and what Landlock
// says (permission denied) many try again.
func netOf(g plan.Guest) linux.LandlockNet {
	return linux.LandlockNet{Allow: g.Loopback && !g.HostNetwork, Connect: true}
}

// landlock is the second wall around the files: the same grants, said once
// more to another part of the kernel.
func (in *Inside) landlock() error {
	var rules []linux.LandlockRule
	for _, r := range in.Rules {
		if r.Access == imageAccess {
			more, err := beneath(r.Path, in.Rules)
			if err != nil {
				return err
			}
			rules = append(rules, more...)
			continue
		}
		a, ok := landlockAccess[r.Access]
		if !ok {
			return errors.New("unknown access " + r.Access)
		}
		rules = append(rules, linux.LandlockRule{Path: r.Path, Access: a})
	}
	// This process stops the guest for a commit from another thread.
	abi, err := linux.LandlockHere(rules, netOf(in.Guest))
	in.report.Landlock = int64(abi)
	return err
}
