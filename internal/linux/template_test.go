package linux

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What a Sentry is allowed beyond a runtime of containers, and that beyond a
// guest, is what is listed, to the call.
func TestWidenedFilters(t *testing.T) {
	a, err := thisArch()
	if err != nil {
		t.Skip(err)
	}
	allows := func(f Filter, nr uint32) bool {
		got, _ := execute(t, f.prog, data{nr: nr, arch: a.audit, args: [6]uint64{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1}})
		return got == unix.SECCOMP_RET_ALLOW
	}
	guest, err1 := GuestFilter(nil)
	runtime, err2 := RuntimeFilter()
	sentry, err3 := SentryFilter()
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	runtimeMore, sentryMore := strings.Fields(runtimeAllowed), strings.Fields(sentryAllowed)
	never := []string{"bpf", "kexec_load", "init_module", "io_uring_setup", "perf_event_open", "userfaultfd", "process_vm_writev", "add_key"}
	for _, c := range a.calls {
		g, r, s := allows(guest, c.nr), allows(runtime, c.nr), allows(sentry, c.nr)
		if want := g || slices.Contains(runtimeMore, c.name); r != want {
			t.Errorf("%s: a runtime may call it: %v", c.name, r)
		}
		if want := r || slices.Contains(sentryMore, c.name); s != want {
			t.Errorf("%s: a Sentry may call it: %v", c.name, s)
		}
		if slices.Contains(never, c.name) && s {
			t.Errorf("a Sentry may call %s", c.name)
		}
	}
}
