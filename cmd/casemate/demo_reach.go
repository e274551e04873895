package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A trap is a listener of the host that counts who connects.
type trap struct {
	net.Listener
	hits atomic.Int64
	done sync.WaitGroup
}

// newTrap listens, and connects once itself: a trap that nothing can reach
// would prove nothing.
func newTrap(network, addr string) (*trap, error) {
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	t := &trap{Listener: l}
	seen := make(chan struct{}, 1)
	t.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			if t.hits.Add(1) == 1 {
				seen <- struct{}{}
			}
		}
	})
	c, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.close()
		return nil, err
	}
	c.Close()
	<-seen
	return t, nil
}

// close ends the trap and returns how many connected beside itself; what had
// connected before is counted.
func (t *trap) close() int64 {
	// Whoever waits in the queue was there before this one.
	if c, err := net.Dial(t.Addr().Network(), t.Addr().String()); err == nil {
		var b [1]byte
		c.Read(b[:]) // the trap hangs up
		c.Close()
		t.hits.Add(-1)
	}
	t.Close()
	t.done.Wait()
	return t.hits.Load() - 1
}

// reach has the attacker of a tool try what verb and args say.
func (d *demo) reach(ctx context.Context, r *attackRow, tool string, tries ...string) (string, bool) {
	script := ""
	for _, t := range tries {
		script += attackerAt + " attacker " + t + " 2>&1\n"
	}
	text, ok := d.hit(ctx, r, tool, script)
	if n := strings.Count(text, wordThrough+" ") + strings.Count(text, wordStopped+" "); ok && n < len(tries) {
		r.failed("the attacker said %q", short(text))
		return text, false
	}
	return text, ok
}

// guestOnly judges an attack whose victim is the kernel: what its first
// process saw is all that there is to see.
func (d *demo) guestOnly(ctx context.Context, r *attackRow, tries ...string) {
	if text, ok := d.reach(ctx, r, "shell", tries...); ok {
		r.judge(strings.Contains(text, wordThrough+" "), "%s", lines(text))
	}
}

var reachAttacks = []demoAttack{
	{"connect to a TCP listener on the host", "network namespace; Landlock", func(d *demo, ctx context.Context, r *attackRow) {
		r.Tried = "connect to 127.0.0.1 and ::1"
		var traps []*trap
		var addrs []string
		for _, a := range []string{"127.0.0.1:0", "[::1]:0"} {
			t, err := newTrap("tcp", a)
			if err != nil {
				continue // a host may be without one of the two
			}
			traps, addrs = append(traps, t), append(addrs, t.Addr().String())
		}
		if len(traps) == 0 {
			r.na("this host has no loopback address to listen at")
			return
		}
		r.Tried = "connect to " + strings.Join(addrs, " and ")
		text, ok := d.reach(ctx, r, "shell", "tcp "+strings.Join(addrs, " "))
		var hits int64
		for _, t := range traps {
			hits += t.close()
		}
		if ok {
			r.judge(hits > 0, "the listeners counted %d connections of the sandbox and one each of the demo itself; %s", hits, lines(text))
		}
	}},
	{"connect to a unix listener in a granted folder", "read-only overlay: the socket is another object there", func(d *demo, ctx context.Context, r *attackRow) {
		name := d.place.path("shared/s")
		r.Tried = "connect to /shared/s, of a folder granted to be read, and to " + name
		dir, err := os.Open(d.place.path("shared"))
		if err != nil {
			r.failed("%v", err)
			return
		}
		defer dir.Close()
		// By the folder's descriptor: the name of a socket may have 107 bytes.
		t, err := newTrap("unix", fmt.Sprintf("/proc/self/fd/%d/s", dir.Fd()))
		if err != nil {
			r.na("no unix socket can be made at %s: %v", name, err)
			return
		}
		os.Chmod(name, 0o777)
		text, ok := d.reach(ctx, r, "reader", "unix /shared/s "+shellWord(name))
		hits := t.close()
		if ok {
			r.judge(hits > 0, "the listener counted %d connections of the sandbox and one of the demo itself; %s", hits, lines(text))
		}
	}},
	{"connect to an abstract listener on the host", "network namespace; Landlock scope", func(d *demo, ctx context.Context, r *attackRow) {
		name := "casemate-demo-" + strconv.Itoa(os.Getpid())
		r.Tried = "connect to the abstract unix socket @" + name
		t, err := newTrap("unix", "@"+name)
		if err != nil {
			r.na("no abstract socket can be made: %v", err)
			return
		}
		text, ok := d.reach(ctx, r, "shell", "abstract "+name)
		hits := t.close()
		if ok {
			r.judge(hits > 0, "the listener counted %d connections of the sandbox and one of the demo itself; %s", hits, lines(text))
		}
	}},
	{"write into a FIFO of a granted folder", "read-only overlay: the FIFO is another object there", func(d *demo, ctx context.Context, r *attackRow) {
		name := d.place.path("shared/fifo")
		r.Tried = "write to /shared/fifo, which the host reads"
		if err := unix.Mkfifo(name, 0o666); err != nil {
			r.na("no FIFO can be made: %v", err)
			return
		}
		os.Chmod(name, 0o666)
		f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			r.failed("%v", err)
			return
		}
		defer f.Close()
		if text, ok := d.reach(ctx, r, "reader", "fifo /shared/fifo"); ok {
			var b [64]byte
			n, _ := unix.Read(int(f.Fd()), b[:])
			r.judge(n > 0, "%d bytes came out on the host; %s", max(n, 0), lines(text))
		}
	}},
	{"see and signal processes of the host", "pid namespace; a /proc of its own; Landlock scope", func(d *demo, ctx context.Context, r *attackRow) {
		victim := exec.Command("/bin/sleep", "271."+d.place.mark)
		if err := victim.Start(); err != nil {
			r.failed("%v", err)
			return
		}
		pid := victim.Process.Pid
		ended := make(chan error, 1)
		go func() { ended <- victim.Wait() }()
		defer func() { victim.Process.Kill(); <-ended }()
		r.Tried = fmt.Sprintf("kill -9 %d (a process of the demo), kill -9 of every number that /proc shows but itself, grep of every /proc/*/cmdline for it and for casemate serve", pid)
		text, ok := d.hit(ctx, r, "shell", fmt.Sprintf("kill -9 %d 2>/dev/null; grep -ls -e '27[1].%s' -e 'serv[e]' /proc/[0-9]*/cmdline && echo SEEN; set -- /proc/[0-9]*; echo \"count $#\"; for p in \"$@\"; do p=${p#/proc/}; [ $p != 1 ] && [ $p != $$ ] && kill -9 $p 2>/dev/null; done", pid, d.place.mark))
		if !ok {
			return
		}
		select {
		case err := <-ended:
			ended <- err
			r.judge(true, "the victim ended: %v", err)
		default:
			seen := strings.Count(strings.Join(processTable(), "\n"), "\n") + 1
			r.judge(strings.Contains(text, "SEEN"), "the victim, number %d, lives; the sandbox found it or casemate serve: %s; it counted %s processes, the host has %d", pid, yesNo(strings.Contains(text, "SEEN")), after(text, "count "), seen)
		}
	}},
	{"read the environment of the host", "environment by allow list; pid namespace", func(d *demo, ctx context.Context, r *attackRow) {
		r.Tried = "env; cat /proc/*/environ, while casemate serve has AWS_SECRET_ACCESS_KEY and another secret in its own"
		if text, ok := d.hit(ctx, r, "shell", "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"); ok {
			got := strings.Count(text, canary)
			r.judge(got > 0, "in the %d bytes that the planner got a secret stands %s", len(text), times(got))
		}
	}},
	{"make a setuid program in its own /tmp", "seccomp: no mode with a setuid bit", func(d *demo, ctx context.Context, r *attackRow) {
		r.Tried = "cp /bin/sh /tmp/su; chmod 4755 /tmp/su"
		if text, ok := d.hit(ctx, r, "shell", "cp /bin/sh /tmp/su; chmod 4755 /tmp/su 2>&1; if [ -u /tmp/su ]; then echo MADE; fi"); ok {
			r.judge(strings.Contains(text, "MADE"), "%s", lines(strings.Replace(text, "MADE", "the file has the bit (the mount is nosuid, so it is of no use)", 1)))
		}
	}},
	{"make a user namespace of its own", "seccomp: no clone and no unshare of namespaces", func(d *demo, ctx context.Context, r *attackRow) {
		r.Tried = "clone(CLONE_NEWUSER), the door to most of the kernel's bugs"
		d.guestOnly(ctx, r, "userns")
	}},
	{"open sockets past the network namespace", "seccomp: socket families by allow list", func(d *demo, ctx context.Context, r *attackRow) {
		r.Tried = "socket of AF_VSOCK (the machine's hypervisor), AF_ALG (the kernel's ciphers), generic netlink and AF_PACKET; connected to nothing"
		d.guestOnly(ctx, r, "socket vsock", "socket alg", "socket netlink", "socket packet")
	}},
	{"use interfaces of the kernel that no tool needs", "seccomp: system calls by allow list", func(d *demo, ctx context.Context, r *attackRow) {
		r.Tried = "keyctl (the user's keyring), perf_event_open"
		d.guestOnly(ctx, r, "keyctl", "perf")
	}},
	{"reach io_uring, bpf and userfaultfd from Python", "seccomp: system calls by allow list", func(d *demo, ctx context.Context, r *attackRow) {
		r.Tried = "ctypes: io_uring_setup, bpf(BPF_MAP_CREATE), userfaultfd"
		if !d.python {
			r.na("this host has no Python that the tool can have")
			return
		}
		a, err := d.hijacked.call(ctx, "python", map[string]any{"code": pythonCalls})
		switch {
		case err != nil:
			r.failed("%v", err)
		case strings.Count(a.text, wordThrough+" ")+strings.Count(a.text, wordStopped+" ") < 3:
			r.failed("the tool answered %q", short(a.text))
		default:
			r.judge(strings.Contains(a.text, wordThrough+" "), "%s", lines(a.text))
		}
	}},
}

const pythonCalls = `
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == 'x86_64'
room = ctypes.create_string_buffer(256)
room[0], room[4], room[8], room[12] = 2, 4, 4, 1   # an array of one
for name, call in (('io_uring_setup', (425, 1, ctypes.create_string_buffer(256))), ('bpf', (321 if x86 else 280, 0, room, 72)), ('userfaultfd', (323 if x86 else 282, 1))):
    fd = libc.syscall(*call)
    print('THROUGH' if fd >= 0 else 'stopped', name + ':', 'descriptor %d' % fd if fd >= 0 else os.strerror(ctypes.get_errno()))
    if fd >= 0: os.close(fd)
`

// after returns the word of text that follows what.
func after(text, what string) string {
	_, rest, _ := strings.Cut(text, what)
	word, _, _ := strings.Cut(rest, "\n")
	return word
}

// processTable lists the command lines of the processes of this host.
func processTable() []string {
	var out []string
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, n := range names {
		b, err := os.ReadFile(n)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		out = append(out, strings.ReplaceAll(string(b), "\x00", " "))
	}
	return out
}

// countRunning counts the processes of the host whose whole command line is line.
func countRunning(line string) int {
	n := 0
	for _, c := range processTable() {
		if strings.TrimSpace(c) == line {
			n++
		}
	}
	return n
}
