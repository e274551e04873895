package oci_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/sandbox/oci"
	"github.com/casemate/casemate/sandbox/process"
)

// said is what a call of a guest printed.
func said(t *testing.T, sb casemate.Sandbox) (out, errs string, status int) {
	t.Helper()
	for {
		f, err := guest.Read(sb.Guest(), guest.MaxReply)
		if err != nil {
			t.Fatalf("%v after %q %q", err, out, errs)
		}
		switch f.Type {
		case guest.Stdout:
			out += string(f.Body)
		case guest.Stderr, guest.Failure:
			errs += string(f.Body)
		case guest.Done:
			return out, errs, int(f.Body[3])
		}
	}
}

// shell runs a script in a container of these layers.
func shell(t *testing.T, p casemate.Profile, layers []string, script string) (string, string, casemate.Sandbox) {
	t.Helper()
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}, Security: p}
	g, err := process.Compile(tool, process.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if g, err = oci.Contain(g, runtime(t), layers); err != nil {
		t.Fatal(err)
	}
	host := plan.Host{Store: filepath.Join(t.TempDir(), "store")}
	if os.Geteuid() != 0 {
		host.AllowDegraded = []string{"memory", "cpu"}
	}
	s, err := process.StartSpawner(testenv.Binaries(t).Init, &plan.Plan{Host: host, Guests: []plan.Guest{g}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	sb, err := process.New(s.Router).As(oci.Name).Start(t.Context(), casemate.Spec{Tool: tool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sb.Close() })
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		t.Fatalf("%c %q %v", f.Type, f.Body, err)
	}
	if err := guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, []guest.Pair{{Key: "command", Value: script}})}); err != nil {
		t.Fatal(err)
	}
	out, errs, _ := said(t, sb)
	return out, errs, sb
}

// image makes the folder of an image with a shell, and what a hostile one has:
// links at every place where something is mounted, a program with set-user-ID,
// and files of names that a sandbox gives itself.
func image(t *testing.T) string {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
	root := filepath.Join(dir, "image")
	for _, d := range []string{"bin", "etc", "data/deep", "elsewhere"} {
		must(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	from, err := os.Open("/usr/bin/busybox")
	testenv.Require(t, "busybox", err)
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(root, "bin/busybox"), os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(to, from)
	must(t, err)
	must(t, to.Close())
	must(t, unix.Chmod(filepath.Join(root, "bin/busybox"), 0o4755))
	for _, name := range []string{"sh", "cat", "ls", "id", "echo", "readlink", "mount", "touch", "chmod"} {
		must(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	for name, target := range map[string]string{"tmp": "/elsewhere", "out": "../../../etc", "dev": "/elsewhere", "proc": "/elsewhere", "in": "/proc", "work": "/elsewhere", ".casemate": "/elsewhere", ".stage": "/elsewhere", "etc/hosts": "/proc/1/environ"} {
		must(t, os.Symlink(target, filepath.Join(root, name)))
	}
	must(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("of-the-image:x:0:0::/:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "data/secret"), []byte("image\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "data/deep/file"), []byte("deep\n"), 0o644))
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestImage(t *testing.T) { inImage(t) }

func TestImageAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, inImage)
}

// The root is the image's, nothing of it can be changed, and none of its links
// moves what the sandbox mounts.
func inImage(t *testing.T) {
	root := image(t)
	grant, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	for p := grant; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
	must(t, os.WriteFile(filepath.Join(grant, "f"), []byte("granted\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(grant, "one"), []byte("one\n"), 0o644))
	p := casemate.Profile{Cwd: "/work", Filesystem: []casemate.Mount{
		{Path: grant, At: "/work", Access: casemate.Write}, {Path: grant, At: "/data/deep/grant", Access: casemate.Read},
		{Path: filepath.Join(grant, "one"), At: "/data/one", Access: casemate.Read}}}
	out, errs, sb := shell(t, p, []string{root}, `
cat /etc/passwd /data/secret /data/deep/file /data/deep/grant/f /data/one f
cat /etc/hosts
echo new > new; echo t > /tmp/t; echo o > /out/o; cat /tmp/t
ls /elsewhere /.casemate /.stage
for f in /bin/x /etc/passwd /data/secret /data/deep/grant/f /x /elsewhere/x /.casemate/init; do (echo x >> $f) 2>/dev/null && echo wrote $f; done
cat /bin/busybox > /tmp/cat; chmod 755 /tmp/cat; /tmp/cat /etc/passwd 2>&1; /data/deep/grant/f 2>/dev/null
echo status $?
id -u; ls -a / | while read n; do echo -n "$n "; done; echo
echo x > /dev/null; cat /proc/self/status | while read k v; do case $k in Cap*|NoNewPrivs:|Seccomp:) echo $k $v;; esac; done
`)
	want := `of-the-image:x:0:0::/:/bin/sh
image
deep
granted
one
granted
127.0.0.1 localhost sandbox
::1 localhost
t
/.casemate:
init

/.stage:
empty
layer0
`
	if !strings.HasPrefix(out, want) {
		t.Errorf("%s\n%s", out, errs)
	}
	for _, not := range []string{"wrote", "/elsewhere/"} {
		if strings.Contains(out, not) {
			t.Errorf("%s\n%s", out, errs)
		}
	}
	for _, has := range []string{"Permission denied\nstatus 126\n0\n", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"} {
		if !strings.Contains(out, has) {
			t.Errorf("no %q in %s\n%s", has, out, errs)
		}
	}
	changes, err := sb.(casemate.Committer).Commit(t.Context(), "c_image")
	if b, read := os.ReadFile(filepath.Join(grant, "new")); err != nil || len(changes) != 1 || string(b) != "new\n" {
		t.Errorf("%+v %v %q %v", changes, err, b, read)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "bin/busybox"), &st); err != nil || st.Mode&0o7777 != 0o4755 {
		t.Errorf("%o %v", st.Mode, err)
	}
}
