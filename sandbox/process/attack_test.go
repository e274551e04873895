package process

import (
	"os"
	"runtime"

	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/testenv"
)

// lines has a sandbox of tool run code, and returns what it printed between the
// first line and the word that says that all of it ran.
func lines(t *testing.T, s *sandbox, code string) []string {
	t.Helper()
	c := python(t, s, code+"\nprint('over')")
	l := strings.Split(strings.TrimSpace(c.stdout), "\n")
	if c.err != nil || c.failure != "" || l[len(l)-1] != "over" {
		t.Fatalf("it did not run to its end: %v", c)
	}
	return l[:len(l)-1]
}

func TestForkedPageCache(t *testing.T) { pageCache(t) }

func TestForkedPageCacheAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, pageCache)
}

// What siblings and the template map of the same files none of them can write,
// in no way that the kernel has.
func pageCache(t *testing.T) {
	forked, _ := pythonTools(t)
	b := subject(t).Open(t, forked)
	got := lines(t, parkPython(t, b, forked), `
import ctypes, ctypes.util, errno, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.syscall.restype = ctypes.c_long
libc.mmap.argtypes = [ctypes.c_long] * 6
libc.mprotect.argtypes = [ctypes.c_long] * 3
files = set(l.split(None, 5)[5].strip() for l in open("/proc/self/maps") if "/" in l)
files |= {sys.executable, "/.casemate/runner", "/.casemate/template", "/.casemate/late", os.__file__}
files = sorted(f for f in files if os.path.exists(f))
print(len(files), any("libc" in f for f in files), "/.casemate/runner" in files)
def attempt(what, f):
    try: print(what, "through", f())
    except OSError as e: print(what, errno.errorcode[e.errno])
    except ValueError as e: print(what, "ValueError")
def word(r):
    if r == -1: raise OSError(ctypes.get_errno(), "")
    return r
for f in files:
    attempt("write", lambda: os.open(f, os.O_WRONLY))
    attempt("append", lambda: os.open(f, os.O_RDWR | os.O_APPEND))
    attempt("truncate", lambda: os.truncate(f, 0))
    attempt("unlink", lambda: os.unlink(f))
    attempt("rename", lambda: os.rename("/tmp", f))
    attempt("chmod", lambda: os.chmod(f, 0o777))
    attempt("xattr", lambda: os.setxattr(f, "user.x", b""))
    fd = os.open(f, os.O_RDONLY)
    attempt("map", lambda: word(libc.mmap(0, 4096, 3, mmap.MAP_SHARED, fd, 0)))
    at = libc.mmap(0, 4096, 1, mmap.MAP_SHARED, fd, 0)
    if at != -1: attempt("protect", lambda: word(libc.mprotect(at, 4096, 3)))
    attempt("again", lambda: os.open("/proc/self/fd/%d" % fd, os.O_RDWR))
    attempt("hole", lambda: word(libc.fallocate(fd, 3, 0, 4096)))
    attempt("copy", lambda: os.copy_file_range(os.open("/proc/self/stat", 0), fd, 1))
    attempt("send", lambda: os.sendfile(fd, os.open("/etc/passwd", 0), 0, 1))
    r, w = os.pipe()
    os.write(w, b"x")
    attempt("splice", lambda: os.splice(r, fd, 1))
for name in os.listdir("/proc/self/map_files") if os.path.isdir("/proc/self/map_files") else []:
    attempt("map_files", lambda: os.open("/proc/self/map_files/" + name, os.O_RDWR))
attempt("mem", lambda: os.pwrite(os.open("/proc/self/mem", os.O_RDWR), b"x", 0) and 0)
`)
	head := strings.Fields(got[0])
	if n, err := strconv.Atoi(head[0]); err != nil || n < 4 || head[1] != "True" || head[2] != "True" || len(got) < 13*n {
		t.Fatalf("%d attempts: %s", len(got), got[0])
	}
	for _, l := range got[1:] {
		if strings.Contains(l, "through") {
			t.Errorf("an attack got through: %s", l)
		}
	}
}

func TestForkedTalk(t *testing.T) { talk(t) }

func TestForkedTalkAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, talk)
}

// A message of one guest reaches no other, by whatever both have a name for.
func talk(t *testing.T) {
	forked, _ := pythonTools(t)
	b := subject(t).Open(t, forked)
	name := "casemate-" + strconv.Itoa(os.Getpid())
	// The listener waits on everything that has a name, and says what came.
	listener := parkPython(t, b, forked)
	askPython(t, listener, strings.ReplaceAll(`
import errno, fcntl, os, pty, select, signal, socket, threading
heard, socks, made = [], [], []
def at(kind, path):
    s = socket.socket(socket.AF_UNIX, kind)
    try: s.bind(path); made.append(path[0])
    except OSError as e: made.append(errno.errorcode[e.errno]); return
    if kind != socket.SOCK_DGRAM: s.listen()
    socks.append(s)
try:
    for folder in "/tmp/", "/dev/shm/", "/out/":
        at(socket.SOCK_STREAM, folder + "NAME")
        os.mkfifo(folder + "NAME.fifo")
        socks.append(os.open(folder + "NAME.fifo", os.O_RDONLY | os.O_NONBLOCK))
    at(socket.SOCK_STREAM, "\0NAME")
    at(socket.SOCK_DGRAM, "\0NAME.dgram")
    at(socket.SOCK_SEQPACKET, "\0NAME.packet")
except OSError as e: made.append(errno.errorcode[e.errno])
master, slave = pty.openpty()
socks.append(master)
print(len(socks), made, os.ttyname(slave), flush=True)
done = []
signal.signal(signal.SIGUSR1, lambda *a: done.append(1))
while not done:
    try: ready = select.select(socks, [], [], 0.05)[0]
    except InterruptedError: continue
    for s in ready:
        if not isinstance(s, int) or os.read(s, 100): heard.append(str(s))
    if heard: break
print(heard)
`, "NAME", name))
	f, err := guest.Read(listener.Guest(), guest.MaxReply)
	if err != nil || f.Type != guest.Stdout || strings.HasPrefix(string(f.Body), "0") {
		t.Fatalf("%c %s %v", f.Type, f.Body, err)
	}
	t.Logf("the listener has %s", f.Body)
	got := lines(t, parkPython(t, b, forked), strings.ReplaceAll(`
import array, errno, os, pty, socket, termios, fcntl
def attempt(what, f):
    try: print(what, "through", f())
    except OSError as e: print(what, errno.errorcode[e.errno])
def connect(kind, path):
    s = socket.socket(socket.AF_UNIX, kind)
    s.connect(path)
    return s.send(b"x")
for folder in "/tmp/", "/dev/shm/", "/out/", "/proc/1/root/tmp/", "/proc/self/root/tmp/":
    attempt(folder, lambda: connect(socket.SOCK_STREAM, folder + "NAME"))
    attempt(folder + " fifo", lambda: os.open(folder + "NAME.fifo", os.O_WRONLY | os.O_NONBLOCK))
attempt("abstract", lambda: connect(socket.SOCK_STREAM, "\0NAME"))
attempt("abstract datagram", lambda: connect(socket.SOCK_DGRAM, "\0NAME.dgram"))
attempt("abstract packet", lambda: connect(socket.SOCK_SEQPACKET, "\0NAME.packet"))
attempt("sendto", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", "\0NAME.dgram"))
def give():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    return s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))], 0, "\0NAME.dgram")
attempt("descriptors", give)
print("terminals", sorted(os.listdir("/dev/pts")))
attempt("terminal", lambda: os.open("/dev/pts/0", os.O_RDWR))
attempt("console", lambda: os.open("/dev/tty", os.O_RDWR))
for family in range(46):
    if family in (1,): continue
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET:
        attempt("family %d %d" % (family, kind), lambda: socket.socket(family, kind))
`, "NAME", name))
	if len(got) != 10+5+1+2+45*4 {
		t.Fatalf("%d attempts: %q", len(got), got)
	}
	for _, l := range got {
		if strings.Contains(l, "through") || strings.HasPrefix(l, "terminals") && l != "terminals ['ptmx']" {
			t.Errorf("an attack got through: %s", l)
		}
	}
	if err := unix.Kill(listener.Pid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if c := collect(listener.Guest()); c.err != nil || c.stdout != "[]\n" {
		t.Errorf("the listener heard %v", c)
	}
}

func TestForkedWalls(t *testing.T) { forkedWalls(t) }

func TestForkedWallsAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, forkedWalls)
}

// The walls of a forked guest, as it and the host see them: no wall of its
// template is all that it has.
func forkedWalls(t *testing.T) {
	forked, alone := pythonTools(t)
	b := subject(t).Open(t, forked, alone)
	const code = `
import ctypes, errno, os, resource
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, f):
    try: print(what, "through", f())
    except OSError as e: print(what, errno.errorcode[e.errno])
def word(r):
    if r == -1: raise OSError(ctypes.get_errno(), "")
    return r
s = dict(l.rstrip("\n").split(":\t", 1) for l in open("/proc/self/status") if ":\t" in l)
for k in "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Groups", "Uid", "Gid": print(k, s[k].split())
print("securebits", libc.prctl(27, 0, 0, 0, 0), "dumpable", libc.prctl(3, 0, 0, 0, 0), "keeps", libc.prctl(7, 0, 0, 0, 0))
print("mounts", sorted({l.split()[4] for l in open("/proc/self/mountinfo")}))  # a child covers its template's /proc and /tmp
print("stage", [l for l in open("/proc/self/mountinfo") if "stage" in l.split()[4]])
print("namespaces", open("/proc/sys/user/max_user_namespaces").read().strip(), os.listdir("/.stage") if os.path.isdir("/.stage") else None)
for n in range(16): print("limit", n, resource.getrlimit(n))
for path in "/proc/sys/kernel/hostname", "/proc/sys/user/max_user_namespaces", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups", "/.casemate/x", "/.stage/x", "/x", "/dev/x", "/usr/x", "/etc/x":
    attempt("write " + path, lambda: os.open(path, os.O_WRONLY | os.O_CREAT))
for flag in 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x80:
    attempt("unshare %#x" % flag, lambda: word(libc.unshare(flag)))
for n in "user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time":
    attempt("enter " + n, lambda: word(libc.setns(os.open("/proc/self/ns/" + n, 0), 0)))
for what, nr, args in NRS:
    attempt(what, lambda: word(libc.syscall(nr, *args)))
for what in "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/kallsyms", "/proc/cmdline", "/proc/interrupts":
    try: print("mask", what, len(open(what, "rb").read(64).strip(b"\0")))
    except OSError as e: print("mask", what, 0)
`
	nrs := `[("mount", 165, (0, 0, 0, 0, 0)), ("umount", 166, (b"/proc", 2)), ("pivot_root", 155, (b".", b".")), ("chroot", 161, (b"/",)), ("open_tree", 428, (-100, b"/", 1)), ("move_mount", 429, (0, b"", 0, b"", 0)), ("fsopen", 430, (b"tmpfs", 0)), ("fsmount", 432, (0, 0, 0)), ("mount_setattr", 442, (-100, b"/", 0, 0, 0)), ("setuid", 105, (0,)), ("setgid", 106, (0,)), ("setgroups", 116, (0, 0)), ("sethostname", 170, (b"x", 1)), ("clone3", 435, (0, 0)), ("keyctl", 250, (0, -3, 0)), ("ptrace", 101, (0, 0, 0, 0)), ("reboot", 169, (0, 0, 0)), ("swapon", 167, (b"x", 0)), ("init_module", 175, (0, 0, 0)), ("bpf", 321, (0, 0, 0)), ("io_uring_setup", 425, (1, 0)), ("perf_event_open", 298, (0, 0, -1, -1, 0)), ("quotactl", 179, (0, 0, 0, 0)), ("name_to_handle_at", 303, (-100, b"/", 0, 0, 0)), ("open_by_handle_at", 304, (0, 0, 0)), ("kexec_load", 246, (0, 0, 0, 0)), ("settimeofday", 164, (0, 0)), ("iopl", 172, (3,))]`
	if runtime.GOARCH != "amd64" {
		nrs = "[]"
	}
	asked := strings.ReplaceAll(code, "NRS", nrs)
	first := parkPython(t, b, forked)
	wall := func(pid int, of string) string {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + of)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	template := parent(t, first.Pid())
	second := parkPython(t, b, forked)
	if limited := first.Enforced().Memory != nil; limited {
		if one, two, three := wall(first.Pid(), "cgroup"), wall(second.Pid(), "cgroup"), wall(template, "cgroup"); one == two || one == three {
			t.Errorf("two guests are in one group, or in the template's: %s%s%s", one, two, three)
		}
	}
	if os.Geteuid() == 0 {
		uid := func(pid int) string {
			_, rest, _ := strings.Cut(wall(pid, "status"), "\nUid:\t")
			return strings.Fields(rest)[0]
		}
		if one, two, three := uid(first.Pid()), uid(second.Pid()), uid(template); one == two || one == three || one == "0" || two == three {
			t.Errorf("users %s and %s, and %s of the template", one, two, three)
		}
	}
	got, want := lines(t, first, asked), lines(t, parkPython(t, b, alone), asked)
	if len(got) != len(want) || len(got) < 60 {
		t.Fatalf("%d lines forked, %d alone", len(got), len(want))
	}
	for i, l := range got {
		switch {
		case strings.Contains(l, "through") && l != "unshare 0x80 through 0":
			t.Errorf("an attack got through: %s", l)
		case strings.HasPrefix(l, "Cap") && !strings.HasSuffix(l, "['0000000000000000']"):
			t.Error(l)
		case l == "limit 6 (64, 64)": // processes: no init stands beside its own
		case l != want[i]:
			t.Errorf("forked: %s\nalone:  %s", l, want[i])
		}
	}
}

// Bombs of a forked guest end it, or its call, and nobody else.
func TestForkedBombs(t *testing.T) {
	forked, _ := pythonTools(t)
	forked.Security.Processes, forked.Security.Memory, forked.Security.Disk = 16, 96<<20, 4<<20
	b := subject(t).Open(t, forked)
	beside := parkPython(t, b, forked)
	template := parent(t, beside.Pid())
	if beside.Enforced().Memory == nil {
		testenv.Require(t, "memory", &testenv.Unsupported{What: "a limit of memory", Why: "this host has no cgroup for it"})
	}
	for name, c := range map[string]struct{ code, says string }{
		"processes": {"import errno, os\nn = 0\ntry:\n  while n < 500:\n    if os.fork() == 0:\n      import time; time.sleep(60)\n    n += 1\nexcept OSError as e: print(errno.errorcode[e.errno], 0 < n <= 16)", "EAGAIN True\n"},
		"threads":   {"import threading, time\nn = 0\ntry:\n  while n < 500:\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n    n += 1\nexcept RuntimeError as e: print(e, 0 < n <= 16)", "can't start new thread True\n"},
		"disk":      {"import errno, os\nn = 0\ntry:\n  with open('/tmp/x', 'wb', buffering=0) as f:\n    while n < 64: n += f.write(bytes(1 << 20)) >> 20\nexcept OSError as e: print(errno.errorcode[e.errno], n <= 4)", "ENOSPC True\n"},
		"files":     {"import errno\nn = 0\ntry:\n  while n < 100000:\n    open('/tmp/%d' % n, 'w').close()\n    n += 1\nexcept OSError as e: print(errno.errorcode[e.errno])", "ENOSPC\n"},
		"open":      {"import errno, os\nn = 0\ntry:\n  while n < 100000:\n    os.dup(0)\n    n += 1\nexcept OSError as e: print(errno.errorcode[e.errno], n < 5000)", "EMFILE True\n"},
		"shared":    {"import mmap\nm = mmap.mmap(-1, 1 << 30)\nfor i in range(0, 1 << 30, 4096): m[i] = 1\nprint('held it')", ""},
		"memfd":     {"import os\nf = os.memfd_create('x')\nfor i in range(1024): os.write(f, bytes(1 << 20))\nprint('held it')", ""},
		"memory":    {"x = bytearray(1 << 30)\nfor i in range(0, 1 << 30, 4096): x[i] = 1\nprint('held it')", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c2 := python(t, parkPython(t, b, forked), c.code)
			if c2.stdout != c.says || c.says == "" && c2.err == nil && !strings.Contains(c2.failure, "MemoryError") && !strings.Contains(c2.failure, "OSError") {
				t.Error(c2)
			}
		})
	}
	if c := python(t, beside, "print('on')"); c.stdout != "on\n" {
		t.Error(c)
	}
	after := parkPython(t, b, forked)
	if parent(t, after.Pid()) != template {
		t.Error("the template is another one")
	}
}

// Signals of a forked guest go to its own processes, whatever it names.
func TestForkedSignals(t *testing.T) {
	forked, _ := pythonTools(t)
	b := subject(t).Open(t, forked)
	beside := parkPython(t, b, forked)
	template := parent(t, beside.Pid())
	var lives []life
	for _, pid := range []int{os.Getpid(), beside.Pid(), template, parent(t, template)} {
		lives = append(lives, lifeOf(pid))
	}
	got := lines(t, parkPython(t, b, forked), `
import errno, os, signal
r = {}
for p in list(range(2, 5000)) + list(range(-5000, -1)) + [`+strconv.Itoa(template)+`, `+strconv.Itoa(beside.Pid())+`, `+strconv.Itoa(os.Getpid())+`]:
    try: os.kill(p, signal.SIGKILL); r["through"] = p
    except OSError as e: r[errno.errorcode[e.errno]] = r.get(errno.errorcode[e.errno], 0) + 1
print(sorted(r), sum(r.values()))
`)
	if len(got) != 1 || got[0] != "['ESRCH'] 10000" {
		t.Errorf("%q", got)
	}
	for _, l := range lives {
		if l.over() {
			t.Errorf("process %d is gone", l.pid)
		}
	}
	if c := python(t, beside, "print('on')"); c.stdout != "on\n" {
		t.Error(c)
	}
}
