package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// What a server wrote is handed on as it wrote it: the SDK's own types would
// lose what they do not know. So objects are split into their members, and
// only those that must be changed are.

// A member is one key of a JSON object, and its value as it was written.
type member struct {
	key   string
	value json.RawMessage
}

var errNoObject = errors.New("it is not an object")

// members splits an object. The values alias raw. What is no JSON may be taken
// for an object, and fails when it is encoded; it never panics.
func members(raw json.RawMessage) (ms []member, _ error) {
	i := space(raw, 0)
	if i == len(raw) || raw[i] != '{' {
		return nil, errNoObject
	}
	for i = space(raw, i+1); i < len(raw) && raw[i] != '}'; {
		var m member
		end := valueEnd(raw, i)
		if end < 0 || json.Unmarshal(raw[i:end], &m.key) != nil {
			return nil, errNoObject
		}
		if i = space(raw, end); i == len(raw) || raw[i] != ':' {
			return nil, errNoObject
		}
		i = space(raw, i+1)
		if end = valueEnd(raw, i); end < 0 {
			return nil, errNoObject
		}
		m.value = raw[i:end:end]
		ms = append(ms, m)
		if i = space(raw, end); i < len(raw) && raw[i] == ',' {
			i = space(raw, i+1)
		} else if i == len(raw) || raw[i] != '}' {
			return nil, errNoObject
		}
	}
	if i == len(raw) {
		return nil, errNoObject
	}
	return ms, nil
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// valueEnd is where the value that begins at i ends, or -1.
func valueEnd(b []byte, i int) int {
	begin, depth := i, 0
	for i < len(b) {
		switch c := b[i]; {
		case c == '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if i++; i > len(b) {
				return -1
			}
			if depth == 0 {
				return i
			}
			continue
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return ended(begin, i)
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case depth == 0 && (c == ',' || c == ':' || c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			return ended(begin, i)
		}
		i++
	}
	if depth > 0 {
		return -1
	}
	return ended(begin, i)
}

func ended(begin, end int) int {
	if begin == end {
		return -1
	}
	return end
}

// get returns the value of a key, nil where there is none.
func get(ms []member, key string) json.RawMessage {
	for _, m := range ms {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// field returns the value of a key of the object raw, nil where there is none.
func field(raw json.RawMessage, path ...string) json.RawMessage {
	for _, key := range path {
		ms, err := members(raw)
		if err != nil {
			return nil
		}
		raw = get(ms, key)
	}
	return raw
}

// with is ms with a key set to a value, where it stood or behind the others.
// No other member stays whose key some reader would take for that one: a
// second of it, or one that differs by case alone.
func with(ms []member, key string, value json.RawMessage) []member {
	out, set := make([]member, 0, len(ms)+1), false
	for _, m := range ms {
		switch {
		case m.key == key && !set:
			out, set = append(out, member{key, value}), true
		case !strings.EqualFold(m.key, key):
			out = append(out, m)
		}
	}
	if !set {
		out = append(out, member{key, value})
	}
	return out
}

// without is ms without the keys that drop reports true for.
func without(ms []member, drop func(string) bool) []member {
	return slices.DeleteFunc(slices.Clone(ms), func(m member) bool { return drop(m.key) })
}

// compose writes an object.
func compose(ms []member) json.RawMessage {
	n := 2
	for _, m := range ms {
		n += len(m.key) + len(m.value) + 4
	}
	out := append(make([]byte, 0, n), '{')
	for i, m := range ms {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, encode(m.key)...), ':'), m.value...)
	}
	return append(out, '}')
}

// encode writes what can always be written, on one line, and keeps <, > and &
// as they are.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("casemate: bug: %T does not marshal: %v", v, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// ours says whether a key of _meta is one that Casemate alone says.
func ours(key string) bool { return strings.HasPrefix(key, "casemate/") }

// A rawResult is a result as a server wrote it, for the SDK to send.
type rawResult struct {
	sdk.ResultBase // what is added to its _meta
	raw            json.RawMessage
	modern         bool // the client wants a resultType
}

// MarshalJSON is called once for a result, by the SDK.
func (r *rawResult) MarshalJSON() ([]byte, error) {
	ms, err := members(r.raw)
	if err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	meta, err := members(get(ms, "_meta"))
	if err != nil {
		meta = nil // it is none
	}
	meta = without(meta, ours)
	for _, key := range slices.Sorted(maps.Keys(r.Meta)) {
		if get(meta, key) == nil {
			meta = append(meta, member{key, encode(r.Meta[key])})
		}
	}
	switch {
	case len(meta) > 0:
		ms = with(ms, "_meta", compose(meta))
	case get(ms, "_meta") != nil:
		ms = without(ms, func(k string) bool { return k == "_meta" })
	}
	if r.modern && get(ms, "resultType") == nil {
		ms = append(ms, member{"resultType", json.RawMessage(`"complete"`)})
	}
	return compose(ms), nil
}

// rawParams are params as they are to be sent.
type rawParams struct {
	sdk.ParamsBase
	raw json.RawMessage
}

func (p *rawParams) MarshalJSON() ([]byte, error) {
	if p.raw == nil {
		return []byte("{}"), nil
	}
	return p.raw, nil
}
