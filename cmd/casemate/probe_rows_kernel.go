package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/attack"
	"github.com/casemate/casemate/internal/linux"
)

// Attacks on the kernel.
var probeKernelRows = []probeRow{
	{name: "kernel-surface", tried: "call what no tool needs: namespaces and mounts, other processes' memory, io_uring, bpf, keyctl, perf_event_open, userfaultfd, modules, clocks",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.none(ctx, r, "attacker", attack.Surface()...)
		}},
	{name: "syscall-surface", tried: "every system call number up to 511, with arguments that do nothing, compared with the declared list",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			o, ok := s.one(ctx, r, "attacker", "calls", "512")
			if !ok {
				return
			}
			declared, err := linux.GuestCalls()
			if err != nil || !o.Through {
				r.failed("%v %s", err, o.Got)
				return
			}
			var more []string
			numbers := strings.Fields(o.Got)
			for _, n := range numbers {
				if nr, err := strconv.Atoi(n); err != nil || declared[nr] == "" {
					more = append(more, n)
				}
			}
			if len(numbers) < 50 {
				r.failed("the attacker could make only %d calls", len(numbers))
				return
			}
			r.judge(len(more) > 0, "%d numbers were answered otherwise than by EPERM or ENOSYS, of %d declared; not declared are: %s", len(numbers), len(declared), orNone(more))
		}},
	{name: "foreign-interface", tried: "the system calls of i386 (int 0x80, socketcall too) and of x32",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.none(ctx, r, "attacker", []string{"foreign"}) }},
	{name: "socket-families", tried: "open sockets that no network namespace holds or that reach much of the kernel: AF_VSOCK (connected to nothing), AF_PACKET, raw, generic netlink, nf_tables, TIPC, Bluetooth, XDP, QIPCRTR",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.none(ctx, r, "attacker", words("socket 40 1 0", "socket 40 2 0", "socket 17 3 0", "socket 2 3 1", "socket 10 3 58", "socket 16 3 16", "socket 16 3 12", "socket 16 3 9", "socket 30 5 0", "socket 31 1 0", "socket 44 3 0", "socket 42 2 0")...)
		}},
	{name: "new-network-device", tried: "ask the kernel by netlink for a network device",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.none(ctx, r, "attacker", []string{"linkadd"}) }},
	{name: "user-namespace", tried: "start a process in a user namespace of its own, the door to most of the kernel's bugs",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.none(ctx, r, "attacker", []string{"userns"}) }},
	{name: "namespace-count", tried: "read how many user namespaces it could still make",
		na: map[string]string{"gvisor": gvisorProc, "oci": "the bound stands in the user namespace around the container's, where the kernel counts what is made within, and cannot be read from it"},
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			if o, ok := s.one(ctx, r, "attacker", "read", "/proc/sys/user/max_user_namespaces"); ok {
				n := strings.TrimSpace(o.Got)
				r.judge(!o.Through || n != "0", "the kernel allows %s", n)
			}
		}},
	{name: "ioctl-high-bits", tried: "TIOCSTI on a terminal of its own, with high bits set in its number",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.none(ctx, r, "attacker", []string{"ioctl"}) }},
	{name: "keyring", tried: "find the user's keyring",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.none(ctx, r, "attacker", []string{"keyring"}) }},
	{name: "capabilities", tried: "ask the kernel for its capabilities: effective, permitted, inheritable and bounding",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.privilege(ctx, r, "privilege", func(p map[string]string) bool { return p["caps"] != "0x0" || p["bounding"] != "0" })
		}},
	{name: "no-new-privs", tried: "ask the kernel whether a setuid program could raise it",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.privilege(ctx, r, "privilege", func(p map[string]string) bool { return p["nnp"] != "1" })
		}},
	{name: "seccomp", tried: "ask the kernel whether its system calls are filtered",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.privilege(ctx, r, "privilege", func(p map[string]string) bool { return p["seccomp"] != "2" })
		}},
	{name: "nested-loosening", tried: "start a child and ask it for its powers",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.privilege(ctx, r, "nested", func(p map[string]string) bool {
				return p["caps"] != "0x0" || p["nnp"] != "1" || p["seccomp"] != "2"
			})
		}},
	{name: "language-sandbox", tried: "leave an interpreter by ctypes for mount, unshare, setuid, chroot and ptrace",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			a, err := s.planner.call(ctx, "python", map[string]any{"code": pythonEscape})
			switch {
			case err != nil:
				r.failed("%v", err)
			case a.failed && !strings.Contains(a.text, wordStopped):
				r.na("this host has no Python that the tool can have: %s", short(a.text))
			case strings.Count(a.text, wordThrough+" ")+strings.Count(a.text, wordStopped+" ") < 5:
				r.failed("the tool answered %q", short(a.text))
			default:
				r.judge(strings.Contains(a.text, wordThrough+" "), "%s", lines(a.text))
			}
		}},
	{name: "landlock", tried: "listen at an address of its own with network: none, which Landlock alone refuses",
		na: map[string]string{"gvisor": "gVisor's kernel has no Landlock; a listener there is in its own network stack"},
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			if abi := linux.LandlockABI(); abi < 4 {
				r.na("the kernel of this host has no Landlock for networks (ABI %d)", abi)
				return
			}
			s.none(ctx, r, "attacker", words("listen 127.0.0.1:0")...)
		}},
}

// gvisorProc is why a file of /proc says nothing of the host in gVisor.
const gvisorProc = "gVisor's /proc is of a kernel of its own, and no file of it is the host's"

// pythonEscape calls what must fail through the C library.
const pythonEscape = `
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
was = os.getuid()
for name, args in [('mount', (b'none', b'/tmp', b'tmpfs', 0, None)), ('unshare', (0x10000000,)), ('setuid', (0,)), ('chroot', (b'/tmp',)), ('ptrace', (16, 1, 0, 0))]:
    r = getattr(libc, name)(*args)
    same = name == 'setuid' and os.getuid() == was
    print('THROUGH' if r == 0 and not same else 'stopped', name + ':', os.strerror(ctypes.get_errno()))
`

// privilege judges what a process says of its powers.
func (s *probeSite) privilege(ctx context.Context, r *attackRow, verb string, broken func(map[string]string) bool) {
	o, ok := s.one(ctx, r, "attacker", verb)
	if !ok {
		return
	}
	if !o.Through {
		r.failed("%s", o.Got)
		return
	}
	p := map[string]string{}
	for _, f := range strings.Fields(o.Got) {
		k, v, _ := strings.Cut(f, "=")
		p[k] = v
	}
	r.judge(broken(p), "%s", o.Got)
}

// Attacks on what the sandbox can see of the host.
var probeSightRows = []probeRow{
	{name: "leaked-fd", tried: "list every descriptor beyond the standard three and the working folder",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			if o, ok := s.one(ctx, r, "attacker", "fds"); ok {
				r.judge(o.Got != "cwd=/tmp", "%s", o.Got)
			}
		}},
	{name: "first-process", tried: "look into the sandbox's first process, which has the same user: its root, folder, descriptors, memory and environment",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.none(ctx, r, "attacker", []string{"first"}) }},
	{name: "host-processes", tried: "find, signal and read the environment of a process of the host",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.hostProcess(ctx, r) }},
	{name: "env-poison", tried: "read the environment of every process that it sees, while casemate serve has secrets, BASH_ENV, NODE_OPTIONS, PYTHONSTARTUP and GIT_SSH_COMMAND in its own",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			if o, ok := s.one(ctx, r, "attacker", "environ"); ok {
				r.judge(strings.Contains(o.Got, canary), "of its %d bytes a value of the host stands %s", len(o.Got), times(strings.Count(o.Got, canary)))
			}
		}},
	{name: "namespaces", tried: "compare the names of its seven namespaces with those of the host",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			o, ok := s.one(ctx, r, "attacker", "spaces")
			if !ok {
				return
			}
			var same []string
			for _, n := range strings.Fields(o.Got) {
				if slices.Contains(s.spaces, n) {
					same = append(same, n)
				}
			}
			if n := len(strings.Fields(o.Got)); n == 0 && s.backend != "gvisor" {
				r.failed("the attacker sees none of its namespaces")
				return
			}
			r.judge(len(same) > 0, "it is in %s; in the host's are: %s", o.Got, orNone(same))
		}},
	{name: "own-uid", tried: "be a user that the host has something for: its processes on the host are looked at",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.ownUid(ctx, r) }},
	{name: "host-name", tried: "ask for the name of the machine",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			if o, ok := s.one(ctx, r, "attacker", "hostname"); ok {
				r.judge(o.Got != "sandbox", "it is told %q", o.Got)
			}
		}},
	{name: "proc-doors", tried: fmt.Sprintf("read %d files and folders of /proc and /sys that tell of the host", len(doors)),
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.doors(ctx, r) }},
	{name: "mask-swap", tried: "look for a path of /proc that should be masked and is neither the device null, by its number, nor an empty folder",
		na: map[string]string{"gvisor": gvisorProc},
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.none(ctx, r, "attacker", append([]string{"masks"}, masked()...))
		}},
	{name: "proc-redirect", tried: "look for a path of /proc that is another filesystem's, and mount over one",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.none(ctx, r, "attacker", append([]string{"magic", strconv.Itoa(unix.PROC_SUPER_MAGIC)}, "/proc", "/proc/self/", "/proc/self/attr", "/proc/self/oom_score_adj", "/proc/sys/", "/proc/sys/kernel/", "/proc/sys/net/", "/proc/sys/user/"), []string{"syscall", strconv.Itoa(unix.SYS_MOUNT)})
		}},
	{name: "proc-sys", tried: "find /proc/sys mounted to be written; write the host name, user namespaces, core pattern and sysrq",
		na: map[string]string{"gvisor": gvisorProc},
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.none(ctx, r, "attacker", words("fixed /proc/sys", "write /proc/sys/kernel/hostname sandbox", "write /proc/sys/user/max_user_namespaces 0", "write /proc/sys/kernel/core_pattern core", "write /proc/sysrq-trigger h")...)
		}},
	{name: "devices", tried: "list the device nodes, open those of disks, memory, consoles, FUSE, KVM and tunnels, and make one",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.devices(ctx, r) }},
	{name: "writable-paths", tried: "walk everything that it sees and make a file in each folder, and open each file to write",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.writable(ctx, r) }},
}
