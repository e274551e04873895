package upstream

import (
	"bytes"
	"io"
)

// direct reads what the server prints on its own standard output, where that
// does not come in frames, and then how it ended, which does. Its error says
// why it stopped.
func (s *Server) direct(out, in io.Reader) error {
	ended := make(chan error, 1)
	s.owned.Go(func() { ended <- s.frames(in) })
	if err := s.lines(out); err != nil {
		s.pipe.Close()
		<-ended
		return err
	}
	return <-ended
}

// lines reads lines of JSON until there are no more. Its error is that of a
// server that is not to be listened to any more.
func (s *Server) lines(out io.Reader) error {
	lines := splitter{most: s.most, pass: s.pass}
	buf := make([]byte, 4<<10) // grows where much comes at once
	for {
		n, err := out.Read(buf)
		if n > 0 {
			if err := s.spend(n); err != nil {
				return err
			}
			b, passing := buf[:n], lines.passing != nil
			if !passing { // else whoever takes it has done so before the next is read
				b = bytes.Clone(b)
			}
			lines.feed(b, s.line)
			if passing && lines.passing == nil { // what follows it is kept
				buf = make([]byte, len(buf))
			}
		}
		switch {
		case s.ctx.Err() != nil: // whoever was handed a part may still use it
			return io.ErrClosedPipe
		case err != nil:
			return nil // the frames say why
		case n == len(buf) && n < chunk:
			buf = make([]byte, chunk)
		}
	}
}

// printed reads what the server prints for its log.
func (s *Server) printed(stderr io.Reader) {
	lines := splitter{most: maxLine}
	buf := make([]byte, 4<<10)
	for {
		n, err := stderr.Read(buf)
		if n > 0 && !s.log.muted() {
			lines.feed(bytes.Clone(buf[:n]), func(b []byte, _ bool, _ string) { s.log.line(b) })
		}
		if err != nil {
			return
		}
	}
}
