package catalog

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/casemate/casemate/internal/nearest"
	"go.yaml.in/yaml/v3"
)

// A kind is what sort of value stands at a key.
type kind int

const (
	text kind = iota
	number
	integer
	boolean
	list
	object   // keys that we name
	mapping  // keys that the author names
	anything // a JSON value; what it means is checked elsewhere
	either   // one of several kinds
)

// A shape says what a value must be. The decoder checks against it and the
// JSON Schema is made from it, so that there is one place to read and to
// change.
type shape struct {
	kind kind
	doc  string

	fields    []field           // of object
	one       []string          // of object: exactly one of these fields must stand
	elsewhere map[string]string // of object: why a key that one might expect is not here

	of      *shape // of list and mapping: the values
	keys    string // of mapping: regular expression of the names
	keyWhat string

	enum     []string       // of text
	form     *regexp.Regexp // of text
	what     string         // the form in words
	most     int            // of text: bytes; of list and mapping: how many; 0 is no bound
	least    int            // the same
	distinct bool           // of list

	min, max float64 // of number and integer
	above    bool    // min itself is too little

	alts []*shape // of either; no two take the same kind of node
}

type field struct {
	name  string
	shape *shape
	must  bool
}

// takes says whether a value of n's kind can be of shape s at all.
func (s *shape) takes(n *yaml.Node) bool {
	switch s.kind {
	case list:
		return n.Kind == yaml.SequenceNode
	case object, mapping:
		return n.Kind == yaml.MappingNode
	case integer:
		return n.Kind == yaml.ScalarNode && n.Tag == "!!int"
	case number:
		return n.Kind == yaml.ScalarNode && (n.Tag == "!!int" || n.Tag == "!!float")
	case boolean:
		return n.Kind == yaml.ScalarNode && n.Tag == "!!bool"
	case text:
		return n.Kind == yaml.ScalarNode && n.Tag == "!!str"
	case either:
		return slices.ContainsFunc(s.alts, func(a *shape) bool { return a.takes(n) })
	}
	return true
}

// called is the shape's kind in words.
func (s *shape) called() string {
	switch s.kind {
	case list:
		return "a list"
	case object, mapping:
		return "a mapping"
	case integer:
		return "a whole number"
	case number:
		return "a number"
	case boolean:
		return "true or false"
	case either:
		var w []string
		for _, a := range s.alts {
			w = append(w, a.called())
		}
		return strings.Join(w, " or ")
	}
	if len(s.enum) > 0 {
		return strings.Join(s.enum, ", ")
	}
	if s.what != "" {
		return s.what
	}
	return "text"
}

// found is a node in words.
func found(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Tag == "!!null":
		return "nothing"
	}
	return shown(n.Value)
}

// check adds everything that is wrong with n as a value of shape s.
func (s *shape) check(p *problems, n *yaml.Node, path string) {
	if s.kind == either {
		for _, a := range s.alts {
			if a.takes(n) {
				a.check(p, n, path)
				return
			}
		}
	}
	if !s.takes(n) {
		why := ""
		switch {
		case s.kind == text && n.Kind == yaml.ScalarNode && n.Tag != "!!null" && len(s.enum) == 0:
			why = "; put it in quotes if it is meant as text"
		case s.kind == boolean && n.Kind == yaml.ScalarNode:
			why = "; YAML 1.1's yes and no are not taken"
		case (s.kind == object || s.kind == mapping) && n.Tag == "!!null":
			why = "; write {} for an empty one"
		}
		p.add(n, path, "must be %s, not %s%s", s.called(), found(n), why)
		return
	}
	switch s.kind {
	case text:
		s.checkText(p, n, path)
	case integer, number:
		s.checkNumber(p, n, path)
	case list:
		s.checkCount(p, n, path, len(n.Content))
		seen := map[string]bool{}
		for i, c := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			s.of.check(p, c, at)
			if s.distinct && c.Kind == yaml.ScalarNode {
				if seen[c.Value] {
					p.add(c, at, "%s stands here twice", shown(c.Value))
				}
				seen[c.Value] = true
			}
		}
	case mapping:
		s.checkCount(p, n, path, len(n.Content)/2)
		names := regexp.MustCompile(s.keys)
		for i := 0; i < len(n.Content); i += 2 {
			k := n.Content[i]
			if !names.MatchString(k.Value) {
				p.add(k, join(path, k.Value), "%s is not %s", shown(k.Value), s.keyWhat)
				continue
			}
			s.of.check(p, n.Content[i+1], join(path, k.Value))
		}
	case object:
		s.checkObject(p, n, path)
	}
}

func (s *shape) checkText(p *problems, n *yaml.Node, path string) {
	v := n.Value
	switch {
	case len(s.enum) > 0:
		if !slices.Contains(s.enum, v) {
			p.add(n, path, "%s is not one of %s%s", shown(v), strings.Join(s.enum, ", "), maybe(v, s.enum))
		}
	case looksBoolean(v) && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0:
		p.add(n, path, "%s is true or false to some readers of YAML: put it in quotes", shown(v))
	case s.most > 0 && len(v) > s.most:
		p.add(n, path, "is %d bytes long; at most %d are allowed", len(v), s.most)
	case len(v) < s.least:
		p.add(n, path, "must not be empty")
	case strings.ContainsRune(v, 0):
		p.add(n, path, "holds a NUL byte")
	case s.form != nil && !s.form.MatchString(v):
		p.add(n, path, "%s is not %s", shown(v), s.what)
	}
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

func (s *shape) checkNumber(p *problems, n *yaml.Node, path string) {
	f, err := strconv.ParseFloat(n.Value, 64)
	bound := fmt.Sprintf("from %s to %s", plainFloat(s.min), plainFloat(s.max))
	if s.above {
		bound = fmt.Sprintf("above %s, at most %s", plainFloat(s.min), plainFloat(s.max))
	}
	switch {
	case len(n.Value) > 64 || !decimal.MatchString(n.Value):
		p.add(n, path, "%s is not a plain decimal number", shown(n.Value))
	case err != nil || math.IsNaN(f) || f < s.min || f > s.max || s.above && f == s.min:
		p.add(n, path, "%s is out of range: %s", shown(n.Value), bound)
	}
}

func plainFloat(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func (s *shape) checkCount(p *problems, n *yaml.Node, path string, count int) {
	if count < s.least {
		what := "must not be empty"
		if s.what != "" {
			what += ": " + s.what
		}
		p.add(n, path, "%s", what)
	}
	if s.most > 0 && count > s.most {
		p.add(n, path, "has %d entries; at most %d are allowed", count, s.most)
	}
}

func (s *shape) checkObject(p *problems, n *yaml.Node, path string) {
	var names []string
	for _, f := range s.fields {
		names = append(names, f.name)
	}
	var chosen []*yaml.Node
	meant := map[string]bool{} // by a key that is misspelt
	for i := 0; i < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		j := slices.Index(names, k.Value)
		if j < 0 {
			why := maybe(k.Value, names)
			meant[nearest.To(k.Value, names)] = true
			if w := s.elsewhere[k.Value]; w != "" {
				why = "; " + w
			} else if why == "" && len(names) == 0 {
				why = "; there are none here"
			} else if why == "" {
				why = "; the keys here are " + strings.Join(names, ", ")
			}
			p.add(k, join(path, k.Value), "unknown key %s%s", shown(k.Value), why)
			continue
		}
		if slices.Contains(s.one, k.Value) {
			chosen = append(chosen, k)
		}
		s.fields[j].shape.check(p, v, join(path, k.Value))
	}
	for _, f := range s.fields {
		if f.must && get(n, f.name) == nil && !meant[f.name] {
			p.add(n, join(path, f.name), "is missing")
		}
	}
	switch {
	case len(s.one) > 0 && len(chosen) == 0:
		p.add(n, path, "one of %s is missing", strings.Join(s.one, ", "))
	case len(chosen) > 1:
		for _, k := range chosen[1:] {
			p.add(k, join(path, k.Value), "%s contradicts %s at line %d: exactly one of %s may stand here",
				shown(k.Value), shown(chosen[0].Value), chosen[0].Line, strings.Join(s.one, ", "))
		}
	}
}

// get is the value of a key, or nil.
func get(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// getKey is the key itself, for a message; n if it is not there.
func getKey(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i]
		}
	}
	return n
}

// str is the text of a key, or "".
func str(n *yaml.Node, key string) string {
	if v := get(n, key); v != nil {
		return v.Value
	}
	return ""
}

// texts is a list of text.
func texts(n *yaml.Node) []string {
	if n == nil {
		return nil
	}
	var out []string
	for _, c := range n.Content {
		out = append(out, c.Value)
	}
	return out
}

// integerOf is a checked whole number; 0 if n is nil.
func integerOf(n *yaml.Node) int {
	if n == nil {
		return 0
	}
	i, _ := strconv.Atoi(n.Value)
	return i
}
