package runners

import (
	"github.com/casemate/casemate/internal/guest"
)

// mcp starts the guest's command, says that the guest is ready, and carries
// everything from the one Open on until the command ends. What the command
// prints before that stays in its pipes, and makes it wait when they are
// full. A command that cannot be started is an error. Where the router has the
// other ends of those, only its end and signals are carried here.
func (s *server) mcp() error {
	argv, err := argv(s.guest, nil)
	if err != nil {
		return err
	}
	t, err := s.start(command{argv: argv, feed: true, std: s.std})
	if err != nil {
		return err
	}
	defer t.close()
	if err := s.ready(); err != nil {
		return hungUp(err)
	}
	for {
		f, _, err := s.next()
		if f.Type == 0 {
			return err
		}
		s.call, s.spent = f.Call, 0
		if f.Type != guest.Open || s.size != nil {
			if err := s.fail(2, "an MCP server takes one open call, without a terminal"); err != nil {
				return hungUp(err)
			}
			continue
		}
		ws, err := (&stream{task: t}).wait()
		if err != nil {
			return hungUp(err)
		}
		return hungUp(s.done(status(ws)))
	}
}
