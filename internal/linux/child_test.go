package linux

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What confines a process cannot be undone, so it runs in a process of its own:
// this test binary again, with the name of a part in its environment.
const childVariable = "CASEMATE_LINUX_TEST"

// parts are what a child does, by name. Each prints what it saw; its error is
// its exit status.
func parts() map[string]func(args []string) error {
	return map[string]func(args []string) error{
		"guest-calls":  guestCalls,
		"guest-setid":  guestSetID,
		"guest-x32":    guestX32,
		"guest-exec":   guestExec,
		"router":       routerServer,
		"landlock":     landlocked,
		"landlock-one": landlockedHere,
		"landlock-net": landlockedNet,
		"caps":         dropped,
		"keep-caps":    kept,
		"keyring":      keyring,
		"dumpable":     undumpable,
		"nothing":      func([]string) error { return nil },
	}
}

func TestMain(m *testing.M) {
	if part := parts()[os.Getenv(childVariable)]; part != nil {
		if err := part(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if dir := filepath.Dir(withoutCgo.path); withoutCgo.path != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// withoutCgo is this test binary built without cgo, where this one has it, as a
// binary with the race detector does: programs of Casemate have none.
var withoutCgo struct {
	once sync.Once
	path string
	err  error
}

func childBinary(t *testing.T) string {
	t.Helper()
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPPID, 0, 0, 0); errno != unix.ENOTSUP {
		path, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	withoutCgo.once.Do(func() {
		dir, err := os.MkdirTemp("", "casemate-linux-")
		if err != nil {
			withoutCgo.err = err
			return
		}
		withoutCgo.path = filepath.Join(dir, "linux.test")
		build := exec.Command("go", "test", "-c", "-o", withoutCgo.path, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			withoutCgo.err = errors.New(err.Error() + ": " + string(out))
		}
	})
	if withoutCgo.err != nil {
		t.Fatal(withoutCgo.err)
	}
	return withoutCgo.path
}

// child is a command that runs one part. It ends with the test.
func child(t *testing.T, part string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, childBinary(t), args...)
	c.Env = append(os.Environ(), childVariable+"="+part)
	c.WaitDelay = 5 * time.Second
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c
}

// run runs a part to its end and returns what it printed.
func run(t *testing.T, part string, args ...string) string {
	t.Helper()
	c := child(t, part, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s%s", part, args, err, out.Bytes(), errs.Bytes())
	}
	return out.String()
}

// saw turns lines of "name result" into a map.
func saw(out string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(out) {
		name, result, _ := strings.Cut(strings.TrimSpace(line), " ")
		m[name] = result
	}
	return m
}

// expect compares what a part saw with what it should have, each as a test of
// its own.
func expect(t *testing.T, out string, want map[string]string) {
	t.Helper()
	got := saw(out)
	for name, w := range want {
		t.Run(name, func(t *testing.T) {
			if g, ok := got[name]; !ok || g != w {
				t.Errorf("%s: got %q, want %q", name, g, w)
			}
		})
	}
	for name, g := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s was not expected, and got %q", name, g)
		}
	}
}

func say(name string, err error) {
	result := "ok"
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno) && errno != 0:
		result = unix.ErrnoName(errno)
	case err != nil && !errors.As(err, &errno):
		result = err.Error()
	}
	os.Stdout.WriteString(name + " " + result + "\n")
}

// manyThreads makes this process have n threads more, which stay.
func manyThreads(n int) {
	var ready, never sync.WaitGroup
	never.Add(1)
	for range n {
		ready.Add(1)
		go func() {
			runtime.LockOSThread()
			ready.Done()
			never.Wait()
		}()
	}
	ready.Wait()
}

func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: this is user", os.Geteuid())
	}
}
