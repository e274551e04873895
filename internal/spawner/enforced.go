package spawner

import (
	"slices"
	"strings"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// ownSpaces are the namespaces that every sandbox has for itself; that of time is new
// in Linux 5.6 and may be absent.
var ownSpaces = [...]string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"}

// enforced compares the namespaces with the spawner's own and says what is
// on; a namespace that is shared, or not seen, is an error.
func (s *server) enforced(b *box, r *contain.Report, host plan.Host, degraded []string) (*spawn.Enforced, error) {
	e := &spawn.Enforced{Seccomp: r.Seccomp, Landlock: r.Landlock, NoNewPrivs: !slices.Contains(host.Without, string(contain.Privs)), Runtime: b.guest.Version, Uid: "caller", Degraded: degraded}
	for _, n := range ownSpaces {
		if !slices.ContainsFunc(r.Spaces, func(s string) bool { return strings.HasPrefix(s, n+":") }) {
			return nil, &spawn.Failed{Kind: "unsupported", Control: "namespaces", What: "the sandbox does not show its " + n + " namespace", Fix: "mount /proc where Casemate runs"}
		}
	}
	names := map[string]string{"mnt": "mount", "net": "network"}
	for _, space := range r.Spaces {
		n, _, _ := strings.Cut(space, ":")
		if slices.Contains(s.spaces, space) {
			if n == "net" && b.guest.HostNetwork || slices.Contains(host.Without, "namespace-"+n) {
				continue // and the record does not name it
			}
			return nil, &spawn.Failed{Kind: "unsupported", Control: "namespaces", What: "the sandbox shares a namespace with the host: " + space}
		}
		if long, ok := names[n]; ok {
			n = long
		}
		e.Namespaces = append(e.Namespaces, n)
	}
	if s.own {
		e.Uid = "own"
	}
	held := b.group.Held()
	by := func(control, otherwise string) string {
		if how := held[control]; how != "" {
			return how
		}
		return otherwise
	}
	for _, l := range []spawn.Limit{
		{Name: "memory", Value: b.guest.Memory, By: by("memory", "")},
		{Name: "processes", Value: b.guest.Processes, By: by("processes", "rlimit")},
		{Name: "cpu", Value: b.guest.MilliCPU, By: by("cpu", "")},
		{Name: "disk", Value: b.guest.Disk, By: "tmpfs"},
	} {
		if l.By != "" {
			e.Limits = append(e.Limits, l)
		}
	}
	return e, nil
}
