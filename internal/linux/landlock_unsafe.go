package linux

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// LandlockAccess is a set of rights of Landlock to files and folders
// (landlock(7)); which of them a kernel knows depends on its ABI.
type LandlockAccess uint64

// The sets that a rule may give.
const (
	LandlockList          LandlockAccess = unix.LANDLOCK_ACCESS_FS_READ_DIR
	LandlockRead                         = LandlockList | unix.LANDLOCK_ACCESS_FS_READ_FILE
	LandlockReadExec                     = LandlockRead | unix.LANDLOCK_ACCESS_FS_EXECUTE
	LandlockReadWrite                    = LandlockRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	LandlockReadWriteExec                = LandlockReadWrite | unix.LANDLOCK_ACCESS_FS_EXECUTE
	LandlockDevice                       = LandlockRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// The rights that a rule for a file, not a folder, may hold.
const landlockFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

// A LandlockRule allows Access beneath Path, or beneath what FD refers to
// where Path is "".
type LandlockRule struct {
	Path   string
	FD     int
	Access LandlockAccess
}

// LandlockNet says whether TCP may be used; without it bind and connect are
// refused.
type LandlockNet struct{ Allow bool }

// LandlockABI is the version of Landlock that this kernel has; 0 is none.
func LandlockABI() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// Landlock keeps every thread of this process, and what it starts, to the
// rules, in everything that this kernel's Landlock can hold: files, TCP,
// signals and abstract unix sockets to outside. It needs no_new_privs, and
// returns the ABI. A kernel without Landlock is an error.
func Landlock(rules []LandlockRule, net LandlockNet) (abi int, err error) {
	abi = LandlockABI()
	if abi == 0 {
		return 0, os.NewSyscallError("landlock_create_ruleset", unix.ENOSYS)
	}
	attr := handled(abi, net)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	defer unix.Close(int(fd))
	for _, r := range rules {
		if err := addRule(int(fd), r, LandlockAccess(attr.Access_fs)); err != nil {
			return 0, err
		}
	}
	return abi, allThreads("landlock_restrict_self", unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
}

// handled is everything that an ABI can hold (landlock(7), "versions").
func handled(abi int, net LandlockNet) unix.LandlockRulesetAttr {
	var a unix.LandlockRulesetAttr
	a.Access_fs = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // ABI 1: the first 13 rights
	if abi >= 2 {
		a.Access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		a.Access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 && !net.Allow {
		a.Access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 5 {
		a.Access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		a.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return a
}

func addRule(ruleset int, r LandlockRule, known LandlockAccess) error {
	fd := r.FD
	if r.Path != "" {
		var err error
		if fd, err = unix.Open(r.Path, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0); err != nil {
			return &os.PathError{Op: "landlock", Path: r.Path, Err: err}
		}
		defer unix.Close(fd)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "landlock", Path: r.Path, Err: err}
	}
	access := r.Access & known
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= landlockFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: uint64(access), Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	runtime.KeepAlive(&rule)
	if errno != 0 {
		return &os.PathError{Op: "landlock_add_rule", Path: r.Path, Err: errno}
	}
	return nil
}
