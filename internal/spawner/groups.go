package spawner

import (
	"slices"
	"strconv"

	"github.com/casemate/casemate/internal/cgroup"
	"github.com/casemate/casemate/internal/plan"
)

// maxGroups is how many groups wait for another sandbox.
const maxGroups = 16

// A readyGroup has its limits, and nothing in it.
type readyGroup struct {
	limits cgroup.Limits
	group  *cgroup.Group
}

// groupFor returns a group with the limits of g: one that served a forked guest
// which is gone, or a fresh one. It adds to degraded what the host does not hold
// and may leave out.
func (s *server) groupFor(g plan.Guest, host plan.Host, degraded *[]string) (*cgroup.Group, error) {
	want := limitsOf(g, host)
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
	if b.offspring != nil && !b.narrowed && len(b.enforced.Degraded) == 0 {
		if group, ok := b.group.Renew(); ok {
			s.mu.Lock()
			keep := !s.ended && len(s.ready) < maxGroups
			if keep {
				s.ready = append(s.ready, readyGroup{limitsOf(b.guest, s.plan.Host), group})
			}
			s.mu.Unlock()
			if !keep {
				group.Remove()
			}
			return
		}
	}
	b.group.Remove()
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
