package gvisor_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRestore measures, in one run and by turns, how long it takes until a
// guest answers that runsc starts, and one that it restores from a checkpoint: a
// shell that needs nothing, and a Python with modules. Guests are started here
// because of what this shows; see the package's comment.
func BenchmarkRestore(b *testing.B) {
	rt := runsc(b)
	for _, guest := range []struct{ name, program string }{
		{"shell", `echo ready; while read l; do echo got $l; done`},
		{"python", `exec python3 -I -c 'import sys, json, asyncio, decimal, email, http.client, unittest
print("ready", flush=True)
for l in sys.stdin: print("got", l, end="", flush=True)'`},
	} {
		b.Run(guest.name, func(b *testing.B) {
			if strings.Contains(guest.program, "python3") {
				if _, err := os.Stat("/usr/bin/python3"); err != nil {
					b.Skip("there is no python3 in /usr/bin")
				}
			}
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestRestoreInside$", "-test.v")
			cmd.Env = append(os.Environ(), "RESTORE_RUNSC="+rt.Path, "RESTORE_GUEST="+guest.program, "RESTORE_TIMES="+strconv.Itoa(b.N))
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
				UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
			}
			out, err := cmd.CombinedOutput()
			if err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			for line := range strings.Lines(string(out)) {
				var start, restore float64
				if n, _ := fmt.Sscanf(line, "p50 %f %f", &start, &restore); n == 2 {
					b.ReportMetric(start, "start-ms")
					b.ReportMetric(restore, "restore-ms")
					b.ReportMetric(start/restore, "start/restore")
				}
			}
		})
	}
}

// TestRestoreInside is BenchmarkRestore's, in namespaces of its own.
func TestRestoreInside(t *testing.T) {
	path := os.Getenv("RESTORE_RUNSC")
	if path == "" {
		return
	}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	must(syscall.Mount("proc", "/proc", "proc", 0, ""))
	program, err := os.Open(path) // the mount hides what lies beneath /run
	must(err)
	must(syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	must(os.MkdirAll("/run/bundle/root", 0o755))
	for _, d := range []string{"usr", "bin", "lib", "lib64", "dev", "proc", "tmp"} {
		at := filepath.Join("/run/bundle/root", d)
		if to, err := os.Readlink("/" + d); err == nil {
			must(os.Symlink(to, at))
			continue
		}
		must(os.Mkdir(at, 0o755))
		if _, err := os.Stat("/" + d); err == nil && d != "proc" && d != "dev" && d != "tmp" {
			must(syscall.Mount("/"+d, at, "", syscall.MS_BIND|syscall.MS_REC, ""))
		}
	}
	none := []string{}
	spec, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.2", "hostname": "sandbox", "root": map[string]any{"path": "root", "readonly": true},
		"process": map[string]any{"args": []string{"/bin/sh", "-c", os.Getenv("RESTORE_GUEST")}, "env": []string{"PATH=/usr/bin:/bin"}, "cwd": "/",
			"user": map[string]int{"uid": 0, "gid": 0}, "noNewPrivileges": true,
			"capabilities": map[string][]string{"bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none}},
		"mounts": []map[string]string{{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}},
		"linux":  map[string]any{"namespaces": []map[string]string{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}}},
	})
	must(err)
	must(os.WriteFile("/run/bundle/config.json", spec, 0o600))
	r := &restorer{t: t, runsc: fmt.Sprintf("/proc/self/fd/%d", program.Fd())}
	// What the descriptor stands for is inherited under its own number.
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, program.Fd(), syscall.F_SETFD, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	first, _ := r.guest("first", true, "run")
	must(r.command("checkpoint", "--image-path", "/run/image", "first").Run())
	first.Wait()
	var starts, restores []float64
	times, err := strconv.Atoi(os.Getenv("RESTORE_TIMES"))
	must(err)
	for i := range max(times, 5) {
		for _, how := range []struct {
			to    *[]float64
			fresh bool
			args  []string
		}{{&starts, true, []string{"run"}}, {&restores, false, []string{"restore", "--image-path", "/run/image"}}} {
			id := how.args[0] + strconv.Itoa(i)
			cmd, took := r.guest(id, how.fresh, how.args...)
			*how.to = append(*how.to, float64(took.Microseconds())/1000)
			must(r.command("kill", id, "KILL").Run())
			cmd.Wait()
			r.command("delete", "--force", id).Run()
		}
	}
	fmt.Printf("p50 %.1f %.1f\n", median(starts), median(restores))
}

func median(f []float64) float64 { slices.Sort(f); return f[len(f)/2] }

type restorer struct {
	t     *testing.T
	runsc string
}

func (r *restorer) command(args ...string) *exec.Cmd {
	cmd := exec.Command(r.runsc, append([]string{"--network=none", "--ignore-cgroups", "--overlay2=none", "--root", "/run/state"}, args...)...)
	cmd.Dir = "/run/bundle"
	return cmd
}

// guest starts one, and returns how long it took to answer. A fresh one says
// that it is ready before.
func (r *restorer) guest(id string, fresh bool, args ...string) (*exec.Cmd, time.Duration) {
	r.t.Helper()
	begin := time.Now()
	cmd := r.command(append(args, id)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if fresh {
		if l, err := lines.ReadString('\n'); l != "ready\n" {
			r.t.Fatalf("%q %v", l, err)
		}
	}
	fmt.Fprintln(in, "x")
	if l, err := lines.ReadString('\n'); l != "got x\n" {
		r.t.Fatalf("%q %v", l, err)
	}
	return cmd, time.Since(begin)
}
