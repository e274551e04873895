package linux

import (
	"strconv"

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

// KeepCapabilities is DropCapabilities but for those named, from 0 to 63. What
// the process holds of them stays in its permitted and effective sets and is not
// handed on to a program that it starts; what it does not hold it does not get.
func KeepCapabilities(keep ...int) error {
	effective, permitted, _, err := capget()
	if err != nil {
		return err
	}
	var left capSet
	for _, c := range keep {
		if c < 0 || c > 63 {
			return &Error{Op: "keep capability " + strconv.Itoa(c), Err: unix.EINVAL}
		}
		left[c/32] |= permitted[c/32] & (1 << (c % 32))
	}
	if err := prctlAll("clear ambient capabilities", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return err
	}
	if effective.has(unix.CAP_SETPCAP) {
		if err := DropBounding(); err != nil {
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

// DropBounding empties the bounding set of every thread and locks the
// securebits. Both need CAP_SETPCAP, and neither takes what the process holds
// now. Each capability costs a stop of all threads, some 50 to 100 µs, so a
// process that has to be quick calls this early, while its threads are few;
// DropCapabilities then finds nothing left to do.
func DropBounding() error {
	return dropBounding(prctlAll)
}

// DropBoundingHere is DropBounding for the calling thread alone, at the cost of
// no stop. It is for a process that starts programs from this thread and no
// other, and has locked it (runtime.LockOSThread): what other threads keep is a
// bound on programs that they never start, and bits for a change of user that
// they cannot make; DropCapabilities takes what both are about.
func DropBoundingHere() error {
	return dropBounding(func(op string, option, arg2, arg3 uintptr) error {
		if err := unix.Prctl(int(option), arg2, arg3, 0, 0); err != nil {
			return &Error{Op: op, Err: err}
		}
		return nil
	})
}

func dropBounding(drop func(op string, option, arg2, arg3 uintptr) error) error {
	for c := 0; c < 64; c++ {
		// What this thread has dropped was dropped on purpose, by one of the two
		// functions above.
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err == unix.EINVAL && c > unix.CAP_AUDIT_READ {
			break // the end of the kernel's list
		}
		if err == nil && in != 0 {
			err = drop("capability "+strconv.Itoa(c), unix.PR_CAPBSET_DROP, uintptr(c), 0)
		}
		if err != nil {
			return &Error{Op: "drop bounding capabilities", Err: err}
		}
	}
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return &Error{Op: "read securebits", Err: err}
	}
	if bits == lockedSecurebits {
		return nil
	}
	return drop("lock securebits", unix.PR_SET_SECUREBITS, lockedSecurebits, 0)
}
