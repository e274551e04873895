package linux

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// install puts a filter on all threads at once.
func install(prog []unix.SockFilter) error {
	fprog := &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(fprog)))
	runtime.KeepAlive(prog)
	if errno == 0 && r != 0 {
		errno = unix.ESRCH // the number of a thread that could not follow
	}
	return failed("install seccomp filter", errno)
}
