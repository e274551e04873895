package upstream

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A member is one key of an object and its value, which aliases the text that
// it was read from.
type member struct {
	key   string
	value json.RawMessage
}

const maxMembers = 4096

var errTwice = errors.New("a key stands twice")

// members splits the JSON object b, which json.Valid has seen. A key that
// stands twice has two readings, and is an error.
func members(b []byte) ([]member, error) {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' { // nil, too
		return nil, errors.New("not a JSON object")
	}
	var ms []member
	for i = space(b, i+1); b[i] != '}'; i = space(b, i) {
		if b[i] == ',' {
			i = space(b, i+1)
		}
		end := value(b, i)
		key, err := text(b[i:end])
		if err != nil {
			return nil, err
		}
		i = space(b, space(b, end)+1) // the colon
		end = value(b, i)
		if len(ms) == maxMembers {
			return nil, errors.New("too many keys")
		}
		ms = append(ms, member{key, json.RawMessage(b[i:end:end])})
		i = end
	}
	keys := make([]string, len(ms))
	for i, m := range ms {
		keys[i] = m.key
	}
	slices.Sort(keys)
	if len(slices.Compact(keys)) < len(ms) {
		return nil, errTwice
	}
	return ms, nil
}

// elements splits the JSON array b, which json.Valid has seen; at most most.
func elements(b []byte, most int) ([]json.RawMessage, error) {
	i := space(b, 0)
	if i >= len(b) || b[i] != '[' {
		return nil, errors.New("not a JSON array")
	}
	var out []json.RawMessage
	for i = space(b, i+1); b[i] != ']'; i = space(b, i) {
		if b[i] == ',' {
			i = space(b, i+1)
		}
		if len(out) == most {
			return nil, fmt.Errorf("more than %d elements", most)
		}
		end := value(b, i)
		out = append(out, json.RawMessage(b[i:end:end]))
		i = end
	}
	return out, nil
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// value returns where the value that begins at i ends.
func value(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r':
			i++
			continue
		default: // a number or a word
			for i < len(b) && !bytes.ContainsRune([]byte(",:]} \t\n\r"), rune(b[i])) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

// text is the string that b writes.
func text(b []byte) (string, error) {
	if len(b) >= 2 && b[0] == '"' && bytes.IndexByte(b, '\\') < 0 && utf8.Valid(b) {
		return string(b[1 : len(b)-1]), nil
	}
	var s string
	if len(b) == 0 || b[0] != '"' {
		return "", errors.New("not a string")
	}
	err := json.Unmarshal(b, &s)
	return s, err
}

// field returns the value of a key of the JSON object b; nil where there is
// none, or b is no such object.
func field(b json.RawMessage, key string) json.RawMessage {
	if !json.Valid(b) {
		return nil
	}
	ms, err := members(b)
	if err != nil {
		return nil
	}
	for _, m := range ms {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// str is field where it is a string, and "" elsewhere.
func str(b json.RawMessage, key string) string {
	s, err := text(field(b, key))
	if err != nil {
		return ""
	}
	return s
}

// with returns the JSON object b with one key set to v, or, where v is nil,
// without it; nor does it have one that differs from it by case alone. What is
// no object is taken for an empty one.
func with(b json.RawMessage, key string, v json.RawMessage) json.RawMessage {
	var ms []member
	if json.Valid(b) {
		ms, _ = members(b)
	}
	ms = slices.DeleteFunc(ms, func(m member) bool { return strings.EqualFold(m.key, key) })
	if v != nil {
		ms = append(ms, member{key, v})
	}
	return object(ms)
}

func object(ms []member) json.RawMessage {
	out := []byte{'{'}
	for i, m := range ms {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, quoted(m.key)...)
		out = append(append(out, ':'), m.value...)
	}
	return append(out, '}')
}

// quoted writes s as a JSON string.
func quoted(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil { // which no string gives
		return json.RawMessage(`""`)
	}
	return b
}

// single returns v as text of one line, which a message must be.
func single(v json.RawMessage) (json.RawMessage, error) {
	if len(v) == 0 {
		return nil, nil
	}
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 && json.Valid(v) {
		return v, nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

const maxNesting = 64

// canonical returns v with the keys of its objects sorted and nothing between
// the tokens: two texts with the same canonical form say the same. Numbers
// stay as they are written, strings are written anew.
func canonical(v json.RawMessage) ([]byte, error) {
	if !json.Valid(v) {
		return nil, errors.New("not JSON")
	}
	return appendCanonical(nil, v, 0)
}

func appendCanonical(out []byte, v json.RawMessage, depth int) ([]byte, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("nested deeper than %d", maxNesting)
	}
	i := space(v, 0)
	switch v[i] {
	case '{':
		ms, err := members(v)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(ms, func(a, b member) int { return cmp.Compare(a.key, b.key) })
		out = append(out, '{')
		for i, m := range ms {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(append(out, quoted(m.key)...), ':')
			if out, err = appendCanonical(out, m.value, depth+1); err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	case '[':
		es, err := elements(v, 1<<20)
		if err != nil {
			return nil, err
		}
		out = append(out, '[')
		for i, e := range es {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = appendCanonical(out, e, depth+1); err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	case '"':
		s, err := text(v[i:value(v, i)])
		if err != nil {
			return nil, err
		}
		return append(out, quoted(s)...), nil
	}
	return append(out, v[i:value(v, i)]...), nil
}

// An envelope is one message of the server.
type envelope struct {
	id, method, params, result, error json.RawMessage
	name                              string // method, read
}

var errNoMessage = errors.New("not a JSON-RPC message")

// parse reads the envelope of a message.
func parse(b []byte) (envelope, error) {
	var e envelope
	if !json.Valid(b) {
		return e, errors.New("not JSON")
	}
	if !utf8.Valid(b) {
		b = bytes.ToValidUTF8(b, []byte("\uFFFD"))
	}
	ms, err := members(b)
	if err != nil {
		return e, err
	}
	version := ""
	for _, m := range ms {
		switch m.key {
		case "jsonrpc":
			version, _ = text(m.value)
		case "id":
			e.id = m.value
		case "method":
			e.method = m.value
		case "params":
			e.params = m.value
		case "result":
			e.result = m.value
		case "error":
			e.error = m.value
		}
	}
	if version != "2.0" {
		return e, errNoMessage
	}
	if e.method != nil {
		if e.name, err = text(e.method); err != nil || e.result != nil || e.error != nil {
			return e, errNoMessage
		}
		return e, nil
	}
	if e.id == nil || (e.result == nil) == (e.error == nil) {
		return e, errNoMessage
	}
	return e, nil
}

// request is the text of a request, or, without an id, of a notification.
func request(id uint64, method string, params json.RawMessage) []byte {
	b := []byte(`{"jsonrpc":"2.0"`)
	if id != 0 {
		b = strconv.AppendUint(append(b, `,"id":`...), id, 10)
	}
	b = append(append(b, `,"method":`...), quoted(method)...)
	if params != nil {
		b = append(append(b, `,"params":`...), params...)
	}
	return append(b, '}')
}

func response(id json.RawMessage, key string, v json.RawMessage) []byte {
	b := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	b = append(append(append(b, `,"`...), key...), `":`...)
	return append(append(b, v...), '}')
}
