package spawner

import (
	"github.com/casemate/casemate/internal/spawn"
)

// How a parked sandbox is made to stand still.
type hold int

const (
	running  hold = iota
	byCgroup      // the freezer of version 2: its first process stands still too
	byStop        // its first process, which is ours, stopped all others (contain.Stop)
)

var errEnded = refuse("gone", "the sandbox has ended")

// frozen carries out the router's word that a sandbox shall stand still, or go
// on. A hijacked router stops only what it may kill.
func (s *server) frozen(c *spawn.Conn, m *spawn.Message) {
	b := s.boxOf(m.Freeze.ID)
	if b == nil {
		s.reply(c, m, refuse("invalid", "no such sandbox"))
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.Freeze.On {
		s.reply(c, m, b.freeze())
	} else {
		s.reply(c, m, b.thaw())
	}
}

// freeze returns when no process of the guest runs; b.mu is held. A sandbox that
// could not be stopped is killed.
//
// The freezer of version 1 is not used: what is frozen by it does not die of a
// SIGKILL, so that it would outlive a spawner that is killed.
func (b *box) freeze() error {
	b.groupMu.Lock()
	defer b.groupMu.Unlock()
	switch {
	case b.held != running:
		return nil
	case b.ended:
		return errEnded
	case b.group.Killable() && (!b.guest.Fork || b.group.WaysFreeze()):
		if err := b.group.Freeze(); err != nil {
			b.group.Thaw()
			return &spawn.Failed{Kind: "internal", What: "cannot freeze the sandbox: " + err.Error(), Fix: "it is too busy in the kernel; close it"}
		}
		b.held = byCgroup
	case b.guest.Fork:
		return &spawn.Failed{Kind: "unsupported", Control: "freezer", What: "there is no cgroup to freeze the sandbox by, and none of our processes in it to stop it", Fix: "run casemate in a delegated scope, or give the tool fork: false; see casemate doctor"}
	default:
		if !b.stop() {
			b.kill()
			return refuse("internal", "the sandbox did not stop, and was killed")
		}
		b.held = byStop
	}
	return nil
}

// thaw lets the guest go on, and does not wait until it does; b.mu is held.
func (b *box) thaw() error {
	held := b.held
	b.held = running
	switch held {
	case byCgroup:
		b.groupMu.Lock()
		defer b.groupMu.Unlock()
		if b.ended {
			return errEnded
		}
		return b.group.Thaw()
	case byStop:
		b.resume()
	}
	return nil
}
