// Package linux wraps the kernel's facilities of confinement: seccomp,
// Landlock, capabilities, resource limits. What a process does to itself here
// it does to all of its threads, and cannot take back.
//
// Every function reports what the kernel refused; none of them enforces less
// than it was asked.
package linux

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// NoNewPrivs makes sure that no exec of this process or its children can gain
// a privilege (set-user-ID, file capabilities).
func NoNewPrivs() error {
	return allThreads("prctl PR_SET_NO_NEW_PRIVS", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
}

// NotDumpable keeps processes of the same user from this one's memory and
// descriptors, and core files from being written.
func NotDumpable() error {
	return os.NewSyscallError("prctl PR_SET_DUMPABLE", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

// NoKeyring gives this process an empty session keyring of its own. A kernel
// without keyrings needs none.
func NoKeyring() error {
	_, err := unix.KeyctlJoinSessionKeyring("")
	if errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return os.NewSyscallError("keyctl JOIN_SESSION_KEYRING", err)
}

// allThreads makes one system call in every thread of the process.
func allThreads(name string, trap, a1, a2, a3 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3); errno != 0 {
		return os.NewSyscallError(name, errno)
	}
	return nil
}

// Rlimits bounds what one process may hold; the hard limits are set with the
// soft ones.
type Rlimits struct {
	NoFile uint64 // descriptors
	FSize  uint64 // bytes of one file; 0 is not set
	NProc  uint64 // threads of this user in this user namespace; 0 is not set
	Core   uint64 // bytes
}

// Apply sets the limits.
func (l Rlimits) Apply() error {
	for _, x := range []struct {
		resource int
		n        uint64
		set      bool
	}{
		{unix.RLIMIT_NOFILE, l.NoFile, true}, {unix.RLIMIT_CORE, l.Core, true}, {unix.RLIMIT_FSIZE, l.FSize, l.FSize > 0},
		{unix.RLIMIT_NPROC, l.NProc, l.NProc > 0}, {unix.RLIMIT_MEMLOCK, 64 << 10, true}, {unix.RLIMIT_MSGQUEUE, 800 << 10, true},
		{unix.RLIMIT_SIGPENDING, 1024, true}, {unix.RLIMIT_RTPRIO, 0, true}, {unix.RLIMIT_NICE, 0, true},
	} {
		if !x.set {
			continue
		}
		var have unix.Rlimit
		if err := unix.Getrlimit(x.resource, &have); err != nil {
			return os.NewSyscallError("getrlimit", err)
		}
		n := min(x.n, have.Max)
		if err := unix.Setrlimit(x.resource, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	return nil
}
