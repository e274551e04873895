package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/sandbox/process"
)

// TestHijackedRouter runs hostile code as the router: a process that was
// started like one, confined by the same function, with the same connection
// to a spawner. Every attack is aimed at what this test made, /etc/shadow
// aside, of which it looks at nothing.
func TestHijackedRouter(t *testing.T) {
	t.Run("root", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("this run is an ordinary user's; the other subtest is for that")
		}
		hijack(t)
	})
	t.Run("user", func(t *testing.T) {
		testenv.Binaries(t)
		if os.Geteuid() == 0 {
			hostile(t)
		}
		testenv.AsUser(t, hijack)
	})
}

// hostile builds this package's test without cgo, as the command is: what
// confines all threads of a process needs that.
func hostile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(testenv.Binaries(t).Dir, "hostile.test")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.Command("go", "test", "-c", "-o", path, "github.com/casemate/casemate/cmd/casemate")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func hijack(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Dir(dir)} { // nothing but the confinement stands before them
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("CANARY"), 0o666); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	pinned := plan.Guest{
		Tool: "true", Digest: "sha256:" + strings.Repeat("a", 64), Runner: "exec", Command: []plan.Arg{{Text: "/bin/true"}},
		Cwd: "/tmp", MilliCPU: 1000, Memory: 64 << 20, Disk: 1 << 20, Processes: 8, Output: 1 << 16, Timeout: 1e9,
		Mounts: []plan.Mount{{Source: dir, At: "/docs"}},
	}
	s, err := process.StartSpawner(testenv.Binaries(t).Init, &plan.Plan{
		Host:   plan.Host{Records: filepath.Join(dir, "records"), Store: dir, AllowDegraded: []string{"memory", "cpu"}},
		Guests: []plan.Guest{pinned},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	credential := routerCredential(os.Geteuid(), os.Getpid())
	victim := exec.Command("/bin/sleep", "60") // of the router's own user
	victim.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Pdeathsig: syscall.SIGKILL}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { victim.Process.Kill(); victim.Wait() }()

	var out bytes.Buffer
	attack := exec.Command(hostile(t))
	attack.Dir, attack.Stdout, attack.Stderr = "/", &out, &out
	attack.Env = []string{"CASEMATE_TEST_AS=router", "SECRET=" + secret, "ADDR=" + l.Addr().String(), "VICTIM=" + strconv.Itoa(victim.Process.Pid), "DIGEST=" + pinned.Digest, "DIR=" + dir}
	attack.ExtraFiles = []*os.File{s.Router}
	attack.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: credential, Pdeathsig: syscall.SIGKILL}
	if err := attack.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	text := out.String()
	if strings.Contains(text, "REACHED") {
		t.Errorf("got through:\n%s", text)
	}
	if n := strings.Count(text, "held "); n != attacks {
		t.Errorf("%d attacks were held, want %d:\n%s", n, attacks, text)
	}
	if !strings.Contains(text, "pinned tool: started") {
		t.Errorf("the pinned tool could not be had, so that the rest shows nothing:\n%s", text)
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "CANARY" {
		t.Errorf("the secret is %q, %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "planted")); err == nil {
		t.Error("a file was planted")
	}
	if err := victim.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the victim is gone: %v", err)
	}
}

// attacks is how many attackFromTheRouter makes.
const attacks = 26

// attackFromTheRouter is the hijacked router.
func attackFromTheRouter() int {
	secret, addr, digest, dir := os.Getenv("SECRET"), os.Getenv("ADDR"), os.Getenv("DIGEST"), os.Getenv("DIR")
	victim, _ := strconv.Atoi(os.Getenv("VICTIM"))
	conn := spawn.NewConn(os.NewFile(3, "spawner"))
	before, err := os.Open(filepath.Dir(secret)) // a folder's descriptor, as if one had leaked
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if os.Getenv("UNCONFINED") == "" {
		if err := confine(); err != nil {
			fmt.Println("confine:", err)
			return 1
		}
	}
	try := func(name string, err error) {
		if err == nil {
			fmt.Println("REACHED", name)
		} else {
			fmt.Println("held", name+":", err)
		}
	}
	open := func(p string, flags int) error {
		f, err := os.OpenFile(p, flags, 0o600)
		if err == nil {
			f.Close()
		}
		return err
	}
	call := func(nr uintptr, a, b, c uintptr) error {
		if _, _, errno := unix.RawSyscall(nr, a, b, c); errno != 0 {
			return errno
		}
		return nil
	}
	try("shadow", open("/etc/shadow", os.O_RDONLY))
	try("readable file", open(secret, os.O_RDONLY))
	try("writable file", open(secret, os.O_WRONLY))
	try("new file", open(filepath.Join(dir, "planted"), os.O_WRONLY|os.O_CREATE))
	_, err = os.ReadDir("/")
	try("list /", err)
	_, err = unix.Openat(int(before.Fd()), filepath.Base(secret), unix.O_RDONLY, 0)
	try("file beneath a descriptor", err)
	_, err = unix.Openat2(int(before.Fd()), filepath.Base(secret), &unix.OpenHow{Flags: unix.O_RDONLY})
	try("openat2", err)
	try("memory of another process", open(fmt.Sprintf("/proc/%d/mem", victim), os.O_RDONLY))
	try("remove", os.Remove(secret))
	try("chmod", os.Chmod(secret, 0o777))
	try("exec", syscall.Exec("/bin/true", []string{"true"}, nil))
	_, err = os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	try("start a process", err)
	_, err = net.Dial("tcp", addr)
	try("connect", err)
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	try("unix socket", err)
	_, err = net.Listen("tcp", "127.0.0.1:0")
	try("listen", err)
	try("signal", syscall.Kill(victim, syscall.SIGTERM))
	try("ptrace", call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(victim), 0))
	try("become root", call(unix.SYS_SETUID, 0, 0, 0))
	try("user namespace", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0))
	try("bpf", call(unix.SYS_BPF, 0, 0, 0))
	try("io_uring", call(unix.SYS_IO_URING_SETUP, 1, 0, 0))

	// What the spawner gives is what the operator's plan holds, or less.
	ask := func(m *spawn.Message, fds ...int) (*spawn.Message, error) {
		m.Seq = 7
		if err := conn.Send(m, fds...); err != nil {
			return nil, err
		}
		for {
			r, got, err := conn.Recv()
			if err != nil {
				return nil, err
			}
			for _, fd := range got {
				unix.Close(fd)
			}
			switch r.Op {
			case spawn.OpExited:
			case spawn.OpFailed:
				return r, errors.New(r.Failed.What)
			default:
				return r, nil
			}
		}
	}
	start := func(s spawn.Start) error {
		_, err := ask(&spawn.Message{Op: spawn.OpStart, Start: s})
		return err
	}
	if err := start(spawn.Start{Digest: digest}); err != nil {
		fmt.Println("pinned tool:", err)
	} else {
		fmt.Println("pinned tool: started")
	}
	try("another tool", start(spawn.Start{Digest: "sha256:" + strings.Repeat("b", 64)}))
	try("more memory", start(spawn.Start{Digest: digest, Memory: 65 << 20}))
	try("more processes", start(spawn.Start{Digest: digest, Processes: 9}))
	try("more disk", start(spawn.Start{Digest: digest, Disk: 2 << 20}))
	_, err = ask(&spawn.Message{Op: spawn.OpPlan}, int(before.Fd()))
	try("another plan", err)
	return 0
}
