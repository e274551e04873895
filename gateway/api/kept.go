package api

import (
	"context"
	"sync"
)

// keptOutput is how much of what a background call printed is kept, in bytes;
// keptParts, in how many parts: each costs some bytes of its own.
const (
	keptOutput = 1 << 20
	keptParts  = 4096
)

// A printed is what a background call has printed, or the last of it. An
// offset counts the bytes of both streams in the order in which they came.
type printed struct {
	mu       sync.Mutex
	parts    []part
	from, to int64 // offsets of what is kept
	over     bool
	changed  chan struct{} // closed at the next change, where somebody waits
}

type part struct {
	stream int
	data   []byte
}

// add keeps a copy of b.
func (p *printed) add(stream int, b []byte) {
	const whole = 4 << 10 // below it parts are joined, so that many small ones cost no more than few
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to += int64(len(b))
	if n := len(p.parts); n > 0 && p.parts[n-1].stream == stream && len(p.parts[n-1].data)+len(b) <= whole {
		p.parts[n-1].data = append(p.parts[n-1].data, b...)
	} else if len(b) > 0 {
		p.parts = append(p.parts, part{stream, append([]byte(nil), b...)})
	}
	for p.to-p.from > keptOutput || len(p.parts) > keptParts {
		p.from += int64(len(p.parts[0].data))
		p.parts[0].data = nil
		p.parts = p.parts[1:]
	}
	p.wake()
}

// end says that nothing more comes.
func (p *printed) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.wake()
}

func (p *printed) wake() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (p *printed) span() (from, to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from, p.to
}

// next returns the part at an offset, and the offset that it really begins at,
// which is later where what was asked for is kept no more. Where there is none
// yet and wait says so it blocks until there is; without a part nothing more
// comes, or ctx is done.
func (p *printed) next(ctx context.Context, at int64, wait bool) (one part, begins int64, ok bool) {
	for {
		p.mu.Lock()
		if p.to > at {
			at = max(at, p.from)
			begins := p.from
			for _, one := range p.parts {
				end := begins + int64(len(one.data))
				if at < end {
					data := append([]byte(nil), one.data[at-begins:]...) // the last part grows
					p.mu.Unlock()
					return part{one.stream, data}, at, true
				}
				begins = end
			}
		}
		if p.over || !wait {
			p.mu.Unlock()
			return part{}, at, false
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return part{}, at, false
		}
	}
}
