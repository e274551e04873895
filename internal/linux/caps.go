package linux

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// The two words of a capability set.
type capSet [2]uint32

func (s capSet) has(c int) bool { return s[c/32]&(1<<(c%32)) != 0 }

// lockedSecurebits end what user 0 gains by being user 0: nothing on execve,
// nothing on a change of user, no kept and no ambient capability; all locked.
const lockedSecurebits = 1<<0 | 1<<1 | // NOROOT
	1<<2 | 1<<3 | // NO_SETUID_FIXUP
	1<<5 | // KEEP_CAPS off, locked
	1<<6 | 1<<7 // NO_CAP_AMBIENT_RAISE

// DropCapabilities takes every capability from every thread: ambient, bounding,
// inheritable, permitted and effective, and locks the securebits.
//
// Without CAP_SETPCAP the kernel keeps the bounding set and the securebits as
// they are. That is accepted where no_new_privs is on, for then no execve can
// turn either into a capability; elsewhere it is an error.
func DropCapabilities() error {
	return KeepCapabilities()
}

// KeepCapabilities is DropCapabilities but for those named, which stay in the
// permitted and the effective set of this process and are not handed on to a
// program that it starts. One of them that the process does not hold is an
// error.
func KeepCapabilities(keep ...int) error {
	effective, permitted, _, err := capget()
	if err != nil {
		return err
	}
	var left capSet
	for _, c := range keep {
		if c < 0 || c > 63 || !permitted.has(c) {
			return &Error{Op: "keep capability", Err: unix.EPERM}
		}
		left[c/32] |= 1 << (c % 32)
	}
	if err := prctlAll("clear ambient capabilities", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return err
	}
	if effective.has(unix.CAP_SETPCAP) {
		if err := dropBounding(); err != nil {
			return err
		}
	} else if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || on != 1 {
		return &Error{Op: "drop bounding capabilities", Err: unix.EPERM}
	}
	if err := capsetAll(left); err != nil {
		return err
	}
	effective, permitted, inheritable, err := capget()
	if err != nil {
		return err
	}
	if effective != left || permitted != left || inheritable != (capSet{}) {
		return &Error{Op: "drop capabilities", Err: unix.EPERM}
	}
	return nil
}

// dropBounding empties the bounding set. The kernel says where its list ends.
func dropBounding() error {
	for c := uintptr(0); c < 64; c++ {
		_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0, 0)
		if errno == unix.EINVAL && c > unix.CAP_AUDIT_READ {
			break
		}
		if errno != 0 {
			return &Error{Op: "drop bounding capabilities", Err: errno}
		}
	}
	return prctlAll("lock securebits", unix.PR_SET_SECUREBITS, lockedSecurebits, 0)
}
