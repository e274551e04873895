package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/casemate/casemate/gateway"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// stateless is the first protocol version without a handshake, where each
// request names its version in _meta.
const stateless = "2026-07-28"

// batching are the versions in which several messages may come as one array;
// later ones took that away.
var batching = []string{"2024-11-05", "2025-03-26"}

// maxBatch is how many messages one array may hold.
const maxBatch = 64

// maxName bounds the name of a tool, in bytes; those of the catalog are
// shorter.
const maxName = 128

// maxURI bounds that of a resource, in bytes.
const maxURI = 4 << 10

// methods are the requests and notifications that a client may send. What is
// not here never reaches the SDK; nor do those that no server behind the router
// has the capability for, which the SDK would answer by empty lists.
var methods = map[string]bool{
	"initialize":                true,
	"notifications/initialized": true,
	"notifications/cancelled":   true,
	"notifications/progress":    true,
	"ping":                      true,
	"server/discover":           true,
	"subscriptions/listen":      true,
	"tools/list":                true,
	"tools/call":                true,
	"prompts/list":              true,
	"prompts/get":               true,
	"resources/list":            true,
	"resources/templates/list":  true,
	"resources/read":            true,
	"resources/subscribe":       true,
	"resources/unsubscribe":     true,
	"completion/complete":       true,
	"logging/setLevel":          true,

	// Clients send it where they have roots, asked or not.
	"notifications/roots/list_changed": true,
}

// The keys with a meaning, of a message, its params and its _meta. A key that
// equals one of them but for case is refused.
var (
	messageKeys = folded("jsonrpc", "id", "method", "params", "result", "error")
	paramsKeys  = folded("_meta", "name", "arguments", "uri", "cursor", "protocolVersion", "capabilities", "clientInfo",
		"requestId", "reason", "progressToken", "notifications", "inputResponses", "requestState", "level", "ref", "argument")
	metaKeys = folded("progressToken", sessionKey, limitsKey, sdk.MetaKeyProtocolVersion, sdk.MetaKeyClientInfo, sdk.MetaKeyClientCapabilities, "io.modelcontextprotocol/logLevel")
)

func folded(keys ...string) map[string]string {
	m := map[string]string{}
	for _, k := range keys {
		m[gateway.Fold(k)] = k
	}
	return m
}

// A message is one message of a client, read once; everything that is decided
// about it before the SDK has it is decided on this.
type message struct {
	raw     json.RawMessage
	id      json.RawMessage // a string or an integer; nil where there is none
	method  string          // "" of a response
	name    string          // of the tool, the prompt or the resource in params
	params  json.RawMessage // an object, or nil
	meta    json.RawMessage // of params, an object, or nil
	version string          // in _meta
	wants   string          // protocolVersion of an initialize
}

func (m *message) request() bool { return m.method != "" && m.id != nil }

const nothingDone = " (so nothing of the batch was done)"

// A fault is why a message is refused.
type fault struct {
	code    int64
	why     string
	id      json.RawMessage // of the message, where that is certain
	nothing bool            // must not be answered: the message is a response or a notification
}

// answer is the line that tells the client.
func (f *fault) answer() []byte {
	id := f.id
	if id == nil {
		id = json.RawMessage("null")
	}
	type wire struct {
		Code    int64  `json:"code"`
		Message string `json:"message"`
	}
	b, err := json.Marshal(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   wire            `json:"error"`
	}{"2.0", id, wire{f.code, f.why}})
	if err != nil {
		panic("casemate: bug: " + err.Error())
	}
	return b
}

// parse reads what came as one line or one body: one message, or a batch.
// Of a batch either every message is taken, or none.
func parse(data []byte) (msgs []*message, batch bool, _ *fault) {
	if err := gateway.Check(data); err != nil {
		f := &fault{code: jsonrpc.CodeInvalidRequest, why: "Invalid Request: " + err.Error()}
		if errors.Is(err, gateway.ErrNotJSON) {
			f.code, f.why = jsonrpc.CodeParseError, "Parse error: "+err.Error()
		}
		return nil, false, f
	}
	data = bytes.TrimSpace(data)
	if data[0] != '[' {
		m, f := parseOne(data)
		return []*message{m}, false, f
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, true, &fault{code: jsonrpc.CodeParseError, why: "Parse error: " + err.Error()}
	}
	if len(raw) == 0 || len(raw) > maxBatch {
		return nil, true, invalid(nil, "a batch has 1 to %d messages", maxBatch)
	}
	ids := map[string]bool{}
	for _, r := range raw {
		m, f := parseOne(r)
		if f != nil {
			return nil, true, &fault{code: f.code, why: f.why + nothingDone}
		}
		if m.request() {
			if ids[string(m.id)] {
				return nil, true, invalid(nil, "two requests of a batch have the id %s", m.id)
			}
			ids[string(m.id)] = true
		}
		msgs = append(msgs, m)
	}
	return msgs, true, nil
}

func invalid(id json.RawMessage, format string, a ...any) *fault {
	return &fault{code: jsonrpc.CodeInvalidRequest, why: "Invalid Request: " + fmt.Sprintf(format, a...), id: id}
}

// parseOne wants JSON that passed gateway.Check.
func parseOne(raw json.RawMessage) (*message, *fault) {
	top, err := object(raw, messageKeys)
	if err != nil {
		f := invalid(nil, "the message: %v", err)
		if id := top["id"]; id != nil && validID(id) {
			f.id = id
		}
		return nil, f
	}
	m := &message{raw: raw}
	if id, ok := top["id"]; ok {
		if !validID(id) {
			f := invalid(nil, "id is no string and no integer that every client can hold")
			f.nothing = top["method"] == nil // the answer to an answer that could not name its request
			return nil, f
		}
		m.id = id
	}
	if text(top["jsonrpc"]) != "2.0" {
		return nil, invalid(m.id, `jsonrpc is not "2.0"`)
	}
	rawMethod, ok := top["method"]
	if !ok {
		if m.id == nil || (top["result"] == nil) == (top["error"] == nil) {
			return nil, invalid(m.id, "the message is no request, no notification and no response")
		}
		return m, nil
	}
	m.method = text(rawMethod)
	if m.method == "" {
		return nil, invalid(m.id, "method is no name")
	}
	if top["result"] != nil || top["error"] != nil {
		return nil, invalid(m.id, "the message is a request and a response")
	}
	if !methods[m.method] {
		return nil, &fault{code: jsonrpc.CodeMethodNotFound, why: methodNotFound(m.method).Message, id: m.id, nothing: m.id == nil}
	}
	if strings.HasPrefix(m.method, "notifications/") == (m.id != nil) {
		return nil, invalid(m.id, "a request has an id, a notification has none")
	}
	return m, m.readParams(top["params"])
}

func (m *message) readParams(raw json.RawMessage) *fault {
	if raw == nil || string(raw) == "null" {
		return nil
	}
	bad := func(what string, err error) *fault {
		return &fault{code: jsonrpc.CodeInvalidParams, why: fmt.Sprintf("Invalid params: %s: %v", what, err), id: m.id, nothing: m.id == nil}
	}
	params, err := object(raw, paramsKeys)
	if err != nil {
		return bad("params", err)
	}
	m.params = raw
	// The SDK would repeat in its answer what is no name, however long.
	key, most := "name", maxName
	switch m.method {
	case "resources/read":
		key, most = "uri", maxURI
		fallthrough
	case "tools/call", "prompts/get":
		if m.name = text(params[key]); m.name == "" || len(m.name) > most {
			return bad(key, fmt.Errorf("it is not a text of 1 to %d bytes", most))
		}
		if args, ok := params["arguments"]; ok {
			if _, err := object(args, nil); err != nil {
				return bad("arguments", err)
			}
		}
	case "initialize":
		m.wants = text(params["protocolVersion"])
	}
	if raw, ok := params["_meta"]; ok {
		meta, err := object(raw, metaKeys)
		if err != nil {
			return bad("_meta", err)
		}
		m.version = text(meta[sdk.MetaKeyProtocolVersion])
		m.meta = raw
	}
	return nil
}

// object decodes raw, which must be an object; a key that only folds to one
// of known is an error, with the object.
func object(raw json.RawMessage, known map[string]string) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return nil, errors.New("it is not an object")
	}
	for key := range m {
		if right, ok := known[gateway.Fold(key)]; ok && key != right {
			return m, fmt.Errorf("the key %.64q must be written %q", key, right)
		}
	}
	return m, nil
}

// text returns the string that raw is, or "".
func text(raw json.RawMessage) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// maxInteger is the largest magnitude that a double holds exactly; the SDK
// reads ids as doubles, and would answer a larger one by another's name.
const maxInteger = 1<<53 - 1

func validID(raw json.RawMessage) bool {
	if raw[0] == '"' {
		return len(raw) <= 1024
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return err == nil && n <= maxInteger && n >= -maxInteger && string(raw) == strconv.FormatInt(n, 10)
}

// unserved is why a message of msgs that is sound is refused all the same: no
// server behind the router has what it asks for.
func unserved(l *listing, msgs []*message, batch bool) *fault {
	for _, m := range msgs {
		if m.method == "" || l.serves(m.method) {
			continue
		}
		f := &fault{code: jsonrpc.CodeMethodNotFound, why: methodNotFound(m.method).Message, id: m.id, nothing: m.id == nil}
		if batch {
			return &fault{code: f.code, why: f.why + nothingDone}
		}
		return f
	}
	return nil
}

func batches(version string) bool { return slices.Contains(batching, version) }
