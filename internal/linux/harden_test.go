package linux

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// everyThread prints, for each thread of this process, the lines of its status
// that speak of its powers, each value once.
func everyThread() error {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) < 5 {
		return errors.New("too few threads")
	}
	values := map[string]map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			if strings.HasPrefix(k, "Cap") || k == "NoNewPrivs" || k == "Seccomp" {
				if values[k] == nil {
					values[k] = map[string]bool{}
				}
				values[k][v] = true
			}
		}
	}
	for k, vs := range values {
		for v := range vs {
			os.Stdout.WriteString(k + " " + v + "\n")
		}
		if len(vs) != 1 {
			return errors.New("the threads differ in " + k)
		}
	}
	return nil
}

func dropped(args []string) error {
	manyThreads(5)
	if err := NoNewPrivs(); err != nil {
		return err
	}
	if slices.Contains(args, "early") {
		if err := DropBounding(); err != nil {
			return err
		}
		manyThreads(3)
	}
	if err := DropCapabilities(); err != nil {
		return err
	}
	f, err := GuestFilter(nil)
	if err != nil {
		return err
	}
	if err := f.Install(); err != nil {
		return err
	}
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	os.Stdout.WriteString("securebits " + strconv.Itoa(bits) + "\n")
	return everyThread()
}

const noCaps, capChown = "0000000000000000", "0000000000000001"

func TestDropCapabilities(t *testing.T) {
	asRoot(t)
	want := map[string]string{
		"CapInh": noCaps, "CapPrm": noCaps, "CapEff": noCaps, "CapBnd": noCaps, "CapAmb": noCaps,
		"NoNewPrivs": "1", "Seccomp": "2", "securebits": strconv.Itoa(lockedSecurebits),
	}
	t.Run("at once", func(t *testing.T) { expect(t, run(t, "caps"), want) })
	t.Run("bounding first", func(t *testing.T) { expect(t, run(t, "caps", "early"), want) })

	t.Run("ordinary user", func(t *testing.T) {
		path := filepath.Join("/tmp", "casemate-linux-test-"+strconv.Itoa(os.Getpid()))
		b, err := os.ReadFile(childBinary(t))
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		f.Write(b)
		f.Close()
		c := exec.Command(path)
		c.Dir = "/"
		c.Env = []string{childVariable + "=caps"}
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		got := saw(string(out))
		if got["CapPrm"] != noCaps || got["CapEff"] != noCaps || got["CapInh"] != noCaps || got["CapAmb"] != noCaps || got["NoNewPrivs"] != "1" {
			t.Errorf("%v", got)
		}
	})
}

// kept keeps one capability, and then shows that a program does not get it.
func kept([]string) error {
	manyThreads(5)
	if err := NoNewPrivs(); err != nil {
		return err
	}
	if err := KeepCapabilities(unix.CAP_CHOWN); err != nil {
		return err
	}
	if err := everyThread(); err != nil {
		return err
	}
	out, err := exec.Command("grep", "CapEff", "/proc/self/status").Output()
	os.Stdout.WriteString("child " + strings.TrimSpace(strings.TrimPrefix(string(out), "CapEff:")) + "\n")
	say("keep-nonsense", KeepCapabilities(64))
	say("keep-lost", KeepCapabilities(unix.CAP_SYS_ADMIN))
	left, _, _, _ := capget()
	os.Stdout.WriteString("left " + strconv.Itoa(int(left[0]|left[1])) + "\n")
	return err
}

func TestKeepCapabilities(t *testing.T) {
	asRoot(t)
	expect(t, run(t, "keep-caps"), map[string]string{
		"CapInh": noCaps, "CapPrm": capChown, "CapEff": capChown, "CapBnd": noCaps, "CapAmb": noCaps,
		"NoNewPrivs": "1", "Seccomp": "0", "keep-lost": "ok", "keep-nonsense": "EINVAL", "child": noCaps, "left": "0",
	})
}

// keyring puts a key into a session keyring of the test's own, then takes the
// keyring away from every thread.
func keyring([]string) error {
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
		return err
	}
	runtime.LockOSThread()
	key, err := unix.AddKey("user", "casemate-linux-test", []byte("canary"), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		return err
	}
	manyThreads(5)
	for range 3 {
		if err := NoKeyring(); err != nil {
			return err
		}
	}
	ids := make(chan int, 8)
	var wg sync.WaitGroup
	for n := range cap(ids) {
		wg.Go(func() {
			runtime.LockOSThread()
			id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
			if err != nil {
				say("id-"+strconv.Itoa(n), err)
			}
			ids <- id
			_, err = unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", "casemate-linux-test", 0)
			say("search-"+strconv.Itoa(n), err)
			b := make([]byte, 64)
			_, err = unix.KeyctlBuffer(unix.KEYCTL_READ, key, b, 0)
			say("read-"+strconv.Itoa(n), err)
		})
	}
	wg.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first {
			return errors.New("two keyrings")
		}
	}
	held, err := unix.KeyctlBuffer(unix.KEYCTL_READ, first, make([]byte, 64), 0)
	if err != nil || held != 0 {
		return errors.New("the keyring is not empty")
	}
	return nil
}

func TestNoKeyring(t *testing.T) {
	if _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false); err == unix.ENOSYS {
		if err := NoKeyring(); err != nil {
			t.Error(err)
		}
		t.Skip("this kernel has no keyrings")
	}
	out := saw(run(t, "keyring"))
	for n := range 8 {
		if s := strconv.Itoa(n); out["search-"+s] != "ENOKEY" || out["read-"+s] == "ok" {
			t.Errorf("thread %d: %v", n, out)
		}
	}
}

func undumpable([]string) error {
	if err := NotDumpable(); err != nil {
		return err
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	os.Stdout.WriteString("dumpable " + strconv.Itoa(dumpable) + "\n")
	return err
}

func TestNotDumpable(t *testing.T) {
	expect(t, run(t, "dumpable"), map[string]string{"dumpable": "0"})
}
