package linux

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func capget() (effective, permitted, inheritable capSet, err error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return effective, permitted, inheritable, &Error{Op: "read capabilities", Err: err}
	}
	for i, d := range data {
		effective[i], permitted[i], inheritable[i] = d.Effective, d.Permitted, d.Inheritable
	}
	return effective, permitted, inheritable, nil
}

// capsetAll makes left the permitted and effective set of every thread, and the
// inheritable set empty.
func capsetAll(left capSet) error {
	hdr := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{}
	for i := range data {
		data[i] = unix.CapUserData{Effective: left[i], Permitted: left[i]}
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(hdr)), uintptr(unsafe.Pointer(data)), 0)
	runtime.KeepAlive(hdr)
	runtime.KeepAlive(data)
	return failed("drop capabilities", errno)
}
