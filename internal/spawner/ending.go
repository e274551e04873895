package spawner

import "github.com/casemate/casemate/internal/spawn"

// maxEnding is how many sandboxes may be on their way out while another is
// started.
const maxEnding = 32

// keepUp blocks while many sandboxes are ending, so that what is made cannot
// get ahead of what is taken down: the kernel does both by the same locks.
func (s *server) keepUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.ending > maxEnding && !s.ended {
		s.fewer.Wait()
	}
}

// killed answers the router's kill when nothing of the sandbox is left, and
// forgets it.
func (s *server) killed(c *spawn.Conn, m *spawn.Message) {
	b := s.boxOf(m.ID)
	if b != nil {
		s.forget(b)
	}
	s.reply(c, m, nil)
}

// forget kills a sandbox, waits until nothing of it is left, and lets its
// slot go. It is for one caller.
func (s *server) forget(b *box) {
	s.mu.Lock()
	mine := s.boxes[b.id] == b
	delete(s.boxes, b.id)
	if mine {
		s.ending++
	}
	s.mu.Unlock()
	b.kill()
	<-b.gone
	if !mine {
		return
	}
	b.mu.Lock() // a commit that is under way reads the upper layers
	b.closeGrants()
	if b.setup != nil {
		b.setup.Close()
	}
	b.mu.Unlock()
	s.freeSlot(b.slot)
	s.mu.Lock()
	s.ending--
	s.mu.Unlock()
	s.fewer.Broadcast()
}
