package wrap

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"
)

// readTOML reads TOML 1.0. What it does not know is a mistake: it never
// guesses. It is no validator: it may take a file that the client refuses
// (a date that is none), and never reads one otherwise than the client does.
func readTOML(src []byte) (*node, error) {
	p := &tomlReader{src: src}
	if bytes.HasPrefix(src, []byte(bom)) {
		p.i = len(bom)
	}
	root := &node{form: open}
	at := root // the table that lines belong to
	for {
		p.blanks(true)
		if p.i == len(src) {
			root.end = len(src)
			return root, nil
		}
		var err error
		if src[p.i] == '[' {
			at, err = p.header(root)
		} else {
			err = p.pair(at, 0)
		}
		if err == nil {
			err = p.lineEnd()
		}
		if err != nil {
			return nil, err
		}
	}
}

type tomlReader struct {
	src   []byte
	i     int
	count nodes
}

func (p *tomlReader) wrong(what string) error { return &mistake{p.i, what} }

func (p *tomlReader) peek() byte {
	if p.i < len(p.src) {
		return p.src[p.i]
	}
	return 0
}

// blanks skips spaces and tabs, and where over is true also line breaks and
// comments.
func (p *tomlReader) blanks(over bool) {
	for p.i < len(p.src) {
		switch c := p.src[p.i]; {
		case c == ' ' || c == '\t':
			p.i++
		case over && (c == '\n' || c == '\r' && p.i+1 < len(p.src) && p.src[p.i+1] == '\n'):
			p.i++
		case over && c == '#':
			p.comment()
		default:
			return
		}
	}
}

func (p *tomlReader) comment() {
	for p.i < len(p.src) && p.src[p.i] != '\n' {
		p.i++
	}
}

func (p *tomlReader) lineEnd() error {
	p.blanks(false)
	if p.peek() == '#' {
		p.comment()
	}
	if p.i == len(p.src) || p.src[p.i] == '\n' || bytes.HasPrefix(p.src[p.i:], []byte("\r\n")) {
		return nil
	}
	return p.wrong("the line goes on where it should end")
}

// A part is one name of a dotted key.
type part struct {
	name string
	span
}

// key reads a dotted key.
func (p *tomlReader) key() ([]part, error) {
	var out []part
	for {
		p.blanks(false)
		start, name := p.i, ""
		switch c := p.peek(); {
		case c == '"' || c == '\'':
			n, err := p.string(false)
			if err != nil {
				return nil, err
			}
			name = n.text
		default:
			for isBareKey(p.peek()) {
				p.i++
			}
			if name = string(p.src[start:p.i]); name == "" {
				return nil, p.wrong("a name is expected here")
			}
		}
		out = append(out, part{name, span{start, p.i}})
		if len(out) > maxDepth {
			return nil, p.wrong("is nested too deeply")
		}
		p.blanks(false)
		if p.peek() != '.' {
			return out, nil
		}
		p.i++
	}
}

func isBareKey(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// header reads [a.b] or [[a.b]] and returns the table that follows it.
func (p *tomlReader) header(root *node) (*node, error) {
	start := p.i
	p.i++
	array := p.peek() == '['
	if array {
		p.i++
	}
	parts, err := p.key()
	if err != nil {
		return nil, err
	}
	for range map[bool]int{false: 1, true: 2}[array] {
		if p.peek() != ']' {
			return nil, p.wrong("] is expected here")
		}
		p.i++
	}
	at := root
	for _, k := range parts[:len(parts)-1] {
		if at, err = p.into(at, k); err != nil {
			return nil, err
		}
	}
	last := parts[len(parts)-1]
	v := at.get(last.name)
	fresh := &node{form: open, span: span{start, p.i}, defined: true}
	twice := &mistake{last.start, "the table " + quote(last.name) + " stands twice"}
	switch {
	case array && v == nil:
		at.members = append(at.members, member{last.name, last.span, parts[0].start, &node{form: list, span: fresh.span, items: []*node{fresh}, defined: true}})
	case array && v.form == list && v.defined:
		v.items = append(v.items, fresh)
	case v == nil:
		at.members = append(at.members, member{last.name, last.span, parts[0].start, fresh})
	case array || v.form != open || v.defined || v.closed:
		return nil, twice
	default: // it was made by a header beneath it
		v.defined = true
		fresh = v
	}
	return fresh, p.count.more(p.i, 0)
}

// into steps to the table of that name, and makes it where there is none.
func (p *tomlReader) into(at *node, k part) (*node, error) {
	v := at.get(k.name)
	switch {
	case v == nil:
		v = &node{form: open, span: k.span}
		at.members = append(at.members, member{k.name, k.span, k.start, v})
		return v, p.count.more(p.i, 0)
	case v.form == list && v.defined:
		return v.items[len(v.items)-1], nil
	case v.form == open && !v.closed:
		return v, nil
	}
	return nil, &mistake{k.start, quote(k.name) + " is no table that can be added to"}
}

// pair reads NAME = VALUE into a table.
func (p *tomlReader) pair(at *node, depth int) error {
	parts, err := p.key()
	if err != nil {
		return err
	}
	p.blanks(false)
	if p.peek() != '=' {
		return p.wrong("= is expected here")
	}
	p.i++
	v, err := p.value(depth)
	if err != nil {
		return err
	}
	for _, k := range parts[:len(parts)-1] {
		if sub := at.get(k.name); sub != nil && sub.defined {
			return &mistake{k.start, "the table " + quote(k.name) + " has a header of its own"}
		}
		if at, err = p.into(at, k); err != nil {
			return err
		}
	}
	last := parts[len(parts)-1]
	if at.get(last.name) != nil {
		return &mistake{last.start, "the name " + quote(last.name) + " stands twice in one table"}
	}
	at.members = append(at.members, member{last.name, last.span, parts[0].start, v})
	return nil
}

func (p *tomlReader) value(depth int) (*node, error) {
	p.blanks(false)
	if err := p.count.more(p.i, depth); err != nil {
		return nil, err
	}
	switch p.peek() {
	case '"', '\'':
		return p.string(true)
	case '[':
		return p.array(depth)
	case '{':
		return p.inline(depth)
	}
	return p.bare()
}

func (p *tomlReader) array(depth int) (*node, error) {
	n := &node{form: list, span: span{start: p.i}, closed: true}
	p.i++
	for {
		p.blanks(true)
		if p.peek() != ']' {
			v, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, v)
			if p.blanks(true); p.peek() == ',' {
				p.i++
				continue
			}
		}
		if p.peek() != ']' {
			return nil, p.wrong("a comma or ] is expected here")
		}
		p.i++
		n.end = p.i
		return n, nil
	}
}

func (p *tomlReader) inline(depth int) (*node, error) {
	n := &node{form: table, span: span{start: p.i}}
	inside := &node{form: open}
	p.i++
	p.blanks(false)
	for first := true; p.peek() != '}'; first = false {
		if !first {
			if p.peek() != ',' {
				return nil, p.wrong("a comma or } is expected here")
			}
			p.i++
		}
		if err := p.pair(inside, depth+1); err != nil {
			return nil, err
		}
		if last := inside.members[len(inside.members)-1]; last.value.form == open {
			return nil, &mistake{last.whole, "a dotted name in braces is not read by casemate; write braces within braces"}
		}
		p.blanks(false)
	}
	p.i++
	n.end, n.members, n.closed = p.i, inside.members, true
	return n, nil
}

var tomlBare = regexp.MustCompile(`^(?:true|false|[+-]?(?:inf|nan)|0x[0-9A-Fa-f_]+|0o[0-7_]+|0b[01_]+|[+-]?[0-9][0-9_]*(?:\.[0-9][0-9_]*)?(?:[eE][+-]?[0-9_]+)?|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})?)?|[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?)$`)

// bare reads a number, a word or a date.
func (p *tomlReader) bare() (*node, error) {
	start := p.i
	for c := p.peek(); isBareKey(c) || c == '+' || c == '.' || c == ':' || c == ' ' && p.i-start == 10 && p.src[start+4] == '-' && p.i+1 < len(p.src) && p.src[p.i+1] >= '0' && p.src[p.i+1] <= '9'; c = p.peek() {
		p.i++
	}
	if !tomlBare.Match(p.src[start:p.i]) {
		p.i = start
		return nil, p.wrong("not a value of TOML")
	}
	return &node{form: other, span: span{start, p.i}, text: string(p.src[start:p.i])}, nil
}

// string reads any of the four kinds of strings; long says that those of
// several lines are allowed.
func (p *tomlReader) string(long bool) (*node, error) {
	start, q := p.i, p.src[p.i]
	mark := strings.Repeat(string(q), 3)
	multi := bytes.HasPrefix(p.src[p.i:], []byte(mark))
	if multi && !long {
		return nil, p.wrong("a name cannot have several lines")
	}
	p.i++
	if multi {
		p.i += 2
		if bytes.HasPrefix(p.src[p.i:], []byte("\r\n")) {
			p.i += 2
		} else if p.peek() == '\n' {
			p.i++
		}
	}
	var b []byte
	done := func() (*node, error) {
		return &node{form: text, span: span{start, p.i}, text: string(b)}, nil
	}
	for p.i < len(p.src) {
		c := p.src[p.i]
		switch {
		case c == q && !multi:
			p.i++
			return done()
		case c == q && bytes.HasPrefix(p.src[p.i:], []byte(mark)):
			p.i += 3
			for range 2 { // up to two quotes may stand before the three that end it
				if p.peek() == q {
					b = append(b, q)
					p.i++
				}
			}
			return done()
		case c == '\n' && multi, c == '\r' && multi && bytes.HasPrefix(p.src[p.i:], []byte("\r\n")):
			b = append(b, c)
			p.i++
		case c < 0x20 && c != '\t' || c == 0x7f:
			return nil, p.wrong("a control character stands in a string")
		case c == '\\' && q == '"':
			r, n := p.escape(multi)
			if n == 0 {
				return nil, p.wrong("not an escape of TOML")
			}
			if r >= 0 {
				b = utf8.AppendRune(b, r)
			}
			p.i += n
		default:
			b = append(b, c)
			p.i++
		}
	}
	return nil, &mistake{start, "a string does not end"}
}

var tomlEscapes = map[byte]rune{'"': '"', '\\': '\\', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads an escape; r is -1 for a line break that it takes away, and n
// is 0 where it is none.
func (p *tomlReader) escape(multi bool) (r rune, n int) {
	s := p.src[p.i:]
	if len(s) < 2 {
		return 0, 0
	}
	if r, ok := tomlEscapes[s[1]]; ok {
		return r, 2
	}
	if digits := map[byte]int{'u': 4, 'U': 8}[s[1]]; digits > 0 {
		r, ok := hexRune(s, 2, digits)
		if !ok || !utf8.ValidRune(r) {
			return 0, 0
		}
		return r, 2 + digits
	}
	rest := bytes.TrimLeft(s[1:], " \t")
	if multi && (bytes.HasPrefix(rest, []byte("\n")) || bytes.HasPrefix(rest, []byte("\r\n"))) {
		return -1, len(s) - len(bytes.TrimLeft(rest, " \t\r\n"))
	}
	return 0, 0
}
