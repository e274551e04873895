package contain

import (
	"cmp"
	"slices"
	"strings"

	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/plan"
)

// A guest of gvisor stands on another kernel, the Sentry, which is a program in
// the sandbox and calls the host's kernel for it. It differs from a container
// of runc in what the Sentry does not have: there is no Landlock, no limit for
// some things that only the host counts, and a mount of the host is not one of
// the Sentry's. So the specification names each place that can be written or has
// rules of its own, where the root alone does for runc.

// Sentry says whether the guest's kernel is gVisor's.
func Sentry(g plan.Guest) bool { return g.Backend == "gvisor" }

// MountsMark stands in the specification of a guest of gvisor, as an element of
// its mounts, for what is mounted into the Sentry: a grant leaves mounts out, so
// that is known only when the sandbox is made.
const MountsMark = `"@mounts"`

// bundle is the specification of g with its mounts.
func bundle(g plan.Guest) string {
	if !Sentry(g) {
		return g.Bundle
	}
	return strings.Replace(g.Bundle, MountsMark, sentryMounts(g), 1)
}

// sentryMounts are the elements, JSON, separated by commas; a folder comes before
// what lies in it.
func sentryMounts(g plan.Guest) string {
	all := []plan.Mount{{At: "/tmp", Write: true}, {At: "/out", Write: true}, {At: "/dev/shm", Write: true}}
	if g.Inputs {
		all = append(all, plan.Mount{At: InputPath})
	}
	all = append(all, g.Mounts...)
	slices.SortStableFunc(all, func(a, b plan.Mount) int { return cmp.Compare(a.At, b.At) })
	var out []string
	for _, m := range all {
		options := `"rbind", "nosuid", "nodev"`
		if !m.Write {
			options += `, "ro"`
		}
		if !m.Execute && !m.Prefix {
			options += `, "noexec"`
		}
		out = append(out, `{"destination": `+quoteJSON(m.At)+`, "type": "bind", "source": `+quoteJSON(RootPath+m.At)+`, "options": [`+options+`]}`)
	}
	return strings.Join(out, ",\n\t\t")
}

// quoteJSON is s as a JSON string. What is no UTF-8 stays as it is, and names
// nothing for whoever reads it.
func quoteJSON(s string) string {
	const hex = "0123456789abcdef"
	b := []byte{'"'}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

// outerFilter is the filter of the outer process and of the runtime.
func outerFilter(g plan.Guest) (linux.Filter, error) {
	if Sentry(g) {
		return linux.SentryFilter()
	}
	return linux.RuntimeFilter()
}

// spaces is how many user namespaces may be made in a sandbox: that of a
// container, in which then none can be made; or the Sentry's and that of the
// process which opens files for it.
func spaces(g plan.Guest) int64 {
	if Sentry(g) {
		return 2
	}
	return 1
}

// Tasks is how many processes and threads of the host a sandbox has at most
// whose guest has so many processes, beside the slack of every sandbox. The
// Sentry has threads of its own and keeps up to four tasks for a process of its
// guest; the exact bound is then the guest's rlimit, in the Sentry.
func Tasks(g plan.Guest) int64 {
	if Sentry(g) {
		return 64 + 4*g.Processes
	}
	if Contained(g) { // the runtime, while it makes the container, and a second first process
		return g.Processes + 32
	}
	return g.Processes
}
