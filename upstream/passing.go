package upstream

import (
	"context"
	"errors"
	"strconv"

	"github.com/casemate/casemate/internal/jsontext"
)

// passFrom is how long a line has to be, in bytes, before its result is passed on
// while it comes.
const passFrom = 1 << 20

// errPassed is the answer of a request whose result was passed on.
var errPassed = errors.New("the result was passed on")

var errUnlike = errors.New("its answer, which was passed on while it came, turned out to be none")

// A passing is a long line that answers a request whose caller takes the result
// in parts: nothing of it is kept. Only where the request is certain is one
// begun: by the id, or, where that stands behind the result, as the only one
// that any answer can be to.
type passing struct {
	s           *Server
	m           jsontext.Members
	key         string
	id, version []byte
	held        [][]byte // of the result, until the request is known
	other       bool     // it has a member that no result has beside it
	number      uint64
	to          *pending // nil: not known, or it does not wait any more
	n           int64    // bytes of the result
}

// pass begins one for a line that begins with these parts, or returns nil.
func (s *Server) pass(head [][]byte) *passing {
	p := &passing{s: s}
	p.m.Key = func(key string) error {
		p.key = key
		p.other = p.other || key != "jsonrpc" && key != "id" && key != "result"
		return nil
	}
	p.m.Value = func(b []byte, _ bool) error { return p.part(b) }
	for _, b := range head {
		if p.m.Feed(b) != nil {
			return nil
		}
	}
	if p.other || p.key != "result" || len(p.held) == 0 || p.held[0][0] != '{' || !p.choose() {
		return nil
	}
	held := p.held
	p.held = nil
	for _, b := range held {
		p.result(b)
	}
	return p
}

// choose finds the request.
func (p *passing) choose() bool {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.id != nil {
		n, err := strconv.ParseUint(string(p.id), 10, 64)
		if err != nil {
			return false
		}
		p.number, p.to = n, p.s.pending[n]
	} else if len(p.s.pending)-len(p.s.listens) == 1 && len(p.s.unanswered) == 0 {
		for n, to := range p.s.pending {
			if to.part != nil {
				p.number, p.to = n, to
			}
		}
	}
	if p.to == nil || p.to.part == nil {
		return false
	}
	p.s.heard++
	return true
}

// part takes a part of the value of a member.
func (p *passing) part(b []byte) error {
	var keep *[]byte
	switch p.key {
	case "result":
		if p.to == nil {
			p.held = append(p.held, b)
		} else {
			p.result(b)
		}
		return nil
	case "id":
		keep = &p.id
	case "jsonrpc":
		keep = &p.version
	default:
		return errUnlike
	}
	if len(*keep)+len(b) > maxToken {
		return errUnlike
	}
	*keep = append(*keep, b...)
	return nil
}

// result hands a part to the request, and waits until that has taken it. Where
// nobody waits for it any more, it is dropped.
func (p *passing) result(b []byte) {
	if p.to.over() {
		return
	}
	if p.n += int64(len(b)); p.n > p.s.o.Output+overhead {
		p.s.deliver(p.number, answer{err: ErrOutput})
		p.to.leave()
		return
	}
	select {
	case p.to.parts <- b:
	case <-p.to.done:
		return
	case <-p.s.ctx.Done():
		return
	}
	select {
	case <-p.to.took:
	case <-p.to.done:
	case <-p.s.ctx.Done():
	}
}

// feed takes the next part of the line.
func (p *passing) feed(b []byte) {
	if err := p.m.Feed(b); err != nil {
		p.fail(errUnlike)
	}
}

// end is at the end of the line.
func (p *passing) end() {
	if !p.m.Done() || string(p.version) != `"2.0"` || string(p.id) != strconv.FormatUint(p.number, 10) {
		p.fail(errUnlike)
		return
	}
	if !p.s.deliver(p.number, answer{err: errPassed}) {
		p.s.unused("an answer to nothing", p.id)
	}
}

// fail ends the request, which had a part of the result.
func (p *passing) fail(err error) {
	if !p.to.over() {
		p.s.deliver(p.number, answer{err: err})
		p.to.leave()
	}
}

// wait waits for the answer, and takes the parts of one. Its error is why it
// waits no more.
func (s *Server) wait(ctx context.Context, p *pending) (answer, error) {
	for {
		select {
		case a := <-p.answer:
			return a, nil
		case b := <-p.parts:
			if err := p.part(b); err != nil {
				return answer{}, err
			}
			p.took <- struct{}{}
		case <-ctx.Done():
			return answer{}, ctx.Err()
		}
	}
}

// abandon notes that the server may still answer a request that nobody waits
// for; where too much is noted, it is taken to be so for ever.
func (s *Server) abandon(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unanswered) >= maxPending {
		id = 0
	}
	s.unanswered[id] = true
}

// leave says that nobody takes any more parts.
func (p *pending) leave() { p.once.Do(func() { close(p.done) }) }

func (p *pending) over() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
