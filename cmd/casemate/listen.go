package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/casemate/casemate"
)

// listen listens at every address: HOST:PORT, PORT, or unix:PATH. The function
// that it returns ends that, and removes the sockets.
func listen(addrs []string) (ls []net.Listener, end func(), err error) {
	var ends []func()
	end = func() {
		for _, f := range ends {
			f()
		}
	}
	for _, addr := range addrs {
		var l net.Listener
		remove := func() {}
		if path, ok := strings.CutPrefix(addr, "unix:"); ok {
			l, remove, err = listenUnix(path)
		} else {
			l, err = listenTCP(addr)
		}
		if err != nil {
			end()
			return nil, nil, err
		}
		ls = append(ls, l)
		ends = append(ends, func() { l.Close(); remove() })
	}
	return ls, end, nil
}

// networks are those of listeners, as settings has them.
func networks(ls []net.Listener) (out []string) {
	for _, l := range ls {
		out = append(out, l.Addr().Network())
	}
	return out
}

// listenUnix makes a socket that only its user reaches. What lies there must
// be a socket that nobody serves; the folder must be one in which nobody else
// could put another in its place.
func listenUnix(path string) (*net.UnixListener, func(), error) {
	deny := func(err error) (*net.UnixListener, func(), error) {
		return nil, nil, &casemate.Error{Op: "serve", Kind: casemate.Denied, Err: fmt.Errorf("--listen unix:%s: %w", path, err), Fix: "choose a path in a folder of your own, such as $XDG_RUNTIME_DIR/casemate-api.sock"}
	}
	fail := func(err error) (*net.UnixListener, func(), error) {
		return nil, nil, &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: fmt.Errorf("--listen unix:%s: %w", path, err), Fix: "choose another path"}
	}
	if path == "" || strings.HasSuffix(path, "/") {
		return nil, nil, invalid("serve", "give unix:PATH", "--listen unix:%s: it names no file", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return fail(err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return fail(err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if err := unwritable(at, at == dir); err != nil {
			return deny(err)
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return fail(err)
	}
	defer d.Close()
	name := filepath.Base(abs)
	if err := clearSocket(d, filepath.Join(dir, name)); err != nil {
		return nil, nil, err
	}
	old := syscall.Umask(0o177)
	l, err := net.ListenUnix("unix", socketIn(d, name))
	syscall.Umask(old)
	if err != nil {
		return fail(err)
	}
	l.SetUnlinkOnClose(false) // it knows the socket by a name that ends with d
	at := filepath.Join(dir, name)
	mine, err := os.Lstat(at)
	if err != nil {
		l.Close()
		return fail(err)
	}
	return l, func() {
		if fi, err := os.Lstat(at); err == nil && unchanged(fi, mine) { // another process may have its own there by now
			os.Remove(at)
		}
	}, nil
}

// unchanged says whether two looks saw one file: its number alone may have been
// given out again.
func unchanged(a, b os.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, also := b.Sys().(*syscall.Stat_t)
	return ok && also && os.SameFile(a, b) && x.Ctim == y.Ctim
}

// unwritable says who else could write to a folder. Above the socket's own,
// sticky folders are as good as others'.
func unwritable(dir string, own bool) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !fi.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case int(st.Uid) != os.Geteuid() && st.Uid != 0:
		return fmt.Errorf("%s belongs to user %d, who could put another socket in its place", dir, st.Uid)
	case fi.Mode().Perm()&0o022 != 0 && (own || fi.Mode()&os.ModeSticky == 0):
		return fmt.Errorf("%s may be written by others (mode %#o), who could put another socket in its place", dir, fi.Mode().Perm())
	}
	return nil
}

// clearSocket removes a socket that nobody serves any more.
func clearSocket(d *os.File, path string) error {
	fi, err := os.Lstat(path)
	if missing(err) {
		return nil
	}
	taken := func(err error) error {
		return &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: fmt.Errorf("--listen unix:%s: %w", path, err), Fix: "choose another path, or remove what is there"}
	}
	if err != nil || fi.Mode().Type() != os.ModeSocket {
		return taken(errors.Join(errors.New("something that is no socket lies there"), err))
	}
	c, err := net.DialUnix("unix", nil, socketIn(d, filepath.Base(path)))
	switch {
	case err == nil:
		c.Close()
		return taken(errors.New("another process serves this socket"))
	case !errors.Is(err, syscall.ECONNREFUSED):
		return taken(err)
	}
	if err := os.Remove(path); err != nil && !missing(err) {
		return taken(err)
	}
	return nil
}

// listenTCP listens at HOST:PORT; without a host at the loopback address.
func listenTCP(addr string) (net.Listener, error) {
	const fix = "give HOST:PORT, such as 127.0.0.1:8080, or unix:PATH"
	if !strings.Contains(addr, ":") {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, invalid("serve", fix, "--listen %q: %v", addr, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: fmt.Errorf("port %s of %s is in use", port, host), Fix: "choose another port, or end what listens there (ss -ltnp shows it)"}
	case err != nil:
		if _, ok := errors.AsType[*os.SyscallError](err); !ok {
			return nil, invalid("serve", fix, "--listen %q: %v", addr, err)
		}
		return nil, &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: err, Fix: fix}
	}
	return l, nil
}
