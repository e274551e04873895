// Package jsontext reads JSON while it comes, in parts of any length, and keeps
// nothing of it: what is too long to be held can be checked, taken apart and
// passed on all the same. Where it stops in the middle, it knows what makes the
// text whole.
//
// It takes RFC 8259 in valid UTF-8, nested 1,000 deep at most. Half of a
// surrogate pair as an escape it does not mind.
package jsontext

import "errors"

// maxDepth bounds nesting.
const maxDepth = 1000

// What is no JSON.
var (
	ErrSyntax = errors.New("not valid JSON")
	ErrDepth  = errors.New("JSON nests more than 1,000 deep")
)

type state uint8

const (
	value    state = iota // a value is next
	first                 // in an array that has none yet: a value, or its end
	firstKey              // in an object that has none yet: a key, or its end
	key                   // a key is next
	colon                 //
	after                 // a value was read: a comma, or the end of what holds it
	text                  // in a string
	escape                // behind its backslash
	hex                   // in \u
	rune_                 // in a character of several bytes
	word                  // in true, false or null
	minus                 // the parts of a number: those up to exponent cannot end it
	point                 //
	e                     //
	sign                  //
	zero                  //
	digits                //
	fraction              //
	exponent              //
)

// A scanner is the state of a text. The zero scanner is at its beginning.
type scanner struct {
	stack  []byte // '{' and '[' that are open
	state  state
	name   bool   // the string is a key
	left   int    // of hex digits, or of bytes of a character
	lo, hi byte   // bounds of the next byte of that
	rest   string // of a word
}

// number says whether the state is one of a number, and whole whether it may
// end here.
func (s *scanner) number() (is, whole bool) { return s.state >= minus, s.state >= zero }

// step takes one byte, or changes nothing. A number ends before the byte that is not its own:
// whoever calls step ends it.
func (s *scanner) step(c byte) error {
	switch s.state {
	case text:
		return s.character(c)
	case escape:
		switch c {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			s.state = text
		case 'u':
			s.state, s.left = hex, 4
		default:
			return ErrSyntax
		}
		return nil
	case hex:
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return ErrSyntax
		}
		if s.left--; s.left == 0 {
			s.state = text
		}
		return nil
	case rune_:
		if c < s.lo || c > s.hi {
			return ErrSyntax
		}
		s.lo, s.hi = 0x80, 0xBF
		if s.left--; s.left == 0 {
			s.state = text
		}
		return nil
	case word:
		if c != s.rest[0] {
			return ErrSyntax
		}
		if s.rest = s.rest[1:]; s.rest == "" {
			s.state = after
		}
		return nil
	}
	if is, _ := s.number(); is {
		return s.digit(c)
	}
	if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
		return nil
	}
	return s.token(c)
}

// character takes a byte of a string.
func (s *scanner) character(c byte) error {
	switch {
	case c == '"':
		s.state = after
		if s.name {
			s.state = colon
		}
	case c == '\\':
		s.state = escape
	case c < 0x20:
		return ErrSyntax
	case c < 0x80:
	case c < 0xC2 || c > 0xF4:
		return ErrSyntax
	default: // the table of well-formed UTF-8, Unicode 3-7
		s.state, s.lo, s.hi = rune_, 0x80, 0xBF
		switch {
		case c <= 0xDF:
			s.left = 1
		case c <= 0xEF:
			s.left = 2
			if c == 0xE0 {
				s.lo = 0xA0
			} else if c == 0xED {
				s.hi = 0x9F
			}
		default:
			s.left = 3
			if c == 0xF0 {
				s.lo = 0x90
			} else if c == 0xF4 {
				s.hi = 0x8F
			}
		}
	}
	return nil
}

// digit takes a byte of a number.
func (s *scanner) digit(c byte) error {
	is := c >= '0' && c <= '9'
	switch s.state {
	case minus:
		switch {
		case c == '0':
			s.state = zero
		case is:
			s.state = digits
		default:
			return ErrSyntax
		}
	case zero, digits:
		switch {
		case is && s.state == digits:
		case c == '.':
			s.state = point
		case c == 'e' || c == 'E':
			s.state = e
		default:
			return ErrSyntax
		}
	case point, fraction:
		switch {
		case is:
			s.state = fraction
		case s.state == fraction && (c == 'e' || c == 'E'):
			s.state = e
		default:
			return ErrSyntax
		}
	case e:
		switch {
		case is:
			s.state = exponent
		case c == '+' || c == '-':
			s.state = sign
		default:
			return ErrSyntax
		}
	default: // sign, exponent
		if !is {
			return ErrSyntax
		}
		s.state = exponent
	}
	return nil
}

// token takes a byte between values, or the first of one.
func (s *scanner) token(c byte) error {
	switch s.state {
	case colon:
		if c == ':' {
			s.state = value
			return nil
		}
	case firstKey, key:
		if c == '"' {
			s.state, s.name = text, true
			return nil
		}
		if c == '}' && s.state == firstKey {
			return s.pop('{')
		}
	case after:
		if len(s.stack) == 0 {
			return ErrSyntax
		}
		switch {
		case c == ',' && s.stack[len(s.stack)-1] == '{':
			s.state = key
			return nil
		case c == ',':
			s.state = value
			return nil
		case c == '}':
			return s.pop('{')
		case c == ']':
			return s.pop('[')
		}
	case value, first:
		if c == ']' && s.state == first {
			return s.pop('[')
		}
		return s.begin(c)
	}
	return ErrSyntax
}

// begin takes the first byte of a value.
func (s *scanner) begin(c byte) error {
	switch {
	case c == '{' || c == '[':
		if len(s.stack) == maxDepth {
			return ErrDepth
		}
		s.stack = append(s.stack, c)
		s.state = first
		if c == '{' {
			s.state = firstKey
		}
	case c == '"':
		s.state, s.name = text, false
	case c == '-':
		s.state = minus
	case c == '0':
		s.state = zero
	case c >= '1' && c <= '9':
		s.state = digits
	case c == 't':
		s.state, s.rest = word, "rue"
	case c == 'f':
		s.state, s.rest = word, "alse"
	case c == 'n':
		s.state, s.rest = word, "ull"
	default:
		return ErrSyntax
	}
	return nil
}

func (s *scanner) pop(open byte) error {
	if s.stack[len(s.stack)-1] != open {
		return ErrSyntax
	}
	s.stack = s.stack[:len(s.stack)-1]
	s.state = after
	return nil
}

// plain returns how many bytes of b, which is in a string, are of it and need
// no look.
func plain(b []byte) int {
	for i, c := range b {
		if c < 0x20 || c >= 0x80 || c == '"' || c == '\\' {
			return i
		}
	}
	return len(b)
}
