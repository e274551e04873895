package merge

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What cannot be undone, and what is to be killed, runs in a process of its
// own: this test binary again.
func TestMain(m *testing.M) {
	switch os.Getenv("MERGE_TEST_AS") {
	case "overlay":
		overlayMain(os.Args[1], os.Args[2])
	case "apply":
		applyMain()
	default:
		os.Exit(m.Run())
	}
}

// overlayMain is the guest's side: in a user and a mount namespace of its
// own it mounts an overlay over the folder lower, hands the upper folder to
// the test, and runs the scripts that it is sent.
func overlayMain(lower, scratch string) {
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "overlay:", err)
			os.Exit(3)
		}
	}
	conn, err := net.FileConn(os.NewFile(3, "test"))
	must(err)
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64m"))
	for _, d := range []string{"upper", "work", "merged"} {
		must(os.Mkdir(scratch+"/"+d, 0o755))
	}
	must(unix.Mount("overlay", scratch+"/merged", "overlay", unix.MS_NOSUID|unix.MS_NODEV,
		"userxattr,lowerdir="+lower+",upperdir="+scratch+"/upper,workdir="+scratch+"/work"))
	upper, err := unix.Open(scratch+"/upper", unix.O_PATH|unix.O_DIRECTORY, 0)
	must(err)
	_, _, err = conn.(*net.UnixConn).WriteMsgUnix([]byte("\n"), unix.UnixRights(upper), nil)
	must(err)
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			os.Exit(0)
		}
		var script string
		must(json.Unmarshal([]byte(line), &script))
		cmd := exec.Command("/bin/sh", "-euc", script)
		cmd.Dir = scratch + "/merged"
		if strings.HasPrefix(script, "raw:") { // straight into the upper tree, as a hostile file system would be
			cmd = exec.Command("/bin/sh", "-euc", script[4:])
			cmd.Dir = scratch + "/upper"
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			out = append(out, "\nfailed: "+err.Error()...)
		} else {
			out = nil
		}
		b, _ := json.Marshal(string(out))
		_, err = conn.Write(append(b, '\n'))
		must(err)
	}
}

// A world is a host folder, and a guest that has a write grant of it.
type world struct {
	t     testing.TB
	dir   string // of everything
	host  string
	g     Grant
	conn  *net.UnixConn
	in    *bufio.Reader
	calls int
}

func newWorld(t testing.TB, setup string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "merge-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sh(t, dir, "chmod -R u+rwx . ; rm -rf -- * .[!.]*; true"); os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, host: dir + "/home/work"}
	for _, d := range []string{"home/work", "keeps", "scratch", "outside"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.outside("canary", "outside")
	sh(t, w.host, setup)
	w.start()
	return w
}

func (w *world) outside(name, text string) {
	if err := os.WriteFile(w.dir+"/outside/"+name, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// start starts a guest on the folder, with a grant as of now.
func (w *world) start() {
	t := w.t
	t.Helper()
	scratch, err := os.MkdirTemp(w.dir+"/scratch", "")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "theirs")
	cmd := exec.Command(os.Args[0], w.host, scratch)
	cmd.Env = append(os.Environ(), "MERGE_TEST_AS=overlay", "GORACE=atexit_sleep_ms=0") // else each guest takes a second to end under -race
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		if b, _ := os.ReadFile("/proc/sys/user/max_user_namespaces"); strings.TrimSpace(string(b)) == "0" {
			t.Skip("unsupported: user.max_user_namespaces is 0")
		}
		t.Fatal(err)
	}
	theirs.Close()
	mine := os.NewFile(uintptr(pair[0]), "mine")
	conn, err := net.FileConn(mine)
	mine.Close()
	if err != nil {
		t.Fatal(err)
	}
	w.conn, w.in = conn.(*net.UnixConn), bufio.NewReader(conn)
	t.Cleanup(func() { conn.Close(); cmd.Wait() })
	b, oob := make([]byte, 1), make([]byte, 64)
	_, n, _, _, err := w.conn.ReadMsgUnix(b, oob)
	if err != nil || n == 0 {
		t.Fatal("the overlay was not mounted: ", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	host := folderFd(t, w.host)
	t.Cleanup(func() { unix.Close(fds[0]) })
	w.g = Grant{Upper: fds[0], Host: host, HostPath: "/home/u/work", At: "/work"}
	w.claim()
}

func folderFd(t testing.TB, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// claim begins a call: what the host does from here on is meanwhile.
func (w *world) claim() {
	tick := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts); err != nil {
			w.t.Fatal(err)
		}
		return ts.Nano()
	}
	before := tick()
	for w.g.Since = tick(); w.g.Since <= before+int64(10*time.Millisecond); w.g.Since = tick() {
		time.Sleep(time.Millisecond)
	}
	w.calls++
	keep := fmt.Sprintf("%s/keeps/%d", w.dir, w.calls)
	if err := os.Mkdir(keep, 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.g.Keep = folderFd(w.t, keep)
}

func (w *world) keep(rel string) string {
	return fmt.Sprintf("%s/keeps/%d/%s", w.dir, w.calls, rel)
}

func (w *world) guest(script string) {
	w.t.Helper()
	b, _ := json.Marshal(script)
	if _, err := w.conn.Write(append(b, '\n')); err != nil {
		w.t.Fatal(err)
	}
	line, err := w.in.ReadString('\n')
	if err != nil {
		w.t.Fatal("guest: ", err)
	}
	var out string
	if json.Unmarshal([]byte(line), &out); out != "" {
		w.t.Fatalf("guest: %s", out)
	}
}

func (w *world) merge() []Change {
	w.t.Helper()
	steps, err := Plan(w.g)
	if err != nil {
		w.t.Fatal(err)
	}
	changes, err := Apply(w.g, steps)
	if err != nil {
		w.t.Fatal(err)
	}
	return changes
}

func (w *world) onHost(script string) { w.t.Helper(); sh(w.t, w.host, script) }

// quiet fails if anything outside the folder is not as it was, or a
// temporary name is left.
func (w *world) quiet() {
	w.t.Helper()
	sh(w.t, w.dir, `test "$(ls -A outside)" = canary; test "$(cat outside/canary)" = outside; test "$(ls -A home)" = work`)
	sh(w.t, w.host, `test -z "$(find . -name '`+TempPrefix+`*' -o -perm /7000)"`)
}

func sh(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-euc", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// show is changes in short: "did path", sorted.
func show(cs []Change) string {
	var out []string
	for _, c := range cs {
		out = append(out, c.Did+" "+strings.TrimPrefix(c.Path, "/work/"))
	}
	sort.Strings(out)
	return strings.Join(out, "; ")
}
