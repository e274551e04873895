package oci

import (
	"encoding/json"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
)

// Sentry is the name of the backend whose containers gVisor makes: Contain does
// it for a Runtime whose Version begins with "runsc".
const Sentry = "gvisor"

// sentrySpec is Spec for gVisor: the root is one read-only mount of the Sentry,
// and everything that a guest writes is another (contain.MountsMark); devices,
// terminals and /proc are the Sentry's own.
func sentrySpec(g plan.Guest) ([]byte, error) {
	s := base(g)
	s.Process.Rlimits = append(s.Process.Rlimits, // the Sentry lets no process set these
		rlimit{"RLIMIT_RTPRIO", 0, 0}, rlimit{"RLIMIT_NICE", 0, 0}, rlimit{"RLIMIT_SIGPENDING", 4096, 4096}, rlimit{"RLIMIT_MSGQUEUE", 800 << 10, 800 << 10})
	s.Mounts = []any{
		mount{"/proc", "proc", "proc", []string{"nosuid", "nodev", "noexec"}},
		mount{"/dev", "tmpfs", "tmpfs", []string{"nosuid", "noexec"}},
		// In place of the Sentry's own, which no profile asks for.
		mount{"/sys", "tmpfs", "tmpfs", []string{"nosuid", "nodev", "noexec", "ro", "mode=000"}},
		json.RawMessage(contain.MountsMark),
	}
	s.Linux.Namespaces = []namespace{{Type: "user"}, {Type: "mount"}, {Type: "pid"}, {Type: "ipc"}, {Type: "uts"}}
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = []string{}, []string{}
	return json.MarshalIndent(s, "", "\t")
}
