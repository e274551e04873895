package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

// Each casemate serve has a unix socket in the runtime folder, named by its
// process, by which the commands of the same user reach its router: stop,
// pool and tools --live. Either side takes the kernel's word for who the
// other is.

// listenOperator makes the socket of this process; close ends and removes it.
func listenOperator() (l *net.UnixListener, close func(), err error) {
	dir, err := runtimeFolder()
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*net.UnixListener, func(), error) {
		return nil, nil, &casemate.Error{Op: "operator socket", Kind: casemate.Internal, Err: err, Fix: "make the folder of XDG_RUNTIME_DIR writable"}
	}
	d, err := os.Open(dir)
	if err != nil {
		return fail(err)
	}
	defer d.Close()
	name := "serve-" + strconv.Itoa(os.Getpid()) + ".sock"
	path := filepath.Join(dir, name)
	if err := os.Remove(path); err != nil && !missing(err) { // of a former process of this number
		return fail(err)
	}
	old := syscall.Umask(0o177)
	l, err = net.ListenUnix("unix", socketIn(d, name))
	syscall.Umask(old)
	if err != nil {
		return fail(err)
	}
	l.SetUnlinkOnClose(false) // it knows the socket by a name that ends with d
	return l, func() { l.Close(); os.Remove(path) }, nil
}

// socketIn is the address of a socket in the folder d, however long the path
// of that is: a socket's own has at most 107 bytes.
func socketIn(d *os.File, name string) *net.UnixAddr {
	return &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), Net: "unix"}
}

// peerUid returns the user at the other end of c.
func peerUid(c *net.UnixConn) (int, error) {
	_, uid, err := peerOf(c)
	return uid, err
}

// peerOf returns the process and the user that made the other end of c.
func peerOf(c *net.UnixConn) (pid, uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, 0, err
	}
	if inner != nil {
		return 0, 0, inner
	}
	return int(cred.Pid), int(cred.Uid), nil
}

// A running is one live casemate serve of this user.
type running struct {
	pid int
	*client
}

// servers connects to every casemate serve of this user that answers. A
// socket whose process is gone is removed.
func servers() ([]running, error) {
	dir, err := runtimeFolder()
	if err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, &casemate.Error{Op: "runtime folder", Kind: casemate.Internal, Err: err}
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, &casemate.Error{Op: "runtime folder", Kind: casemate.Internal, Err: err}
	}
	var out []running
	for _, e := range entries {
		name, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ".sock"), "serve-")
		pid, err := strconv.Atoi(name)
		if !ok || err != nil || e.Type()&os.ModeSocket == 0 {
			continue
		}
		path := filepath.Join(dir, e.Name())
		conn, err := net.DialUnix("unix", nil, socketIn(d, e.Name()))
		if errors.Is(err, syscall.ECONNREFUSED) {
			os.Remove(path)
			continue
		}
		if err != nil {
			continue // it ended in between
		}
		if uid, err := peerUid(conn); err != nil || uid != os.Geteuid() {
			conn.Close()
			return nil, &casemate.Error{Op: "operator socket", Kind: casemate.Denied, Err: fmt.Errorf("%s belongs to user %d", path, uid), Fix: "remove it, and see who may write in that folder"}
		}
		out = append(out, running{pid, newClient(conn, 16<<20)})
	}
	return out, nil
}

// ask sends one request to every server, five seconds at most for each, and
// calls take with each answer.
func ask[T any](ctx context.Context, op string, in any, take func(pid int, out T)) (n int, failed error) {
	all, err := servers()
	if err != nil {
		return 0, err
	}
	for _, s := range all {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		var out T
		if err := s.do(ctx, op, in, &out); err != nil {
			failed = errors.Join(failed, fmt.Errorf("casemate serve, process %d: %w", s.pid, err))
		} else {
			take(s.pid, out)
			n++
		}
		cancel()
		s.close()
	}
	return n, failed
}
