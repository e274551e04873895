package contain

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/linux"
)

func (in *Inside) name(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return os.NewSyscallError("sethostname", err)
	}
	return os.NewSyscallError("setdomainname", unix.Setdomainname([]byte("")))
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
	warm()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	l := linux.Rlimits{NoFile: 4096, FSize: uint64(fileSize), NProc: uint64(processes) + uint64(len(tasks))}
	for resource, n := range map[int]*uint64{unix.RLIMIT_NOFILE: &l.NoFile, unix.RLIMIT_FSIZE: &l.FSize, unix.RLIMIT_NPROC: &l.NProc} {
		var have unix.Rlimit
		if err := unix.Getrlimit(resource, &have); err != nil {
			return os.NewSyscallError("getrlimit", err)
		}
		*n = min(*n, have.Max) // a user may have been given less
	}
	for _, most := range [...]struct {
		resource int
		limit    uint64
	}{
		{unix.RLIMIT_RTPRIO, 0}, // a quota of cpu does not hold what runs in real time
		{unix.RLIMIT_NICE, 0},
		{unix.RLIMIT_SIGPENDING, 4096}, // counted for the user outside too
		{unix.RLIMIT_MSGQUEUE, 800 << 10},
		{unix.RLIMIT_MEMLOCK, 8 << 20},
	} {
		var have unix.Rlimit
		if err := unix.Getrlimit(most.resource, &have); err != nil {
			return os.NewSyscallError("getrlimit", err)
		}
		have.Max = min(have.Max, most.limit)
		have.Cur = min(have.Cur, have.Max)
		if err := unix.Setrlimit(most.resource, &have); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	return l.Apply()
}

// warm makes the threads that this process will ever block in system calls
// at once; Go keeps them.
func warm() {
	const threads = 6
	var p [2]int
	if unix.Pipe2(p[:], unix.O_CLOEXEC) != nil {
		return
	}
	var wg sync.WaitGroup
	for range threads {
		wg.Go(func() {
			var b [1]byte
			unix.Read(p[0], b[:])
		})
	}
	unix.Write(p[1], make([]byte, threads))
	unix.Close(p[1])
	wg.Wait()
	unix.Close(p[0])
}

func (in *Inside) seccomp() error {
	f := <-in.filter
	if f.err != nil {
		return f.err
	}
	in.report.Seccomp = f.Digest()
	return f.Install()
}

// landlock is the second wall around the files: the same grants, said once
// more to another part of the kernel.
func (in *Inside) landlock() error {
	access := map[string]linux.LandlockAccess{
		"list": linux.LandlockList, "read": linux.LandlockRead, "exec": linux.LandlockReadExec,
		"write": linux.LandlockReadWrite, "write-exec": linux.LandlockReadWriteExec, "device": linux.LandlockDevice,
	}
	var rules []linux.LandlockRule
	for _, r := range in.Rules {
		a, ok := access[r.Access]
		if !ok {
			return errors.New("unknown access " + r.Access)
		}
		rules = append(rules, linux.LandlockRule{Path: r.Path, Access: a})
	}
	// This process stops the guest for a commit from another thread.
	abi, err := linux.LandlockHere(rules, linux.LandlockNet{Allow: in.Guest.Loopback && !in.Guest.HostNetwork, Connect: in.Guest.HostNetwork})
	in.report.Landlock = int64(abi)
	return err
}
