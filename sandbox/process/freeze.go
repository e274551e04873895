package process

import (
	"context"

	"github.com/casemate/casemate/internal/spawn"
)

// Freeze makes every process of the guest stand still, and blocks until they
// do. Where there is a cgroup of version 2 that is its freezer; elsewhere its
// first process stops all others by SIGSTOP, as for a commit. A forked guest
// without such a cgroup is an error of kind Unsupported. A frozen sandbox can
// be closed as any other; after another error it is to be.
func (s *sandbox) Freeze(ctx context.Context) error { return s.freeze(ctx, true) }

// Thaw lets them go on. It is one packet there and one back, and waits for
// nothing that the guest does. A sandbox that is not frozen is left as it is.
func (s *sandbox) Thaw(ctx context.Context) error { return s.freeze(ctx, false) }

func (s *sandbox) freeze(ctx context.Context, on bool) error {
	_, err := s.b.ask(ctx, &spawn.Message{Op: spawn.OpFreeze, Freeze: spawn.Freeze{ID: s.id, On: on}}, nil)
	return err
}
