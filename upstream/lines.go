package upstream

import "bytes"

// A splitter splits a stream into lines of at most most bytes. Of a longer
// one it keeps nothing but what its head and sift say. One that pass takes, once
// it is longer than passFrom, is not kept at all.
type splitter struct {
	pass    func(head [][]byte) *passing // nil: nothing is passed
	passing *passing
	asked   bool // pass was asked about this line
	most    int
	pieces  [][]byte // of the line that is being read
	size    int      // of them
	long    bool     // the line is longer than most, and pieces are its head
	sift    sifter
}

// feed calls each with every line that b completes: whole, or, with long,
// its beginning and the id that it is an answer to ("" where none is seen).
// It keeps b; what each gets is its own.
func (l *splitter) feed(b []byte, each func(line []byte, long bool, id string)) {
	for len(b) > 0 {
		part, end := b, false
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			part, end = b[:i], true
			b = b[i+1:]
		} else {
			b = nil
		}
		switch {
		case l.passing != nil:
			l.passing.feed(part)
		case l.long:
			l.sift.feed(part)
			l.pieces[0] = append(l.pieces[0], part[:min(len(part), max(0, maxLine-len(l.pieces[0])))]...)
		case l.size+len(part) > l.most:
			l.long, l.sift = true, sifter{}
			for _, p := range l.pieces {
				l.sift.feed(p)
			}
			l.sift.feed(part)
			head := bytes.Join(append(l.pieces, part), nil)
			l.pieces = [][]byte{bytes.Clone(head[:min(len(head), maxLine)])}
		case len(part) > 0:
			l.add(part[:len(part):len(part)])
		}
		if l.pass != nil && !end && !l.asked && l.size > passFrom && !l.long {
			l.asked = true
			if l.passing = l.pass(l.pieces); l.passing != nil {
				l.pieces, l.size = nil, 0
			}
		}
		if !end {
			continue
		}
		l.asked = false
		if p := l.passing; p != nil {
			l.passing = nil
			p.end()
			continue
		}
		line, long := bytes.Join(l.pieces, nil), l.long
		l.pieces, l.size, l.long = nil, 0, false
		if !long {
			line = bytes.TrimSuffix(line, []byte("\r"))
		}
		if len(line) > 0 {
			each(line, long, l.sift.id)
		}
	}
}

// add keeps a part of a line. Small ones become one piece, so that a line
// costs about what it holds, however it came.
func (l *splitter) add(part []byte) {
	l.size += len(part)
	if n := len(l.pieces); n > 0 && len(l.pieces[n-1])+len(part) <= chunk {
		l.pieces[n-1] = append(l.pieces[n-1], part...)
		return
	}
	l.pieces = append(l.pieces, part)
}

// A sifter finds the "id" of an answer that is too long to keep. It reads the
// text once, keeps a few bytes, and is no check of anything: what it finds in
// garbage is garbage.
type sifter struct {
	id     string
	depth  int
	quoted bool
	escape bool
	value  bool   // the key was read, and what follows belongs to it
	key    []byte // at depth 1
	token  []byte // of its value
}

const maxToken = 32

func (s *sifter) feed(b []byte) {
	for _, c := range b {
		s.byte(c)
	}
}

func (s *sifter) byte(c byte) {
	if s.quoted {
		switch {
		case s.escape:
			s.escape = false
		case c == '\\':
			s.escape = true
		case c == '"':
			s.quoted = false
			return
		}
		if s.depth == 1 && !s.value && len(s.key) < maxToken {
			s.key = append(s.key, c)
		}
		return
	}
	switch c {
	case '"':
		s.quoted = true
	case '{', '[':
		s.depth++
	case '}', ']':
		if s.depth == 1 {
			s.settle()
		}
		s.depth--
	case ',':
		if s.depth == 1 {
			s.settle()
		}
	case ':':
		if s.depth == 1 {
			s.value = true
		}
	case ' ', '\t', '\r':
	default:
		if s.depth == 1 && s.value && len(s.token) < maxToken {
			s.token = append(s.token, c)
		}
	}
}

// settle is at the end of a member.
func (s *sifter) settle() {
	if string(s.key) == "id" && s.id == "" {
		s.id = string(s.token)
	}
	s.key, s.token, s.value = s.key[:0], s.token[:0], false
}
