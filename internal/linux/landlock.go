package linux

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// A LandlockAccess is a set of rights over a file, or over a folder and all
// that is beneath it.
type LandlockAccess uint64

const (
	landlockFile LandlockAccess = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	landlockWrite LandlockAccess = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REFER
)

// What a rule may give. None holds the right to make a device node. None holds
// the right to reach a unix socket by its path (ABI 9): a domain reaches those
// that it made itself, and no other. On a file the rights that mean folders
// fall away.
const (
	// LandlockList shows the names in a folder.
	LandlockList LandlockAccess = unix.LANDLOCK_ACCESS_FS_READ_DIR
	// LandlockRead is LandlockList, and what is in the files.
	LandlockRead = LandlockList | unix.LANDLOCK_ACCESS_FS_READ_FILE
	// LandlockReadExec is LandlockRead, and the files may be run.
	LandlockReadExec = LandlockRead | unix.LANDLOCK_ACCESS_FS_EXECUTE
	// LandlockReadWrite is LandlockRead, and everything beneath may be made,
	// changed, moved and removed, but not run.
	LandlockReadWrite = LandlockRead | landlockWrite
	// LandlockReadWriteExec is both.
	LandlockReadWriteExec = LandlockReadWrite | unix.LANDLOCK_ACCESS_FS_EXECUTE
	// LandlockDevice is to read, write and control a device, such as the
	// terminals beneath /dev/pts.
	LandlockDevice = LandlockRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// A LandlockRule gives access to one file, or to one folder and what is
// beneath. The object is named by Path, or where Path is empty by FD.
type LandlockRule struct {
	Path   string
	FD     int
	Access LandlockAccess
}

// A LandlockNet says whether the domain may use TCP (ABI 4) and UDP (ABI 10)
// at all: to bind, and to connect or send. Allow leaves both to the network
// namespace. Connect leaves that connecting, sending, and binding UDP, which
// resolvers do, but no listening.
type LandlockNet struct {
	Allow   bool
	Connect bool
}

// handled is every right that Landlock knows in this version of its interface:
// what is handled and not given by a rule is refused.
//
//	1 files   2 REFER   3 TRUNCATE   4 TCP   5 IOCTL_DEV
//	6 signals and abstract unix sockets   9 RESOLVE_UNIX   10 UDP
func handled(abi int, net LandlockNet) unix.LandlockRulesetAttr {
	var a unix.LandlockRulesetAttr
	add := func(since int, to *uint64, rights uint64) {
		if abi >= since {
			*to |= rights
		}
	}
	add(1, &a.Handled_access_fs, unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1-1) // the first thirteen
	add(2, &a.Handled_access_fs, unix.LANDLOCK_ACCESS_FS_REFER)
	add(3, &a.Handled_access_fs, unix.LANDLOCK_ACCESS_FS_TRUNCATE)
	add(5, &a.Handled_access_fs, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV)
	add(9, &a.Handled_access_fs, unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX)
	switch {
	case net.Allow:
	case net.Connect:
		add(4, &a.Handled_access_net, unix.LANDLOCK_ACCESS_NET_BIND_TCP)
	default:
		add(4, &a.Handled_access_net, unix.LANDLOCK_ACCESS_NET_BIND_TCP|unix.LANDLOCK_ACCESS_NET_CONNECT_TCP)
		add(10, &a.Handled_access_net, unix.LANDLOCK_ACCESS_NET_BIND_UDP|unix.LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP)
	}
	add(6, &a.Scoped, unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET|unix.LANDLOCK_SCOPE_SIGNAL)
	return a
}

// Landlock confines all threads of this process, and what it starts, to the
// rules: of files only what they give, of TCP and UDP what net gives, signals
// and abstract unix sockets within the domain alone. It returns the version of
// the kernel's interface, all of whose rights are enforced. It needs
// no_new_privs, and is an error where the kernel has no Landlock.
func Landlock(rules []LandlockRule, net LandlockNet) (abi int, err error) {
	fd, abi, err := LandlockRuleset(rules, net)
	if err != nil {
		return abi, err
	}
	defer unix.Close(fd)
	return abi, EnterLandlock(fd)
}

// LandlockHere is Landlock for a process that starts programs from the calling
// thread, which it has locked, and from no other: signals are scoped for this
// thread and what it starts, and the other threads of this process may still
// signal those. Landlock cannot do that: before ABI 8 each thread gets a domain
// of its own, and what one thread started no other could signal.
func LandlockHere(rules []LandlockRule, net LandlockNet) (abi int, err error) {
	fd, abi, err := ruleset(rules, net, unix.LANDLOCK_SCOPE_SIGNAL)
	if err != nil {
		return abi, err
	}
	defer unix.Close(fd)
	if err := EnterLandlock(fd); err != nil || abi < 6 {
		return abi, err
	}
	signals, err := createRuleset(&unix.LandlockRulesetAttr{Scoped: unix.LANDLOCK_SCOPE_SIGNAL})
	if err != nil {
		return abi, err
	}
	defer unix.Close(signals)
	return abi, enterHere(signals)
}

// LandlockRuleset prepares what EnterLandlock enters, and returns its
// descriptor, which is closed on execve.
func LandlockRuleset(rules []LandlockRule, net LandlockNet) (fd, abi int, err error) {
	return ruleset(rules, net, 0)
}

// ruleset leaves out the scopes in unscoped.
func ruleset(rules []LandlockRule, net LandlockNet, unscoped uint64) (fd, abi int, err error) {
	abi = LandlockABI()
	if abi == 0 {
		return -1, 0, &Error{Op: "landlock", Err: unix.EOPNOTSUPP}
	}
	attr := handled(abi, net)
	attr.Scoped &^= unscoped
	fd, err = createRuleset(&attr)
	if err != nil {
		return -1, abi, err
	}
	for _, r := range rules {
		if err := r.add(fd, LandlockAccess(attr.Handled_access_fs)); err != nil {
			unix.Close(fd)
			return -1, abi, err
		}
	}
	return fd, abi, nil
}

func (r LandlockRule) add(ruleset int, handled LandlockAccess) error {
	object, name := r.FD, r.Path
	if r.Path == "" {
		name = "descriptor " + strconv.Itoa(r.FD)
	} else {
		fd, err := unix.Open(r.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return &Error{Op: "landlock rule for " + name, Err: err}
		}
		defer unix.Close(fd)
		object = fd
	}
	var st unix.Stat_t
	if err := unix.Fstat(object, &st); err != nil {
		return &Error{Op: "landlock rule for " + name, Err: err}
	}
	access := r.Access & handled
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= landlockFile
	}
	if access == 0 {
		// The kernel refuses an empty rule, which would give nothing.
		return nil
	}
	return addRule(ruleset, object, access, name)
}
