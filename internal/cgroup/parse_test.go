package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	pure     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
	separate = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	joint = `25 22 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
29 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct
30 25 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:11 - cgroup cgroup rw,memory
`
	dockerV1 = "700 690 0:27 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
)

func TestLocate(t *testing.T) {
	for _, c := range []struct {
		name, mounts, own, controller string
		want                          location
	}{
		{"pure v2, systemd user session", pure, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u1.scope\n", "memory",
			location{at: "/sys/fs/cgroup", below: "user.slice/user-1000.slice/user@1000.service/app.slice/run-u1.scope", v2: true}},
		{"pure v2, cgroup namespace", pure, "0::/\n", "pids", location{at: "/sys/fs/cgroup", below: ".", v2: true}},
		{"hybrid, separate", separate, "4:memory:/process/x\n1:cpu:/\n0::/\n", "memory", location{at: "/sys/fs/cgroup/memory", below: "process/x"}},
		{"hybrid, separate, cpu is not cpuacct", separate, "2:cpuacct:/\n1:cpu:/\n0::/\n", "cpu", location{at: "/sys/fs/cgroup/cpu", below: "."}},
		{"hybrid, its version 2", separate, "4:memory:/\n0::/a\n", "", location{at: "/sys/fs/cgroup/unified", below: "a", v2: true}},
		{"hybrid, a controller of version 2", separate, "4:memory:/\n0::/a\n", "pids", location{at: "/sys/fs/cgroup/unified", below: "a", v2: true}},
		{"v1, joint", joint, "5:cpu,cpuacct:/user.slice\n", "cpu", location{at: "/sys/fs/cgroup/cpu,cpuacct", below: "user.slice"}},
		{"docker v1, host's namespace", dockerV1, "6:memory:/docker/abc\n", "memory", location{at: "/sys/fs/cgroup/memory", below: "."}},
		{"docker v1, nested group", dockerV1, "6:memory:/docker/abc/d\n", "memory", location{at: "/sys/fs/cgroup/memory", below: "d"}},
		{"a neighbour's name is no prefix", dockerV1, "6:memory:/docker/abcd\n", "memory", location{at: "/sys/fs/cgroup/memory", below: ".", doubt: true}},
		{"outside the cgroup namespace", pure, "0::/../../x\n", "memory", location{at: "/sys/fs/cgroup", below: ".", v2: true, doubt: true}},
		{"mounted from a namespace above", "7 6 0:26 /../.. /sys/fs/cgroup ro - cgroup2 cgroup ro\n", "0::/\n", "memory", location{at: "/sys/fs/cgroup", below: ".", v2: true, doubt: true}},
		{"the second mount fits", dockerV1 + "701 690 0:27 / /cg ro - cgroup cgroup rw,memory\n", "6:memory:/b\n", "memory", location{at: "/cg", below: "b"}},
		{"a mount point with a space", `9 8 0:27 / /my\040cg rw - cgroup2 none rw` + "\n", "0::/a\n", "memory", location{at: "/my cg", below: "a", v2: true}},
		{"deleted group", pure, "0::/a (deleted)\n", "memory", location{at: "/sys/fs/cgroup", below: "a", v2: true}},
		{"bound to version 1, not mounted", pure, "4:memory:/\n0::/\n", "memory", location{why: "the cgroup hierarchy of memory is not mounted here (/proc/self/mountinfo)"}},
		{"nothing", "", "", "memory", location{why: "/proc/self/cgroup names no hierarchy for memory"}},
		{"not cgroups", "1 0 8:1 / / rw - ext4 /dev/cgroup rw,memory\n", "4:memory:/\n", "memory", location{why: "the cgroup hierarchy of memory is not mounted here (/proc/self/mountinfo)"}},
		{"a name is not a controller", "1 0 0:9 / /x rw - cgroup cgroup rw,name=memory\n", "4:name=memory:/\n0::/\n", "memory",
			location{v2: true, why: "the cgroup hierarchy of memory is not mounted here (/proc/self/mountinfo)"}},
	} {
		if got := locate(c.controller, parseMounts(c.mounts), parseOwn(c.own)); got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(separate, "4:memory:/process/x\n0::/\n")
	f.Add(dockerV1, "6:memory:/docker/abc\n")
	f.Add("a b c - cgroup", ":::")
	f.Fuzz(func(t *testing.T, mounts, own string) {
		l := locate("memory", parseMounts(mounts), parseOwn(own))
		if l.why == "" && (l.at == "" || l.below == "") {
			t.Errorf("%+v", l)
		}
	})
}

func TestParseStat(t *testing.T) {
	parent, start := parseStat("42 (a) R 1 (x)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1\n")
	if parent != 7 || start != 987654 {
		t.Errorf("parent %d, start %d", parent, start)
	}
	if _, start := parseStat("42 (cut"); start != 0 {
		t.Errorf("start %d", start)
	}
}

func TestMarks(t *testing.T) {
	own := ownMark()
	if gone(own) || gone(own+"-3") {
		t.Error("this process is said to be gone")
	}
	pid, start, space, ok := parseMark(own + "-3")
	if !ok || pid != os.Getpid() || start == 0 || space == 0 {
		t.Fatalf("%d %d %d %v", pid, start, space, ok)
	}
	reused := prefix + strconv.Itoa(pid) + "." + strconv.FormatUint(start+1, 10) + "." + strconv.FormatUint(space, 10)
	if !gone(reused) {
		t.Error("a process id that is used again is taken for its first owner")
	}
	if gone(prefix + strconv.Itoa(pid) + "." + strconv.FormatUint(start+1, 10) + "." + strconv.FormatUint(space+1, 10)) {
		t.Error("a spawner of another pid namespace is said to be gone")
	}
	for _, name := range []string{"casemate", "casemate-", "casemate-x-1", "casemate-1.2", "casemate-1.2.3.4", "casemate--1.2.3", "casemate-0.2.3", "kasemate-1.2.3"} {
		if _, _, _, ok := parseMark(name); ok {
			t.Errorf("%s is taken for ours", name)
		}
	}
}

func TestQuota(t *testing.T) {
	for milli, want := range map[int64]string{1: "1000 1000000", 9: "9000 1000000", 10: "1000 100000", 1500: "150000 100000", 2000: "200000 100000"} {
		quota, period := quotaOf(milli)
		if got := quota + " " + period; got != want {
			t.Errorf("%d: %s, not %s", milli, got, want)
		}
	}
}

// tree lays out a hierarchy of version 2 as plain files: each folder gets the
// files of a group that its owner may write.
func tree(t *testing.T, groups map[string]map[string]string) string {
	t.Helper()
	top := t.TempDir()
	for path, files := range groups {
		d := filepath.Join(top, path)
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		all := map[string]string{"cgroup.procs": "", "cgroup.subtree_control": "", "cgroup.controllers": "cpu memory pids", "cgroup.events": "populated 1\nfrozen 0\n", "cgroup.type": "domain\n"}
		for name, text := range files {
			all[name] = text
		}
		for name, text := range all {
			if err := os.WriteFile(filepath.Join(d, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return top
}

func TestChoose(t *testing.T) {
	me := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name   string
		groups map[string]map[string]string
		own    string
		parent string
		move   bool
		wanted string
		why    string // a part of it, of the whole or of cpu
	}{
		{"a delegated scope of our own", map[string]map[string]string{"": nil, "a/b": {"cgroup.procs": me}}, "a/b", "a/b", true, "memory pids cpu", ""},
		{"an empty group", map[string]map[string]string{"": nil, "a/b": nil}, "a/b", "a/b", false, "memory pids cpu", ""},
		{"a scope shared with a shell: beside it", map[string]map[string]string{"": nil, "a": nil, "a/b": {"cgroup.procs": me + "\n1\n"}}, "a/b", "a", false, "memory pids cpu", ""},
		{"beside it cpu is not offered, further up it is", map[string]map[string]string{"": nil, "a": {"cgroup.controllers": "memory pids"}, "a/b": {"cgroup.procs": "1\n"}}, "a/b", "", false, "memory pids cpu", ""},
		{"never beside a limit", map[string]map[string]string{"": nil, "a": nil, "a/b": {"cgroup.procs": "1\n", "memory.max": "1000000\n"}}, "a/b", "a/b", false, "", "process 1 is in this group too"},
		{"processes that are not seen are strangers", map[string]map[string]string{"": {"cgroup.procs": me + "\n0\n"}}, "", "", false, "", "processes of another pid namespace"},
		{"a limit further up ends the walk", map[string]map[string]string{"": nil, "a": {"cgroup.controllers": "memory pids", "cpu.max": "1000 100000\n"}, "a/b": {"cgroup.procs": "1\n"}}, "a/b", "a", false, "memory pids", "cgroup.controllers does not list cpu"},
		{"no limit", map[string]map[string]string{"": nil, "a": nil, "a/b": {"cgroup.procs": "1\n", "memory.max": "max\n", "cpu.max": "max 100000\n"}}, "a/b", "a", false, "memory pids cpu", ""},
		{"threaded", map[string]map[string]string{"": {"cgroup.controllers": ""}, "a": {"cgroup.type": "threaded\n"}}, "a", "a", false, "", "threaded"},
		{"nothing offered", map[string]map[string]string{"": {"cgroup.controllers": "hugetlb"}, "a": {"cgroup.controllers": ""}}, "a", "a", false, "", "lists none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			top := tree(t, c.groups)
			d := mustOpen(t, filepath.Join(top, c.own))
			s := &subtree{why: map[string]string{}, mark: "casemate-1.2.3"}
			s.choose(d, top)
			if s.parent != filepath.Join(top, c.parent) || s.move != c.move || strings.Join(s.wanted, " ") != c.wanted {
				t.Errorf("parent %s, move %v, wanted %v", s.parent, s.move, s.wanted)
			}
			if why := s.why[""] + s.why["cpu"]; c.why == "" && why != "" || !strings.Contains(why, c.why) {
				t.Errorf("why: %q", why)
			}
		})
	}
}

func mustOpen(t *testing.T, path string) folder {
	t.Helper()
	d, err := openFolder(-100, path, path) // AT_FDCWD
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// The writes of version 2, onto plain files.
func TestWritesOfVersion2(t *testing.T) {
	top := tree(t, map[string]map[string]string{"g": {
		"memory.max": "max", "memory.swap.max": "max", "memory.oom.group": "0", "cpu.max": "max 100000", "pids.max": "max",
		"memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 1\n", "cpu.stat": "usage_usec 1500\nuser_usec 1\n", "memory.peak": "4096\n"}})
	m := &member{folder: mustOpen(t, filepath.Join(top, "g")), v2: true}
	if err := m.setMemory(1 << 20); err != nil {
		t.Fatal(err)
	}
	if err := m.setCPU(500); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"memory.max": "1048576", "memory.swap.max": "0", "memory.oom.group": "1", "cpu.max": "50000 100000"} {
		if got, _ := m.read(file); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", file, got)
		}
	}
	g := &Group{members: map[string]*member{Memory: m}, all: []*member{m}}
	if !g.OOM() {
		t.Error("OOM() = false")
	}
	if cpu, peak := g.Usage(); cpu.Microseconds() != 1500 || peak != 4096 {
		t.Errorf("usage %v %d", cpu, peak)
	}
	if fd, ok := g.FD(); !ok || fd < 0 {
		t.Errorf("FD() = %d, %v", fd, ok)
	}
}

// What is not a group's own file is not followed to.
func TestNoLinkIsFollowed(t *testing.T) {
	top := tree(t, map[string]map[string]string{"a": nil, "b": nil})
	os.Symlink("b", filepath.Join(top, "link"))
	os.Symlink("../b/cgroup.procs", filepath.Join(top, "a", "memory.max"))
	d := mustOpen(t, top)
	for _, name := range []string{"link", "../b", filepath.Join(top, "b")} {
		if c, err := d.open(name); err == nil {
			c.close()
			t.Errorf("%s was opened", name)
		}
	}
	a := mustOpen(t, filepath.Join(top, "a"))
	if err := a.write("memory.max", "1"); err == nil {
		t.Error("a link was written through")
	}
	if names := d.children(10); !slices.Equal(slices.Sorted(slices.Values(names)), []string{"a", "b"}) {
		t.Errorf("children: %v", names)
	}
}
