package wrap

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// readYAML reads one document of YAML. The parser says where a node begins;
// where it ends is found here, and only for what wrap edits: a scalar on one
// line, a list. Whatever is not plain (an anchor, an alias, a tag, a scalar
// of several lines) is a node of form other, so that a server that uses it is
// left alone.
func readYAML(src []byte) (root *node, err error) {
	defer func() {
		if r := recover(); r != nil { // of the parser: the text found a bug of it
			root, err = nil, &mistake{0, "cannot be parsed as YAML"}
		}
	}()
	r := &yamlReader{src: src}
	if bytes.HasPrefix(src, []byte(bom)) {
		r.base = len(bom)
	}
	if err := r.index(); err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(src[r.base:]))
	var doc, next yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &node{form: open}, nil
	case err != nil:
		return nil, r.syntax(err)
	case len(doc.Content) != 1:
		return &node{form: open}, nil
	}
	if err := d.Decode(&next); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, r.syntax(err)
		}
		return nil, &mistake{0, "holds more than one document"}
	}
	return r.node(doc.Content[0], 0)
}

type yamlReader struct {
	src   []byte
	base  int   // bytes before the text: a byte order mark
	lines []int // offset of each line
	count nodes
}

// index finds the lines. A line break that other programs take for none would
// put every position after it elsewhere.
func (r *yamlReader) index() error {
	r.lines = []int{r.base}
	for i := r.base; i < len(r.src); {
		c, n := utf8.DecodeRune(r.src[i:])
		switch {
		case c == '\n':
			r.lines = append(r.lines, i+1)
		case c == '\r' && !bytes.HasPrefix(r.src[i:], []byte("\r\n")), c == 0x85, c == 0x2028, c == 0x2029, c == 0xfeff:
			return &mistake{i, "holds a line break or mark that only some programs know"}
		}
		i += n
	}
	return nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax makes an error of the parser one of ours. Its text may quote the
// file, and so is left out.
func (r *yamlReader) syntax(err error) error {
	at := 0
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
		if n, _ := strconv.Atoi(m[1]); n > 0 && n <= len(r.lines) {
			at = r.lines[n-1]
		}
	}
	return &mistake{at, "is not YAML"}
}

// offset is where a node begins; ok is false where that is no place.
func (r *yamlReader) offset(n *yaml.Node) (int, bool) {
	if n.Line < 1 || n.Line > len(r.lines) || n.Column < 1 {
		return 0, false
	}
	i := r.lines[n.Line-1]
	for range n.Column - 1 {
		if i >= len(r.src) || r.src[i] == '\n' {
			return 0, false
		}
		_, w := utf8.DecodeRune(r.src[i:])
		i += w
	}
	return i, true
}

func (r *yamlReader) node(y *yaml.Node, depth int) (*node, error) {
	at, ok := r.offset(y)
	if err := r.count.more(at, depth); err != nil {
		return nil, err
	}
	n := &node{form: other, span: span{at, at}, text: y.Value}
	plain := ok && y.Anchor == "" && y.Style&yaml.TaggedStyle == 0
	switch y.Kind {
	case yaml.ScalarNode:
		if plain && y.Tag == "!!str" {
			r.scalar(y, n)
		}
	case yaml.SequenceNode:
		for _, c := range y.Content {
			v, err := r.node(c, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, v)
		}
		switch {
		case !plain:
		case y.Style&yaml.FlowStyle != 0 && r.src[at] == '[':
			n.form = list
		case y.Style&yaml.FlowStyle == 0 && len(n.items) > 0 && r.src[at] == '-':
			n.form = lines
		}
	case yaml.MappingNode:
		return n, r.mapping(y, n, plain, depth)
	}
	return n, nil
}

func (r *yamlReader) mapping(y *yaml.Node, n *node, plain bool, depth int) error {
	seen := map[string]bool{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		k := y.Content[i]
		at, ok := r.offset(k)
		if k.Kind != yaml.ScalarNode || k.Anchor != "" || k.Style&yaml.TaggedStyle != 0 || !ok {
			plain = false // not a name that one can look up
		}
		if seen[k.Value] {
			return &mistake{at, "the name " + quote(k.Value) + " stands twice in one table"}
		}
		seen[k.Value] = true
		v, err := r.node(y.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		key := &node{span: span{at, at}}
		if r.scalar(k, key); key.form != text {
			plain = false
		}
		n.members = append(n.members, member{k.Value, key.span, at, v})
	}
	switch {
	case !plain:
	case y.Style&yaml.FlowStyle != 0:
		n.form = table
	default:
		n.form = open
	}
	return nil
}

// scalar sets n to the scalar y if it stands on one line as it reads.
func (r *yamlReader) scalar(y *yaml.Node, n *node) {
	rest := r.src[n.start:]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = bytes.TrimSuffix(rest[:i], []byte("\r"))
	}
	end := -1
	switch {
	case y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
	case y.Style&yaml.DoubleQuotedStyle != 0:
		for i := 1; i < len(rest); i++ {
			if rest[i] == '\\' {
				i++
			} else if rest[i] == '"' {
				end = i + 1
				break
			}
		}
	case y.Style&yaml.SingleQuotedStyle != 0:
		for i := 1; i < len(rest); i++ {
			if rest[i] != '\'' {
				continue
			}
			if i+1 < len(rest) && rest[i+1] == '\'' {
				i++
				continue
			}
			end = i + 1
			break
		}
	case y.Value != "" && strings.HasPrefix(string(rest), y.Value):
		end = len(y.Value)
	}
	if end > 0 {
		n.form, n.text, n.end = text, y.Value, n.start+end
	}
}
