package linux

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// LandlockABI is the version of the kernel's Landlock, or 0 where it has none
// or has it switched off.
func LandlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

func createRuleset(attr *unix.LandlockRulesetAttr) (int, error) {
	// A longer structure than the kernel knows is accepted while its tail is
	// zero, which it is: the fields about logging are not used.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr), 0)
	if errno != 0 {
		return -1, &Error{Op: "create landlock ruleset", Err: errno}
	}
	return int(fd), nil
}

func addRule(ruleset, object int, access LandlockAccess, name string) error {
	attr := unix.LandlockPathBeneathAttr{Allowed_access: uint64(access), Parent_fd: int32(object)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	return failed("landlock rule for "+name, errno)
}

// EnterLandlock confines all threads of this process by a ruleset, which it
// leaves open. It needs no_new_privs.
func EnterLandlock(ruleset int) error {
	if LandlockABI() >= 8 {
		_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), unix.LANDLOCK_RESTRICT_SELF_TSYNC, 0)
		return failed("enter landlock", errno)
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0)
	return failed("enter landlock", errno)
}

// enterHere confines the calling thread alone.
func enterHere(ruleset int) error {
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0)
	return failed("enter landlock", errno)
}
