package process

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
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
