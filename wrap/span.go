package wrap

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A span is a part of a file, in bytes.
type span struct{ start, end int }

// A form is what a node is.
type form byte

const (
	other form = iota // a number, true, null, a date: nothing that wrap changes
	text              // a string
	list              // in brackets, with commas
	table             // names and values, in braces
	lines             // a list of YAML, an element a line, each after a dash
	open              // names and values without braces: a line each
)

// A node is one value of a file and where it stands. The three languages have
// one tree, so that what a configuration means is written once.
type node struct {
	form form
	span
	text    string // of text: what it says
	items   []*node
	members []member

	defined bool // TOML: by a header of its own
	closed  bool // TOML: nothing may be added later
}

// A member is a name and its value. whole begins where the name begins, a
// dotted one of TOML with its first part.
type member struct {
	key   string
	name  span
	whole int
	value *node
}

// get returns the value at a key of a table, or nil.
func (n *node) get(key string) *node {
	if m := n.member(key); m != nil {
		return m.value
	}
	return nil
}

func (n *node) member(key string) *member {
	if n == nil || n.form != table && n.form != open {
		return nil
	}
	for i := range n.members {
		if n.members[i].key == key {
			return &n.members[i]
		}
	}
	return nil
}

// isTable says whether n has names and values.
func (n *node) isTable() bool { return n != nil && (n.form == table || n.form == open) }

// isList says whether n is a list of either kind.
func (n *node) isList() bool { return n != nil && (n.form == list || n.form == lines) }

// isText says whether n is a string.
func (n *node) isText() bool { return n != nil && n.form == text }

// texts returns a list's strings; ok is false where it is none, or holds
// something else.
func (n *node) texts() (out []string, ok bool) {
	if !n.isList() {
		return nil, false
	}
	for _, i := range n.items {
		if i.form != text {
			return nil, false
		}
		out = append(out, i.text)
	}
	return out, true
}

// An edit replaces a span.
type edit struct {
	span
	with string
}

// apply returns src with the edits made. They may not overlap.
func apply(src []byte, edits []edit) []byte {
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		if e.start < at || e.end < e.start || e.end > len(src) {
			panic("wrap: bug: edits overlap")
		}
		out.Write(src[at:e.start])
		out.WriteString(e.with)
		at = e.end
	}
	out.Write(src[at:])
	return out.Bytes()
}

// quote writes s as a string of JSON, of TOML and of YAML alike: in double
// quotes, with what all three escape the same way.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			const hex = "0123456789abcdef"
			b.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hex[r>>shift&15])
			}
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// blank is the white space that ends before i: from the last line break on
// where it holds one.
func blank(src []byte, i int) string {
	j := i
	for j > 0 && (src[j-1] == ' ' || src[j-1] == '\t' || src[j-1] == '\n' || src[j-1] == '\r') {
		j--
	}
	w := string(src[j:i])
	if k := strings.LastIndexByte(w, '\n'); k >= 0 {
		if k > 0 && w[k-1] == '\r' {
			k--
		}
		return w[k:]
	}
	return w
}

// A mistake is what keeps a file from being read, and where.
type mistake struct {
	at   int
	what string
}

func (m *mistake) Error() string { return m.what }

// position is the line and column (in characters) of an offset, from 1.
func position(src []byte, i int) string {
	i = min(i, len(src))
	start := bytes.LastIndexByte(src[:i], '\n') + 1
	return strconv.Itoa(bytes.Count(src[:i], []byte("\n"))+1) + ":" + strconv.Itoa(utf8.RuneCount(src[start:i])+1)
}

const bom = "\xef\xbb\xbf"

// The limits of a file. Over one of them nothing is read.
const (
	maxSource = 64 << 20 // a client keeps its history in the same file
	maxDepth  = 200
	maxNodes  = 4 << 20
)

// nodes counts what is read.
type nodes int

func (n *nodes) more(at, depth int) error {
	if *n++; *n > maxNodes {
		return &mistake{at, "holds too many values"}
	}
	if depth > maxDepth {
		return &mistake{at, "is nested too deeply"}
	}
	return nil
}

// refuses says why a file is not text at all.
func notText(src []byte) error {
	if len(src) > maxSource {
		return &mistake{0, "is larger than 64 MiB"}
	}
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			return &mistake{i, "is not UTF-8"}
		}
		if r == 0 {
			return &mistake{i, "holds a NUL byte"}
		}
		i += n
	}
	return nil
}
