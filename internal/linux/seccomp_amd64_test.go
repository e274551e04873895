package linux

import "golang.org/x/sys/unix"

// oldCalls take a path where arm64 has only those that take a folder too.
func oldCalls() map[string]uintptr {
	return map[string]uintptr{
		"chmod": unix.SYS_CHMOD, "open": unix.SYS_OPEN, "creat": unix.SYS_CREAT, "mkdir": unix.SYS_MKDIR, "mknod": unix.SYS_MKNOD,
	}
}
