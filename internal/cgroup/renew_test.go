package cgroup

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// What one sandbox leaves in a group, the next does not find there, but for the
// limits.
func TestRenew(t *testing.T) {
	h := host(t, Memory, CPU, Processes)
	limits := Limits{Memory: 256 << 20, MilliCPU: 700, Processes: 9}
	g, err := h.Create("renewed", limits, never)
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, "memory")
	ways, err := g.Ways()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ways {
		if _, err := w.WriteString(strconv.Itoa(c.Process.Pid)); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	c.release()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, peak := g.Usage(); peak < 64<<20 {
		t.Fatalf("the former used %d bytes: nothing to forget", peak)
	}
	n, ok := g.Renew()
	if !ok {
		if g.members[Memory].v2 {
			g.Remove()
			return // the kernel does not forget there, and so nothing is renewed
		}
		t.Fatal("an empty group was not renewed")
	}
	defer func() {
		if err := n.Remove(); err != nil {
			t.Error(err)
		}
	}()
	if cpu, peak := n.Usage(); cpu != 0 || peak > leftover {
		t.Errorf("the next begins with %v and %d bytes", cpu, peak)
	}
	if n.OOM() {
		t.Error("the next was out of memory before it began")
	}
	for file, want := range map[string]int64{"memory.limit_in_bytes": limits.Memory, "pids.max": limits.Processes, "cpu.cfs_quota_us": 70_000} {
		m := map[byte]*member{'m': n.members[Memory], 'p': n.members[Processes], 'c': n.members[CPU]}[file[0]]
		if got, err := m.number(file); err != nil || got != want {
			t.Errorf("%s is %d, not %d: %v", file, got, want, err)
		}
	}
	for _, control := range []string{Memory, CPU, Processes} {
		if n.Held()[control] != "cgroup" {
			t.Errorf("%s is not said to be held", control)
		}
	}
	if g.Remove(); len(g.all) != 0 || !n.members[Memory].has("tasks") {
		t.Error("the former group took the folders of the next")
	}
}

// A group with somebody in it is not given on, nor is one that ran out of memory.
func TestNotRenewed(t *testing.T) {
	h := host(t, Memory)
	inside := create(t, h, Limits{Memory: 32 << 20})
	add(t, inside, start(t, "sleep"))
	if _, ok := inside.Renew(); ok {
		t.Error("a group with a process in it was renewed")
	}
}

func TestNotRenewedAfterOOM(t *testing.T) {
	g := create(t, host(t, Memory), Limits{Memory: 32 << 20})
	c := start(t, "memory")
	add(t, g, c)
	c.Wait()
	if _, ok := g.Renew(); ok {
		t.Error("a group that was out of memory was renewed")
	}
}

// Memory that outlives a sandbox, such as that of a file, is charged to its
// group: whoever got that would have less.
func TestNotRenewedWithLeftovers(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "casemate-cgroup-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	g := create(t, host(t, Memory), Limits{Memory: 64 << 20})
	c := exec.Command("/bin/sh", "-c", "read x; head -c 8388608 /dev/zero > "+dir+"/file")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	add(t, g, child{c, func() { in.Close() }})
	c.Wait()
	if st, err := os.Stat(dir + "/file"); err != nil || st.Size() != 8<<20 {
		t.Fatal(st, err)
	}
	if _, ok := g.Renew(); ok {
		t.Error("a group that holds 8 MiB was renewed")
	}
}
