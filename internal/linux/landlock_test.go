package linux

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHandledGrowsWithTheInterface(t *testing.T) {
	last := handled(0, LandlockNet{})
	for abi := 1; abi <= 12; abi++ {
		h := handled(abi, LandlockNet{})
		if h.Handled_access_fs&last.Handled_access_fs != last.Handled_access_fs || h.Handled_access_net&last.Handled_access_net != last.Handled_access_net {
			t.Errorf("version %d handles less than the one before: %+v", abi, h)
		}
		if open := handled(abi, LandlockNet{Allow: true}); open.Handled_access_net != 0 || open.Handled_access_fs != h.Handled_access_fs || open.Scoped != h.Scoped {
			t.Errorf("version %d with a network: %+v", abi, open)
		}
		connect := handled(abi, LandlockNet{Connect: true})
		if bind := uint64(unix.LANDLOCK_ACCESS_NET_BIND_TCP); connect.Handled_access_net != h.Handled_access_net&bind || connect.Handled_access_fs != h.Handled_access_fs || connect.Scoped != h.Scoped {
			t.Errorf("version %d with the host's network: %+v", abi, connect)
		}
		last = h
	}
	if h := handled(1, LandlockNet{}); h.Handled_access_fs != 0x1fff || h.Handled_access_net != 0 || h.Scoped != 0 {
		t.Errorf("version 1: %+v", h)
	}
	if h := handled(7, LandlockNet{}); h.Handled_access_fs != 0xffff || h.Handled_access_net != 3 || h.Scoped != 3 {
		t.Errorf("version 7: %+v", h)
	}
	for _, a := range []LandlockAccess{LandlockList, LandlockRead, LandlockReadExec, LandlockReadWrite, LandlockReadWriteExec, LandlockDevice} {
		if a&(unix.LANDLOCK_ACCESS_FS_MAKE_CHAR|unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK|unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX) != 0 {
			t.Errorf("%#x makes devices or reaches sockets", a)
		}
	}
}

func needLandlock(t *testing.T, abi int) {
	t.Helper()
	if has := LandlockABI(); has < abi {
		t.Skip("needs Landlock", abi, "and this kernel has", has)
	}
}

// landlocked confines itself in a folder and tries what it may and may not,
// the same on several threads.
func landlocked(args []string) error {
	dir, victim := args[0], args[1]
	manyThreads(4)
	in := func(name string) string { return filepath.Join(dir, name) }
	held, err := os.Open(in("held"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(victim)
	if err != nil {
		return err
	}
	if err := NoNewPrivs(); err != nil {
		return err
	}
	fd, abi, err := LandlockRuleset([]LandlockRule{
		{Path: in("list"), Access: LandlockList},
		{Path: in("read"), Access: LandlockRead},
		{Path: in("exec"), Access: LandlockReadExec},
		{Path: in("write"), Access: LandlockReadWrite},
		{Path: in("write2"), Access: LandlockReadWrite},
		{Path: in("file"), Access: LandlockReadWrite}, // of a file: no rights of folders
		{Path: "/dev/null", Access: LandlockDevice},
		{FD: int(held.Fd()), Access: LandlockRead},
	}, LandlockNet{})
	if err != nil {
		return err
	}
	if err := EnterLandlock(fd); err != nil {
		return err
	}
	unix.Close(fd)
	os.Stdout.WriteString("abi " + strconv.Itoa(abi) + "\n")

	read := func(name string) error { _, err := os.ReadFile(name); return err }
	list := func(name string) error { _, err := os.ReadDir(name); return err }
	var wg sync.WaitGroup
	for thread := range 3 {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			n := strconv.Itoa(thread)
			say("outside-read-"+n, read(in("outside")))
			say("outside-shadow-"+n, read("/etc/passwd"))
			say("outside-list-"+n, list("/"))
			say("list-list-"+n, list(in("list")))
			say("list-read-"+n, read(in("list/f")))
			say("read-"+n, read(in("read/f")))
			say("read-write-"+n, os.WriteFile(in("read/f"), nil, 0o600))
			say("read-new-"+n, os.WriteFile(in("read/new"+n), nil, 0o600))
			say("read-truncate-"+n, os.Truncate(in("read/f"), 0))
			say("write-new-"+n, os.WriteFile(in("write/new"+n), []byte("x"), 0o600))
			say("write-move-"+n, os.Rename(in("write/new"+n), in("write2/new"+n)))
			say("write-remove-"+n, os.Remove(in("write2/new"+n)))
			say("write-device-"+n, unix.Mknod(in("write/dev"+n), unix.S_IFCHR|0o600, 0))
			say("write-out-"+n, os.Rename(in("write/f"), in("read/f"+n)))
			say("file-"+n, os.WriteFile(in("file"), []byte("x"), 0o600))
			say("null-"+n, os.WriteFile("/dev/null", []byte("x"), 0o600))
			say("held-"+n, read(in("held/f")))
			say("signal-"+n, unix.Kill(pid, 0))
			_, err := net.Dial("unix", "@"+args[2])
			say("abstract-"+n, err)
		})
	}
	wg.Wait()
	for _, sub := range []string{"exec", "write", "read"} {
		c := exec.Command(in(sub + "/true"))
		c.Env = []string{childVariable + "=nothing"}
		say("run-"+sub, c.Run())
	}
	return nil
}

func TestLandlockConfinesEveryThread(t *testing.T) {
	needLandlock(t, 6)
	dir := t.TempDir()
	program, err := os.ReadFile(childBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"list", "read", "exec", "write", "write2", "held"} {
		os.Mkdir(filepath.Join(dir, sub), 0o755)
		os.WriteFile(filepath.Join(dir, sub, "f"), []byte("canary"), 0o644)
	}
	for _, sub := range []string{"read", "exec", "write"} {
		// A static program, so that no loader is needed.
		if err := os.WriteFile(filepath.Join(dir, sub, "true"), program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(dir, "outside"), []byte("canary"), 0o644)
	os.WriteFile(filepath.Join(dir, "file"), []byte("canary"), 0o644)
	name := "casemate-linux-" + strconv.Itoa(os.Getpid())
	l, err := net.Listen("unix", "@"+name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	victim := exec.Command("sleep", "300")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { victim.Process.Kill(); victim.Wait() }()

	want := map[string]string{"abi": strconv.Itoa(LandlockABI()), "run-exec": "ok", "run-write": "EACCES", "run-read": "EACCES"}
	for n := range 3 {
		for name, w := range map[string]string{
			"outside-read": "EACCES", "outside-shadow": "EACCES", "outside-list": "EACCES",
			"list-list": "ok", "list-read": "EACCES",
			"read": "ok", "read-write": "EACCES", "read-new": "EACCES", "read-truncate": "EACCES",
			"write-new": "ok", "write-move": "ok", "write-remove": "ok", "write-device": "EACCES", "write-out": "EACCES",
			"file": "ok", "null": "ok", "held": "ok", "signal": "EPERM", "abstract": "EPERM",
		} {
			want[name+"-"+strconv.Itoa(n)] = w
		}
	}
	expect(t, run(t, "landlock", dir, strconv.Itoa(victim.Process.Pid), name), want)
	for _, sub := range []string{"read", "write"} {
		if b, err := os.ReadFile(filepath.Join(dir, sub, "f")); err != nil || string(b) != "canary" {
			t.Errorf("%s/f holds %q (%v)", sub, b, err)
		}
	}
}

func landlockedHere(args []string) error {
	outside, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := NoNewPrivs(); err != nil {
		return err
	}
	if _, err := LandlockHere([]LandlockRule{{Path: "/", Access: LandlockReadWriteExec}}, LandlockNet{}); err != nil {
		return err
	}
	say("here", unix.Kill(outside, 0))
	child, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "kill -0 " + args[0] + " 2>/dev/null && exit 1; kill -STOP $$"}, &os.ProcAttr{})
	if err != nil {
		return err
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(child.Pid, &ws, unix.WUNTRACED, nil); err != nil || !ws.Stopped() {
		return errors.New("the child could signal what is outside")
	}
	signaled := make(chan error)
	go func() { signaled <- unix.Kill(child.Pid, unix.SIGKILL) }() // on another thread: this one is taken
	say("elsewhere", <-signaled)
	child.Kill()
	child.Wait()
	return nil
}

// Another thread than the one that starts programs may signal them, and they
// nothing outside.
func TestLandlockHere(t *testing.T) {
	needLandlock(t, 6)
	victim, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { victim.Kill(); victim.Wait() }()
	expect(t, run(t, "landlock-one", strconv.Itoa(victim.Pid)), map[string]string{"here": "EPERM", "elsewhere": "ok"})
}

func landlockedNet(args []string) error {
	if err := NoNewPrivs(); err != nil {
		return err
	}
	if _, err := Landlock(nil, LandlockNet{Allow: args[0] == "allow"}); err != nil {
		return err
	}
	_, err := net.Dial("tcp", args[1])
	say("connect", err)
	// Not net.Listen, which asks for MPTCP.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	say("bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	_, err = os.Open("/")
	say("open", err)
	return nil
}

func TestLandlockNet(t *testing.T) {
	needLandlock(t, 4)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Run("none", func(t *testing.T) {
		expect(t, run(t, "landlock-net", "none", l.Addr().String()), map[string]string{"connect": "EACCES", "bind": "EACCES", "open": "EACCES"})
	})
	t.Run("allow", func(t *testing.T) {
		expect(t, run(t, "landlock-net", "allow", l.Addr().String()), map[string]string{"connect": "ok", "bind": "ok", "open": "EACCES"})
	})
}

func TestLandlockRuleErrors(t *testing.T) {
	needLandlock(t, 1)
	for name, r := range map[string]LandlockRule{
		"absent": {Path: filepath.Join(t.TempDir(), "absent"), Access: LandlockRead},
		"closed": {FD: 1 << 20, Access: LandlockRead},
	} {
		if fd, _, err := LandlockRuleset([]LandlockRule{r}, LandlockNet{}); err == nil {
			t.Errorf("%s: no error", name)
			unix.Close(fd)
		}
	}
	if err := EnterLandlock(-1); err == nil {
		t.Error("entered no ruleset")
	}
}
