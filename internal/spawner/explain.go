package spawner

import (
	"errors"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/spawn"
)

// explain turns a step that failed into what is missing and how to get it.
func explain(r *contain.Report) *spawn.Failed {
	f := &spawn.Failed{Kind: "unsupported", Control: r.Step, What: "cannot enforce " + r.Step + ": " + r.What}
	denied := r.Errno == int64(unix.EPERM) || r.Errno == int64(unix.EACCES)
	switch contain.Kind(r.Step) {
	case contain.Proc:
		if denied {
			f.Fix = "the container that Casemate runs in masks /proc: start it with --security-opt systempaths=unconfined (Kubernetes: procMount: Unmasked with hostUsers: false)"
		}
	case contain.Landlock:
		f.Fix = "a kernel with Landlock (5.13 or newer, CONFIG_SECURITY_LANDLOCK, lsm= holding landlock)"
	case contain.Seccomp:
		f.Fix = "a kernel with CONFIG_SECCOMP_FILTER; a name in syscalls.deny may be one that every program needs"
	case contain.Grant:
		f.Fix = "overlayfs in user namespaces with user xattrs on tmpfs (Linux 6.6 or newer)"
	case contain.Init, contain.Image, contain.Groups, contain.Runtime:
		f.What = "cannot make a container: " + r.What
		f.Fix = "casemate doctor shows which runtimes work here; security.isolation: process needs none"
	case contain.Grants:
		f.Kind, f.Fix = "invalid", "make it readable, or change the path in the configuration and trust it again"
	default:
		if denied {
			f.Fix = userNamespaceFix()
		}
	}
	return f
}

// explainClone says why the sandbox's first process did not start.
func explainClone(err error) error {
	f := &spawn.Failed{Kind: "unsupported", Control: "user namespace", What: "cannot make a sandbox: " + err.Error(), Fix: userNamespaceFix()}
	if short(err) {
		f.Kind, f.Control, f.Fix = "busy", "", shortFix
	}
	if errors.Is(err, syscall.ENOSPC) {
		f.Fix = "raise user.max_user_namespaces (sysctl) and the limits of the other namespaces beside it"
	}
	return f
}

// short says whether an error may pass.
func short(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && (errno == syscall.EAGAIN || errno == syscall.ENOMEM || errno == syscall.EMFILE || errno == syscall.ENFILE)
}

const shortFix = "try again; the host is out of processes, memory or descriptors"

// userNamespaceFix names what on this host keeps users from namespaces.
func userNamespaceFix() string {
	for _, k := range []struct{ path, bad, fix string }{
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
			"AppArmor restricts user namespaces here: install the profile of docs/operations.md for casemate-init (profile casemate-init PATH flags=(unconfined) { userns, })"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"},
	} {
		if b, err := os.ReadFile(k.path); err == nil && strings.TrimSpace(string(b)) == k.bad {
			return k.fix
		}
	}
	return "run Casemate where user namespaces are allowed: in Docker, --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined, or a profile that allows clone, unshare, mount and pivot_root"
}

// A watchError says that a sandbox's memory cannot be watched.
type watchError struct{ error }

func (e watchError) Error() string { return "cannot watch the sandbox's memory: " + e.error.Error() }
func (e watchError) Unwrap() error { return e.error }

// mountBelow returns a mount point beneath path, or "".
func mountBelow(path string) (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	prefix := strings.TrimSuffix(path, "/") + "/"
	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(unescape(f[4]), prefix) {
			return unescape(f[4]), nil
		}
	}
	return "", nil
}

// unescape undoes the octal escapes of proc_pid_mountinfo(5).
func unescape(s string) string {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			out = append(out, (s[i+1]-'0')<<6|(s[i+2]-'0')<<3|(s[i+3]-'0'))
			i += 3
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}
