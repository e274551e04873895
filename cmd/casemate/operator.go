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

// listenOperator makes the socket of this process.
func listenOperator() (*net.UnixListener, error) {
	dir, err := runtimeFolder()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "serve-"+strconv.Itoa(os.Getpid())+".sock")
	if err := os.Remove(path); err != nil && !missing(err) { // of a former process of this number
		return nil, &casemate.Error{Op: "operator socket", Kind: casemate.Internal, Err: err}
	}
	old := syscall.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return nil, &casemate.Error{Op: "operator socket", Kind: casemate.Internal, Err: err, Fix: "use a shorter XDG_RUNTIME_DIR: a socket's path has at most 107 bytes"}
	}
	l.SetUnlinkOnClose(true)
	return l, nil
}

// peerUid returns the user at the other end of c.
func peerUid(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, inner
	}
	return int(cred.Uid), nil
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
	entries, err := os.ReadDir(dir)
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
		conn, err := net.DialTimeout("unix", path, 2*time.Second)
		if errors.Is(err, syscall.ECONNREFUSED) {
			os.Remove(path)
			continue
		}
		if err != nil {
			continue // it ended in between
		}
		if uid, err := peerUid(conn.(*net.UnixConn)); err != nil || uid != os.Geteuid() {
			conn.Close()
			return nil, &casemate.Error{Op: "operator socket", Kind: casemate.Denied, Err: fmt.Errorf("%s belongs to user %d", path, uid), Fix: "remove it, and see who may write in that folder"}
		}
		out = append(out, running{pid, newClient(conn, 16<<20)})
	}
	return out, nil
}

// ask sends one request to every server, five seconds at most for each, and
// calls take with each answer.
func ask[T any](ctx context.Context, op string, in any, take func(pid int, out T)) (failed error, n int) {
	all, err := servers()
	if err != nil {
		return err, 0
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
	return failed, n
}
