package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/casemate/casemate"
)

// maxArguments is the most that the arguments of one call may take, in
// bytes: what one frame to a guest holds.
const maxArguments = 16 << 20

// arguments returns the JSON object of a call: from file ("-" is standard
// input), or from pairs k=v. A file is handed on as it is: the router, not
// this process, decodes and validates it.
func arguments(t *casemate.Tool, pairs []string, file string, stdin io.Reader) (json.RawMessage, error) {
	if file == "" {
		return parsePairs(t, pairs)
	}
	if len(pairs) > 0 {
		return nil, invalid("call", "give the arguments as k=v, or all of them in the file", "both --args and k=v are given")
	}
	r := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, invalid("call", "name a file that can be read, or - for standard input", "--args: %w", err)
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxArguments+1))
	if err != nil {
		return nil, invalid("call", "name a file that can be read, or - for standard input", "--args: %w", err)
	}
	if len(b) > maxArguments {
		return nil, invalid("call", "pass less; a tool can read files that it is granted", "the arguments are longer than %d bytes", maxArguments)
	}
	return b, nil
}

// parsePairs makes an object of k=v: where the schema of t says that k is a
// string the text is its value as it stands; else v is JSON, and what is not
// JSON is a string. The router validates what comes out.
func parsePairs(t *casemate.Tool, pairs []string) (json.RawMessage, error) {
	types := propertyTypes(t.Parameters)
	var b bytes.Buffer
	seen := map[string]bool{}
	b.WriteByte('{')
	for i, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, invalid("call", "write it as name=value", "%q is not an argument", p)
		}
		if seen[k] {
			return nil, invalid("call", "give each argument once", "argument %q stands twice", k)
		}
		if !utf8.ValidString(p) {
			return nil, invalid("call", "pass text in UTF-8, or encode bytes as base64 where the tool takes that", "argument %q is not valid UTF-8", k)
		}
		seen[k] = true
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(quote(k))
		b.WriteByte(':')
		if !types[k]["string"] && json.Valid([]byte(v)) || types[k]["string"] && len(types[k]) > 1 && isOtherJSON(v) {
			b.WriteString(v)
		} else {
			b.Write(quote(v))
		}
	}
	b.WriteByte('}')
	if b.Len() > maxArguments {
		return nil, invalid("call", "pass less; a tool can read files that it is granted", "the arguments are longer than %d bytes", maxArguments)
	}
	return b.Bytes(), nil
}

// isOtherJSON says whether v is JSON and not a string: for a property that
// may be a string or something else.
func isOtherJSON(v string) bool {
	return json.Valid([]byte(v)) && !strings.HasPrefix(strings.TrimSpace(v), `"`)
}

func quote(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		bug("a string does not marshal")
	}
	return bytes.TrimSpace(b.Bytes())
}

// propertyTypes returns the types that a schema states for each of its
// properties; one that states none is absent.
func propertyTypes(schema json.RawMessage) map[string]map[string]bool {
	var s struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	out := map[string]map[string]bool{}
	if json.Unmarshal(schema, &s) != nil {
		return out
	}
	for name, raw := range s.Properties {
		var p struct {
			Type json.RawMessage `json:"type"`
		}
		if json.Unmarshal(raw, &p) != nil {
			continue // true or false
		}
		var one string
		var many []string
		if json.Unmarshal(p.Type, &one) == nil {
			many = []string{one}
		} else if json.Unmarshal(p.Type, &many) != nil {
			continue
		}
		out[name] = map[string]bool{}
		for _, ty := range many {
			out[name][ty] = true
		}
	}
	return out
}
