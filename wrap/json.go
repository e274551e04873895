package wrap

import (
	"bytes"
	"regexp"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// readJSON reads JSON, with what clients allow beyond it: comments, a comma
// before a closing bracket, a byte order mark. A name that stands twice in
// one table is a mistake: the client may take the other.
func readJSON(src []byte) (*node, error) {
	p := &jsonReader{src: src}
	if bytes.HasPrefix(src, []byte(bom)) {
		p.i = len(bom)
	}
	n, err := p.value(0)
	if err == nil {
		err = p.space()
	}
	if err == nil && p.i < len(src) {
		err = p.wrong("something follows the end of the value")
	}
	return n, err
}

type jsonReader struct {
	src   []byte
	i     int
	count nodes
}

func (p *jsonReader) wrong(what string) error { return &mistake{p.i, what} }

// space skips white space and comments.
func (p *jsonReader) space() error {
	for p.i < len(p.src) {
		switch c := p.src[p.i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			p.i++
		case bytes.HasPrefix(p.src[p.i:], []byte("//")):
			for p.i < len(p.src) && p.src[p.i] != '\n' && p.src[p.i] != '\r' {
				p.i++
			}
		case bytes.HasPrefix(p.src[p.i:], []byte("/*")):
			end := bytes.Index(p.src[p.i+2:], []byte("*/"))
			if end < 0 {
				return p.wrong("a comment does not end")
			}
			p.i += 2 + end + 2
		default:
			return nil
		}
	}
	return nil
}

// next skips what may stand between and returns the byte there, 0 at the end.
func (p *jsonReader) next() (byte, error) {
	if err := p.space(); err != nil || p.i == len(p.src) {
		return 0, err
	}
	return p.src[p.i], nil
}

func (p *jsonReader) value(depth int) (*node, error) {
	c, err := p.next()
	if err == nil {
		err = p.count.more(p.i, depth)
	}
	if err != nil {
		return nil, err
	}
	switch c {
	case '{':
		return p.object(depth)
	case '[':
		return p.array(depth)
	case '"':
		return p.string()
	case 0:
		return nil, p.wrong("ends where a value is expected")
	}
	return p.bare()
}

func (p *jsonReader) object(depth int) (*node, error) {
	n := &node{form: table, span: span{start: p.i}}
	seen := map[string]bool{}
	p.i++
	for {
		c, err := p.next()
		if err != nil {
			return nil, err
		}
		if c == '}' {
			p.i++
			n.end = p.i
			return n, nil
		}
		if c != '"' {
			return nil, p.wrong("a name in double quotes, or }, is expected here")
		}
		key, err := p.string()
		if err != nil {
			return nil, err
		}
		if seen[key.text] {
			return nil, &mistake{key.start, "the name " + quote(key.text) + " stands twice in one table"}
		}
		seen[key.text] = true
		if c, err = p.next(); err != nil {
			return nil, err
		}
		if c != ':' {
			return nil, p.wrong("a colon is expected here")
		}
		p.i++
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.members = append(n.members, member{key.text, key.span, key.start, v})
		if err := p.comma('}'); err != nil {
			return nil, err
		}
	}
}

func (p *jsonReader) array(depth int) (*node, error) {
	n := &node{form: list, span: span{start: p.i}}
	p.i++
	for {
		c, err := p.next()
		if err != nil {
			return nil, err
		}
		if c == ']' {
			p.i++
			n.end = p.i
			return n, nil
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, v)
		if err := p.comma(']'); err != nil {
			return nil, err
		}
	}
}

// comma reads a comma, or stands before the closing bracket.
func (p *jsonReader) comma(closing byte) error {
	c, err := p.next()
	switch {
	case err != nil:
		return err
	case c == ',':
		p.i++
	case c != closing:
		return p.wrong("a comma or " + string(closing) + " is expected here")
	}
	return nil
}

// string reads a string. A surrogate without its other half is a mistake:
// what it says cannot be handed on.
func (p *jsonReader) string() (*node, error) {
	start := p.i
	var b []byte
	for p.i++; p.i < len(p.src); {
		c := p.src[p.i]
		switch {
		case c == '"':
			p.i++
			return &node{form: text, span: span{start, p.i}, text: string(b)}, nil
		case c < 0x20:
			return nil, p.wrong("a control character stands in a string")
		case c != '\\':
			b = append(b, c)
			p.i++
		default:
			r, n := p.escape(p.src[p.i:])
			if n == 0 {
				return nil, p.wrong("not an escape of JSON")
			}
			b = utf8.AppendRune(b, r)
			p.i += n
		}
	}
	return nil, &mistake{start, "a string does not end"}
}

var jsonEscapes = map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads the escape that s begins with; n is 0 where it is none.
func (p *jsonReader) escape(s []byte) (r rune, n int) {
	if len(s) < 2 {
		return 0, 0
	}
	if s[1] != 'u' {
		r, ok := jsonEscapes[s[1]]
		if !ok {
			return 0, 0
		}
		return r, 2
	}
	r, ok := hexRune(s, 2, 4)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(s) < 12 || s[6] != '\\' || s[7] != 'u' {
		return 0, 0
	}
	low, ok := hexRune(s, 8, 4)
	if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

// hexRune reads n hexadecimal digits of s from i.
func hexRune(s []byte, i, n int) (rune, bool) {
	if len(s) < i+n {
		return 0, false
	}
	for _, c := range s[i : i+n] {
		if c == '_' || c == '+' || c == '-' {
			return 0, false
		}
	}
	v, err := strconv.ParseUint(string(s[i:i+n]), 16, 32)
	return rune(v), err == nil
}

var jsonBare = regexp.MustCompile(`^(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)$`)

// bare reads a number or a word.
func (p *jsonReader) bare() (*node, error) {
	start := p.i
	for p.i < len(p.src) && (p.src[p.i] >= '0' && p.src[p.i] <= '9' || p.src[p.i] >= 'a' && p.src[p.i] <= 'z' || p.src[p.i] == 'E' || p.src[p.i] == '.' || p.src[p.i] == '-' || p.src[p.i] == '+') {
		p.i++
	}
	if !jsonBare.Match(p.src[start:p.i]) {
		p.i = start
		return nil, p.wrong("not a value of JSON")
	}
	return &node{form: other, span: span{start, p.i}, text: string(p.src[start:p.i])}, nil
}
