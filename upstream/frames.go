package upstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/casemate/casemate/internal/guest"
)

const (
	chunk     = 64 << 10 // of a Stdin frame
	frameCost = 64       // bytes that a frame counts for, beside its body
)

// read reads what the guest sends until there is no more.
func (s *Server) read(in io.Reader) {
	s.end(s.frames(in))
}

func breach(what string) error { return fmt.Errorf("%w: %s", guest.ErrProtocol, what) }

// frames reads frames; its error says why it stopped.
func (s *Server) frames(in io.Reader) error {
	lines := splitter{most: s.most, pass: s.pass}
	var reused []byte // for frames that are not kept
	var stderr splitter
	stderr.most = maxLine
	failure := ""
	for {
		if s.ctx.Err() != nil { // whoever was handed a part may still use it
			return io.ErrClosedPipe
		}
		var buf []byte
		if lines.passing != nil {
			if reused == nil {
				reused = make([]byte, chunk)
			}
			buf = reused
		}
		f, err := guest.ReadInto(in, buf, func(t guest.Type, n int64) error {
			switch {
			case t == guest.Taken && n != 4, t == guest.Done && n != 4:
				return breach("a frame is not as long as it must be")
			case t != guest.Stdout && t != guest.Stderr && t != guest.Failure && t != guest.Taken && t != guest.Done:
				return breach("a frame of an unknown type")
			case n > guest.MaxReply:
				return breach("a frame is longer than allowed")
			}
			return nil
		})
		if err != nil {
			return err
		}
		if f.Call != s.number {
			return breach("a frame belongs to another call")
		}
		if err := s.spend(len(f.Body)); err != nil {
			return err
		}
		switch f.Type {
		case guest.Stdout:
			lines.feed(f.Body, s.line)
		case guest.Stderr:
			if !s.log.muted() {
				stderr.feed(f.Body, func(b []byte, _ bool, _ string) { s.log.line(b) })
			}
		case guest.Failure:
			failure = string(bytes.ToValidUTF8(f.Body[:min(len(f.Body), 500)], []byte("\uFFFD")))
			s.log.line(f.Body)
		case guest.Taken:
			if err := s.widen(binary.BigEndian.Uint32(f.Body)); err != nil {
				return err
			}
		case guest.Done:
			if failure != "" {
				return errors.New(failure)
			}
			return Exited(binary.BigEndian.Uint32(f.Body))
		}
	}
}

// spend counts bytes that may turn out to be an answer to nothing.
func (s *Server) spend(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.junk += n + frameCost; s.junk > s.patience+s.most || s.unasked > maxUnasked {
		return breach("it floods its output with what nobody asked for")
	}
	return nil
}

// widen opens the window by n bytes.
func (s *Server) widen(n uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int64(n) > int64(guest.Window-s.window) {
		return breach("it took more than it was sent")
	}
	s.window += int(n)
	select {
	case s.taken <- struct{}{}:
	default:
	}
	return nil
}

// An outgoing is one message to the server.
type outgoing struct {
	b     []byte
	state atomic.Int32 // waiting, begun, dropped
}

const (
	begun int32 = iota + 1
	dropped
)

// drop takes the message back, where nothing of it was sent yet.
func (m *outgoing) drop() bool { return m.state.CompareAndSwap(0, dropped) }

// write sends messages, one after another.
func (s *Server) write() {
	frame := guest.Append(nil, guest.Frame{Type: guest.Open, Call: s.number, Body: guest.AppendPairs(nil, nil)})
	if _, err := s.pipe.Write(frame); err != nil {
		s.pipe.Close() // the reader says why
		return
	}
	for {
		select {
		case <-s.ctx.Done():
			return
		case m := <-s.out:
			if !m.state.CompareAndSwap(0, begun) {
				continue
			}
			if s.to != nil {
				if _, err := s.to.Write(append(m.b, '\n')); err != nil {
					s.pipe.Close()
					return
				}
				continue
			}
			for b := append(m.b, '\n'); len(b) > 0; {
				n := s.reserve(min(len(b), chunk))
				if n == 0 {
					return
				}
				frame = guest.Append(frame[:0], guest.Frame{Type: guest.Stdin, Call: s.number, Body: b[:n]})
				if _, err := s.pipe.Write(frame); err != nil {
					s.pipe.Close()
					return
				}
				b = b[n:]
			}
		}
	}
}

// reserve waits until the window is open, and takes at most n bytes of it; 0
// means that the server is gone.
func (s *Server) reserve(n int) int {
	for {
		s.mu.Lock()
		n := min(n, s.window)
		s.window -= n
		s.mu.Unlock()
		if n > 0 {
			return n
		}
		select {
		case <-s.taken:
		case <-s.ctx.Done():
			return 0
		}
	}
}
