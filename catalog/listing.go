package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/casemate/casemate"
)

// A Listing is what an MCP server said of itself when its user approved it.
// What a server lists is data of a stranger's, which planners read: it is kept
// as it came, and a server that lists anything else later is refused.
type Listing struct {
	Command    casemate.Digest   `json:"command"`    // of the argv: another command is another server
	Initialize json.RawMessage   `json:"initialize"` // the result of initialize
	Tools      []json.RawMessage `json:"tools"`      // the objects of tools/list, in its order
	Digest     casemate.Digest   `json:"digest"`     // of all of it
}

// The bounds of a listing.
const (
	maxListing     = 8 << 20   // bytes
	maxListed      = 256 << 10 // bytes of one tool, and of the result of initialize
	maxListedDepth = 64
)

// NewListing checks what a router says that the server of that command lists,
// {"initialize": {…}, "tools": [{…}, …]}.
func NewListing(command []string, raw []byte) (Listing, error) {
	fail := func(err error) (Listing, error) {
		return Listing{}, &casemate.Error{Op: "list", Kind: casemate.ToolFailed, Err: fmt.Errorf("what the server lists cannot be used: %w", err), Fix: "ask the server's maker; nothing of it is used"}
	}
	if err := strictJSON(raw, maxListing); err != nil {
		return fail(err)
	}
	parts, err := members(raw)
	if err != nil {
		return fail(err)
	}
	l := Listing{Command: commandDigest(command), Initialize: parts["initialize"]}
	if err := json.Unmarshal(parts["tools"], &l.Tools); err != nil {
		return fail(errors.New("tools is no list"))
	}
	l.Digest = l.sum()
	if err := l.check(); err != nil {
		return fail(err)
	}
	return l, nil
}

// check brings a listing to its compact form and says what is wrong with it as
// a whole; a single tool that cannot be used is refused when it is made.
func (l *Listing) check() error {
	var err error
	if l.Initialize, err = compact(l.Initialize); err != nil {
		return fmt.Errorf("initialize %w", err)
	}
	if _, err := members(l.Initialize); err != nil {
		return fmt.Errorf("initialize %w", err)
	}
	if len(l.Tools) > maxTools {
		return fmt.Errorf("it has %d tools; at most %d are taken", len(l.Tools), maxTools)
	}
	for i := range l.Tools {
		if l.Tools[i], err = compact(l.Tools[i]); err != nil {
			return fmt.Errorf("tool %d %w", i, err)
		}
		if _, err := members(l.Tools[i]); err != nil {
			return fmt.Errorf("tool %d %w", i, err)
		}
	}
	if l.Digest != l.sum() {
		return errors.New("its digest is not that of its content")
	}
	return nil
}

func compact(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) > maxListed*2 { // with its white space
		return nil, fmt.Errorf("is larger than %d KiB", maxListed>>10)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, errors.New("is missing, or is no JSON")
	}
	if b.Len() > maxListed {
		return nil, fmt.Errorf("is larger than %d KiB", maxListed>>10)
	}
	return b.Bytes(), nil
}

// sum is the digest of a listing in its compact form.
func (l *Listing) sum() casemate.Digest {
	var b bytes.Buffer
	fmt.Fprintf(&b, "casemate listing 1\n%s\n", l.Command)
	for _, raw := range append([]json.RawMessage{l.Initialize}, l.Tools...) {
		if json.Compact(&b, raw) != nil {
			return ""
		}
		b.WriteByte('\n')
	}
	return digest(b.Bytes())
}

func commandDigest(command []string) casemate.Digest {
	j, err := json.Marshal(command)
	if err != nil { // a list of text always marshals
		panic("catalog: bug: " + err.Error())
	}
	return digest(j)
}

// members are the members of a JSON object by their exact names: encoding/json
// matches the fields of a struct by any case.
func members(raw []byte) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return nil, errors.New("is no JSON object")
	}
	return m, nil
}

var serverTool = regexp.MustCompile(serverToolForm)

// A listed is what a planner is told of one tool of a server.
type listed struct {
	name, description string
	schema            json.RawMessage
}

// understood is a schema without the patterns that only other dialects of
// regular expressions know (looking ahead, as in those of e-mail addresses):
// the server checks by them itself, and planners see them as it lists them.
func understood(schema json.RawMessage) json.RawMessage {
	var v any
	d := json.NewDecoder(bytes.NewReader(schema))
	d.UseNumber()
	if d.Decode(&v) != nil || !dropForeign(v) {
		return schema
	}
	j, err := json.Marshal(v)
	if err != nil { // what was decoded always marshals
		panic("catalog: bug: " + err.Error())
	}
	return j
}

// dropForeign takes foreign patterns out of v, and says whether there were any.
func dropForeign(v any) (changed bool) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			changed = dropForeign(x) || changed
		}
	case map[string]any:
		for k, x := range v {
			switch p, isText := x.(string); k {
			case "const", "enum", "default", "examples": // values, not schemas
				continue
			case "pattern":
				if _, err := regexp.Compile(p); isText && err != nil {
					delete(v, k)
					changed = true
					continue
				}
			}
			changed = dropForeign(x) || changed
		}
	}
	return changed
}

// readListed reads one object of tools/list.
func readListed(raw json.RawMessage) (listed, error) {
	var l listed
	m, err := members(raw)
	if err != nil {
		return l, err
	}
	if json.Unmarshal(m["name"], &l.name) != nil || !serverTool.MatchString(l.name) {
		return l, errors.New("its name is not 1 to 128 of A-Z a-z 0-9 _ . -")
	}
	if d, ok := m["description"]; ok && json.Unmarshal(d, &l.description) != nil {
		return l, errors.New("its description is not text")
	}
	l.schema = m["inputSchema"]
	s, err := members(l.schema)
	if err != nil || string(s["type"]) != `"object"` {
		return l, errors.New("its inputSchema is not the schema of an object")
	}
	l.schema = understood(l.schema)
	if _, why := compile(l.schema); why != "" {
		return l, errors.New("its inputSchema cannot be used: " + why)
	}
	return l, nil
}
