package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/testenv"
)

// TestMain is also the child that the tests put into groups.
func TestMain(m *testing.M) {
	switch os.Getenv("CASEMATE_CGROUP_CHILD") {
	case "":
		os.Exit(testenv.Main(m))
	case "memory": // at most 128 MiB, in steps
		wait()
		var all [][]byte
		for range 128 {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		os.Exit(len(all) & 1)
	case "memory-in-a-child":
		wait()
		c := exec.Command("/proc/self/exe")
		c.Env = []string{"CASEMATE_CGROUP_CHILD=memory"}
		in, _ := c.StdinPipe()
		c.Start()
		in.Close()
		c.Wait()
		time.Sleep(20 * time.Second)
	case "spin":
		wait()
		for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); {
		}
	case "sleep":
		wait()
		time.Sleep(20 * time.Second)
	case "tree":
		wait()
		depth, _ := strconv.Atoi(os.Getenv("DEPTH"))
		for i := 0; depth > 0 && i < 2; i++ {
			c := exec.Command("/proc/self/exe")
			c.Env = []string{"CASEMATE_CGROUP_CHILD=tree", "DEPTH=" + strconv.Itoa(depth-1)}
			c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if c.Start() != nil {
				os.Exit(3)
			}
		}
		time.Sleep(20 * time.Second)
	case "forks": // exits with the number that it could start, at most 30
		wait()
		n := 0
		for range 30 {
			c := exec.Command("/bin/sleep", "5")
			c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if c.Start() == nil {
				n++
			}
		}
		os.Exit(n)
	case "spawner": // makes an empty group and one that is not empty, and dies
		h := Probe()
		g, err := h.Create("left", Limits{Memory: 32 << 20, Processes: 9}, never)
		if err != nil {
			os.Exit(3)
		}
		os.Stdout.WriteString(g.all[0].path + "\n")
		wait()
	case "mover": // says in which group of version 2 it then is
		wait()
		s := &subtree{parent: os.Getenv("PARENT"), move: true, mark: ownMark()}
		parent, err := openFolder(unix.AT_FDCWD, s.parent, s.parent)
		if err != nil {
			os.Exit(3)
		}
		if _, err := s.prepare(parent); err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(4)
		}
		own, _ := os.ReadFile("/proc/self/cgroup")
		os.Stdout.Write(own)
	}
	os.Exit(0)
}

// wait waits until the test closes standard input, having put us in a group.
func wait() {
	var b [1]byte
	os.Stdin.Read(b[:])
}

func never(string) bool { return false }

// host skips where this user has no cgroups, which Probe itself says.
func host(t *testing.T, controls ...string) Host {
	t.Helper()
	h := Probe()
	for _, c := range controls {
		if state, why, fix := h.Control(c); state != "on" {
			testenv.Require(t, "process/"+c, &testenv.Unsupported{What: c, Why: why, Fix: fix})
		}
	}
	return h
}

type child struct {
	*exec.Cmd
	release func()
}

func start(t *testing.T, what string, env ...string) child {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append([]string{"CASEMATE_CGROUP_CHILD=" + what}, env...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	return child{c, func() { in.Close() }}
}

func create(t *testing.T, h Host, l Limits) *Group {
	t.Helper()
	g, err := h.Create(strings.ReplaceAll(t.Name(), "/", "_"), l, never)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, m := range g.all {
		paths = append(paths, m.path)
	}
	t.Cleanup(func() {
		g.Kill()
		if err := g.Remove(); err != nil {
			t.Errorf("Remove: %v", err)
		}
		for _, p := range paths {
			if _, err := os.Stat(p); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", p, err)
			}
		}
	})
	return g
}

func add(t *testing.T, g *Group, c child) {
	t.Helper()
	if err := g.Add(c.Process.Pid); err != nil {
		t.Fatal(err)
	}
	c.release()
}

func TestMemoryIsHeld(t *testing.T) {
	g := create(t, host(t, Memory), Limits{Memory: 32 << 20})
	if g.Held()[Memory] != "cgroup" {
		t.Fatalf("held: %v", g.Held())
	}
	c := start(t, "memory")
	add(t, g, c)
	err := c.Wait()
	if c.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended by %v, not by the out-of-memory killer", err)
	}
	if !g.OOM() {
		t.Error("OOM() = false")
	}
	if _, peak := g.Usage(); peak < 16<<20 || peak > 33<<20 {
		t.Errorf("peak = %d", peak)
	}
}

func TestMemoryWithinItsLimit(t *testing.T) {
	g := create(t, host(t, Memory), Limits{Memory: 512 << 20})
	c := start(t, "memory")
	stop, err := g.Watch(func() { t.Error("onOOM was called") })
	if err != nil {
		t.Fatal(err)
	}
	add(t, g, c)
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	stop()
	if g.OOM() {
		t.Error("OOM() = true")
	}
}

func TestOOMEndsTheWholeGroup(t *testing.T) {
	g := create(t, host(t, Memory), Limits{Memory: 32 << 20})
	stop, err := g.Watch(func() { g.Kill() })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c := start(t, "memory-in-a-child")
	add(t, g, c)
	began := time.Now()
	c.Wait()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the parent of what was killed lived on for %v", took)
	}
	if !g.OOM() {
		t.Error("OOM() = false")
	}
}

// Removing a group wakes its watcher too, which must not call that an OOM.
func TestWatchOfARemovedGroup(t *testing.T) {
	h := host(t, Memory)
	g, err := h.Create("removed", Limits{Memory: 32 << 20}, never)
	if err != nil {
		t.Fatal(err)
	}
	stop, err := g.Watch(func() { t.Error("onOOM was called") })
	if err != nil {
		t.Fatal(err)
	}
	if err := rmdir(g.members[Memory].parent, g.name); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	stop()
	if g.OOM() {
		t.Error("OOM() = true")
	}
	g.Remove()
}

func TestProcessesAreHeld(t *testing.T) {
	g := create(t, host(t, Processes), Limits{Processes: 16})
	c := start(t, "forks")
	add(t, g, c)
	c.Wait()
	if n := c.ProcessState.ExitCode(); n < 1 || n > 15 {
		t.Fatalf("%d children were started with 16 allowed", n)
	}
}

func TestCPUIsHeld(t *testing.T) {
	g := create(t, host(t, CPU), Limits{MilliCPU: 200})
	c := start(t, "spin")
	add(t, g, c)
	c.Wait()
	if used := c.ProcessState.UserTime() + c.ProcessState.SystemTime(); used > 400*time.Millisecond {
		t.Fatalf("%v of cpu in 0.7 s at a fifth of a processor", used)
	}
	if cpu, _ := g.Usage(); cpu > 400*time.Millisecond {
		t.Errorf("Usage() = %v", cpu)
	}
}

func TestFreezeAndThaw(t *testing.T) {
	h := host(t, Freezer)
	for _, version := range []string{"", "v1"} {
		t.Run("as-probed"+version, func(t *testing.T) {
			h := h
			if version == "v1" {
				h = only1(t, h)
			}
			g := create(t, h, Limits{})
			c := start(t, "spin")
			add(t, g, c)
			time.Sleep(50 * time.Millisecond)
			if err := g.Freeze(); err != nil {
				t.Fatal(err)
			}
			before := ticks(t, c.Process.Pid)
			time.Sleep(100 * time.Millisecond)
			if after := ticks(t, c.Process.Pid); after > before {
				t.Errorf("frozen, it used the cpu: %d to %d ticks", before, after)
			}
			if err := g.Thaw(); err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func ticks(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	n, _ := strconv.Atoi(f[11])
	return n
}

// only1 is the host without its version 2.
func only1(t *testing.T, h Host) Host {
	t.Helper()
	own, _ := os.ReadFile("/proc/self/cgroup")
	p := probe1("freezer", locate("freezer", h.mounts, parseOwn(string(own))))
	if p.why != "" {
		testenv.Require(t, "cgroup-v1", &testenv.Unsupported{What: "the freezer of version 1", Why: p.why, Fix: p.fix})
	}
	places := map[string]place{Freezer: p}
	for c, q := range h.places {
		if !q.v2 {
			places[c] = q
		}
	}
	return Host{places: places, mark: h.mark, mounts: h.mounts}
}

func TestKillOfATree(t *testing.T) {
	h := host(t, Processes)
	for name, h := range map[string]func(*testing.T) Host{
		"as-probed":  func(*testing.T) Host { return h },
		"v1":         func(t *testing.T) Host { return only1(t, h) },
		"no-freezer": func(t *testing.T) Host { h := only1(t, h); delete(h.places, Freezer); return h },
	} {
		t.Run(name, func(t *testing.T) {
			g := create(t, h(t), Limits{Processes: 500})
			c := start(t, "tree", "DEPTH=3")
			add(t, g, c)
			var pids []int
			for end := time.Now().Add(10 * time.Second); len(pids) < 15 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				pids, _ = g.all[0].pids()
			}
			if len(pids) != 15 {
				t.Fatalf("the tree has %d processes, not 15", len(pids))
			}
			go c.Wait()
			began := time.Now()
			if err := g.Kill(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("Kill took %v", took)
			}
			if left, _ := g.all[0].pids(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestSweepTakesOnlyWhatIsOursAndLeft(t *testing.T) {
	h := host(t, Memory, Processes)
	c := exec.Command("/proc/self/exe")
	c.Env = []string{"CASEMATE_CGROUP_CHILD=spawner"}
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, _ := out.Read(buf)
	path := strings.TrimSpace(string(buf[:n]))
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	h.Sweep()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the group of a living spawner was removed: %v", err)
	}
	// Neighbours: one that carries no mark, one that looks like ours, and a
	// group of ours with a process in it.
	base := filepath.Dir(path)
	var strangers []string
	for _, name := range []string{"casemate-notes", "casemate", "other-1.2.3", "casemate-" + strconv.Itoa(c.Process.Pid) + ".1.1-x"} {
		p := filepath.Join(base, name+"-"+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(p)
		strangers = append(strangers, p)
	}
	busy := path + "busy"
	if err := os.Mkdir(busy, 0o755); err != nil {
		t.Fatal(err)
	}
	sleeper := start(t, "sleep")
	if err := os.WriteFile(busy+"/cgroup.procs", []byte(strconv.Itoa(sleeper.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	in.Close()
	c.Wait()
	h.Sweep()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", path, err)
	}
	for _, p := range append(strangers, busy) {
		if _, err := os.Stat(p); err != nil {
			t.Errorf("swept: %v", err)
		}
	}
	sleeper.Process.Kill()
	sleeper.Wait()
	h.Sweep()
	if _, err := os.Stat(busy); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", busy, err)
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	h := host(t, Memory)
	h.places = map[string]place{Memory: h.places[Memory], CPU: {why: "/x/cpu.max: permission denied", fix: "do this"}}
	_, err := h.Create("missing", Limits{Memory: 32 << 20, MilliCPU: 1000}, never)
	missing, ok := errors.AsType[*Missing](err)
	if !ok || missing.Control != CPU || missing.Why != "/x/cpu.max: permission denied" || missing.Fix != "do this" {
		t.Fatalf("%#v", err)
	}
	// What was made before is not left.
	own := h.places[Memory].own
	if own == nil {
		base, err := h.v2.open()
		if err != nil {
			t.Fatal(err)
		}
		own = &base
	}
	if _, err := os.Stat(own.path + "/" + h.mark + "-missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	var asked []string
	g, err := h.Create("degraded", Limits{Memory: 32 << 20, MilliCPU: 1000}, func(c string) bool { asked = append(asked, c); return true })
	if err != nil {
		t.Fatal(err)
	}
	defer g.Remove()
	if !slices.Equal(asked, []string{CPU}) || g.Held()[CPU] != "" || g.Held()[Memory] != "cgroup" {
		t.Errorf("asked %v, held %v", asked, g.Held())
	}
}

// The kernel's own refusal, here of more than a number can be, is a Missing
// with the file's name.
func TestRefusedLimit(t *testing.T) {
	h := host(t, Processes)
	_, err := h.Create("refused", Limits{Processes: 1 << 62}, never)
	missing, ok := errors.AsType[*Missing](err)
	if !ok || !strings.Contains(missing.Why, "casemate-") {
		t.Fatalf("%#v", err)
	}
}

// The spawner leaves the group that shall hand controllers on, and refuses to
// where a stranger would stay behind in it.
func TestSpawnerMovesItself(t *testing.T) {
	h := host(t, Freezer)
	if !h.places[Freezer].v2 {
		testenv.Require(t, "cgroup-v2", &testenv.Unsupported{What: "cgroup version 2", Why: h.v2.why[""]})
	}
	for _, stranger := range []bool{false, true} {
		d := filepath.Join(h.v2.parent, "test-casemate-"+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		c := exec.Command("/proc/self/exe")
		c.Env = []string{"CASEMATE_CGROUP_CHILD=mover", "PARENT=" + d}
		in, _ := c.StdinPipe()
		var out strings.Builder
		c.Stdout = &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		pids := []int{c.Process.Pid}
		if stranger { // the grandchild of a child: neither ours nor the parent's
			other := exec.Command("/bin/sh", "-c", "sleep 5 & echo $!; wait")
			o, _ := other.StdoutPipe()
			if err := other.Start(); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 32)
			n, _ := o.Read(buf)
			pid, _ := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
			defer other.Wait()
			defer syscall.Kill(pid, syscall.SIGKILL)
			pids = append(pids, pid)
		}
		for _, p := range pids {
			if err := os.WriteFile(d+"/cgroup.procs", []byte(strconv.Itoa(p)), 0); err != nil {
				t.Fatal(err)
			}
		}
		in.Close()
		c.Wait()
		if moved := strings.Contains(out.String(), "-spawner\n"); moved == stranger {
			t.Errorf("stranger %v: %q", stranger, out.String())
		}
		os.WriteFile(d+"/cgroup.kill", []byte("1"), 0)
		(&Group{all: []*member{{folder: mustOpen(t, d), v2: true}}}).Kill()
		h.Sweep()
		if err := os.Remove(d); err != nil {
			t.Error(err)
		}
	}
}

// A child is born in every hierarchy of its group: in version 2 by its
// descriptor, in version 1 by the thread that forks it, which comes back.
func TestStartInto(t *testing.T) {
	h := host(t, Memory)
	g := create1(t, h)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	leave, err := g.Enter()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/bin/cat", "/proc/self/cgroup")
	c.SysProcAttr = &syscall.SysProcAttr{}
	if fd, ok := g.FD(); ok {
		c.SysProcAttr.UseCgroupFD, c.SysProcAttr.CgroupFD = true, fd
	}
	out, err := c.Output()
	if err := leave(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(out), "/"+g.name+"\n"); err != nil || n != len(g.all) {
		t.Errorf("%v: in %d of %d hierarchies: %s", err, n, len(g.all), out)
	}
	if after, err := os.ReadFile("/proc/thread-self/cgroup"); err != nil || string(after) != string(before) {
		t.Errorf("the thread did not come back: %s", after)
	}
}

func create1(t *testing.T, h Host) *Group {
	t.Helper()
	g, err := h.Create("both", Limits{Memory: 32 << 20}, never)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Remove() })
	return g
}

func TestOrdinaryUser(t *testing.T) {
	testenv.AsUser(t, func(t *testing.T) {
		h := Probe()
		for _, c := range []string{Memory, CPU, Processes, Freezer} {
			state, why, fix := h.Control(c)
			if state == "on" { // a host that delegates
				continue
			}
			if state != "missing" || !strings.Contains(why, "/sys/fs/cgroup") || !strings.Contains(why, ": ") || fix == "" {
				t.Errorf("%s: %q, %q, %q", c, state, why, fix)
			}
			_, err := h.Create("x", Limits{Memory: 1 << 20, MilliCPU: 100, Processes: 9}, func(x string) bool { return x != c })
			if missing, ok := errors.AsType[*Missing](err); c != Freezer && (!ok || missing.Control != c || missing.Why != why || missing.Fix != fix) {
				t.Errorf("%s: Create: %#v", c, err)
			}
		}
	})
}
