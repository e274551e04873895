package process

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/spawn"
)

// Donate makes the input of that name and returns the file itself, which lies
// in the sandbox's memory: what is written to it is copied no more. It counts
// against the disk of the sandbox, and a write over that fails with ENOSPC. One
// that was not started for inputs is an error of kind Unsupported.
func (s *sandbox) Donate(ctx context.Context, name string) (io.WriteCloser, error) {
	a, err := s.b.ask(ctx, &spawn.Message{Op: spawn.OpInput, Input: spawn.Input{ID: s.id, Name: name}}, func(a answer) {
		for _, fd := range a.fds {
			unix.Close(fd)
		}
	})
	if err != nil {
		return nil, err
	}
	if len(a.fds) != 1 {
		return nil, errDescriptors
	}
	return os.NewFile(uintptr(a.fds[0]), "input"), nil
}

var _ casemate.Donor = (*sandbox)(nil)
