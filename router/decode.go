package router

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// The bounds of one JSON document of a planner or a guest.
const (
	maxDocument = 8 << 20 // bytes
	maxDepth    = 64      // of nesting
	maxKey      = 4 << 10 // bytes of one key
	maxDigits   = 64      // of a number, the exponent aside
	maxExponent = 400     // of a number, either way: larger ones kill arithmetic on rationals
)

// decode reads one JSON document, strictly: it has one reading only, for
// whoever parses it. Beyond RFC 8259 it refuses keys that stand twice, bytes
// that are not UTF-8, escapes of half a surrogate pair, and what is over the
// bounds; with fold also keys of one object that differ only by case, which
// decoders that ignore case take for one.
//
// Objects are map[string]any, arrays []any, numbers json.Number as written.
// Errors name the place as an instance path and never repeat the document.
func decode(b []byte, fold bool) (v any, values int, err error) {
	if len(b) > maxDocument {
		return nil, 0, fmt.Errorf("is longer than %d MiB", maxDocument>>20)
	}
	d := decoder{b: b, fold: fold}
	if v, err = d.value(0); err != nil {
		return nil, 0, d.at(err)
	}
	d.space()
	if d.i < len(b) {
		return nil, 0, d.at(errorString("something follows the JSON value"))
	}
	return v, d.values, nil
}

type errorString string

func (e errorString) Error() string { return string(e) }

type decoder struct {
	b      []byte
	i      int
	fold   bool
	values int
	path   []string // of the value that is being read
}

func (d *decoder) at(err error) error {
	p := pathOf(d.path)
	if p == "" {
		return fmt.Errorf("byte %d: %w", d.i, err)
	}
	return fmt.Errorf("%s: byte %d: %w", p, d.i, err)
}

func (d *decoder) space() {
	for d.i < len(d.b) {
		switch d.b[d.i] {
		case ' ', '\t', '\n', '\r':
			d.i++
		default:
			return
		}
	}
}

func (d *decoder) peek() byte {
	if d.i < len(d.b) {
		return d.b[d.i]
	}
	return 0
}

// next takes c, or returns an error that wants it.
func (d *decoder) next(c byte) error {
	d.space()
	if d.peek() != c {
		return d.unexpected(strconv.QuoteRune(rune(c)))
	}
	d.i++
	return nil
}

func (d *decoder) unexpected(want string) error {
	if d.i >= len(d.b) {
		return fmt.Errorf("the JSON ends where %s should stand", want)
	}
	return fmt.Errorf("not JSON: want %s", want)
}

func (d *decoder) value(depth int) (any, error) {
	d.values++
	d.space()
	switch c := d.peek(); {
	case c == '{':
		return d.object(depth + 1)
	case c == '[':
		return d.array(depth + 1)
	case c == '"':
		return d.string()
	case c == '-' || '0' <= c && c <= '9':
		return d.number()
	}
	for _, w := range [...]struct {
		text string
		v    any
	}{{"true", true}, {"false", false}, {"null", nil}} {
		if n := d.i + len(w.text); n <= len(d.b) && string(d.b[d.i:n]) == w.text {
			d.i = n
			return w.v, nil
		}
	}
	return nil, d.unexpected("a value")
}

func (d *decoder) object(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	d.i++ // {
	m := map[string]any{}
	var folded map[string]string
	if d.fold {
		folded = map[string]string{}
	}
	for d.space(); d.peek() != '}'; d.space() {
		if len(m) > 0 {
			if err := d.next(','); err != nil {
				return nil, err
			}
			d.space()
		}
		if d.peek() != '"' {
			return nil, d.unexpected("a key")
		}
		k, err := d.string()
		if err != nil {
			return nil, err
		}
		if len(k) > maxKey {
			return nil, fmt.Errorf("a key is longer than %d bytes", maxKey)
		}
		if _, twice := m[k]; twice {
			return nil, fmt.Errorf("the key %s stands twice", quote(k))
		}
		if d.fold {
			f := foldKey(k)
			if other, ok := folded[f]; ok {
				return nil, fmt.Errorf("the keys %s and %s differ only by case", quote(other), quote(k))
			}
			folded[f] = k
		}
		if err := d.next(':'); err != nil {
			return nil, err
		}
		d.path = append(d.path, k)
		if m[k], err = d.value(depth); err != nil {
			return nil, err
		}
		d.path = d.path[:len(d.path)-1]
	}
	d.i++ // }
	return m, nil
}

func (d *decoder) array(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	d.i++ // [
	a := []any{}
	for d.space(); d.peek() != ']'; d.space() {
		if len(a) > 0 {
			if err := d.next(','); err != nil {
				return nil, err
			}
		}
		at := len(d.path)
		v, err := d.value(depth)
		if err != nil { // the step is only made where it is shown
			d.path = slices.Insert(d.path, at, strconv.Itoa(len(a)))
			return nil, err
		}
		a = append(a, v)
	}
	d.i++ // ]
	return a, nil
}

// number takes a number of RFC 8259 as it is written.
func (d *decoder) number() (any, error) {
	start, digits := d.i, 0
	run := func() int {
		n := 0
		for ; '0' <= d.peek() && d.peek() <= '9'; d.i++ {
			n++
		}
		digits += n
		return n
	}
	if d.peek() == '-' {
		d.i++
	}
	zero := d.peek() == '0'
	if n := run(); n == 0 || zero && n > 1 {
		return nil, d.unexpected("a number")
	}
	if d.peek() == '.' {
		d.i++
		if run() == 0 {
			return nil, d.unexpected("a digit")
		}
	}
	if digits > maxDigits {
		return nil, fmt.Errorf("a number has more than %d digits", maxDigits)
	}
	if c := d.peek(); c == 'e' || c == 'E' {
		d.i++
		if c := d.peek(); c == '-' || c == '+' {
			d.i++
		}
		from := d.i
		if run() == 0 {
			return nil, d.unexpected("a digit")
		}
		if e, err := strconv.Atoi(string(d.b[from:d.i])); err != nil || e > maxExponent {
			return nil, fmt.Errorf("the exponent of a number is over %d", maxExponent)
		}
	}
	return json.Number(d.b[start:d.i]), nil
}

func (d *decoder) string() (string, error) {
	d.i++ // "
	start := d.i
	for d.i < len(d.b) && d.b[d.i] != '"' && d.b[d.i] != '\\' && d.b[d.i] >= ' ' && d.b[d.i] < utf8.RuneSelf {
		d.i++
	}
	out := d.b[start:d.i:d.i] // appending copies
	for d.i < len(d.b) {
		switch c := d.b[d.i]; {
		case c == '"':
			d.i++
			return string(out), nil
		case c < ' ':
			return "", errorString("a control byte stands in a string")
		case c == '\\':
			r, err := d.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		case c < utf8.RuneSelf:
			out = append(out, c)
			d.i++
		default:
			r, n := utf8.DecodeRune(d.b[d.i:])
			if r == utf8.RuneError && n == 1 {
				return "", errorString("a string is not UTF-8")
			}
			out = append(out, d.b[d.i:d.i+n]...)
			d.i += n
		}
	}
	return "", d.unexpected("the end of a string")
}

func (d *decoder) escape() (rune, error) {
	d.i++ // \
	c := d.peek()
	d.i++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
	default:
		d.i--
		return 0, d.unexpected("an escape")
	}
	r, ok := d.hex4()
	if !ok {
		return 0, d.unexpected("four hexadecimal digits")
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if d.i+1 < len(d.b) && d.b[d.i] == '\\' && d.b[d.i+1] == 'u' {
		d.i += 2
		if low, ok := d.hex4(); ok {
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				return r, nil
			}
		}
	}
	return 0, errorString("a string holds half a surrogate pair")
}

func (d *decoder) hex4() (rune, bool) {
	if d.i+4 > len(d.b) {
		return 0, false
	}
	var r rune
	for _, c := range d.b[d.i : d.i+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	d.i += 4
	return r, true
}

// foldKey maps every key to the one that stands for all that Unicode's simple
// folding holds equal: "paramſ" is "params".
func foldKey(k string) string {
	out := make([]byte, 0, len(k))
	for _, r := range k {
		if r < utf8.RuneSelf {
			if 'a' <= r && r <= 'z' {
				r -= 'a' - 'A'
			}
		} else {
			least := r
			for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
				least = min(least, f)
			}
			r = least
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}
