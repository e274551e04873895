package linux

import (
	"runtime"
	"slices"
	"strconv"

	"github.com/casemate/casemate/internal/nearest"
	"golang.org/x/sys/unix"
)

// A call is a system call of one architecture.
type call struct {
	name string
	nr   uint32
}

// An arch is a processor that filters are made for.
type arch struct {
	audit uint32
	calls []call
	x32   bool // the numbers from 1<<30 are a second interface of the same processor
}

func archOf(goarch string) (arch, bool) {
	switch goarch {
	case "amd64":
		return arch{unix.AUDIT_ARCH_X86_64, amd64Calls[:], true}, true
	case "arm64":
		return arch{unix.AUDIT_ARCH_AARCH64, arm64Calls[:], false}, true
	}
	return arch{}, false
}

// thisArch is the processor that this program was built for. There is no other
// than the two: a program for a third does not pass.
func thisArch() (arch, error) {
	a, ok := archOf(runtime.GOARCH)
	if !ok {
		return a, &Error{Op: "seccomp filter for " + runtime.GOARCH, Err: unix.ENOTSUP}
	}
	return a, nil
}

// filter is the program that gives each call of the kernel's table what decide
// says, and ENOSYS to a number that is in no table: a call younger than this
// program, whose callers know how to do without.
//
// Calls through another interface end the process. On x86-64 those are the
// 32-bit one (int 0x80 and sysenter, with socketcall and ipc behind one number
// each) and x32; on arm64 the 32-bit one. No program that a guest gets uses
// them, and their numbers mean other calls.
func (a arch) filter(decide func(name string) *decision) Filter {
	kill, unknown := act(unix.SECCOMP_RET_KILL_PROCESS), errno(unix.ENOSYS)
	native := &decision{ask: fieldCall, mask: whole, otherwise: unknown}
	for _, c := range a.calls {
		native.answers = append(native.answers, answer{c.nr, decide(c.name)})
	}
	if a.x32 {
		// Bit 30 alone would also be set in -1, the number that a tracer
		// gives to a call that it skips, and that is no call at all.
		native = on(fieldCall, 1<<30, on(fieldCall, whole, unknown, kill, whole), native, 1<<30)
	}
	return Filter{assemble(on(fieldArch, whole, native, kill, a.audit))}
}

// known says whether a name is a system call of any architecture that filters
// are made for: a configuration names the same calls on each.
func known(name string) bool {
	is := func(c call) bool { return c.name == name }
	return slices.ContainsFunc(amd64Calls[:], is) || slices.ContainsFunc(arm64Calls[:], is)
}

// meant is the known name that is written most like this one, in words, or "".
func meant(name string) string {
	var names []string
	for _, calls := range [][]call{amd64Calls[:], arm64Calls[:]} {
		for _, c := range calls {
			names = append(names, c.name)
		}
	}
	if n := nearest.To(name, names); n != "" {
		return "; did you mean " + strconv.Quote(n) + "?"
	}
	return ""
}
