package process

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/testenv"
)

// pythonTools are one tool twice: forked of a template, and started for each
// call.
func pythonTools(t *testing.T) (forked, alone *casemate.Tool) {
	t.Helper()
	if _, err := os.Stat(interpreter); err != nil {
		testenv.Require(t, "python", &testenv.Unsupported{What: interpreter, Why: err.Error(), Fix: "apt install python3"})
	}
	tool := func(name casemate.ToolName, noFork bool) *casemate.Tool {
		return &casemate.Tool{Name: name, Run: casemate.Run{Python: &casemate.Script{Interpreter: interpreter, Preload: []string{"json"}, NoFork: noFork}}}
	}
	return tool("forked", false), tool("alone", true)
}

// parkPython starts a sandbox of one and reads its Ready.
func parkPython(t *testing.T, b casemate.Backend, tool *casemate.Tool) *sandbox {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sb, err := b.Start(ctx, casemate.Spec{Tool: tool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sb.Close() })
	s := sb.(*sandbox)
	if (s.mux != nil) != (tool.Name == "forked") {
		t.Fatalf("%s is forked: %v", tool.Name, s.mux != nil)
	}
	if f, err := guest.Read(s.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		t.Fatalf("%s is not ready: %c %v", tool.Name, f.Type, err)
	}
	return s
}

func python(t *testing.T, s *sandbox, code string) collected {
	t.Helper()
	askPython(t, s, code)
	defer s.Close()
	return collect(s.Guest())
}

func askPython(t *testing.T, s *sandbox, code string) {
	t.Helper()
	if err := guest.Write(s.Guest(), guest.Frame{Type: guest.Call, Call: number, Body: guest.AppendPairs(nil, []guest.Pair{{Key: "code", Value: code}})}); err != nil {
		t.Fatal(err)
	}
}

// What a call does must not tell how its interpreter came to be.
var pythonCases = []string{
	"print(6*7)",
	"",
	"x = 'hel'\nx + 'lo'",
	"print('héé ☃ 𝄞 \\ud800')\n'𝄞'",
	"import sys\nprint('o')\nprint('e', file=sys.stderr)\n1/0",
	"a = 1\nb = = 2",
	"class A:\n  def __repr__(self): raise KeyError('r')\nA()",
	"import sys\nprint('x')\nsys.exit(3)",
	"import sys\nsys.exit('bye')",
	"import os\nprint('x')\nos._exit(4)",
	"import os\nprint('x')\nos.kill(os.getpid(), 9)",
	"import os, signal\nprint('x')\nos.kill(os.getpid(), signal.SIGTERM)",
	"import os, signal\nsignal.signal(signal.SIGTERM, lambda *a: print('handled'))\nos.kill(os.getpid(), signal.SIGTERM)\n'on'",
	"import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)",
	"import ctypes\nctypes.string_at(0)",
	"import os\nprint('before')\nos.execv('/bin/sh', ['sh', '-c', 'sleep 0.1; echo after; exit 6'])",
	"import subprocess, os\nprint('a', end='')\nsubprocess.run(['echo', 'b'])\nprint('c', end='')\nos.system('echo d')\nprint('e')",
	"import os\nprint('one', end='')\npid = os.fork()\nif pid:\n  os.waitpid(pid, 0)\n  print('parent')\nelse:\n  print('child')",
	"import multiprocessing as m\nm.set_start_method('fork')\ndef f(x): return x*x\nwith m.Pool(2) as p: r = p.map(f, range(4))\nr",
	"import subprocess\nsubprocess.Popen(['sleep', '30'])\n'on'[:2]",
	"import threading, time\nthreading.Thread(target=time.sleep, args=(30,)).start()\n'on'",
	"import sys\nsys.stdin.read()",
	"import sys\nsys.stdout.close()\n5",
	"import os\nos.close(1)\n'v'",
	"import ctypes\nctypes.CDLL(None).printf(b'from C')\nNone",
	"import asyncio\nasync def f():\n  await asyncio.sleep(0.01)\n  return 7\nasyncio.run(f())",
	"import socket\na, b = socket.socketpair()\na.send(b'x')\nb.recv(1)",
	"import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f:\n  f.write('x'); f.flush(); f.seek(0); r = f.read()\nr, f.name.startswith('/tmp/')",
	"open('/out/a.txt', 'w').write('left')\nopen('/out/b.png', 'wb').write(bytes(300))\nNone",
	"f = open('/out/open.txt', 'w')\nf.write('not closed')\nNone",
	"open('helper.py','w').write('v = 7')\nimport helper\nhelper.v",
	"import sys\nsys.flags.isolated, sys.flags.dont_write_bytecode, sys.flags.utf8_mode, sys.argv, sys.path[-1], __name__",
	"import sys\n[(f.name, f.mode, f.encoding, f.errors, f.line_buffering, f.fileno(), f.seekable()) for f in (sys.stdin, sys.stdout, sys.stderr)]",
	"import sys\nsys.__stdout__ is sys.stdout, sys.__stdin__ is sys.stdin",
	"sorted(k for k in globals() if not k.startswith('__'))",
	"import os\nsorted(os.environ.items())",
	"import os\nos.getcwd(), os.getuid(), os.getgid(), os.getgroups(), os.umask(0), os.getsid(0) == os.getpid()",
	"import os\nsorted(os.listdir('/')), sorted(os.listdir('/dev')), sorted(os.listdir('/tmp')), sorted(os.listdir('/out')), os.listdir('/dev/shm')",
	"import resource\n[(n, resource.getrlimit(getattr(resource, n))) for n in dir(resource) if n.startswith('RLIMIT_')]",
	"import signal\n[(s, signal.getsignal(s)) for s in sorted(signal.valid_signals()) if signal.getsignal(s) not in (signal.SIG_DFL, None)], signal.pthread_sigmask(signal.SIG_BLOCK, [])",
	"[l for l in open('/proc/self/status') if l.split(':')[0] in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp', 'Uid', 'Gid', 'Groups', 'Threads', 'SigBlk', 'SigIgn', 'Umask')]",
	"import os\n[(p, os.statvfs(p).f_flag) for p in ('/', '/tmp', '/out', '/dev/shm', '/usr', '/proc', '/dev')]",
	"import os\nr = []\nfor p in '/x', '/usr/x', '/proc/sys/kernel/hostname', '/dev/x', '/etc/passwd':\n  try: open(p, 'w').close(); r.append('opened')\n  except OSError as e: r.append(e.errno)\nr",
	"import socket\nr = []\nfor f in range(0, 46):\n  for k in socket.SOCK_DGRAM, socket.SOCK_RAW:\n    try: s = socket.socket(f, k); s.connect(('127.0.0.1', 9)) if f == 2 else None; r.append(f)\n    except OSError: pass\n[f for f in r if f not in (1, 2, 10, 16)]",
	"__import__('json').dumps([1])",
}

func TestPythonForkedOrNot(t *testing.T) { forkedOrNot(t) }

func TestPythonForkedOrNotAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, forkedOrNot)
}

func forkedOrNot(t *testing.T) {
	forked, alone := pythonTools(t)
	b := subject(t).Open(t, forked, alone)
	for i, code := range pythonCases {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			want, got := python(t, parkPython(t, b, alone), code), python(t, parkPython(t, b, forked), code)
			if want.err != nil || got.err != nil {
				t.Errorf("%q\nalone  %v\nforked %v", code, want, got)
			}
			if w, g := want.String(), got.String(); w != g && strings.Join(strings.Split(w, ":")[1:], ":") != strings.Join(strings.Split(g, ":")[1:], ":") {
				t.Errorf("%q\nalone  %v\nforked %v", code, want, got)
			}
			for name, text := range want.files {
				if got.files[name] != text {
					t.Errorf("%q: forked, the file %s is %.100q", code, name, got.files[name])
				}
			}
		})
	}
}

// A tool whose preload fails says so in each call, forked or not.
func TestPythonForkedPreloadFails(t *testing.T) {
	forked, alone := pythonTools(t)
	forked.Run.Python.Preload, alone.Run.Python.Preload = []string{"no_such_module"}, []string{"no_such_module"}
	b := subject(t).Open(t, forked, alone)
	for _, tool := range []*casemate.Tool{forked, alone} {
		if c := python(t, parkPython(t, b, tool), "1"); c.status != 1 || !strings.Contains(c.failure, "preload: the module no_such_module cannot be imported") {
			t.Error(tool.Name, c)
		}
	}
}

// A forked guest that is over its memory ends by that limit, and the stream
// has no answer that would hide it.
func TestPythonForkedMemory(t *testing.T) {
	forked, _ := pythonTools(t)
	forked.Security.Memory = 64 << 20
	b := subject(t).Open(t, forked)
	s := parkPython(t, b, forked)
	if s.Enforced().Memory == nil {
		testenv.Require(t, "memory", &testenv.Unsupported{What: "a limit of memory", Why: "this host has no cgroup for it"})
	}
	askPython(t, s, "print('on')\nx = [bytearray(1 << 20) for i in range(1000)]\nfor b in x: b[::4096] = b'x' * 256")
	c := collect(s.Guest())
	if c.err == nil || c.stdout != "on\n" {
		t.Error(c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if e, err := s.Wait(ctx); err != nil || e.Limit != "memory" {
		t.Errorf("%+v %v", e, err)
	}
	if c := python(t, parkPython(t, b, forked), "print(1)"); c.stdout != "1\n" {
		t.Error(c)
	}
}

// Closing a sandbox whose guest is busy ends the stream, without an answer.
func TestPythonForkedClosed(t *testing.T) {
	forked, _ := pythonTools(t)
	s := parkPython(t, subject(t).Open(t, forked), forked)
	askPython(t, s, "import time\nprint('on')\ntime.sleep(60)")
	if f, err := guest.Read(s.Guest(), guest.MaxReply); err != nil || string(f.Body) != "on\n" {
		t.Fatal(f, err)
	}
	over := make(chan collected)
	go func() { over <- collect(s.Guest()) }()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if c := <-over; c.err == nil || c.order != "" {
		t.Error(c)
	}
}

// The victim holds one of everything that could be shared, says so, and looks
// at it again when the host sends it SIGUSR1.
const victim = `
import ctypes, fcntl, mmap, os, signal, socket
libc = ctypes.CDLL(None, use_errno=True)
key, name = KEY, "NAME"
shm = libc.shmget(key, 4096, 0o1666)
sem = libc.semget(key, 1, 0o1666)
msg = libc.msgget(key, 0o1666)
mq = libc.mq_open(b"/" + name.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
for folder in "/tmp/", "/dev/shm/", "/out/":
    open(folder + name, "w").write("untouched")
listener = socket.socket(socket.AF_UNIX)
bound = True
try:
    listener.bind("\0" + name)
    listener.listen()
except OSError as e:
    bound = e.errno
lock = open("/usr/bin/env", "rb")
fcntl.flock(lock, fcntl.LOCK_EX)
came = []
class Over(Exception): pass
def over(*a): raise Over
signal.signal(signal.SIGUSR1, over)
for s in range(1, 65):
    try:
        if s not in (signal.SIGUSR1, signal.SIGCHLD): signal.signal(s, lambda s, f: came.append(s))
    except (OSError, ValueError): pass
print([x >= 0 for x in (shm, sem, msg, mq)], bound, flush=True) # without mqueue in the kernel, or its call in the filter, there is no queue
try:
    if bound is True: came.append(("connected", listener.accept()))
    while True: signal.pause()
except Over: pass
print(came, [open(f + name).read() for f in ("/tmp/", "/dev/shm/", "/out/")])
`

// attacks prints one line for each attempt: its name and what the kernel said.
const attacks = `
import ctypes, errno, fcntl, os, socket
libc = ctypes.CDLL(None, use_errno=True)
key, name, pids = KEY, "NAME", PIDS
def said(n):
    return errno.errorcode.get(ctypes.get_errno()) if n == -1 else "through %d" % n
def call(what, nr, *a):
    ctypes.set_errno(0)
    print(what, said(libc.syscall(ctypes.c_long(nr), *[ctypes.c_long(x) for x in a])))
def attempt(what, f):
    try: print(what, "through", f())
    except OSError as e: print(what, errno.errorcode.get(e.errno))
buf = ctypes.create_string_buffer(64)
iov = (ctypes.c_long * 2)(ctypes.addressof(buf), 8)
at = ctypes.addressof(iov)
for p in pids:
    attempt("kill", lambda: os.kill(p, 9))
    call("tgkill", SYS_TGKILL, p, p, 9)
    call("ptrace attach", SYS_PTRACE, 16, p, 0, 0)
    call("ptrace seize", SYS_PTRACE, 0x4206, p, 0, 0)
    call("process_vm_readv", SYS_PROCESS_VM_READV, p, at, 1, at, 1, 0)
    call("process_vm_writev", SYS_PROCESS_VM_WRITEV, p, at, 1, at, 1, 0)
    call("pidfd_open", SYS_PIDFD_OPEN, p, 0)
    call("kcmp", SYS_KCMP, p, 1, 0, 0, 0)
    call("prlimit", SYS_PRLIMIT64, p, 7, 0, ctypes.addressof(buf))
    call("get_robust_list", SYS_GET_ROBUST_LIST, p, ctypes.addressof(buf), ctypes.addressof(buf) + 8)
    attempt("setpriority", lambda: os.setpriority(os.PRIO_PROCESS, p, 19))
    attempt("sched_setaffinity", lambda: os.sched_setaffinity(p, [0]))
    attempt("proc mem", lambda: open("/proc/%d/mem" % p, "rb"))
    attempt("proc root", lambda: os.listdir("/proc/%d/root" % p))
    attempt("owner of a descriptor", lambda: fcntl.fcntl(1, fcntl.F_SETOWN, p))
attempt("signal all", lambda: os.kill(-1, 0))
call("shmget", SYS_SHMGET, key, 0, 0)
call("semget", SYS_SEMGET, key, 0, 0)
call("msgget", SYS_MSGGET, key, 0)
ctypes.set_errno(0)
print("mq_open", said(libc.mq_open(b"/" + name.encode(), os.O_RDWR)))
for folder in "/tmp/", "/dev/shm/", "/out/":
    attempt("file of the sibling", lambda: open(folder + name).read())
def connect(kind):
    s = socket.socket(socket.AF_UNIX, kind)
    s.connect("\0" + name)
attempt("abstract stream", lambda: connect(socket.SOCK_STREAM))
attempt("abstract datagram", lambda: connect(socket.SOCK_DGRAM))
for f in socket.AF_INET, socket.AF_INET6:
    attempt("inet socket", lambda: socket.socket(f, socket.SOCK_STREAM))
    attempt("inet socket", lambda: socket.socket(f, socket.SOCK_DGRAM))
attempt("netlink socket", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
for what, nr, *a in ("keyctl", SYS_KEYCTL, 0, -3, 0), ("add_key", SYS_ADD_KEY, at, at, at, 1, -3), ("request_key", SYS_REQUEST_KEY, at, at, 0, -3), ("setns", SYS_SETNS, 3, 0), \
        ("unshare user", SYS_UNSHARE, 0x10000000), ("unshare pid", SYS_UNSHARE, 0x20000000), ("unshare network", SYS_UNSHARE, 0x40000000), ("mount", SYS_MOUNT, at, at, at, 0, 0), \
        ("perf_event_open", SYS_PERF_EVENT_OPEN, at, 0, -1, -1, 0), ("userfaultfd", SYS_USERFAULTFD, 0), ("bpf", SYS_BPF, 0, at, 8), ("io_uring_setup", SYS_IO_URING_SETUP, 1, at), ("pidfd_getfd", SYS_PIDFD_GETFD, 0, 0, 0), ("capset", SYS_CAPSET, at, at):
    call(what, nr, *a)
print("over")
`

// numbers of system calls, by the names that attacks has for them.
func numbers(code string) string {
	for name, nr := range map[string]int{
		"ADD_KEY":           unix.SYS_ADD_KEY,
		"BPF":               unix.SYS_BPF,
		"CAPSET":            unix.SYS_CAPSET,
		"GET_ROBUST_LIST":   unix.SYS_GET_ROBUST_LIST,
		"IO_URING_SETUP":    unix.SYS_IO_URING_SETUP,
		"KCMP":              unix.SYS_KCMP,
		"KEYCTL":            unix.SYS_KEYCTL,
		"MOUNT":             unix.SYS_MOUNT,
		"MSGGET":            unix.SYS_MSGGET,
		"PERF_EVENT_OPEN":   unix.SYS_PERF_EVENT_OPEN,
		"PIDFD_GETFD":       unix.SYS_PIDFD_GETFD,
		"PIDFD_OPEN":        unix.SYS_PIDFD_OPEN,
		"PRLIMIT64":         unix.SYS_PRLIMIT64,
		"PROCESS_VM_READV":  unix.SYS_PROCESS_VM_READV,
		"PROCESS_VM_WRITEV": unix.SYS_PROCESS_VM_WRITEV,
		"PTRACE":            unix.SYS_PTRACE,
		"REQUEST_KEY":       unix.SYS_REQUEST_KEY,
		"SEMGET":            unix.SYS_SEMGET,
		"SETNS":             unix.SYS_SETNS,
		"SHMGET":            unix.SYS_SHMGET,
		"TGKILL":            unix.SYS_TGKILL,
		"UNSHARE":           unix.SYS_UNSHARE,
		"USERFAULTFD":       unix.SYS_USERFAULTFD,
	} {
		code = strings.ReplaceAll(code, "SYS_"+name+",", strconv.Itoa(nr)+",")
	}
	return code
}

func TestForkedSiblings(t *testing.T) { siblings(t) }

func TestForkedSiblingsAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, siblings)
}

// A forked guest reaches neither a sibling nor the template, and both are as
// they were when it is done.
func siblings(t *testing.T) {
	forked, _ := pythonTools(t)
	b := subject(t).Open(t, forked)
	mine := strings.NewReplacer("KEY", strconv.Itoa(os.Getpid()), "NAME", "casemate-"+strconv.Itoa(os.Getpid()))
	v := parkPython(t, b, forked)
	askPython(t, v, mine.Replace(victim))
	f, err := guest.Read(v.Guest(), guest.MaxReply)
	if err != nil || f.Type != guest.Stdout || !strings.HasPrefix(string(f.Body), "[True, True, True, ") {
		t.Fatalf("the victim is not set up: %c %s %v", f.Type, f.Body, err)
	}
	template := parent(t, v.Pid())
	if parent(t, parkPython(t, b, forked).Pid()) != template {
		t.Fatal("the guests have two templates")
	}
	pids := []string{strconv.Itoa(v.Pid()), strconv.Itoa(template), "2", "3"}
	c := python(t, parkPython(t, b, forked), mine.Replace(strings.ReplaceAll(numbers(attacks), "PIDS", "["+strings.Join(pids, ", ")+"]")))
	lines := strings.Split(strings.TrimSpace(c.stdout), "\n")
	if c.err != nil || c.failure != "" || lines[len(lines)-1] != "over" || len(lines) != 15*len(pids)+1+4+3+2+5+14+1 {
		t.Fatalf("the attacks did not run: %d lines; %v", len(lines), c)
	}
	for _, l := range lines[:len(lines)-1] {
		if words := strings.Fields(l); strings.Contains(l, "through") || words[len(words)-1] == "None" {
			t.Errorf("an attack got through: %s", l)
		}
	}
	// The victim is there, and nothing came to it.
	if err := unix.Kill(v.Pid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if c := collect(v.Guest()); c.err != nil || c.stdout != "[] ['untouched', 'untouched', 'untouched']\n" {
		t.Errorf("the victim: %v", c)
	}
	// So is the template.
	after := parkPython(t, b, forked)
	if parent(t, after.Pid()) != template {
		t.Error("the template is another one")
	}
	if c := python(t, after, "print('on')"); c.stdout != "on\n" {
		t.Error(c)
	}
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nPPid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(line)
	if err != nil || n < 2 {
		t.Fatal(line, err)
	}
	return n
}

// What a forked guest has of the template is what it may have: no descriptor,
// no thread, no memory that is shared, no capability; and the namespaces are
// its own, but that of the network, which siblings share and the host does not.
func TestForkedHoldsNothing(t *testing.T) { holdsNothing(t) }

func TestForkedHoldsNothingAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, holdsNothing)
}

func holdsNothing(t *testing.T) {
	forked, _ := pythonTools(t)
	b := subject(t).Open(t, forked)
	const code = `
import fcntl, os, threading
def to(f):
    try: fcntl.fcntl(f, fcntl.F_GETFD)
    except OSError: return
    return "%d=%s" % (f, os.readlink("/proc/self/fd/%d" % f).split(":")[0])
print(*filter(None, map(to, range(5000))))
print(threading.active_count(), os.listdir("/proc/self/task"), [p for p in os.listdir("/proc") if p.isdigit()], os.getpid(), os.getppid())
print([l for l in open("/proc/self/maps") if l.split()[1][1:4:2] == "ws"])
s = dict(l.split() for l in open("/proc/self/status") if len(l.split()) == 2)
print(*[s[k + ":"] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")])
print(*[os.readlink("/proc/self/ns/" + n) for n in ("user", "mnt", "pid", "ipc", "uts", "cgroup", "net")])
`
	one, two := parkPython(t, b, forked), parkPython(t, b, forked)
	var spaces [3][]string
	for i, s := range []*sandbox{one, two} {
		c := python(t, s, code)
		l := strings.Split(strings.TrimSpace(c.stdout), "\n")
		if c.err != nil || c.failure != "" || len(l) != 5 {
			t.Fatal(c)
		}
		none := strings.Repeat("0", 16)
		for j, want := range []string{"0=/dev/null 1=pipe 2=pipe 3=socket", "1 ['1'] ['1'] 1 0", "[]", strings.Join([]string{none, none, none, none, none, "1", "2"}, " ")} {
			if l[j] != want {
				t.Errorf("it has %q, and not %q", l[j], want)
			}
		}
		spaces[i] = strings.Fields(l[4])
	}
	for _, n := range []string{"user", "mnt", "pid", "ipc", "uts", "cgroup", "net"} {
		link, err := os.Readlink("/proc/self/ns/" + n)
		if err != nil {
			t.Fatal(err)
		}
		spaces[2] = append(spaces[2], link)
	}
	for i, n := range spaces[0] {
		if n == spaces[2][i] || spaces[1][i] == spaces[2][i] {
			t.Errorf("%s is the host's", n)
		}
		if (n == spaces[1][i]) != strings.HasPrefix(n, "net:") {
			t.Errorf("two guests have %s and %s", n, spaces[1][i])
		}
	}
}

// The files of a result have the room that the tool's output gives, and one
// that has none is named.
func TestForkedOutputIsTheTools(t *testing.T) {
	forked, alone := pythonTools(t)
	forked.Security.Output, alone.Security.Output = 3<<20, 3<<20
	b := subject(t).Open(t, forked, alone)
	for _, tool := range []*casemate.Tool{alone, forked} {
		c := python(t, parkPython(t, b, tool), "open('/out/fits', 'wb').write(bytes(2 << 20))\nopen('/out/is-left', 'wb').write(bytes(2 << 20))\nNone")
		if c.err != nil || len(c.files) != 1 || len(c.files["fits"]) < 2<<20 || c.stderr != "casemate: /out: is-left (2097152 bytes) is left out: the whole result may have 3145728 bytes; raise output\n" {
			t.Error(tool.Name, c)
		}
	}
}

// TestUsageOfPython: what a call used is known, whichever way its interpreter
// came to be, and that of its own children with it.
func TestUsageOfPython(t *testing.T) {
	forked, alone := pythonTools(t)
	b := subject(t).Open(t, forked, alone)
	for _, tool := range []*casemate.Tool{forked, alone} {
		s := parkPython(t, b, tool)
		askPython(t, s, "import os, time\npid = os.fork()\nwhile time.process_time() < 0.2: bytes(1000)\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)\nprint('done')")
		if c := collect(s.Guest()); c.stdout != "done\n" {
			t.Fatal(c)
		}
		s.Close()
		x, err := s.Wait(t.Context())
		if err != nil || x.Usage.CPU < 300*time.Millisecond || x.Usage.CPU > time.Minute || x.Usage.Memory <= 0 {
			t.Errorf("%s used %v and %d bytes, %v", tool.Name, x.Usage.CPU, x.Usage.Memory, err)
		}
	}
}

// TestPythonForkedHasCommonModules: what code imports most is there, and no
// child reads files and compiles them for it; its random numbers are its own all
// the same.
func TestPythonForkedHasCommonModules(t *testing.T) {
	forked, _ := pythonTools(t)
	forked.Run.Python.Preload = nil
	b := subject(t).Open(t, forked)
	drawn := map[string]bool{}
	for range 3 {
		c := python(t, parkPython(t, b, forked), "import sys\nprint([m for m in ('datetime', 'json', 'math', 'random') if m not in sys.modules])\nimport random\nprint(random.random())")
		missing, number, _ := strings.Cut(c.stdout, "\n")
		if missing != "[]" || drawn[number] {
			t.Errorf("not there: %s; drawn %s after %v; %v", missing, number, drawn, c)
		}
		drawn[number] = true
	}
}
