package sandboxtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// The escape corpus. The names are those under which each break is known; the
// comment says what went wrong elsewhere.
var escapes = map[string]func(*testing.T, Subject){
	// CVE-2024-21626: a descriptor of the host leaked, and was the way out.
	"leaked-fd": func(t *testing.T, s Subject) {
		leak, err := os.Open("/etc")
		if err != nil {
			t.Fatal(err)
		}
		defer leak.Close()
		unix.FcntlInt(leak.Fd(), unix.F_SETFD, 0) // as a careless caller of ours would
		got, _ := s.attack(t, casemate.Profile{}, "fds")
		if got[0].Got != "cwd=/tmp" {
			t.Errorf("the guest has %q", got[0].Got)
		}
		s.held(t, casemate.Profile{}, fmt.Sprintf("list /proc/self/fd/%d", leak.Fd()), fmt.Sprintf("list /proc/1/fd/%d", leak.Fd()), "list /proc/1/root", "list /proc/1/cwd/..")
	},
	"host files": func(t *testing.T, s Subject) {
		secret := filepath.Join(folder(t, map[string]string{"secret": "CANARY"}), "secret")
		s.held(t, casemate.Profile{}, "read /etc/shadow", "read "+secret, "list /root", "list /home", "list /var", "list /run", "list /opt", "read /proc/kcore",
			"write /etc/passwd x", "write /usr/bin/env x", "mkdir /usr/evil", "mkdir /evil", "write /proc/sys/kernel/hostname x", "write /proc/sysrq-trigger x", "write /dev/mem x", "read /dev/vda", "mknod /tmp/null")
	},
	"no sysfs": func(t *testing.T, s Subject) {
		s.held(t, casemate.Profile{}, "list /sys", "read /sys/kernel/mm/transparent_hugepage/enabled", "list /sys/class/net")
	},
	// CVE-2025-53110: /work allowed /work-evil.
	"prefix-match": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"docs/a": "a", "docs-evil/b": "EVIL"})
		s.held(t, grant(dir+"/docs", "/docs", casemate.Read), "read /docs-evil/b", "read /docs/../docs-evil/b", "list "+dir)
	},
	// CVE-2026-39861, CVE-2025-53109: a writer on the host followed a link.
	"symlink-write": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"work/a": "a", "victim": "UNTOUCHED"})
		os.Symlink(dir+"/victim", dir+"/work/planted")
		p := grant(dir+"/work", "/w", casemate.Write)
		s.attack(t, p, "write /w/planted x", "symlink "+dir+"/victim /w/out", "symlink ../victim /w/up", "symlink / /w/root", "write /w/out x", "write /w/up x")
		if got := contents(t, dir+"/victim"); got != "UNTOUCHED" {
			t.Errorf("the victim holds %q", got)
		}
		for _, l := range []string{"out", "up", "root"} {
			absent(t, dir+"/work/"+l)
		}
	},
	// CVE-2026-25725 and the many agents that let a file be planted which runs
	// later: a name is protected whether or not it exists.
	"absent-protected-path": func(t *testing.T, s Subject) { planted(t, s, map[string]string{"keep": "k"}) },
	"dotfile-plant": func(t *testing.T, s Subject) {
		planted(t, s, map[string]string{".git/config": "[core]\n", ".git/hooks/sample": "s", ".bashrc": "mine\n", ".vscode/tasks.json": "{}"})
	},
	// git ran a program named by a bare repository inside a granted folder.
	"git-bare": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "a"})
		s.sh(t, grant(dir, "/w", casemate.Write), `cd /w && mkdir -p x/objects x/refs && printf 'ref: refs/heads/main\n' > x/HEAD && printf '[core]\n\tbare = false\n\tworktree = ..\n\tfsmonitor = touch `+dir+`/RAN\n' > x/config`)
		have := 0
		for _, n := range []string{"HEAD", "config", "objects", "refs"} {
			if _, err := os.Lstat(dir + "/x/" + n); err == nil {
				have++
			}
		}
		if have == 4 {
			t.Error("a git folder was planted")
		}
		if git, err := exec.LookPath("git"); err == nil && have > 0 {
			cmd := exec.Command(git, "status")
			cmd.Dir = dir + "/x"
			cmd.Run()
			absent(t, dir+"/RAN")
		}
	},
	// A read-only grant does not stop talking: a socket and a FIFO in it.
	"granted-socket": func(t *testing.T, s Subject) {
		for _, access := range []casemate.Access{casemate.Read, casemate.Write} {
			dir := socketFolder(t)
			l, err := net.Listen("unix", dir+"/s")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			os.Chmod(dir+"/s", 0o777)
			unix.Mkfifo(dir+"/f", 0o666)
			os.Chmod(dir+"/f", 0o666)
			f, err := os.OpenFile(dir+"/f", os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			s.attack(t, grant(dir, "/g", access), "connect unix /g/s", "write /g/f CANARY")
			l.(*net.UnixListener).SetDeadline(time.Now().Add(100 * time.Millisecond))
			if c, err := l.Accept(); err == nil {
				c.Close()
				t.Error("the socket was reached")
			}
			if n, _ := syscallRead(f); n > 0 {
				t.Error("the FIFO got a byte")
			}
		}
	},
	// A guest without capabilities left a setuid file in its write grant.
	"setuid-plant": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "a"})
		s.attack(t, grant(dir, "/w", casemate.Write), "creat /w/x 4755 code", "creat /w/y 2755 code", "creat /w/z 755 code", "chmod /w/z 4755", "chmod /w/z 2755", "chmod /w/a 6777", "chmod /w 2777", "mkdir /w/d", "chmod /w/d 3777")
		filepath.WalkDir(dir, func(path string, d os.DirEntry, _ error) error {
			info, err := os.Lstat(path)
			if err == nil && info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return nil
		})
		s.held(t, casemate.Profile{}, "creat /tmp/x 4755 code", "creat /tmp/y 2755 code")
	},
	"no network": func(t *testing.T, s Subject) {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		tcp6, err6 := net.Listen("tcp", "[::1]:0")
		name := fmt.Sprintf("casemate-test-%d", time.Now().UnixNano())
		ab, err := net.Listen("unix", "@"+name)
		if err != nil {
			t.Fatal(err)
		}
		defer ab.Close()
		lines := []string{"connect tcp " + tcp.Addr().String(), "abstract " + name}
		victims := []net.Listener{tcp, ab}
		if err6 == nil {
			defer tcp6.Close()
			lines, victims = append(lines, "connect tcp "+tcp6.Addr().String()), append(victims, tcp6)
		}
		for _, p := range []casemate.Profile{{}, {Network: casemate.NetworkLoopback}} {
			s.held(t, p, lines...)
		}
		for _, v := range victims {
			v.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(50 * time.Millisecond))
			if c, err := v.Accept(); err == nil {
				c.Close()
				t.Errorf("%v was reached", v.Addr())
			}
		}
	},
	// What a sandbox could send to 169.254.169.254, or ask a name server, has no
	// way to leave: its namespace has a loopback device and no route.
	"metadata-api": noWayOut,
	"dns-tunnel":   noWayOut,
	"loopback is the sandbox's own": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{Network: casemate.NetworkLoopback}, "cat /proc/net/dev | tail -n +3 | cut -d: -f1; (python3 -c \"import socket; l=socket.create_server(('127.0.0.1',0)); c=socket.create_connection(l.getsockname()); print('connected')\")")
		if f := strings.Fields(d.Stdout); len(f) != 2 || f[0] != "lo" || f[1] != "connected" {
			t.Errorf("%+v", d)
		}
	},
	"unix-socket": func(t *testing.T, s Subject) {
		dir := socketFolder(t)
		l, err := net.Listen("unix", dir+"/s")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		os.Chmod(dir+"/s", 0o777)
		s.held(t, casemate.Profile{}, "connect unix "+dir+"/s", "connect unix /var/run/docker.sock", "connect unix /run/dbus/system_bus_socket")
	},
	// CVE-2026-31431: AF_ALG wrote into the page cache. AF_VSOCK reaches the
	// machine's hypervisor in spite of a network namespace.
	"page-cache-write": func(t *testing.T, s Subject) {
		s.held(t, casemate.Profile{}, "socket 38 5 0", "socket 40 1 0", "socket 17 3 0", "socket 2 3 1", "socket 10 3 58", "socket 16 3 16", "socket 30 5 0", "socket 31 1 0", "socket 44 3 0")
	},
	// CVE-2024-1086 and its kin: parts of the kernel that no tool needs.
	"kernel-surface": func(t *testing.T, s Subject) {
		var lines []string
		for _, nr := range []int{unix.SYS_IO_URING_SETUP, unix.SYS_BPF, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
			unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
			unix.SYS_FSOPEN, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_SETNS, unix.SYS_CLONE3, unix.SYS_OPENAT2, unix.SYS_OPEN_BY_HANDLE_AT,
			unix.SYS_FANOTIFY_INIT, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_QUOTACTL, unix.SYS_ACCT,
			unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_SETHOSTNAME, unix.SYS_PIDFD_GETFD, unix.SYS_SYSLOG} {
			lines = append(lines, "syscall "+strconv.Itoa(nr))
		}
		for _, flag := range []int{unix.CLONE_NEWUSER, unix.CLONE_NEWNS, unix.CLONE_NEWNET, unix.CLONE_NEWPID} {
			lines = append(lines, fmt.Sprintf("syscall %d %d", unix.SYS_UNSHARE, flag))
		}
		s.held(t, casemate.Profile{}, append(lines, "linkadd")...)
	},
	// CVE-2019-10063: a 64-bit comparison let TIOCSTI with high bits pass.
	"ioctl-high-bits": func(t *testing.T, s Subject) {
		got, _ := s.attack(t, casemate.Profile{}, "ioctl")
		if got[0].Through || got[0].Got != unix.EPERM.Error() {
			t.Errorf("%+v", got[0])
		}
	},
	"denied system calls": func(t *testing.T, s Subject) {
		p := casemate.Profile{Syscalls: casemate.Syscalls{Deny: []string{"socket"}}, Network: casemate.NetworkLoopback}
		got, _ := s.attack(t, p, "socket 1 1 0")
		if got[0].Through {
			t.Errorf("%+v", got[0])
		}
		if got, _ := s.attack(t, casemate.Profile{}, "socket 1 1 0"); !got[0].Through {
			t.Errorf("without deny: %+v", got[0])
		}
	},
	"no privilege": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{}, "cat /proc/self/status")
		for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000"} {
			if !strings.Contains(d.Stdout, want) {
				t.Errorf("no %q in\n%s", want, d.Stdout)
			}
		}
	},
	"landlock": func(t *testing.T, s Subject) {
		if e := s.start(t, shell(casemate.Profile{})).Enforced(); e.Landlock < 1 {
			t.Errorf("%+v", e)
		}
	},
	"host processes": func(t *testing.T, s Subject) {
		got, _ := s.attack(t, casemate.Profile{}, "pids", fmt.Sprintf("kill %d", os.Getpid()), fmt.Sprintf("read /proc/%d/environ", os.Getpid()))
		if n, _ := strconv.Atoi(got[0].Got); n < 1 || n > 5 || got[1].Through || got[2].Through {
			t.Errorf("%+v", got)
		}
	},
	// LD_PRELOAD, BASH_ENV and the like poisoned a child.
	"env-poison": func(t *testing.T, s Subject) {
		for _, k := range []string{"LD_PRELOAD", "BASH_ENV", "PYTHONSTARTUP", "NODE_OPTIONS", "GIT_SSH_COMMAND", "PAGER"} {
			t.Setenv(k, "/nonexistent/CANARY")
		}
		if got, _ := s.attack(t, casemate.Profile{}, "environ"); strings.Contains(got[0].Got, "CANARY") {
			t.Errorf("%q", got[0].Got)
		}
	},
	// A language-level sandbox taken for a boundary: native code gains nothing.
	"language-sandbox": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{}, `/usr/bin/python3 -c "
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for name, args in [('mount', (b'none', b'/tmp', b'tmpfs', 0, None)), ('unshare', (0x10000000,)), ('setuid', (1,)), ('chroot', (b'/tmp',)), ('ptrace', (16, 1, 0, 0))]:
    print(name, getattr(libc, name)(*args))
"`)
		if strings.Count(d.Stdout, " -1\n") != 5 {
			t.Errorf("%+v", d)
		}
	},
	"fork-bomb": func(t *testing.T, s Subject) {
		got, _ := s.attack(t, casemate.Profile{Processes: 24}, "fork 500")
		if n, _ := strconv.Atoi(got[0].Got); n < 1 || n > 24 {
			t.Errorf("it made %q", got[0].Got)
		}
	},
	"memory-bomb": func(t *testing.T, s Subject) {
		sb := s.start(t, shell(casemate.Profile{Memory: 64 << 20, Filesystem: []casemate.Mount{{Path: filepath.Dir(s.Attacker), At: "/attacker", Access: casemate.Read, Execute: true}}}))
		if sb.Enforced().Memory == nil {
			t.Log("the operator allowed memory to be unlimited here, and the record says so:", sb.Enforced().Degraded)
			if !slices.Contains(sb.Enforced().Degraded, "memory") {
				t.Error("it does not")
			}
			return
		}
		d := call(t, sb, 1, command("/attacker/"+filepath.Base(s.Attacker)+" memory 512; sleep 5"))
		x, err := sb.Wait(t.Context())
		if err != nil || x.Limit != "memory" || d.Answered {
			t.Errorf("%+v %+v %v", d, x, err)
		}
	},
	"disk-bomb": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{Disk: 8 << 20}, "i=0; while head -c 1000000 /dev/zero > /tmp/f$i 2>/dev/null; do i=$((i+1)); [ $i -gt 50 ] && break; done; echo $i; i=0; while : > /tmp/e$i; do i=$((i+1)); [ $i -gt 9000 ] && break; done 2>/dev/null; echo $i")
		f := strings.Fields(d.Stdout)
		if len(f) < 1 || len(f[0]) > 1 {
			t.Errorf("%+v", d)
		}
	},
	"fd-bomb": func(t *testing.T, s Subject) {
		got, _ := s.attack(t, casemate.Profile{}, "descriptors")
		if n, _ := strconv.Atoi(got[0].Got); n < 100 || n > 4096 {
			t.Errorf("%+v", got[0])
		}
	},
	// One guest used up what the kernel counts for each uid: others go on.
	"shared-uid-quota": func(t *testing.T, s Subject) {
		mount := casemate.Mount{Path: filepath.Dir(s.Attacker), At: "/attacker", Access: casemate.Read, Execute: true}
		tool := shell(casemate.Profile{Filesystem: []casemate.Mount{mount}})
		b := s.Open(t, tool)
		hog := park(t, b, tool)
		attacker := "/attacker/" + filepath.Base(s.Attacker)
		if err := guest.Write(hog.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, []guest.Pair{command(attacker + " inflight & " + attacker + " pipes & " + attacker + " inotify & wait")})}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		other := park(t, b, tool)
		line := "echo well | cat | cat; " + attacker + " sendfd"
		if hog.Enforced().Uid != "own" {
			// The kernel counts descriptors on the way for each uid, which a user's
			// sandboxes share: only the rest can be shown.
			line = "echo well | cat | cat"
		}
		if d := call(t, other, 1, command(line)); !strings.HasPrefix(d.Stdout, "well\n") || strings.Contains(d.Stdout, `"through":false`) {
			t.Errorf("%+v", d)
		}
	},
	// A sandboxed parent got an unsandboxed child.
	"nested-loosening": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{}, "sh -c 'sh -c \"cat /proc/self/status\"' | grep -E '^(NoNewPrivs|Seccomp|CapEff)'; unshare -Ur true 2>/dev/null && echo LOOSE")
		if !strings.Contains(d.Stdout, "NoNewPrivs:\t1") || !strings.Contains(d.Stdout, "Seccomp:\t2") || strings.Contains(d.Stdout, "LOOSE") {
			t.Errorf("%+v", d)
		}
	},
	// An argument of the model became part of a grant.
	"model-cwd": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"secret": "CANARY"})
		tool := &casemate.Tool{Name: "cat", Run: casemate.Run{Exec: &casemate.Exec{Command: []string{"/bin/cat", "--", "{path}"}}}}
		for _, v := range []string{dir + "/secret", "/tmp/../" + dir + "/secret", "file://" + dir + "/secret", "{path}", "$(cat " + dir + "/secret)"} {
			if d := s.once(t, tool, guest.Pair{Key: "path", Value: v}, guest.Pair{Key: "cwd", Value: dir}, guest.Pair{Key: "filesystem", Value: dir}); strings.Contains(d.Stdout, "CANARY") {
				t.Errorf("%q: %+v", v, d)
			}
		}
	},
	// A killed sandbox left processes, mounts or cgroups.
	"orphan": func(t *testing.T, s Subject) {
		tool := shell(casemate.Profile{})
		b := s.Open(t, tool)
		before := leftovers(t)
		begin := time.Now()
		for i := range 30 {
			if i >= 9 && time.Since(begin) > 3*time.Second {
				break // where a start is dear, fewer show the same
			}
			sb, err := b.Start(t.Context(), casemate.Spec{Tool: tool})
			if err != nil {
				t.Fatal(err)
			}
			if pid, ok := sb.(interface{ Pid() int }); ok && i%3 == 0 {
				syscall.Kill(pid.Pid(), syscall.SIGKILL)
			} else if i%3 == 1 {
				guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, []guest.Pair{command("setsid sleep 300 & setsid sleep 300 & sleep 300")})})
				time.Sleep(5 * time.Millisecond)
			}
			if err := sb.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if after := leftovers(t); after != before {
			t.Errorf("before %s, after %s", before, after)
		}
	},
}

// leftovers counts what sandboxes of this test's processes could leave: their
// own descendants, and mounts.
func leftovers(t testing.TB) string {
	t.Helper()
	procs := 0
	dirs, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, d := range dirs {
		if b, err := os.ReadFile(d); err == nil && strings.TrimSpace(string(b)) == "casemate-init" {
			if p, err := os.ReadFile(filepath.Dir(d) + "/stat"); err == nil && parentIsOurs(string(p)) {
				procs++
			}
		}
	}
	mounts := strings.Count(contents(t, "/proc/self/mountinfo"), "\n")
	return fmt.Sprintf("%d processes, %d mounts", procs, mounts)
}

// parentIsOurs says whether the parent of a process is a child of this one.
func parentIsOurs(stat string) bool {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 2 {
		return false
	}
	b, err := os.ReadFile("/proc/" + f[1] + "/stat")
	if err != nil {
		return false
	}
	p := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	return len(p) > 1 && p[1] == strconv.Itoa(os.Getpid())
}

func syscallRead(f *os.File) (int, error) {
	b := make([]byte, 16)
	return f.Read(b)
}

func noWayOut(t *testing.T, s Subject) {
	d := s.sh(t, casemate.Profile{}, "tail -n +3 /proc/net/dev | cut -d: -f1; echo --; tail -n +2 /proc/net/route; echo --; grep -c nameserver /etc/resolv.conf")
	if got := strings.TrimPrefix(strings.Join(strings.Fields(d.Stdout), " "), "lo "); got != "-- -- 0" {
		t.Errorf("%q", got)
	}
}

// planted tries to leave in a granted folder, which holds files already, what
// programs of the host would run later.
func planted(t *testing.T, s Subject, files map[string]string) {
	dir := folder(t, files)
	before := map[string]string{}
	names := []string{".bashrc", ".profile", ".mcp.json", ".npmrc", ".envrc", "CLAUDE.md", "AGENTS.md", "casemate.yaml", ".git/hooks/pre-commit", ".git/config", ".vscode/tasks.json", ".claude/settings.json",
		".BASHRC", ".Git/hooks/x", "deep/down/.git/config", "deep/.idea/workspace.xml"}
	for _, n := range names {
		before[n] = contents(t, filepath.Join(dir, n))
	}
	var script strings.Builder
	for i, n := range names {
		fmt.Fprintf(&script, "mkdir -p /w/%[1]s 2>/dev/null; echo evil > /w/%[2]s; echo evil > /w/plain%[3]d; mv -f /w/plain%[3]d /w/%[2]s; ln -f /w/keep /w/%[2]s 2>/dev/null; ", filepath.Dir(n), n, i)
	}
	script.WriteString("mkdir -p /w/x/hooks && echo evil > /w/x/hooks/pre-commit && mv /w/x /w/.git 2>/dev/null; rm -rf /w/.vscode; true")
	d := s.sh(t, grant(dir, "/w", casemate.Write), script.String())
	for _, n := range names {
		if got := contents(t, filepath.Join(dir, n)); got != before[n] {
			t.Errorf("%s held %q and holds %q", n, before[n], got)
		}
	}
	if !slices.ContainsFunc(d.Changes, func(c casemate.Change) bool { return c.Did == "held" && strings.Contains(c.Path, ".bashrc") }) {
		t.Errorf("nobody was told: %+v", d.Changes)
	}
}
