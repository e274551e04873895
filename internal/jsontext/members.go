package jsontext

import (
	"encoding/json"
	"errors"
)

// The bounds of what is seen one by one.
const (
	maxMembers = 4096
	maxKey     = 1 << 10 // bytes, as written
)

// ErrTwice is a key that stands twice, and so has two readings.
var ErrTwice = errors.New("a key stands twice")

// Members takes one object apart, whose members it hands on while they come.
type Members struct {
	// Key is called for each, in their order, and Value with what its value is
	// written as, in parts, the last of which, that may be empty, is the end of it.
	// What Value gets is valid until it returns. An error of theirs ends the reading.
	Key   func(key string) error
	Value func(part []byte, end bool) error

	s     scanner
	in    bool   // a value
	named []byte // the key that is being read, with its quotes
	seen  map[string]bool
	err   error
}

// Done says whether the object is whole.
func (m *Members) Done() bool {
	return m.err == nil && len(m.s.stack) == 0 && m.s.state == after
}

// Err is why reading ended, or nil.
func (m *Members) Err() error { return m.err }

// Feed takes the next part of the text. Behind the object is only white space.
func (m *Members) Feed(b []byte) error {
	if m.err == nil {
		m.err = m.feed(b)
	}
	return m.err
}

func (m *Members) feed(b []byte) error {
	for len(b) > 0 {
		if m.in {
			n, err := m.value(b)
			if err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		c := b[0]
		switch {
		case len(m.s.stack) == 0 && m.s.state == value && c != '{' && !space(c):
			return ErrSyntax
		case m.s.state == value && len(m.s.stack) == 1 && !space(c):
			m.in = true
			continue
		}
		if err := m.s.step(c); err != nil {
			return err
		}
		b = b[1:]
		switch {
		case m.s.name && (m.s.state >= text && m.s.state <= rune_):
			if len(m.named) == maxKey {
				return errors.New("a key is longer than 1 KiB")
			}
			m.named = append(m.named, c)
		case m.s.state == colon && len(m.named) > 0:
			if err := m.key(); err != nil {
				return err
			}
		}
	}
	return nil
}

// key ends a key.
func (m *Members) key() error {
	var k string
	if err := json.Unmarshal(append(m.named, '"'), &k); err != nil {
		return ErrSyntax
	}
	m.named = m.named[:0]
	if m.seen == nil {
		m.seen = map[string]bool{}
	}
	switch {
	case m.seen[k]:
		return ErrTwice
	case len(m.seen) == maxMembers:
		return errors.New("too many keys")
	}
	m.seen[k] = true
	return m.Key(k)
}

// value takes of b what belongs to the value, and returns how much that is.
func (m *Members) value(b []byte) (int, error) {
	for i := 0; i < len(b); i++ {
		if m.s.state == text {
			if i += plain(b[i:]); i == len(b) {
				break
			}
		}
		c := b[i]
		if is, whole := m.s.number(); is && (space(c) || c == ',' || c == '}' || c == ']') {
			if !whole {
				return 0, errors.Join(ErrSyntax, m.Value(b[:i], false))
			}
			m.s.state = after
			if len(m.s.stack) == 1 {
				m.in = false
				return i, m.Value(b[:i], true)
			}
		}
		if err := m.s.step(c); err != nil {
			return 0, errors.Join(err, m.Value(b[:i], false)) // what Finish counts on
		}
		if m.s.state == after && len(m.s.stack) == 1 {
			m.in = false
			return i + 1, m.Value(b[:i+1], true)
		}
	}
	return len(b), m.Value(b, false)
}

func space(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// Finish returns what makes the value whole that is being read, or as much of
// it as is deeper than depth: the object itself is 1 deep. Nothing can be fed
// after it.
func (m *Members) Finish(depth int) []byte {
	if m.err == nil {
		m.err = errors.New("it was finished")
	}
	if !m.in {
		return nil
	}
	return m.s.finish(max(depth, 1))
}
