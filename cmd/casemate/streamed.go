package main

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/casemate/casemate"
)

// streamed runs the one command of casemate exec: the router's standard input
// is the command's, and what it prints goes to the router's standard output
// and to the descriptor that it was started with for errors. Neither is the
// guest's own: bytes are copied.
func (s *server) streamed(ctx context.Context, session casemate.SessionID, in execBody) (*casemate.Outcome, error) {
	if s.stderr == nil {
		return nil, errors.New("this router has no streams")
	}
	c := casemate.Call{Session: session, Tool: in.Tool, Arguments: []byte("{}"), Stdin: os.Stdin, Terminal: in.Terminal, Events: s.events, Settle: true}
	var broken atomic.Bool // the guest's output goes nowhere
	c.Output = func(stream int, b []byte) error {
		to := io.Writer(os.Stdout)
		if stream == 2 {
			to = s.stderr
		}
		if _, err := to.Write(b); err != nil {
			broken.Store(true)
			return err
		}
		return nil
	}
	out := s.router.Call(ctx, c)
	if broken.Load() && out.Error != nil {
		// As for any program whose reader has left.
		code := 128 + 13
		out.Error, out.Result = nil, &casemate.Result{ExitCode: &code}
	}
	return out, nil
}
