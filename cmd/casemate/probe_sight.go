package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// doors are files and folders that tell of the host, and that everyone there
// may see or that a capability of a container opens.
var doors = []string{
	"/proc/acpi", "/proc/asound", "/proc/bus", "/proc/cmdline", "/proc/config.gz", "/proc/consoles", "/proc/driver", "/proc/fs", "/proc/interrupts", "/proc/iomem", "/proc/ioports", "/proc/irq", "/proc/kallsyms",
	"/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/latency_stats", "/proc/locks", "/proc/modules", "/proc/partitions", "/proc/diskstats", "/proc/pressure",
	"/proc/sched_debug", "/proc/schedstat", "/proc/scsi", "/proc/softirqs", "/proc/swaps", "/proc/timer_list", "/proc/timer_stats", "/proc/tty",
	"/sys/kernel", "/sys/firmware", "/sys/fs/cgroup", "/sys/class/net", "/sys/block", "/sys/devices", "/sys/module", "/sys/kernel/security", "/sys/kernel/debug",
}

// masked are those of doors that a /proc of the host's kernel has.
func masked() (out []string) {
	for _, d := range doors {
		if strings.HasPrefix(d, "/proc/") {
			out = append(out, d)
		}
	}
	return out
}

// doors judges what the guest read by what the host reads: a kernel of its own
// tells its own.
func (s *probeSite) doors(ctx context.Context, r *attackRow) {
	o, ok := s.one(ctx, r, "attacker", append([]string{"doors"}, doors...)...)
	if !ok {
		return
	}
	got := map[string]string{}
	if err := json.Unmarshal([]byte(o.Got), &got); err != nil {
		r.failed("the attacker said %q", short(o.Got))
		return
	}
	var open []string
	for path, text := range got {
		host := firstOf(path)
		if text = text[:min(len(text), 32)]; host == "" || strings.HasPrefix(host, text) {
			open = append(open, path)
		}
	}
	slices.Sort(open)
	own := ""
	if n := len(got) - len(open); n > 0 {
		own = fmt.Sprintf("; %d say something that the host does not", n)
	}
	r.judge(len(open) > 0, "of %d these can be read and say what the host says: %s%s", len(doors), orNone(open), own)
}

// firstOf is how a file of the host begins, or what a folder holds, as the
// attacker has it.
func firstOf(path string) string {
	if es, err := os.ReadDir(path); err == nil {
		var names []string
		for _, e := range es {
			names = append(names, e.Name())
		}
		return strings.Join(names, " ")
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 64)
	n, _ := f.Read(b)
	return string(b[:max(n, 0)])
}

// hostProcess has a process of the probe's for a victim.
func (s *probeSite) hostProcess(ctx context.Context, r *attackRow) {
	victim := exec.Command("/bin/sleep", "271."+s.place.mark)
	victim.Env = []string{"SECRET=" + canary}
	if err := victim.Start(); err != nil {
		r.failed("%v", err)
		return
	}
	defer func() { victim.Process.Kill(); victim.Wait() }()
	pid := strconv.Itoa(victim.Process.Pid)
	out, ok := s.try(ctx, r, "attacker", []string{"list", "/proc"}, []string{"kill", pid}, []string{"read", "/proc/" + pid + "/cmdline"}, []string{"read", "/proc/" + pid + "/environ"}, []string{"pids"})
	if !ok {
		return
	}
	own := slices.Contains(strings.Fields(out[0].Got), pid) // a number of its own
	found := strings.Contains(out[2].Got, s.place.mark) || strings.Contains(out[3].Got, canary)
	r.judge(found || out[1].Through && !own, "it sees %s processes, not the victim among them; a signal to number %s: %s", out[4].Got, pid, short(out[1].Got))
}

func (s *probeSite) ownUid(ctx context.Context, r *attackRow) {
	s.uids(ctx, r, func() bool { _, ok := s.one(ctx, r, "attacker", "sleep", "1500"); return ok })
}

// uids looks at the sandbox's processes from outside while a call lasts.
func (s *probeSite) uids(ctx context.Context, r *attackRow, call func() bool) {
	if os.Geteuid() != 0 {
		r.na("an ordinary user's sandboxes have that user's number on the host; a user namespace holds nothing else for them")
		return
	}
	uids := map[string]int{}
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			for _, p := range s.confined() {
				uids[p.uid]++
			}
		}
	})
	ok := call()
	close(stop)
	watch.Wait()
	if !ok {
		return
	}
	if len(uids) == 0 {
		r.failed("no process of the sandbox was seen on the host")
		return
	}
	var all []string
	bad := false
	for u := range uids {
		all = append(all, u)
		bad = bad || u == "0" || u == "65534"
	}
	slices.Sort(all)
	r.judge(bad, "on the host the sandbox's processes, filtered and in a pid namespace of their own, are of user %s", strings.Join(all, ", "))
}

// A confinedProcess is one of a sandbox, as the host sees it.
type confinedProcess struct {
	pid    int
	uid    string
	status map[string]string
}

// confined lists the processes beneath the probe's server that are in another
// pid namespace and filtered: those of sandboxes.
func (s *probeSite) confined() (out []confinedProcess) {
	parents := map[int]int{}
	all := map[int]map[string]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, d := range dirs {
		b, err := os.ReadFile(d)
		if err != nil {
			continue
		}
		f := map[string]string{}
		for line := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(line, ":")
			f[k] = strings.TrimSpace(v)
		}
		pid, _ := strconv.Atoi(f["Pid"])
		parents[pid], _ = strconv.Atoi(f["PPid"])
		all[pid] = f
	}
	ours, _ := os.Readlink("/proc/self/ns/pid")
	root := s.planner.cmd.Process.Pid
	for pid, f := range all {
		p, n := pid, 0
		for ; p > 1 && p != root && n < 64; n++ {
			p = parents[p]
		}
		if p != root || pid == root || f["Seccomp"] != "2" {
			continue
		}
		space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil || space == ours {
			continue
		}
		out = append(out, confinedProcess{pid, strings.Fields(f["Uid"] + " ?")[0], f})
	}
	return out
}

// harmlessDevice says whether a guest may have a device of that number: null
// and its like, and terminals of its own.
func harmlessDevice(number string) bool {
	return slices.Contains([]string{"1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2"}, number) || strings.HasPrefix(number, "136:")
}

func (s *probeSite) devices(ctx context.Context, r *attackRow) {
	do := words("devices", "mknod /tmp/null")
	for _, d := range []string{"mem", "kmsg", "port", "console", "tty0", "vda", "sda", "nvme0n1", "loop0", "fuse", "kvm", "net/tun", "vhost-vsock", "userfaultfd", "dri/card0", "snd"} {
		do = append(do, []string{"exists", "/dev/" + d})
	}
	out, ok := s.try(ctx, r, "attacker", do...)
	if !ok {
		return
	}
	nodes := strings.Fields(out[0].Got)
	var more []string
	for _, d := range nodes {
		if _, number, _ := strings.Cut(d, "="); !harmlessDevice(number) && !s.sentrys(d) {
			more = append(more, d)
		}
	}
	for _, o := range out[1:] {
		if o.Through && !(o.Tried == "exists /dev/console" && len(more) == 0) && !s.sentrys(strings.TrimPrefix(o.Tried, "exists ")) {
			more = append(more, o.Tried)
		}
	}
	r.judge(len(more) > 0, "it has %d, none of a disk, of memory or of the host's consoles; others: %s", len(nodes), orNone(more))
}

// sentrys says whether a path is of gVisor's own kernel: its devices and its
// /proc are made of that process's memory, which the profile bounds, and lead
// nowhere.
func (s *probeSite) sentrys(path string) bool {
	path, _, _ = strings.Cut(path, "=")
	return s.backend == "gvisor" && (strings.HasPrefix(path, "/proc/") || slices.Contains([]string{"/dev/", "/dev/char/", "/dev/net/", "/dev/fuse", "/dev/net/tun"}, path))
}

// writable compares what could be written with what the profile says.
func (s *probeSite) writable(ctx context.Context, r *attackRow) {
	o, ok := s.one(ctx, r, "attacker", "writable")
	if !ok {
		return
	}
	f := strings.Fields(o.Got)
	if len(f) < 2 {
		r.failed("the attacker said %q", short(o.Got))
		return
	}
	if n, err := strconv.Atoi(f[0]); err != nil || n < 20 {
		r.failed("the attacker walked through %q", short(o.Got))
		return
	}
	var more []string
	for _, p := range f[2:] {
		_, number, device := strings.Cut(p, "=")
		if !slices.Contains([]string{"/tmp/", "/out/", "/dev/shm/"}, p) && !(device && harmlessDevice(number)) && !s.sentrys(p) {
			more = append(more, p)
		}
	}
	r.judge(len(more) > 0, "it walked through %s entries (%s) and could write %d; beyond /tmp, /out, /dev/shm and the device null and its like: %s", f[0], f[1], len(f)-2, orNone(more[:min(len(more), 20)]))
}
