package jsontext

// finish returns what makes everything whole that is open deeper than depth,
// and a value that was begun there; the scanner goes on behind it.
func (s *scanner) finish(depth int) (out []byte) {
	add := func(b ...byte) {
		for _, c := range b {
			if s.step(c) != nil {
				panic("casemate: bug: what completes JSON does not")
			}
		}
		out = append(out, b...)
	}
	for {
		switch is, whole := s.number(); {
		case is && !whole:
			add('0')
		case is:
			s.state = after
		case s.state == escape:
			add('\\')
		case s.state == hex:
			add('0')
		case s.state == rune_:
			add(s.lo)
		case s.state == text:
			add('"')
		case s.state == word:
			add(s.rest[0])
		case len(s.stack) <= depth:
			return out
		case s.state == colon:
			add(':')
		case s.state == value:
			add([]byte("null")...)
		case s.state == key:
			add('"')
		case s.stack[len(s.stack)-1] == '{':
			add('}')
		default:
			add(']')
		}
	}
}
