package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// The limits of a file. Over one of them nothing is read (parser-cap).
const (
	maxSource = 1 << 20
	maxDepth  = 32
	maxNodes  = 100_000 // aliases count each time
	maxTools  = 1000
)

// read returns the one document of src as a tree without aliases, tags and
// merge keys, or adds what is wrong with it.
func read(p *problems, src []byte) (root *yaml.Node) {
	defer func() {
		if r := recover(); r != nil { // of the parser: hostile text found a bug of it
			p.add(nil, "", "cannot be parsed as YAML")
			root = nil
		}
	}()
	if len(src) > maxSource {
		p.add(nil, "", "is larger than 1 MiB")
		return nil
	}
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	if i := badByte(src); i >= 0 {
		what := "holds a NUL byte"
		if src[i] != 0 {
			what = "is not UTF-8: byte " + fmt.Sprintf("%#02x", src[i])
		}
		p.add(at(src, i), "", "%s", what)
		return nil
	}
	var doc *yaml.Node
	if strings.HasSuffix(p.file, ".json") {
		doc = readJSON(p, src)
	} else {
		doc = readYAML(p, src)
	}
	if doc == nil {
		return nil
	}
	nodes := 0
	return plain(p, doc, 1, &nodes)
}

// badByte is the index of the first NUL or the first byte that is not UTF-8;
// -1 if there is none.
func badByte(src []byte) int {
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == 0 || r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// at is a node at the byte offset i, for a message.
func at(src []byte, i int) *yaml.Node {
	before := src[:i]
	start := bytes.LastIndexByte(before, '\n') + 1
	return &yaml.Node{Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[start:]) + 1}
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

func readYAML(p *problems, src []byte) *yaml.Node {
	d := yaml.NewDecoder(bytes.NewReader(src))
	var doc, next yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		p.add(nil, "", "is empty")
		return nil
	case err != nil:
		p.syntax(err)
		return nil
	case len(doc.Content) != 1:
		p.add(&doc, "", "holds no document")
		return nil
	}
	switch err := d.Decode(&next); {
	case errors.Is(err, io.EOF):
		return doc.Content[0]
	case err != nil:
		p.syntax(err)
	default:
		p.add(&next, "", "a second document begins here; a configuration is one document")
	}
	return nil
}

// syntax adds an error of the YAML parser, which knows the line and says it
// in its text.
func (p *problems) syntax(err error) {
	msg, n := err.Error(), &yaml.Node{Column: 1}
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		n.Line, _ = strconv.Atoi(m[1])
		msg = msg[len(m[0]):]
	}
	p.add(n, "", "not YAML: %s", visible(strings.TrimPrefix(msg, "yaml: ")))
}

// readJSON builds the same tree from JSON, which is not quite a subset of
// what the YAML parser reads (escaped surrogates).
func readJSON(p *problems, src []byte) *yaml.Node {
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	start := 0 // of the token that is read
	token := func() (json.Token, error) {
		start = int(d.InputOffset())
		for start < len(src) && strings.IndexByte(" \t\r\n,:", src[start]) >= 0 {
			start++
		}
		return d.Token()
	}
	fail := func(err error) *yaml.Node {
		msg := strings.TrimPrefix(err.Error(), "json: ")
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			msg = "the text ends too early"
		}
		p.add(at(src, start), "", "not JSON: %s", visible(msg))
		return nil
	}
	var value func(depth int) (*yaml.Node, error)
	value = func(depth int) (*yaml.Node, error) {
		if depth > maxDepth+1 { // one more, so that plain says it with its place
			return nil, fmt.Errorf("nested deeper than %d", maxDepth)
		}
		t, err := token()
		if err != nil {
			return nil, err
		}
		n := at(src, start)
		switch t := t.(type) {
		case json.Delim:
			n.Kind, n.Tag, n.Style = yaml.MappingNode, "!!map", yaml.FlowStyle
			if t == '[' {
				n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
			}
			for d.More() {
				c, err := value(depth + 1)
				if err != nil {
					return nil, err
				}
				n.Content = append(n.Content, c)
			}
			_, err = token()
			return n, err
		case string:
			n.Kind, n.Tag, n.Style, n.Value = yaml.ScalarNode, "!!str", yaml.DoubleQuotedStyle, t
		case json.Number:
			n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!int", t.String()
			if strings.ContainsAny(n.Value, ".eE") {
				n.Tag = "!!float"
			}
		case bool:
			n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!bool", strconv.FormatBool(t)
		case nil:
			n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!null", "null"
		}
		return n, nil
	}
	doc, err := value(1)
	if err != nil {
		return fail(err)
	}
	if _, err := token(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("something follows the value")
		}
		return fail(err)
	}
	return doc
}

// plain copies n with its aliases put in their places. It refuses tags, merge
// keys, duplicate keys, keys that are not text, and more than the limits.
func plain(p *problems, n *yaml.Node, depth int, nodes *int) *yaml.Node {
	here := n
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	*nodes++
	switch {
	case depth > maxDepth:
		p.add(here, "", "nested deeper than %d", maxDepth)
		return nil
	case *nodes > maxNodes:
		p.add(here, "", "more than %d values, counting each use of an alias", maxNodes)
		return nil
	case n.Style&yaml.TaggedStyle != 0:
		p.add(n, "", "the tag %s is not allowed: a value is what it looks like", shown(n.Tag))
		return nil
	}
	out := &yaml.Node{Kind: n.Kind, Style: n.Style, Tag: n.ShortTag(), Value: n.Value, Line: n.Line, Column: n.Column}
	seen := map[string]*yaml.Node{}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			k := c
			for k.Kind == yaml.AliasNode {
				k = k.Alias
			}
			switch {
			case k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge":
				p.add(c, "", "the merge key << is not allowed: write the keys out")
				return nil
			case k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str":
				p.add(c, "", "a key must be text; put it in quotes")
				return nil
			case k.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 && looksBoolean(k.Value):
				p.add(c, "", "%s is true or false to some readers of YAML: put it in quotes", shown(k.Value))
				return nil
			}
			if first := seen[k.Value]; first != nil {
				p.add(c, "", "duplicate key %s; it stands at line %d already", shown(k.Value), first.Line)
				return nil
			}
			seen[k.Value] = c
		}
		d := plain(p, c, depth+1, nodes)
		if d == nil {
			return nil
		}
		out.Content = append(out.Content, d)
	}
	return out
}

// looksBoolean says whether YAML 1.1 reads s as true or false where YAML 1.2
// reads text; two readers of one file must not differ.
func looksBoolean(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off":
		return true
	}
	return false
}
