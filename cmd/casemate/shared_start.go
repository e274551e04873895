package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

// The names in the runtime folder. Whoever starts a shared router, and a
// shared router that ends, holds the lock meanwhile, so that there is one.
const (
	sharedSocket = "shared.sock"
	sharedLock   = "shared.lock"
	sharedLog    = "shared.log" // in the state folder
)

// fdReady is where a shared router says that it is ready, or why it is not.
const fdReady = 3

// errNoShared is that no shared router listens.
var errNoShared = errors.New("no shared router runs")

func sharedError(err error, fix string) error {
	return &casemate.Error{Op: "shared router", Kind: casemate.Internal, Err: err, Fix: fix}
}

// dialShared connects to this user's shared router.
func dialShared() (*net.UnixConn, error) {
	dir, err := runtimeFolder()
	if err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, sharedError(err, "")
	}
	defer d.Close()
	c, err := net.DialUnix("unix", nil, socketIn(d, sharedSocket))
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), missing(err):
		return nil, errNoShared
	case err != nil:
		return nil, sharedError(err, "")
	}
	if uid, err := peerUid(c); err != nil || uid != os.Geteuid() {
		c.Close()
		return nil, &casemate.Error{Op: "shared router", Kind: casemate.Denied, Err: fmt.Errorf("%s belongs to user %d", filepath.Join(dir, sharedSocket), uid), Fix: "remove it, and see who may write in that folder"}
	}
	return c, nil
}

// startShared starts a shared router, if no other did meanwhile, and connects
// to it.
func (a *app) startShared(ctx context.Context, state string) (*net.UnixConn, error) {
	release, err := lockShared(true)
	if err != nil {
		return nil, err
	}
	defer release()
	if c, err := dialShared(); !errors.Is(err, errNoShared) {
		return c, err
	}
	log, err := openLog(state)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, sharedError(err, "")
	}
	defer r.Close()
	// It outlives this process and its client: a session of its own, and
	// nothing of theirs but where the user's folders are.
	wrapped, err := wrappedSettings()
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"casemate", "shared"}, Env: sharedEnv(os.Environ(), wrapped), Dir: "/", Stderr: log, ExtraFiles: []*os.File{w},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return nil, sharedError(err, "")
	}
	go cmd.Wait() // reaped while this process is there
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(r, maxAnswer))
	switch {
	case err != nil:
		return nil, sharedError(err, "")
	case string(said) == "ready":
		return dialShared()
	}
	return nil, sharedError(fmt.Errorf("it did not start: %s", strings.TrimSpace(string(said))), "see "+filepath.Join(state, sharedLog))
}

// sharedEnv is what a shared router has: of the shim that starts it, where the
// user's folders are; of the casemate wrap that was last, where programs are
// looked for and how registries are reached. What one client is told of these,
// by a repository perhaps, is not what the servers of others are. Only PATH is
// looked at in the client's too, after the other.
func sharedEnv(env, wrapped []string) []string {
	var out, path []string
	for _, kv := range wrapped {
		if p, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = append(path, p)
		} else if setting(kv) {
			out = append(out, kv)
		}
	}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		switch {
		case k == "PATH":
			path = append(path, v)
		case slices.Contains(folders, k), len(wrapped) == 0 && setting(kv):
			out = append(out, kv)
		}
	}
	return append(out, "PATH="+strings.Join(path, ":"))
}

// settingsFile, in the state folder, holds the settings that casemate wrap last
// had: each KEY=VALUE, ended by a zero byte. Only its user may read it, for a
// proxy's address may hold a password.
const settingsFile = "environment"

// keepSettings writes this process's settings for shared routers to come.
func keepSettings() error {
	state, err := stateFolder("")
	if err != nil {
		return err
	}
	var b []byte
	for _, kv := range os.Environ() {
		if setting(kv) || strings.HasPrefix(kv, "PATH=") {
			b = append(append(b, kv...), 0)
		}
	}
	return replaceFile(filepath.Join(state, settingsFile), b)
}

// wrappedSettings returns what keepSettings last wrote; nothing where nothing
// was wrapped.
func wrappedSettings() ([]string, error) {
	state, err := stateFolder("")
	if err != nil {
		return nil, err
	}
	b, err := head(filepath.Join(state, settingsFile), maxValue)
	if err != nil && !missing(err) {
		return nil, sharedError(err, "make it readable, or remove it and wrap again")
	}
	return slices.DeleteFunc(strings.Split(string(b), "\x00"), func(kv string) bool { return kv == "" }), nil
}

// folders are the variables that say where the user's folders are, and how text
// is written.
var folders = []string{"HOME", "USER", "LANG", "TMPDIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"}

// setting says whether a variable tells how a registry is reached; none of them
// is a token.
func setting(kv string) bool {
	k, _, _ := strings.Cut(kv, "=")
	switch k {
	case "PIP_CONFIG_FILE", "UV_INDEX_URL", "UV_DEFAULT_INDEX":
		return true
	}
	if slices.Contains(certificates, k) || slices.Contains(proxies, k) {
		return true
	}
	name := strings.ReplaceAll(strings.ToLower(k), "_", "-")
	if npm, ok := strings.CutPrefix(name, "npm-config-"); ok {
		return npm == "userconfig" || npmKeys.MatchString(npm)
	}
	pip, ok := strings.CutPrefix(name, "pip-")
	return ok && slices.Contains(pipKeys, pip)
}

// lockShared takes the lock, waiting for it or not; release gives it back.
func lockShared(wait bool) (release func(), err error) {
	dir, err := runtimeFolder()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, sharedLock), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, sharedError(err, "make the folder of XDG_RUNTIME_DIR writable")
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		if err = unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, sharedError(err, "")
	}
	return func() { f.Close() }, nil
}

// maxLog is how long the log of the shared router may become, in bytes.
const maxLog = 1 << 20

// openLog opens the log of the shared router, to append to.
func openLog(state string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(state, sharedLog), os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, sharedError(err, "make the state folder writable")
	}
	return f, nil
}

// trimLog keeps the last quarter of a log that is too long. Everyone who has
// it appends.
func trimLog(f *os.File) error {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() <= maxLog {
		return err
	}
	b := make([]byte, maxLog/4)
	n, err := f.ReadAt(b, fi.Size()-int64(len(b)))
	if err != nil && err != io.EOF {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.Write(b[:n])
	return err
}
