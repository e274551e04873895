package linux

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var archs = []string{"amd64", "arm64"}

func TestEveryCallIsListedOnce(t *testing.T) {
	lists := map[string]int{}
	for _, list := range []string{guestAllowed, guestRefused, guestAbsent} {
		for _, name := range strings.Fields(list) {
			lists[name]++
		}
	}
	for name := range guestChecked(act(1), act(2), act(3), ownNetwork) {
		lists[name]++
	}
	for name, n := range lists {
		if n != 1 {
			t.Errorf("%s is listed %d times", name, n)
		}
		if !known(name) {
			t.Errorf("%s is no system call", name)
		}
	}
	for _, goarch := range archs {
		a, _ := archOf(goarch)
		for _, c := range a.calls {
			if lists[c.name] == 0 {
				t.Errorf("%s of %s is in no list", c.name, goarch)
			}
		}
	}
	for _, list := range []string{guestNeeds, routerAllowed, routerPaths} {
		for _, name := range strings.Fields(list) {
			if !known(name) {
				t.Errorf("%s is no system call", name)
			}
		}
	}
	for _, name := range strings.Fields(guestNeeds) {
		if lists[name] != 1 || slices.Contains(strings.Fields(guestRefused+guestAbsent), name) {
			t.Errorf("%s is needed and not allowed", name)
		}
	}
}

const (
	allowed = unix.SECCOMP_RET_ALLOW
	killed  = unix.SECCOMP_RET_KILL_PROCESS
)

func gives(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }

// high is set where no comparison may look.
const high = 0xdeadbeef << 32

type row struct {
	call string
	args [6]uint64
	want uint32
}

func guestRows() []row {
	eperm, enosys, noFamily, noProtocol := gives(unix.EPERM), gives(unix.ENOSYS), gives(unix.EAFNOSUPPORT), gives(unix.EPROTONOSUPPORT)
	const tmpfile = 0o20000000
	rows := []row{
		{"read", [6]uint64{}, allowed},
		{"execve", [6]uint64{}, allowed},
		{"clone3", [6]uint64{}, enosys},
		{"openat2", [6]uint64{}, enosys},
		{"io_uring_setup", [6]uint64{}, enosys},
		{"unshare", [6]uint64{}, eperm},

		{"clone", [6]uint64{uint64(unix.SIGCHLD)}, allowed},
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_VFORK | uint64(unix.SIGCHLD)}, allowed},
		{"clone", [6]uint64{0x3d0f00}, allowed}, // pthread_create

		{"chmod", [6]uint64{0, 0o777}, allowed}, {"chmod", [6]uint64{0, 0o1777}, allowed},
		{"chmod", [6]uint64{0, 0o4755}, eperm}, {"chmod", [6]uint64{0, high | 0o2755}, eperm},
		{"fchmod", [6]uint64{0, 0o6755}, eperm}, {"fchmodat", [6]uint64{0, 0, 0o4000}, eperm},
		{"fchmodat", [6]uint64{0, 0o4000, 0o644}, allowed}, {"fchmodat2", [6]uint64{0, 0, 0o4000}, eperm},
		{"creat", [6]uint64{0, 0o4755}, eperm}, {"creat", [6]uint64{0, 0o644}, allowed},
		{"mkdir", [6]uint64{0, 0o2755}, eperm}, {"mkdirat", [6]uint64{0, 0, 0o2755}, eperm}, {"mkdirat", [6]uint64{0, 0o4000, 0o755}, allowed},
		{"open", [6]uint64{0, unix.O_CREAT, 0o4755}, eperm}, {"open", [6]uint64{0, unix.O_CREAT, 0o644}, allowed},
		{"open", [6]uint64{0, unix.O_RDONLY, 0o7777}, allowed},
		{"openat", [6]uint64{0, 0, unix.O_CREAT | unix.O_EXCL, 0o4755}, eperm}, {"openat", [6]uint64{0, 0, high | unix.O_CREAT, high | 0o2000}, eperm},
		{"openat", [6]uint64{0, 0, tmpfile | unix.O_RDWR, 0o4755}, eperm}, {"openat", [6]uint64{0, 0, tmpfile, 0o600}, allowed},
		{"openat", [6]uint64{0, 0, unix.O_DIRECTORY, 0o7777}, allowed},
		{"mknod", [6]uint64{0, unix.S_IFIFO | 0o644}, allowed}, {"mknod", [6]uint64{0, unix.S_IFCHR | 0o644}, eperm},
		{"mknodat", [6]uint64{0, 0, unix.S_IFBLK | 0o644}, eperm}, {"mknodat", [6]uint64{0, 0, unix.S_IFREG | 0o4755}, eperm},
		{"mknodat", [6]uint64{0, 0, 0o4755}, eperm}, {"mknodat", [6]uint64{0, 0, high | 0o644}, allowed},
		{"renameat2", [6]uint64{0, 0, 0, 0, unix.RENAME_NOREPLACE}, allowed}, {"renameat2", [6]uint64{0, 0, 0, 0, unix.RENAME_WHITEOUT}, gives(unix.EINVAL)},

		{"socket", [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC}, allowed},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_NONBLOCK, 6}, allowed},
		{"socket", [6]uint64{unix.AF_INET6, unix.SOCK_DGRAM}, allowed},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_RAW, 1}, eperm}, {"socket", [6]uint64{unix.AF_INET6, unix.SOCK_RAW, 58}, eperm},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_DGRAM, 1}, noProtocol}, {"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM, 132}, noProtocol},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM, 262}, noProtocol}, {"socket", [6]uint64{unix.AF_INET, unix.SOCK_SEQPACKET}, eperm},
		{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, allowed},
		{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE}, allowed},
		{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, noProtocol},
		{"socket", [6]uint64{high | unix.AF_ALG, unix.SOCK_SEQPACKET}, noFamily},
		{"socketpair", [6]uint64{unix.AF_UNIX}, allowed}, {"socketpair", [6]uint64{unix.AF_TIPC}, noFamily},
		{"setsockopt", [6]uint64{3, unix.SOL_SOCKET, unix.SO_REUSEADDR}, allowed}, {"setsockopt", [6]uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, eperm},
		{"setsockopt", [6]uint64{3, unix.SOL_TCP, unix.TCP_NODELAY}, allowed}, {"setsockopt", [6]uint64{3, unix.SOL_TCP, unix.TCP_ULP}, gives(unix.ENOPROTOOPT)},

		{"ioctl", [6]uint64{0, unix.TCGETS}, allowed}, {"ioctl", [6]uint64{0, unix.TIOCGWINSZ}, allowed},
		{"ioctl", [6]uint64{0, unix.TIOCSTI}, eperm}, {"ioctl", [6]uint64{0, high | unix.TIOCSTI}, eperm},
		{"ioctl", [6]uint64{0, high | unix.TIOCLINUX}, eperm}, {"ioctl", [6]uint64{0, unix.TIOCSETD}, eperm},

		{"timer_create", [6]uint64{1, 0}, allowed}, {"timer_create", [6]uint64{1, 0x7000}, enosys}, {"timer_create", [6]uint64{1, 1 << 32}, enosys},
		{"fcntl", [6]uint64{0, unix.F_SETFL}, allowed}, {"fcntl", [6]uint64{0, unix.F_SETSIG}, eperm}, {"fcntl", [6]uint64{0, high | unix.F_SETSIG}, eperm},
		{"mq_notify", [6]uint64{}, eperm},

		{"personality", [6]uint64{0}, allowed}, {"personality", [6]uint64{0xffffffff}, allowed},
		{"personality", [6]uint64{8}, eperm}, {"personality", [6]uint64{0x0040000}, eperm},
		{"prctl", [6]uint64{unix.PR_SET_NAME}, allowed}, {"prctl", [6]uint64{unix.PR_SET_VMA}, allowed},
		{"prctl", [6]uint64{unix.PR_SET_MM}, eperm}, {"prctl", [6]uint64{high | unix.PR_SET_MM}, eperm},
		{"prctl", [6]uint64{unix.PR_SET_SPECULATION_CTRL}, eperm}, {"prctl", [6]uint64{unix.PR_SET_SECUREBITS}, eperm}, {"prctl", [6]uint64{9999}, eperm},
		{"arch_prctl", [6]uint64{0x1002}, allowed}, {"arch_prctl", [6]uint64{0x2001}, gives(unix.EINVAL)},
		{"seccomp", [6]uint64{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC}, allowed},
		{"seccomp", [6]uint64{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}, eperm},
		{"seccomp", [6]uint64{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC}, eperm},
		{"seccomp", [6]uint64{unix.SECCOMP_GET_ACTION_AVAIL}, allowed},
	}
	for _, space := range []uint64{unix.CLONE_NEWNS, unix.CLONE_NEWCGROUP, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC, unix.CLONE_NEWUSER, unix.CLONE_NEWPID, unix.CLONE_NEWNET} {
		rows = append(rows, row{"clone", [6]uint64{high | space | uint64(unix.SIGCHLD)}, eperm})
	}
	for family := uint64(0); family < 64; family++ {
		if family != unix.AF_UNIX && family != unix.AF_INET && family != unix.AF_INET6 && family != unix.AF_NETLINK {
			rows = append(rows, row{"socket", [6]uint64{family, unix.SOCK_STREAM}, noFamily}, row{"socketpair", [6]uint64{family}, noFamily})
		}
	}
	return rows
}

// check runs the rows on a program for one architecture, which may lack the
// older calls.
func check(t *testing.T, a arch, f Filter, rows []row) {
	t.Helper()
	for _, r := range rows {
		i := slices.IndexFunc(a.calls, func(c call) bool { return c.name == r.call })
		if i < 0 {
			continue
		}
		if got, _ := execute(t, f.prog, data{a.calls[i].nr, a.audit, r.args}); got != r.want {
			t.Errorf("%s%#x gives %#x, want %#x", r.call, r.args, got, r.want)
		}
	}
}

func TestGuestFilter(t *testing.T) {
	for _, goarch := range archs {
		t.Run(goarch, func(t *testing.T) {
			a, _ := archOf(goarch)
			f := guestFilter(a, nil, ownNetwork)
			if len(f.prog) > 1200 {
				t.Errorf("%d instructions", len(f.prog))
			}
			t.Log(len(f.prog), "instructions")
			check(t, a, f, guestRows())
			for list, want := range map[string]uint32{guestAllowed: allowed, guestRefused: gives(unix.EPERM), guestAbsent: gives(unix.ENOSYS)} {
				for _, name := range strings.Fields(list) {
					all := ^uint64(0)
					check(t, a, f, []row{{name, [6]uint64{}, want}, {name, [6]uint64{all, all, all, all, all, all}, want}})
				}
			}
			for _, c := range a.calls {
				if _, steps := execute(t, f.prog, data{nr: c.nr, arch: a.audit}); steps > 30 {
					t.Errorf("%s takes %d instructions", c.name, steps)
				}
			}
		})
	}
}

// With the host's network a guest has what every guest has, but no unix
// socket with a name.
func TestHostNetworkFilter(t *testing.T) {
	noFamily := gives(unix.EAFNOSUPPORT)
	for _, goarch := range archs {
		a, _ := archOf(goarch)
		var rows []row
		for _, r := range guestRows() {
			if r.call == "socket" && r.args[0] == unix.AF_UNIX {
				r.want = noFamily
			}
			rows = append(rows, r)
		}
		for _, typ := range []uint64{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
			rows = append(rows, row{"socket", [6]uint64{high | unix.AF_UNIX, typ}, noFamily}, row{"socket", [6]uint64{unix.AF_VSOCK, typ}, noFamily})
		}
		check(t, a, guestFilter(a, nil, hostNetwork), rows)
	}
}

func TestFilterClosesForeignInterfaces(t *testing.T) {
	for _, goarch := range archs {
		a, _ := archOf(goarch)
		for name, f := range map[string]Filter{"guest": guestFilter(a, nil, ownNetwork), "host network": guestFilter(a, nil, hostNetwork), "router": routerFilter(a, 1)} {
			for _, foreign := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_RISCV64, 0} {
				for nr := range uint32(500) {
					if got, _ := execute(t, f.prog, data{nr: nr, arch: foreign}); got != killed {
						t.Fatalf("%s on %s: call %d of architecture %#x gives %#x", name, goarch, nr, foreign, got)
					}
				}
			}
			for nr := range uint32(600) {
				want := gives(unix.ENOSYS)
				if a.x32 {
					want = killed
				}
				if got, _ := execute(t, f.prog, data{nr: nr | 1<<30, arch: a.audit}); got != want {
					t.Fatalf("%s on %s: call %d of x32 gives %#x", name, goarch, nr, got)
				}
			}
			for _, nr := range []uint32{whole, 1000, 1<<30 - 1, 1 << 31} {
				if got, _ := execute(t, f.prog, data{nr: nr, arch: a.audit}); got != gives(unix.ENOSYS) {
					t.Errorf("%s on %s: call %#x gives %#x", name, goarch, nr, got)
				}
			}
		}
	}
}

func TestGuestFilterDeny(t *testing.T) {
	a, err := thisArch()
	if err != nil {
		t.Fatal(err)
	}
	f, err := GuestFilter([]string{"connect", "socket", "clone3", "ptrace", "open"})
	if err != nil {
		t.Fatal(err)
	}
	check(t, a, f, []row{
		{"connect", [6]uint64{}, gives(unix.EPERM)}, {"socket", [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}, gives(unix.EPERM)},
		{"clone3", [6]uint64{}, gives(unix.ENOSYS)}, {"ptrace", [6]uint64{}, gives(unix.EPERM)}, {"bind", [6]uint64{}, allowed},
	})
	plain, err := GuestFilter(nil)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := GuestFilter(nil)
	if !strings.HasPrefix(f.Digest(), "sha256:") || len(f.Digest()) != 71 || f.Digest() == plain.Digest() || plain.Digest() != again.Digest() {
		t.Errorf("digests %s %s %s", f.Digest(), plain.Digest(), again.Digest())
	}

	for name, says := range map[string]string{
		"conect": "connect", "sockett": "socket", "": "", "CONNECT": "did you mean \"connect\"", "connect ": "connect",
		"execve": "leave it out", "exit_group": "leave it out", "read": "leave it out", "mmap": "leave it out", "futex": "leave it out",
		strings.Repeat("x", 1000): "1000 bytes",
	} {
		_, err := GuestFilter([]string{"bind", name})
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), name) && len(name) < 100 {
			t.Errorf("deny %q: %v", name, err)
		}
	}
	if _, err := GuestFilter(make([]string, MaxDeny+1)); !errors.Is(err, unix.E2BIG) {
		t.Errorf("a long list: %v", err)
	}
	if err := (Filter{}).Install(); err == nil {
		t.Error("the zero filter was installed")
	}
}
