package catalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// The limits of the schema of a tool's parameters.
const (
	maxSchema   = 64 << 10
	maxDigits   = 64
	maxExponent = 400
)

// parameters is what a tool takes.
type parameters struct {
	node     *yaml.Node // nil if the manifest leaves them out
	json     json.RawMessage
	names    []string // of properties, in order of writing
	required []string
}

// parameters checks the schema at n and brings it to canonical JSON: keys
// sorted, numbers as they were written. Where it says nothing of further
// arguments, there are none.
func (b *builder) parameters(n *yaml.Node, key string) *parameters {
	p := &parameters{node: n, json: json.RawMessage(`{"additionalProperties":false,"properties":{},"type":"object"}`)}
	if n == nil {
		return p
	}
	before := b.count()
	if t := get(n, "type"); t == nil || t.Kind != yaml.ScalarNode || t.Value != "object" {
		b.add(orKey(t, n), key+".type", "the parameters of a tool are an object; write type: object")
	}
	b.schema(n, key, 1)
	var buf bytes.Buffer
	b.writeJSON(&buf, n, key)
	if b.count() > before {
		return p
	}
	if !has(n, "additionalProperties", "unevaluatedProperties", "patternProperties", "allOf", "anyOf", "oneOf", "if", "$ref", "dependentSchemas") {
		buf.Reset()
		closed := &yaml.Node{Kind: yaml.MappingNode, Content: append(slices.Clone(n.Content),
			&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "additionalProperties"}, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "false"})}
		b.writeJSON(&buf, closed, key)
	}
	if buf.Len() > maxSchema {
		b.add(n, key, "is larger than 64 KiB as JSON")
		return p
	}
	if at, why := compile(buf.Bytes()); why != "" {
		where, path := n, key
		for _, k := range at {
			if c := child(where, k); c != nil {
				where, path = c, join(path, k)
			}
		}
		b.add(where, path, "is not a JSON Schema: %s", why)
		return p
	}
	p.json = buf.Bytes()
	if props := get(n, "properties"); props != nil {
		for i := 0; i < len(props.Content); i += 2 {
			p.names = append(p.names, props.Content[i].Value)
		}
	}
	p.required = texts(get(n, "required"))
	for i, r := range p.required {
		if !slices.Contains(p.names, r) && get(n, "properties") != nil {
			b.add(get(n, "required").Content[i], key+".required", "%s is not among the properties%s", shown(r), maybe(r, p.names))
		}
	}
	return p
}

func has(n *yaml.Node, keys ...string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return get(n, k) != nil })
}

func orKey(n, other *yaml.Node) *yaml.Node {
	if n != nil {
		return n
	}
	return other
}

// child is the value at a key or an index.
func child(n *yaml.Node, k string) *yaml.Node {
	if n.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(k); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i]
		}
		return nil
	}
	return get(n, k)
}

// schema refuses what makes a validator read beyond the schema: references
// that are not into itself, and names under which others could refer to it.
func (b *builder) schema(n *yaml.Node, key string, depth int) {
	switch n.Kind {
	case yaml.SequenceNode:
		for i, c := range n.Content {
			b.schema(c, fmt.Sprintf("%s[%d]", key, i), depth+1)
		}
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			at := join(key, k.Value)
			switch k.Value {
			case "properties", "$defs", "definitions", "patternProperties", "dependentSchemas":
				if v.Kind == yaml.MappingNode { // names, not keywords
					for j := 0; j < len(v.Content); j += 2 {
						b.schema(v.Content[j+1], join(at, v.Content[j].Value), depth+2)
					}
					continue
				}
			case "default", "const", "enum", "examples":
				continue // values, not schemas
			case "$ref", "$dynamicRef", "$recursiveRef":
				if v.Kind != yaml.ScalarNode || !strings.HasPrefix(v.Value, "#") {
					b.add(v, at, "%s refers outside the schema; only references that begin with # are followed", found(v))
				}
				continue
			case "$schema":
				if v.Value != "https://json-schema.org/draft/2020-12/schema" {
					b.add(v, at, "%s is not the dialect that is used: https://json-schema.org/draft/2020-12/schema", found(v))
				}
				continue
			case "$id", "$vocabulary", "id":
				b.add(k, at, "%s is refused: a schema of parameters has no name of its own", k.Value)
				continue
			}
			b.schema(v, at, depth+1)
		}
	}
}

// number is what JSON calls one.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// writeJSON writes n as JSON with sorted keys.
func (b *builder) writeJSON(w *bytes.Buffer, n *yaml.Node, key string) {
	switch n.Kind {
	case yaml.SequenceNode:
		w.WriteByte('[')
		for i, c := range n.Content {
			if i > 0 {
				w.WriteByte(',')
			}
			b.writeJSON(w, c, fmt.Sprintf("%s[%d]", key, i))
		}
		w.WriteByte(']')
		return
	case yaml.MappingNode:
		var keys []string
		for i := 0; i < len(n.Content); i += 2 {
			keys = append(keys, n.Content[i].Value)
		}
		slices.Sort(keys)
		w.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				w.WriteByte(',')
			}
			writeString(w, k)
			w.WriteByte(':')
			b.writeJSON(w, get(n, k), join(key, k))
		}
		w.WriteByte('}')
		return
	}
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch v := n.Value; n.Tag {
	case "!!null":
		w.WriteString("null")
	case "!!bool":
		w.WriteString(strings.ToLower(v))
	case "!!int", "!!float":
		if why := badNumber(v); why != "" {
			b.add(n, key, "%s %s", shown(v), why)
			return
		}
		w.WriteString(v)
	case "!!str":
		switch {
		case plain && looksBoolean(v):
			b.add(n, key, "%s is true or false to some readers of YAML: put it in quotes", shown(v))
		case plain && jsonNumber.MatchString(v): // too large for the YAML parser, which then calls it text
			b.add(n, key, "%s %s", shown(v), cmp.Or(badNumber(v), "is too large a number"))
		}
		writeString(w, v)
	default:
		b.add(n, key, "%s is read as %s: put it in quotes", shown(v), strings.TrimPrefix(n.Tag, "!!"))
	}
}

func writeString(w *bytes.Buffer, s string) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // a string always encodes
		panic("catalog: bug: " + err.Error())
	}
	w.Truncate(w.Len() - 1) // the newline
}

// badNumber says why a number is refused: not JSON, or so large that
// arithmetic on it would hurt (huge-number).
func badNumber(s string) string {
	if !jsonNumber.MatchString(s) {
		return "is not a number of JSON"
	}
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i+1:]
	}
	if len(mantissa) > maxDigits {
		return fmt.Sprintf("has more than %d digits", maxDigits)
	}
	if exponent != "" {
		if e, err := strconv.Atoi(exponent); err != nil || e > maxExponent || e < -maxExponent {
			return fmt.Sprintf("has an exponent beyond %d", maxExponent)
		}
	}
	return ""
}

// compile says where and why src is not a JSON Schema; "" if it is one. It
// reads nothing but src.
func compile(src []byte) (at []string, why string) {
	defer func() {
		if recover() != nil {
			why = "its compiler gave up"
		}
	}()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(src))
	if err != nil {
		return nil, visible(err.Error())
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	if err := c.AddResource(schemaName, doc); err != nil {
		return nil, "it cannot be read"
	}
	_, err = c.Compile(schemaName)
	if err == nil {
		return nil, ""
	}
	if v, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if e, ok := errors.AsType[*jsonschema.ValidationError](v.Err); ok {
			for len(e.Causes) > 0 {
				e = e.Causes[0]
			}
			why := e.Error()
			if i := strings.LastIndex(why, "': "); i >= 0 {
				why = why[i+3:]
			}
			return e.InstanceLocation, visible(strings.TrimSpace(why))
		}
	}
	return nil, visible(strings.ReplaceAll(err.Error(), schemaName, ""))
}

const schemaName = "casemate:///parameters" // hierarchical, so that a relative reference leads away from it

// A noLoader follows no reference (schema-ref).
type noLoader struct{}

func (noLoader) Load(string) (any, error) {
	return nil, errors.New("it refers outside itself")
}

// only checks the parameters of a runner that takes one argument, and sets
// them if they are left out.
func (b *builder) only(p *parameters, name, doc, runner, key string) {
	if p.node == nil {
		var w bytes.Buffer
		w.WriteString(`{"additionalProperties":false,"properties":{"` + name + `":{"description":`)
		writeString(&w, doc)
		w.WriteString(`,"type":"string"}},"required":["` + name + `"],"type":"object"}`)
		p.json, p.names, p.required = w.Bytes(), []string{name}, []string{name}
		return
	}
	if len(p.names) == 0 && get(p.node, "properties") == nil {
		b.add(p.node, key+".parameters", "%s takes the argument %q; add it under properties, or leave parameters out", runner, name)
		return
	}
	props := get(p.node, "properties")
	for _, n := range p.names {
		if n != name {
			b.add(getKey(props, n), join(key+".parameters.properties", n), "%s takes the argument %q alone; nothing would use %s", runner, name, shown(n))
		}
	}
	if !slices.Contains(p.names, name) {
		b.add(props, key+".parameters.properties", "%s takes the argument %q, which is not here", runner, name)
	} else if t := get(get(props, name), "type"); t == nil || t.Value != "string" {
		b.add(get(props, name), join(key+".parameters.properties", name), "must have type: string")
	} else if !slices.Contains(p.required, name) {
		b.add(p.node, key+".parameters.required", "%s cannot run without %q; write required: [%s]", runner, name, name)
	}
}
