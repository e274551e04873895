package oci_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

// child returns the one process that a process has started.
func child(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children")
	must(t, err)
	f := strings.Fields(string(b))
	if len(f) != 1 {
		t.Fatalf("the children of %d are %q", pid, f)
	}
	return f[0]
}

// line is the value of a line of a process's status.
func line(t *testing.T, pid, key string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/status")
	must(t, err)
	_, rest, _ := strings.Cut(string(b), "\n"+key+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}

// What stands in a sandbox while its guest waits, as the host sees it: two
// processes, of which neither is a user of the host's; the outer one holds
// nothing of the host and is filtered too, the inner one has no capability and
// no descriptor that a runtime forgot.
func TestWaiting(t *testing.T) {
	if os.Geteuid() != 0 {
		return // a user has no way to the files of processes that are not dumpable
	}
	s := subject(t)
	for name, run := range map[string]casemate.Run{"shell": {Shell: &casemate.Shell{}}, "server": {MCP: &casemate.MCP{Server: "s", Command: []string{"/bin/cat"}}}} {
		t.Run(name, func(t *testing.T) {
			tool := &casemate.Tool{Name: "x", Run: run}
			sb, err := s.Open(t, tool).Start(t.Context(), casemate.Spec{Tool: tool})
			must(t, err)
			defer sb.Close()
			first := sb.(interface{ Pid() int }).Pid()
			outer := strconv.Itoa(first)
			inner := child(t, first)
			for _, pid := range []string{outer, inner} {
				uid := strings.Fields(line(t, pid, "Uid"))
				if n, err := strconv.ParseUint(uid[0], 10, 32); err != nil || n < 1<<31 || uid[0] != uid[1] || uid[1] != uid[3] {
					t.Errorf("process %s is user %q", pid, uid)
				}
				if line(t, pid, "NoNewPrivs") != "1" || line(t, pid, "Seccomp") != "2" {
					t.Errorf("process %s: %s %s", pid, line(t, pid, "NoNewPrivs"), line(t, pid, "Seccomp"))
				}
			}
			for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
				if got := line(t, inner, set); got != "0000000000000000" {
					t.Errorf("%s of the guest is %s", set, got)
				}
			}
			for _, space := range []string{"user", "mnt", "pid", "ipc", "uts", "cgroup"} {
				var links []string
				for _, pid := range []string{"self", outer, inner} {
					l, err := os.Readlink("/proc/" + pid + "/ns/" + space)
					must(t, err)
					links = append(links, l)
				}
				if slices.Sort(links); len(slices.Compact(links)) != 3 {
					t.Errorf("namespaces of %s: %q", space, links)
				}
			}
			fds, err := filepath.Glob("/proc/" + inner + "/fd/*")
			must(t, err)
			for _, fd := range fds {
				to, err := os.Readlink(fd)
				kind, _, _ := strings.Cut(to, ":")
				if err != nil || to != "/dev/null" && !slices.Contains([]string{"socket", "pipe", "anon_inode"}, kind) {
					t.Errorf("the guest's first process has %s: %s %v", fd, to, err)
				}
			}
			mounts, err := os.ReadFile("/proc/" + outer + "/mountinfo")
			must(t, err)
			for l := range strings.Lines(string(mounts)) {
				f := strings.Fields(l)
				first := strings.Split(f[4], "/")[1]
				if !slices.Contains([]string{"", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "etc", "dev", "proc", "sys", "rootfs", "runtime", ".casemate"}, first) {
					t.Errorf("the outer process has %s", f[4])
				}
			}
		})
	}
}
