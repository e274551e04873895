package spawner

import (
	"errors"
	"slices"
	"strconv"

	"github.com/casemate/casemate/internal/cgroup"
	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// slack is the most threads that a sandbox's first process has, beside the
// processes that its profile allows; the exact bound is the rlimit.
const slack = 32

func limitsOf(g plan.Guest, host plan.Host) cgroup.Limits {
	l := cgroup.Limits{Memory: g.Memory, MilliCPU: g.MilliCPU, Processes: contain.Tasks(g) + slack}
	if slices.Contains(host.Without, "memory") {
		l.Memory = 0
	}
	return l
}

// limitGroup sets the limits of g, and adds to degraded what the host does not
// hold and may leave out.
func limitGroup(group *cgroup.Group, g plan.Guest, host plan.Host, degraded *[]string) error {
	err := group.Limit(limitsOf(g, host), func(control string) bool {
		// The rlimit holds the number of processes wherever no cgroup can, so its
		// absence is not a weaker wall.
		if control == "processes" {
			return true
		}
		ok := slices.Contains(host.AllowDegraded, control) || slices.Contains(host.Without, control)
		if ok {
			*degraded = append(*degraded, control)
		}
		return ok
	})
	if missing, ok := errors.AsType[*cgroup.Missing](err); ok && missing.Short {
		return shortOf(missing)
	} else if ok && missing.Over {
		return tooLittleMemory()
	} else if ok {
		return &spawn.Failed{Kind: "unsupported", Control: missing.Control,
			What: missing.Control + " cannot be limited here: " + missing.Why, Fix: missing.Fix}
	}
	return err
}

func shortOf(m *cgroup.Missing) *spawn.Failed {
	return &spawn.Failed{Kind: "busy", What: m.Control + " cannot be limited now: " + m.Why, Fix: shortFix}
}

// maxGroups is how many groups wait for another sandbox.
const maxGroups = 16

// A readyGroup has its limits, and nothing in it.
type readyGroup struct {
	limits cgroup.Limits
	group  *cgroup.Group
}

// groupFor returns a group with the limits that g wants: one that served a forked guest
// which is gone, or a fresh one. It adds to degraded what the host does not hold
// and may leave out.
func (s *server) groupFor(want cgroup.Limits, g plan.Guest, host plan.Host, degraded *[]string) (*cgroup.Group, error) {
	s.mu.Lock()
	i := slices.IndexFunc(s.ready, func(r readyGroup) bool { return r.limits == want })
	if i >= 0 {
		group := s.ready[i].group
		s.ready = slices.Delete(s.ready, i, i+1)
		s.mu.Unlock()
		return group, nil
	}
	s.mu.Unlock()
	group := s.cg.Prepare(strconv.FormatUint(s.groups.Add(1), 10))
	if err := limitGroup(group, g, host, degraded); err != nil {
		group.Remove()
		return nil, err
	}
	return group, nil
}

// letGroup keeps the group of a forked guest that is gone for another, or
// removes it; b.groupMu is held.
func (s *server) letGroup(b *box) {
	if b.offspring == nil || b.narrowed || len(b.enforced.Degraded) > 0 || b.limit != "" {
		b.group.Remove()
		return
	}
	group, ok := b.group.Renew()
	if !ok {
		b.group.Remove()
		return
	}
	s.mu.Lock()
	if !s.ended {
		s.ready = append(s.ready, readyGroup{b.limits, group})
		group = nil
		if len(s.ready) > maxGroups { // of limits that nobody asks for any more, perhaps
			group = s.ready[0].group
			s.ready = slices.Delete(s.ready, 0, 1)
		}
	}
	s.mu.Unlock()
	if group != nil {
		group.Remove()
	}
}

// dropGroups removes the groups that wait.
func (s *server) dropGroups() {
	s.mu.Lock()
	ready := s.ready
	s.ready = nil
	s.mu.Unlock()
	for _, r := range ready {
		r.group.Remove()
	}
}
