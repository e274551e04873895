package process

import (
	"context"
	"errors"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/spawn"
)

// Narrow gives the guest less than it was started with; see casemate.Narrower.
// The spawner does it from outside: memory, cpu and processes by cgroup and
// rlimit, mounts by taking them out of the sandbox's mount namespace. What it
// cannot do late is an error of kind Unsupported, and was not begun: a lower
// disk; mounts, where Casemate is not root's; mounts and processes of an MCP
// server, which runs already; memory below what the guest holds.
func (s *sandbox) Narrow(ctx context.Context, g casemate.Grant) error {
	if s.guest.written() {
		return &casemate.Error{Op: "narrow", Kind: casemate.Conflict, Err: errors.New("the guest has had a call")}
	}
	a, err := s.b.ask(ctx, &spawn.Message{Op: spawn.OpNarrow, Narrow: spawn.Narrow{ID: s.id, Start: startOf(string(g.Tool), g)}}, nil)
	if err != nil {
		return err
	}
	if a.m.Op != spawn.OpNarrowed {
		return errSpawner
	}
	e := enforced(a.m.Started.Enforced)
	s.narrower.Store(&e)
	return nil
}

// startOf is a grant as the spawner is told of it.
func startOf(digest string, g casemate.Grant) spawn.Start {
	return spawn.Start{Digest: digest, Memory: g.Memory, Disk: g.Disk, Processes: int64(g.Processes), MilliCPU: milli(g.CPU), Without: g.Without, Inputs: g.Inputs}
}

// milli is a number of cores in thousandths, at least one of them.
func milli(cores float64) int64 {
	if cores <= 0 {
		return 0
	}
	return max(1, int64(min(cores, 1<<20)*1000))
}
