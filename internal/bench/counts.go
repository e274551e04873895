package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// waits are the calls of who waits, or of a runtime beside its program: how many
// there are depends on the time that a run takes, which strace makes longer.
var waits = [...]string{"nanosleep", "clock_nanosleep", "futex", "sched_yield", "epoll_wait", "epoll_pwait", "restart_syscall", "rt_sigreturn", "tgkill", "getpid"}

// Less is what more has above fewer, for each of n runs.
func Less(more, fewer map[string]float64, n int) map[string]float64 {
	out := map[string]float64{}
	for name, x := range more {
		if x > fewer[name] {
			out[name] = (x - fewer[name]) / float64(n)
		}
	}
	return out
}

// ParseCounts reads what strace -c wrote: how often each system call was made,
// without those that only wait.
func ParseCounts(text string) (map[string]float64, error) {
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 5 || f[len(f)-1] == "total" {
			continue
		}
		if _, err := strconv.ParseFloat(f[0], 64); err != nil {
			continue // a heading, or a line of dashes
		}
		n, err := strconv.ParseFloat(f[3], 64)
		if err != nil {
			return nil, fmt.Errorf("a line of strace is not understood: %q", line)
		}
		if name := f[len(f)-1]; !slices.Contains(waits[:], name) {
			out[name] += n
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("strace counted nothing: %.200q", text)
	}
	return out, nil
}

// shown is how many system calls of a subject the report names.
const shown = 12

// costly are those that make or end a sandbox: the report names them all.
var costly = []string{"clone", "clone3", "fork", "vfork", "unshare", "setns", "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount", "mount_setattr",
	"pivot_root", "execve", "execveat", "seccomp", "landlock_restrict_self", "wait4", "waitid", "exit_group"}

// NewCalls orders counts: most frequent first.
func NewCalls(subject, payload string, counts map[string]float64) Calls {
	c := Calls{Subject: subject, Payload: payload}
	for name, n := range counts {
		c.Total += n
		if n > 0 {
			c.Most = append(c.Most, CallCount{name, n})
		}
	}
	slices.SortFunc(c.Most, func(a, b CallCount) int {
		return cmp.Or(cmp.Compare(b.Each, a.Each), cmp.Compare(a.Name, b.Name))
	})
	var kept []CallCount
	for i, x := range c.Most {
		if i < shown || slices.Contains(costly, x.Name) {
			kept = append(kept, x)
		}
	}
	c.Most = kept
	return c
}
