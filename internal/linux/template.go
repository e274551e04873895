package linux

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// templateAllowed are the calls by which a process that forks guests, and each
// guest before it reads its first byte of input, makes their walls.
const templateAllowed = `
	unshare setns openat2 mount umount2 mount_setattr open_tree move_mount fsopen fsconfig fsmount
	setresuid setresgid keyctl prctl capset seccomp socket`

// TemplateFilter is the filter of a process that forks guests: GuestFilter, and
// what makes the walls of a guest. Each guest gets a filter of its own besides,
// and of two filters the one that refuses counts.
func TemplateFilter() (Filter, error) { return widened(templateAllowed) }

// runtimeAllowed are the calls by which a container runtime, and the first
// process of its container before it is the guest, make their walls.
const runtimeAllowed = `
	unshare setns openat2 mount umount2 pivot_root mount_setattr open_tree move_mount fsopen fsconfig fsmount
	sethostname setdomainname setresuid setresgid keyctl prctl capset seccomp socket`

// RuntimeFilter is the filter of what starts a container in a sandbox:
// GuestFilter, and what makes a container. The container's guest gets a filter of
// its own besides, and of two filters the one that refuses counts.
func RuntimeFilter() (Filter, error) { return widened(runtimeAllowed) }

// sentryAllowed are the calls by which gVisor makes the processes that its guest
// runs in, which trap every call into the Sentry, and the empty folders that the
// Sentry and its opener of files stand in.
const sentryAllowed = "ptrace chroot clone"

// SentryFilter is RuntimeFilter for gVisor. What its guest may call is decided in
// the Sentry; this is what a Sentry that was taken over may call beyond the filter
// that it puts on itself: no more than a guest of another backend, but for these
// and those of a runtime.
func SentryFilter() (Filter, error) { return widened(runtimeAllowed + " " + sentryAllowed) }

// widened is GuestFilter, and the calls named.
func widened(names string) (Filter, error) {
	a, err := thisArch()
	if err != nil {
		return Filter{}, err
	}
	more := strings.Fields(names)
	allow := act(unix.SECCOMP_RET_ALLOW)
	decide := decisions(nil, ownNetwork)
	return a.filter(func(name string) *decision {
		if slices.Contains(more, name) {
			return allow
		}
		return decide(name)
	}), nil
}

// Bytes is the program as the kernel takes it, 8 bytes an instruction.
func (f Filter) Bytes() []byte { return f.bytes() }

// LandlockAttr is what a ruleset of this kernel handles, as Landlock says, and
// the version of the kernel's interface, 0 where it has none.
func LandlockAttr(net LandlockNet) (unix.LandlockRulesetAttr, int) {
	abi := LandlockABI()
	return handled(abi, net), abi
}

// OnFile is what of a means something of a file that is no folder.
func (a LandlockAccess) OnFile() LandlockAccess { return a & landlockFile }

// Securebits are those that DropCapabilities locks.
const Securebits = lockedSecurebits
