package linux

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxDeny is how many system calls a profile can take away, and maxCallName how
// long the name of one is.
const (
	MaxDeny     = 512
	maxCallName = 64
)

// GuestFilter is the filter of guests: what bash, coreutils, CPython, Node, the
// JVM, gcc, git, Go and Rust programs call, and nothing else. The calls in deny
// are taken away too, and give EPERM; one that is not allowed anyway stays as it
// is. A name that is no system call is an error with the nearest that is one,
// and so is one without which no guest could start or end.
//
// What is not allowed gives EPERM, or ENOSYS where a program that is told so
// takes another way; see guestRefused and guestAbsent. No call of a guest is
// answered by ending it but one through a foreign interface.
func GuestFilter(deny []string) (Filter, error) { return newGuestFilter(deny, ownNetwork) }

// HostNetworkFilter is GuestFilter for a guest in the host's own network
// namespace. It makes no unix socket but pairs: abstract names belong to that
// namespace, and Landlock keeps a guest from them only since Linux 6.12.
func HostNetworkFilter(deny []string) (Filter, error) { return newGuestFilter(deny, hostNetwork) }

// ForkedFilter is GuestFilter for a guest that shares its network namespace,
// whose loopback is down, with other guests: no socket of it can hold a number
// that another would miss. It makes unix sockets where Landlock keeps guests
// from each other's abstract ones (ABI 6), and elsewhere pairs alone.
func ForkedFilter(deny []string) (Filter, error) {
	if LandlockABI() < 6 {
		return newGuestFilter(deny, pairsAlone)
	}
	return newGuestFilter(deny, sharedNetwork)
}

// A network says with whom a guest shares its network namespace, and so which
// sockets it makes.
type network int

const (
	ownNetwork    network = iota // with nobody
	hostNetwork                  // with the host
	sharedNetwork                // with other guests
	pairsAlone                   // so too, where Landlock does not part them
)

func newGuestFilter(deny []string, n network) (Filter, error) {
	a, err := thisArch()
	if err != nil {
		return Filter{}, err
	}
	if err := CheckDeny(deny); err != nil {
		return Filter{}, err
	}
	return guestFilter(a, deny, n), nil
}

// CheckDeny says whether a filter can be made that refuses these calls.
func CheckDeny(deny []string) error {
	if len(deny) > MaxDeny {
		return &Error{Op: "deny " + strconv.Itoa(len(deny)) + " system calls, at most " + strconv.Itoa(MaxDeny), Err: unix.E2BIG}
	}
	for _, name := range deny {
		switch {
		case len(name) > maxCallName:
			return &Error{Op: "deny a system call with a name of " + strconv.Itoa(len(name)) + " bytes", Err: unix.ENAMETOOLONG}
		case !known(name):
			return &Error{Op: "deny system call " + strconv.Quote(name) + ": there is none" + meant(name), Err: unix.EINVAL}
		case slices.Contains(strings.Fields(guestNeeds), name):
			return &Error{Op: "deny system call " + name + ": no guest can start or end without it; leave it out", Err: unix.EINVAL}
		}
	}
	return nil
}

// newSpaces are the bits by which clone makes namespaces. CLONE_NEWTIME stands
// where that call keeps the signal, so it cannot be asked for.
const newSpaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

func guestFilter(a arch, deny []string, n network) Filter { return a.filter(decisions(deny, n)) }

// decisions returns what a guest gets for each call.
func decisions(deny []string, n network) func(name string) *decision {
	allow, refuse, absent := act(unix.SECCOMP_RET_ALLOW), errno(unix.EPERM), errno(unix.ENOSYS)
	decide := map[string]*decision{}
	for _, list := range []struct {
		names string
		give  *decision
	}{{guestAllowed, allow}, {guestRefused, refuse}, {guestAbsent, absent}} {
		for _, name := range strings.Fields(list.names) {
			decide[name] = list.give
		}
	}
	for name, d := range guestChecked(allow, refuse, absent, n) {
		decide[name] = d
	}
	for _, name := range deny {
		if d := decide[name]; d != refuse && d != absent {
			decide[name] = refuse
		}
	}
	return func(name string) *decision {
		if d := decide[name]; d != nil {
			return d
		}
		return absent
	}
}

// guestChecked are the calls whose arguments decide.
func guestChecked(allow, refuse, absent *decision, n network) map[string]*decision {
	invalid := errno(unix.EINVAL)

	// A file with the set-user-ID or set-group-ID bit that a guest leaves in a
	// write grant runs as its owner on the host. A guest can leave one without
	// any capability, so the bits are refused in every argument that has a mode.
	// Two ways have none to look at: openat2, which is absent, and
	// security.capability set by setxattr, for which the kernel wants
	// CAP_SETFCAP, which no guest has.
	const setID = unix.S_ISUID | unix.S_ISGID
	mode := func(n int) *decision { return on(arg(n), setID, allow, refuse, 0) }
	// The mode of open is random unless the call can make a file.
	const create = unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY
	open := func(n int) *decision { return on(arg(n), create, allow, mode(n+1), 0) }
	// Devices: the kernel lets everybody make the one numbered 0:0, with which
	// an overlay marks what is removed.
	node := func(n int) *decision {
		return on(arg(n), unix.S_IFMT, refuse, mode(n), unix.S_IFCHR, unix.S_IFBLK)
	}

	// A session's guest is stopped while its writes are carried to the host. The
	// kernel wakes what is stopped by a SIGCONT that a guest ordered before: of a
	// timer (what timeout(1) asks for has no pointer, and is SIGALRM; all 64 bits
	// of it count), or of a descriptor.
	timer := on(arg(1), whole, on(arg(1)+4, whole, allow, absent, 0), absent, 0)

	return map[string]*decision{
		"timer_create": timer, "fcntl": on(arg(1), whole, refuse, allow, unix.F_SETSIG),

		"chmod": mode(1), "fchmod": mode(1), "fchmodat": mode(2), "fchmodat2": mode(2),
		"creat": mode(1), "mkdir": mode(1), "mkdirat": mode(2),
		"open": open(1), "openat": open(2),
		"mknod": node(1), "mknodat": node(2),
		"renameat2": on(arg(4), unix.RENAME_WHITEOUT, allow, invalid, 0), // makes such a device

		"clone":       on(arg(0), newSpaces, allow, refuse, 0),
		"socket":      guestSocket(allow, refuse, n),
		"socketpair":  on(arg(0), whole, allow, errno(unix.EAFNOSUPPORT), unix.AF_UNIX),
		"setsockopt":  sockopt(allow, refuse),
		"ioctl":       on(arg(1), whole, refuse, allow, unix.TIOCSTI, unix.TIOCLINUX, unix.TIOCSETD),
		"personality": on(arg(0), whole, allow, refuse, 0, whole), // set to Linux, ask
		"prctl":       on(arg(0), whole, allow, refuse, guestPrctl()...),
		"arch_prctl":  on(arg(0), whole, allow, invalid, guestArchPrctl()...),
		// A guest may confine itself further, but not answer the calls of its
		// children itself: that is a way around what the filter looks at.
		"seccomp": on(arg(0), whole,
			on(arg(1), unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, allow, refuse, 0), allow, unix.SECCOMP_SET_MODE_FILTER),
	}
}

// guestSocket lets the families that programs need through, with the protocols
// that they have by default, so that no call loads or reaches another part of
// the kernel. AF_VSOCK leads out of a network namespace to a hypervisor, AF_ALG
// has written into the page cache (CVE-2026-31431), MPTCP passes Landlock's
// rules for TCP.
//
// NETLINK_ROUTE is needed to list the network interfaces. The filter cannot see
// a message that writes: the kernel refuses it, for it wants CAP_NET_ADMIN over
// the network namespace, which belongs to the sandbox's user namespace, in
// which the guest has no capability.
func guestSocket(allow, refuse *decision, n network) *decision {
	const typeMask = 0xf // the rest are SOCK_NONBLOCK and SOCK_CLOEXEC
	protocol := errno(unix.EPROTONOSUPPORT)
	inet := &decision{ask: arg(1), mask: typeMask, otherwise: refuse, answers: []answer{
		{unix.SOCK_STREAM, on(arg(2), whole, allow, protocol, 0, unix.IPPROTO_TCP)},
		{unix.SOCK_DGRAM, on(arg(2), whole, allow, protocol, 0, unix.IPPROTO_UDP)},
	}}
	route := on(arg(1), typeMask, on(arg(2), whole, allow, protocol, unix.NETLINK_ROUTE), refuse, unix.SOCK_RAW, unix.SOCK_DGRAM)
	var families []answer
	if n == ownNetwork || n == hostNetwork {
		families = []answer{{unix.AF_INET, inet}, {unix.AF_INET6, inet}, {unix.AF_NETLINK, route}}
	}
	if n == ownNetwork || n == sharedNetwork {
		families = append(families, answer{unix.AF_UNIX, on(arg(1), typeMask, allow, refuse, unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET)})
	}
	return &decision{ask: arg(0), mask: whole, otherwise: errno(unix.EAFNOSUPPORT), answers: families}
}

// sockopt refuses the options that bring programs and protocol layers into the
// kernel: classic and extended BPF on a socket, and TLS or another layer on TCP.
func sockopt(allow, refuse *decision) *decision {
	return &decision{ask: arg(1), mask: whole, otherwise: allow, answers: []answer{
		{unix.SOL_SOCKET, on(arg(2), whole, refuse, allow,
			unix.SO_ATTACH_FILTER, unix.SO_ATTACH_BPF, unix.SO_ATTACH_REUSEPORT_CBPF, unix.SO_ATTACH_REUSEPORT_EBPF)},
		{unix.SOL_TCP, on(arg(2), whole, errno(unix.ENOPROTOOPT), allow, unix.TCP_ULP)},
	}}
}
