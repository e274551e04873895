package attack

import (
	"errors"

	"golang.org/x/sys/unix"
)

// harmful says whether a system call does something whatever its arguments
// are: it ends or stops its caller, or writes out the host's disks.
func harmful(nr int) bool {
	switch nr {
	case unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_RT_SIGRETURN, unix.SYS_SYNC:
		return true
	}
	return false
}

var errNoForeign = errors.New("this attacker knows no foreign interface of this architecture")

func foreign([]string) (string, error)     { return "", errNoForeign }
func foreignCall([]string) (string, error) { return "", errNoForeign }

// exitCode is machine code that ends a process with tinyStatus, and the number
// of this machine. elf.h
func exitCode() (uint16, []byte) {
	// mov x0, tinyStatus; mov x8, SYS_EXIT; svc 0
	return 183, []byte{0x40, 0x05, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4}
}
