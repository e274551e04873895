package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The functions below are for descriptors that do not block; see Quick. Of one
// that blocks they stop the process.

// TryRead reads what is there; unix.EAGAIN says that nothing is.
func TryRead(fd int, b []byte) (int, error) {
	return try(unix.SYS_READ, fd, b, 0)
}

// TryWrite writes what there is room for.
func TryWrite(fd int, b []byte) (int, error) {
	return try(unix.SYS_WRITE, fd, b, 0)
}

// TrySend sends one packet; a peer that is gone is an error and no signal.
func TrySend(fd int, b []byte) (int, error) {
	return try(unix.SYS_SENDTO, fd, b, unix.MSG_NOSIGNAL)
}

func try(call uintptr, fd int, b []byte, flags uintptr) (int, error) {
	for {
		n, _, e := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		switch e {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}

// TryRecv receives one packet, and the control messages that came with it.
func TryRecv(fd int, b, oob []byte) (n, oobn, flags int, err error) {
	vec := unix.Iovec{Base: unsafe.SliceData(b)}
	vec.SetLen(len(b))
	msg := unix.Msghdr{Iov: &vec, Control: unsafe.SliceData(oob)}
	msg.SetIovlen(1)
	msg.SetControllen(len(oob))
	for {
		n, _, e := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_CMSG_CLOEXEC)
		switch e {
		case 0:
			return int(n), int(msg.Controllen), int(msg.Flags), nil
		case unix.EINTR:
			msg.SetControllen(len(oob))
		default:
			return 0, 0, 0, e
		}
	}
}
