package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/internal/testenv"
)

// TestHijackedUnpacker runs hostile code as the process that unpacks images,
// confined by the same function, with a tree of its own. Every attack is aimed
// at what this test made, /etc/shadow aside, of which it looks at nothing.
func TestHijackedUnpacker(t *testing.T) {
	t.Run("root", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("this run is an ordinary user's; the other subtest is for that")
		}
		hijackUnpacker(t)
	})
	t.Run("user", func(t *testing.T) {
		testenv.Binaries(t)
		if os.Geteuid() == 0 {
			hostile(t)
		}
		testenv.AsUser(t, hijackUnpacker)
	})
}

func hijackUnpacker(t *testing.T) {
	dir := t.TempDir()
	secret, tree := filepath.Join(dir, "secret"), filepath.Join(dir, "tree")
	if err := errors.Join(os.WriteFile(secret, []byte("CANARY"), 0o666), os.Mkdir(tree, 0o755)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	root, err := os.Open(tree)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	victim := exec.Command("/bin/sleep", "60")
	victim.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { victim.Process.Kill(); victim.Wait() }()
	var out bytes.Buffer
	attack := exec.Command(hostile(t))
	attack.Dir, attack.Stdout, attack.Stderr, attack.ExtraFiles = "/", &out, &out, []*os.File{root}
	attack.Env = []string{"CASEMATE_TEST_AS=unpacker", "SECRET=" + secret, "ADDR=" + l.Addr().String(), "VICTIM=" + strconv.Itoa(victim.Process.Pid)}
	attack.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := attack.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	text := out.String()
	if strings.Contains(text, "REACHED") {
		t.Errorf("got through:\n%s", text)
	}
	if n := strings.Count(text, "held "); n != unpackerAttacks {
		t.Errorf("%d attacks were held, want %d:\n%s", n, unpackerAttacks, text)
	}
	if b, err := os.ReadFile(filepath.Join(tree, "own")); err != nil || string(b) != "own" {
		t.Errorf("it could not do its work, so that the rest shows nothing: %q %v", b, err)
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "CANARY" {
		t.Errorf("the secret is %q, %v", b, err)
	}
	if es, _ := os.ReadDir(dir); len(es) != 2 {
		t.Errorf("it holds %v", es)
	}
	if err := victim.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the victim is gone: %v", err)
	}
}

// unpackerAttacks is how many attackFromTheUnpacker makes.
const unpackerAttacks = 26

// attackFromTheUnpacker is the hijacked process.
func attackFromTheUnpacker() int {
	secret, addr := os.Getenv("SECRET"), os.Getenv("ADDR")
	victim, _ := strconv.Atoi(os.Getenv("VICTIM"))
	before, err := os.Open(filepath.Dir(secret)) // a folder's descriptor, as if one had leaked
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if os.Getenv("UNCONFINED") == "" {
		if err := confineUnpack(); err != nil {
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
	open := func(dir int, p string, flags int) error {
		fd, err := unix.Openat(dir, p, flags, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	call := func(nr uintptr, a, b, c uintptr) error {
		if _, _, errno := unix.RawSyscall(nr, a, b, c); errno != 0 {
			return errno
		}
		return nil
	}
	fd, err := unix.Openat(fdTree, "own", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o444)
	if err == nil {
		_, err = unix.Write(fd, []byte("own"))
	}
	if err != nil {
		fmt.Println("own work:", err)
		return 1
	}
	try("shadow", open(unix.AT_FDCWD, "/etc/shadow", unix.O_RDONLY))
	try("readable file", open(unix.AT_FDCWD, secret, unix.O_RDONLY))
	try("writable file", open(unix.AT_FDCWD, secret, unix.O_WRONLY))
	try("file above the tree", open(fdTree, "../secret", unix.O_RDONLY))
	try("new file above the tree", open(fdTree, "../planted", unix.O_WRONLY|unix.O_CREAT))
	try("file beneath a descriptor", open(int(before.Fd()), "secret", unix.O_WRONLY))
	try("list a folder", open(unix.AT_FDCWD, "/", unix.O_RDONLY|unix.O_DIRECTORY))
	try("a link to a file outside", unix.Linkat(int(before.Fd()), "secret", fdTree, "stolen", 0))
	try("a link outside", unix.Linkat(fdTree, "own", int(before.Fd()), "planted", 0))
	try("a folder outside", unix.Mkdirat(int(before.Fd()), "planted", 0o755))
	try("remove", unix.Unlinkat(int(before.Fd()), "secret", 0))
	try("memory of another process", open(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/mem", victim), unix.O_RDONLY))
	try("a device", unix.Mknodat(fdTree, "dev", unix.S_IFCHR|0o666, 0x801))
	try("a FIFO", unix.Mknodat(fdTree, "fifo", unix.S_IFIFO|0o666, 0))
	try("set-user-ID", unix.Fchmod(fd, 0o4755))
	try("another's file", unix.Fchown(fd, 0, 0))
	try("an attribute", unix.Fsetxattr(fd, "user.x", []byte("y"), 0))
	try("exec", syscall.Exec("/bin/true", []string{"true"}, nil))
	_, err = os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	try("start a process", err)
	_, err = net.Dial("tcp", addr)
	try("connect", err)
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	try("unix socket", err)
	try("signal", syscall.Kill(victim, syscall.SIGTERM))
	try("ptrace", call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(victim), 0))
	try("become root", call(unix.SYS_SETUID, 0, 0, 0))
	try("user namespace", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0))
	try("bpf", call(unix.SYS_BPF, 0, 0, 0))
	return 0
}

// imageLayout writes an OCI layout of one uncompressed layer, of files of n
// bytes each, and returns its reference.
func imageLayout(t testing.TB, sizes ...int) string {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(x []byte, typ string) map[string]any {
		sum := sha256.Sum256(x)
		if err := os.WriteFile(filepath.Join(blobs, hex.EncodeToString(sum[:])), x, 0o644); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"mediaType": typ, "digest": "sha256:" + hex.EncodeToString(sum[:]), "size": len(x)}
	}
	js := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	noise := rand.New(rand.NewPCG(rand.Uint64(), 1)) // so that no two images are one
	for i, size := range sizes {
		b := make([]byte, size)
		for j := range min(size, 64) {
			b[j] = byte(noise.Uint32())
		}
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d/f%d", i), Mode: 0o4755, Size: int64(size)})
		w.Write(b)
	}
	w.Close()
	l := put(layer.Bytes(), "application/vnd.oci.image.layer.v1.tar")
	c := put(js(map[string]any{"architecture": runtime.GOARCH, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []any{l["digest"]}}}), "application/vnd.oci.image.config.v1+json")
	m := put(js(map[string]any{"schemaVersion": 2, "config": c, "layers": []any{l}}), "application/vnd.oci.image.manifest.v1+json")
	for name, b := range map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": js(map[string]any{"schemaVersion": 2, "manifests": []any{m}})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("oci:%s@%s", dir, m["digest"])
}

// An imagePlace is where the command pulls images.
type imagePlace struct {
	t    *testing.T
	env  []string
	dir  string
	self string
}

func newImagePlace(t *testing.T) *imagePlace {
	t.Helper()
	p := &imagePlace{t: t, dir: t.TempDir(), self: testenv.Binaries(t).Casemate}
	p.env = scriptEnv(t, p.dir)
	if err := os.MkdirAll(filepath.Join(p.dir, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exec.Command("chmod", "-R", "u+w", p.dir).Run() })
	return p
}

func (p *imagePlace) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.self, args...)
	cmd.Env, cmd.Dir = p.env, p.dir
	return cmd
}

// left is what the store holds, locks aside.
func (p *imagePlace) left() (names []string) {
	es, err := os.ReadDir(filepath.Join(p.dir, "state", "casemate", "images"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Fatal(err)
	}
	for _, e := range es {
		if !strings.HasSuffix(e.Name(), ".lock") {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestImageCommand gets an image by the real command, as root and as an
// ordinary user, lists it and removes it.
func TestImageCommand(t *testing.T) {
	testenv.Binaries(t)
	pull := func(t *testing.T) {
		p, ref := newImagePlace(t), imageLayout(t, 10, 100_000)
		out, err := p.command("image", "pull", ref, "--json").Output()
		var got struct {
			Digest, Root   string
			Bytes, Entries int
		}
		if err != nil || json.Unmarshal(out, &got) != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if !strings.HasSuffix(ref, got.Digest) || got.Bytes != 100_010 || got.Entries != 3 {
			t.Errorf("%+v of %s", got, ref)
		}
		if fi, err := os.Lstat(filepath.Join(got.Root, "d/f1")); err != nil || fi.Mode() != 0o555 || fi.Size() != 100_000 {
			t.Errorf("%v %v", fi, err)
		}
		if out, err := p.command("image", "list").Output(); err != nil || !strings.Contains(string(out), got.Digest) {
			t.Errorf("%v: %s", err, out)
		}
		if out, err := p.command("image", "rm", got.Digest).CombinedOutput(); err != nil || len(p.left()) != 0 {
			t.Errorf("%v: %s; left %v", err, out, p.left())
		}
		cmd := p.command("image", "rm", got.Digest)
		if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("%v: %s", err, out)
		}
	}
	t.Run("this user", pull)
	t.Run("an ordinary user", func(t *testing.T) { testenv.AsUser(t, pull) })
}

// TestImageIsLocked resolves what pins nothing once; from then on the lock
// counts, and what the folder has by now is not taken.
func TestImageIsLocked(t *testing.T) {
	p := newImagePlace(t)
	folder, digest, _ := strings.Cut(imageLayout(t, 10), "@")
	other, _, _ := strings.Cut(imageLayout(t, 11), "@")
	if out, err := p.command("image", "pull", folder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	config := filepath.Join(p.dir, "casemate.yaml")
	if err := os.WriteFile(config, []byte("version: 1\ntools: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	get := func() string {
		t.Helper()
		c, err := catalog.Load(config, catalog.Options{})
		if err == nil {
			err = c.CheckLock()
		}
		if err != nil {
			t.Fatal(err)
		}
		a := &app{console: &console{out: io.Discard, err: io.Discard}}
		i, err := a.imageFor(t.Context(), &loaded{Config: c, state: filepath.Join(p.dir, "state", "casemate")}, folder)
		if err != nil {
			t.Fatal(err)
		}
		return string(i.Digest)
	}
	if got := get(); got != digest {
		t.Errorf("%s, and not %s", got, digest)
	}
	if b, err := os.ReadFile(filepath.Join(p.dir, "casemate.lock")); err != nil || !strings.Contains(string(b), digest) {
		t.Errorf("the lock is %s, %v", b, err)
	}
	dir := strings.TrimPrefix(folder, "oci:")
	if err := errors.Join(os.RemoveAll(dir), os.Rename(strings.TrimPrefix(other, "oci:"), dir)); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != digest {
		t.Errorf("%s, and not what is locked", got)
	}
}

// TestKilledPull kills a pull while its other process unpacks: that ends too,
// and the next pull finds nothing in its way.
func TestKilledPull(t *testing.T) {
	p, ref := newImagePlace(t), imageLayout(t, 300<<20)
	cmd := p.command("image", "pull", ref)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stage := filepath.Join(p.dir, "state", "casemate", "images", "sha256-"+ref[strings.LastIndex(ref, ":")+1:]+".new")
	file := filepath.Join(stage, "root", "d", "f0")
	eventually(t, "it unpacks", func() bool { _, err := os.Lstat(file); return err == nil })
	children := unpackers(t, cmd.Process.Pid)
	if len(children) != 1 {
		t.Errorf("it unpacks by %v", children)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for _, pid := range children {
		eventually(t, "it ends with its parent", func() bool { return !isUnpacker(pid) })
	}
	if l := p.left(); len(l) != 1 || !strings.HasSuffix(l[0], ".new") {
		t.Errorf("left %v", l)
	}
	if out, err := p.command("image", "pull", ref).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if l := p.left(); len(l) != 1 || strings.HasSuffix(l[0], ".new") {
		t.Errorf("left %v", l)
	}
}

// unpackers are the processes that unpack for one of pid's.
func unpackers(t *testing.T, pid int) (found []int) {
	t.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		b, _ := os.ReadFile(f)
		for s := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(s); err == nil {
				found = append(found, n)
			}
		}
	}
	return found
}

func isUnpacker(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(b), "unpack-image")
}

// TestFullStore pulls onto a disk that is too small, in a mount namespace of
// its own: the error says what to do, and nothing is left.
func TestFullStore(t *testing.T) {
	p, ref := newImagePlace(t), imageLayout(t, 20<<20)
	state := filepath.Join(p.dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	script := `mount -t tmpfs -o size=8m none "$1" && chmod 700 "$1" && "$2" image pull "$3"; echo "exit $?"; ls "$1/casemate/images" | grep -v lock; df -k "$1" | tail -1`
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", script, "sh", state, p.self, ref)
	cmd.Env, cmd.Dir = append(p.env, "XDG_STATE_HOME="+state), "/"
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "no space left") || !strings.Contains(text, "image prune") || !strings.Contains(text, "exit 1") || strings.Contains(text, "sha256-") {
		t.Errorf("%v: %s", err, text)
	}
}

// TestUnpackAlone: the hidden command is of no use by itself.
func TestUnpackAlone(t *testing.T) {
	p := newImagePlace(t)
	cmd := p.command("unpack-image")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "casemate image pull") {
		t.Errorf("%v: %s", err, out)
	}
}
