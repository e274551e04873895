package process

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// A guest has no more of what is counted for each process or user than it
// needs, whatever the caller was given: real time above all, which no quota of
// cpu holds.
func TestResourceLimits(t *testing.T) {
	out := shell(t, "cat /proc/self/limits")
	for name, most := range map[string]int64{"Max core file size": 0, "Max realtime priority": 0, "Max nice priority": 0,
		"Max open files": 4096, "Max pending signals": 4096, "Max msgqueue size": 819200, "Max locked memory": 8 << 20} {
		_, line, ok := strings.Cut(out, name)
		soft, _, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
		if n, err := strconv.ParseInt(soft, 10, 64); !ok || err != nil || n > most {
			t.Errorf("%s: %q, at most %d", name, soft, most)
		}
	}
}

// What /proc tells of the whole machine, and of the moment at which something
// happens on it, is not there.
func TestProcIsMasked(t *testing.T) {
	const names = "interrupts softirqs pressure/cpu schedstat iomem ioports locks consoles kallsyms keys kcore cmdline timer_list"
	if out := shell(t, "cd /proc; for f in "+names+"; do [ -z \"$(head -c 64 $f 2>/dev/null | tr -d '\\0')\" ] || echo $f; done"); out != "" {
		t.Errorf("a guest reads %q", out)
	}
}

// The first process of a sandbox holds nothing of the host's but /dev/null: a
// guest that makes it crash prints nothing to the operator.
func TestFirstProcessHoldsNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the descriptors of a process that is not dumpable are root's to see")
	}
	dir := t.TempDir()
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}},
		Security: casemate.Profile{Filesystem: []casemate.Mount{{Path: dir, At: "/work", Access: casemate.Write}}}}
	sb, err := subject(t).Open(t, tool).Start(t.Context(), casemate.Spec{Tool: tool})
	if err != nil {
		t.Fatal(err)
	}
	defer sb.Close()
	// It is done with its own descriptors before its guest says that it is ready.
	if f, err := guest.Read(sb.Guest(), 64<<10); err != nil || f.Type != guest.Ready {
		t.Fatal(f, err)
	}
	fds, err := filepath.Glob("/proc/" + strconv.Itoa(sb.(*sandbox).pid) + "/fd/*")
	if err != nil || len(fds) < 5 {
		t.Fatal(fds, err)
	}
	ends := map[string]int{}
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		switch kind, _, _ := strings.Cut(to, ":"); {
		case kind == "pipe":
			ends[to]++
		case err != nil || to != "/dev/null" && kind != "socket" && kind != "anon_inode":
			t.Errorf("%s is %q %v", fd, to, err)
		}
	}
	for pipe, n := range ends { // its own has both ends here
		if n != 2 {
			t.Errorf("one end of %s", pipe)
		}
	}
}

// shell returns the output of a command in a sandbox of its own.
func shell(t *testing.T, command string) string {
	t.Helper()
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sb, err := subject(t).Open(t, tool).Start(ctx, casemate.Spec{Tool: tool})
	if err != nil {
		t.Fatal(err)
	}
	defer sb.Close()
	run(sb, command)
	return finished(t, sb)
}
