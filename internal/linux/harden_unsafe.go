package linux

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// joinKeyringAll makes the keyring of this name the session keyring of every
// thread.
func joinKeyringAll(name string) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return &Error{Op: "join session keyring", Err: err}
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, uintptr(unsafe.Pointer(p)), 0)
	runtime.KeepAlive(p)
	return failed("join session keyring", errno)
}
