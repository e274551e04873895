package linux

import (
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// An Error says which operation failed, on what, and why.
type Error struct {
	Op  string
	Err error
}

func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// failed is an Error, or nil if errno is 0.
func failed(op string, errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return &Error{Op: op, Err: errno}
}

func prctlAll(op string, option, arg2, arg3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, option, arg2, arg3, 0, 0, 0)
	return failed(op, errno)
}

// NoNewPrivs makes sure that no program which this process starts gains
// anything by its set-user-ID bit or its file capabilities. A process whose
// parent had it is born with it, and so are its threads.
func NoNewPrivs() error {
	if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && on == 1 {
		return nil // no thread here asks for it alone
	}
	return prctlAll("set no_new_privs", unix.PR_SET_NO_NEW_PRIVS, 1, 0)
}

// NotDumpable closes /proc/self to processes of the same user, refuses their
// ptrace and leaves no core. It lasts until the next execve, so whoever is
// started does it again.
func NotDumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return &Error{Op: "set non-dumpable", Err: err}
	}
	return nil
}

// FreshKeyring gives the calling thread a new, empty session keyring, which what
// it forks next is born with. On a kernel without keyrings it does nothing.
func FreshKeyring() error {
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS {
		return &Error{Op: "make session keyring", Err: err}
	}
	return nil
}

// EmptyKeyring says whether the calling thread has a session keyring that holds
// no key, or the kernel has no keyrings.
func EmptyKeyring() bool {
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, unix.KEY_SPEC_SESSION_KEYRING, nil, 0)
	return err == unix.ENOSYS || err == nil && n == 0
}

// NoKeyring gives every thread a new, empty session keyring in place of the
// one that the process inherited, with the keys that its user put there. On a
// kernel without keyrings it does nothing.
//
// A thread that joins a keyring without a name gets one of its own, and
// AllThreadsSyscall ends a process whose threads got different answers. So one
// keyring is made under a name that nobody can guess, held by this thread while
// all threads join it, and its door is shut again.
func NoKeyring() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var b [16]byte
	if n, err := unix.Getrandom(b[:], 0); err != nil || n != len(b) {
		return &Error{Op: "name session keyring", Err: unix.EIO}
	}
	name := "casemate"
	for _, x := range b {
		name += "-" + strconv.Itoa(int(x))
	}
	id, err := unix.KeyctlJoinSessionKeyring(name)
	if err == unix.ENOSYS {
		return nil
	}
	if err != nil {
		return &Error{Op: "make session keyring", Err: err}
	}
	const closed = 0x3f000000 // the possessor everything, nobody else anything
	const search = 0x00080000 // the owner may find it by its name
	if err := unix.KeyctlSetperm(id, closed|search); err != nil {
		return &Error{Op: "open session keyring", Err: err}
	}
	if _, err := unix.KeyctlInt(unix.KEYCTL_LINK, id, unix.KEY_SPEC_THREAD_KEYRING, 0, 0); err != nil {
		return &Error{Op: "hold session keyring", Err: err}
	}
	// A thread that has the keyring already is answered 0 and not its number:
	// this one leaves it first.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
		return &Error{Op: "leave session keyring", Err: err}
	}
	if err := joinKeyringAll(name); err != nil {
		return err
	}
	if _, err := unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_THREAD_KEYRING, 0, 0); err != nil {
		return &Error{Op: "release session keyring", Err: err}
	}
	if err := unix.KeyctlSetperm(id, closed); err != nil {
		return &Error{Op: "close session keyring", Err: err}
	}
	return nil
}
