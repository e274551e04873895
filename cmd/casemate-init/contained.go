package main

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
)

// The files of the runtime, in the root of the outer process.
const (
	saidFile = contain.StatePath + "/said" // what the runtime wrote to standard error
	pidFile  = contain.StatePath + "/pid"  // of the container's first process
)

// A container is a guest that stands in one, as the outer process has it.
type container struct {
	pid   int      // of its first process
	inner *os.File // as the spawner has the setup connection of a sandbox
}

// start has the runtime make the container, and returns when the guest in it
// waits, with what that reports. The descriptors of the guest are closed here.
func start(s *contain.Setup, std []int) (*container, contain.Report, error) {
	var no contain.Report
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, no, os.NewSyscallError("socketpair", err)
	}
	said, err := unix.Open(saidFile, unix.O_CREAT|unix.O_RDWR|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, no, os.NewSyscallError("open", err)
	}
	defer unix.Close(said)
	files := []uintptr{0, 0, uintptr(said), contain.SetupFD: uintptr(pair[1]), contain.GuestFD: contain.GuestFD}
	for _, fd := range std {
		files = append(files, uintptr(fd))
	}
	for len(files) < passed && !contain.Sentry(s.Guest) { // so that what a runtime forgot comes after them
		files = append(files, 0)
	}
	argv := runtimeArgv(s.Guest.Version, s.Guest.Loopback, len(files)-3)
	pid, err := syscall.ForkExec(contain.RuntimePath, argv, &syscall.ProcAttr{Dir: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=2"}, Files: files})
	for _, fd := range append([]int{pair[1], contain.GuestFD}, std...) {
		unix.Close(fd)
	}
	if err != nil {
		return nil, no, os.NewSyscallError("exec", err)
	}
	if err := unix.Sendmsg(pair[0], []byte(s.Inner), nil, nil, unix.MSG_NOSIGNAL); err != nil && err != unix.EPIPE { // it ended, and says why
		return nil, no, os.NewSyscallError("sendmsg", err)
	}
	var ws unix.WaitStatus
	for {
		got, err := unix.Wait4(pid, &ws, 0, nil)
		if got == pid {
			break
		}
		if err != nil && err != unix.EINTR {
			return nil, no, os.NewSyscallError("wait4", err)
		}
	}
	if ws != 0 {
		return nil, no, errors.New(words(said))
	}
	buf := make([]byte, 8<<10)
	n, err := unix.Read(pair[0], buf)
	for err == unix.EINTR {
		n, err = unix.Read(pair[0], buf)
	}
	if err != nil || n == 0 {
		return nil, no, errors.New("the container ended before its guest was ready: " + words(said))
	}
	report, err := contain.DecodeReport(buf[:n])
	if err != nil {
		return nil, no, err
	}
	c := &container{inner: os.NewFile(uintptr(pair[0]), "inner")}
	b, err := os.ReadFile(pidFile)
	if err == nil {
		c.pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	return c, *report, err
}

// passed is how many descriptors the first process of a container has: what
// follows them is the runtime's, which has forgotten some in the past
// (CVE-2024-21626), and is closed before anything else is done.
const passed = contain.GuestFD + 1 + 3

// started are the standard descriptors of an MCP server, which start handed on.
func started(g plan.Guest) []int {
	if g.Runner != "mcp" {
		return nil
	}
	return []int{contain.GuestFD + 1, contain.GuestFD + 2, contain.GuestFD + 3}
}

// runtimeArgv starts the container in the background: what is left of the runtime
// is its files, which end with the sandbox.
func runtimeArgv(version string, loopback bool, fds int) []string {
	name, _, _ := strings.Cut(version, " ")
	if name == "runsc" {
		return sentryArgv(loopback, fds)
	}
	return []string{name, "--root", contain.StatePath + "/state", "run", "--detach", "--bundle", contain.BundlePath,
		"--pid-file", pidFile, "--preserve-fds", strconv.Itoa(fds), "guest"}
}

// sentryArgv is runtimeArgv for gVisor: no network of the host, no groups but the
// sandbox's, no overlay over the root, which is read-only, and every descriptor
// under its own number. Its words for networks are its own: "none" is loopback
// alone, and "sandbox" the interfaces of a fresh namespace, which are none.
func sentryArgv(loopback bool, fds int) []string {
	network := "sandbox"
	if loopback {
		network = "none"
	}
	argv := []string{"runsc", "--network=" + network, "--ignore-cgroups", "--platform=systrap", "--overlay2=none", "--host-uds=none", "--host-fifo=none",
		"--root", contain.StatePath + "/state", "run", "--detach", "--bundle", contain.BundlePath, "--pid-file", pidFile}
	for fd := contain.SetupFD; fd < contain.SetupFD+fds; fd++ {
		n := strconv.Itoa(fd)
		argv = append(argv, "--pass-fd", n+":"+n)
	}
	return append(argv, "guest")
}

// words is what the runtime said, at most a page of it, in printable
// characters.
func words(said int) string {
	b := make([]byte, 4096)
	n, _ := unix.Pread(said, b, 0)
	text := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b[:max(n, 0)]), "?"))
	if text = strings.TrimSpace(text); text == "" {
		return "the runtime said nothing"
	}
	return text
}

// wait carries the spawner's words to the container's first process and back
// until that ends, or the spawner does, and returns an exit status. It reaps
// every orphan meanwhile.
func (c *container) wait(setup *os.File) int {
	go func() {
		relay(setup, c.inner)
		os.Exit(0) // the spawner is gone
	}()
	go relay(c.inner, setup)
	runtime.LockOSThread()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 1
		case pid == c.pid && ws.Signaled():
			return 128 + int(ws.Signal())
		case pid == c.pid && ws.Exited():
			return ws.ExitStatus()
		}
	}
}

// relay carries packets until one side is gone.
func relay(from, to *os.File) {
	buf := make([]byte, 16)
	for {
		n, err := from.Read(buf)
		if err != nil || n == 0 {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
