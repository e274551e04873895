//go:build !amd64

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
