package spawner

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
)

// A blank is a sandbox that is made before its guest is known: its namespaces,
// of which the kernel makes those of a network one at a time, its groups
// without their limits, its uid, its first process, and what the steps of
// contain.Base do. Nobody but the spawner has spoken to it, and it serves one
// guest. It is only sooner: it gets the steps that a fresh one would still have
// before it, and the same limits; and where it does not get ready, for
// whatever reason, a fresh one takes its place.

// stockSize is how many blanks wait; each holds some 1 MiB. A spawner that made
// one sandbox makes none.
const stockSize = 2

// A stock is what there is of blanks. Its fields belong to server.mu.
type stock struct {
	blanks []*box
	making bool
	base   []contain.Step
	host   []stamp // of the host's files in base when the oldest was made
}

// A stamp names one file of the host.
type stamp struct{ dev, ino uint64 }

// hostStamps names the files of the host that every sandbox sees, and that a
// package manager replaces: a blank would go on showing the old ones. Of folders
// it shows what is in them now.
func (s *server) hostStamps() []stamp {
	all := make([]stamp, 0, len(s.facts.System))
	for _, e := range s.facts.System {
		if e.Folder || e.Target != "" {
			continue
		}
		var st unix.Stat_t
		unix.Lstat(e.Path, &st)
		all = append(all, stamp{st.Dev, st.Ino})
	}
	return all
}

// takeBlank returns a blank that has done the first of steps, and how many; nil
// where there is none for them. A blank has a network of its own, and cannot
// become a template.
func (s *server) takeBlank(g plan.Guest, steps []contain.Step, host plan.Host) (*box, int) {
	if g.HostNetwork || g.Runner == contain.TemplateRunner {
		return nil, 0
	}
	now := s.hostStamps()
	s.mu.Lock()
	base := s.stock.base
	if len(base) == 0 || len(steps) < len(base) || !slices.Equal(steps[:len(base)], base) || len(host.Without) > 0 {
		s.mu.Unlock()
		return nil, 0
	}
	var old []*box
	if !slices.Equal(now, s.stock.host) { // such as a linker's cache that was written anew
		old, s.stock.blanks = s.stock.blanks, nil
	}
	var b *box
	for b == nil && len(s.stock.blanks) > 0 {
		b, s.stock.blanks = s.stock.blanks[0], s.stock.blanks[1:]
		if hungUp(b.setup) {
			old, b = append(old, b), nil
		}
	}
	s.mu.Unlock()
	for _, b := range old {
		s.scrap(b)
	}
	return b, len(base)
}

// hungUp says whether the other end is gone, or has said that it failed.
func hungUp(f *os.File) bool {
	p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return n != 0 || err != nil
}

// dropBlank ends one blank, and says whether there was one.
func (s *server) dropBlank() bool {
	s.mu.Lock()
	if len(s.stock.blanks) == 0 {
		s.mu.Unlock()
		return false
	}
	b := s.stock.blanks[0]
	s.stock.blanks = s.stock.blanks[1:]
	s.mu.Unlock()
	s.scrap(b)
	return true
}

// restock is for the end of a start. It makes blanks in the background, one at
// a time, while nothing is being started.
func (s *server) restock() {
	if s.starts.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stock.making || s.next < 2 {
		return
	}
	s.stock.making = true
	go s.fill()
}

func (s *server) fill() {
	for {
		s.mu.Lock()
		full := len(s.stock.blanks) >= stockSize || len(s.boxes) > MaxSandboxes/2
		if full || s.ended || s.starts.Load() > 0 || len(s.plan.Host.Without) > 0 {
			s.stock.making = false
			s.mu.Unlock()
			return
		}
		if len(s.stock.blanks) == 0 {
			s.stock.base, s.stock.host = contain.Base(s.facts, nil), s.hostStamps()
		}
		base := contain.Setup{Steps: s.stock.base, More: true}
		s.mu.Unlock()
		b, err := s.bare(false, false)
		if err == nil && unix.Sendto(int(b.setup.Fd()), base.Encode(), unix.MSG_NOSIGNAL, nil) != nil {
			s.scrap(b)
			b = nil
		}
		s.mu.Lock()
		if err != nil || b == nil { // no room, or no memory: the next start says so
			s.stock.making = false
			s.mu.Unlock()
			return
		}
		over := s.ended
		if !over {
			s.stock.blanks = append(s.stock.blanks, b)
		}
		s.mu.Unlock()
		if over {
			s.scrap(b)
		}
	}
}

// filterOf returns the bytes of a guest's filter, which is the same every time.
func (s *server) filterOf(g plan.Guest) (string, error) {
	key := g.Digest
	if g.Runner == contain.TemplateRunner {
		key = contain.TemplateRunner
	}
	s.mu.Lock()
	have, ok := s.filters[key]
	s.mu.Unlock()
	if ok {
		return have, nil
	}
	f, err := contain.FilterOf(g)
	if err != nil {
		return "", err
	}
	b := string(f.Bytes())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filters[key] = b
	return b, nil
}
