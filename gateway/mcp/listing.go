package mcp

//lint:file-ignore SA1019 what 2026-07-28 deprecates is passed on all the same: most clients and servers are older

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// toolsPage is how many tools one page of tools/list has.
const toolsPage = 1000

// cursorMark begins our own cursors, whose text is no client's business.
const cursorMark = "tools after "

// A listing is what a router offers, as MCP says it. It is never changed, only
// replaced.
type listing struct {
	names        []string          // of the tools, sorted
	tools        []json.RawMessage // as tools/list has them, in that order
	first        json.RawMessage   // the first page of them
	byName       map[string]*casemate.Tool
	servers      []*upstream
	caps         *sdk.ServerCapabilities
	instructions string
}

// An upstream is one MCP server behind the router.
type upstream struct {
	*casemate.Tool        // the server itself
	prefix         string // of its tools' names, and so of its prompts'
	caps           sdk.ServerCapabilities
}

func (u *upstream) name() string { return u.Run.MCP.Server }

// list reads the router. A tool that offer reports an error for is left out.
func list(r gateway.Router, offer func(*casemate.Tool) error) *listing {
	l := &listing{byName: map[string]*casemate.Tool{}, caps: &sdk.ServerCapabilities{Tools: &sdk.ToolCapabilities{ListChanged: true}}}
	prefixes := map[string]string{}
	for _, t := range r.Tools() {
		if offer(t) != nil {
			continue
		}
		l.names = append(l.names, string(t.Name))
		l.tools = append(l.tools, asListed(t))
		l.byName[string(t.Name)] = t
		if m := t.Run.MCP; m != nil {
			if prefix, ok := strings.CutSuffix(string(t.Name), m.Tool); ok {
				prefixes[m.Server] = prefix
			}
		}
	}
	servers := r.Servers()
	var said []string
	for _, base := range servers {
		u := &upstream{Tool: base}
		var ok bool
		if u.prefix, ok = prefixes[u.name()]; !ok && len(servers) > 1 {
			u.prefix = u.name() + "_"
		}
		u.caps = capabilities(field(base.Run.MCP.Listed, "capabilities"))
		join(l.caps, &u.caps)
		l.servers = append(l.servers, u)
		if text := text(field(base.Run.MCP.Listed, "instructions")); text != "" {
			if len(servers) > 1 {
				text = "# " + u.name() + "\n\n" + text
			}
			said = append(said, text)
		}
	}
	l.instructions = strings.Join(said, "\n\n")
	l.first = l.from(0)
	return l
}

// asListed is a tool as tools/list has it: of a server as the server wrote it,
// but for the name.
func asListed(t *casemate.Tool) json.RawMessage {
	if t.Run.MCP != nil {
		if ms, err := members(t.Run.MCP.Listed); err == nil {
			return compose(with(ms, "name", encode(t.Name)))
		}
	}
	return encode(sdkTool(t))
}

func sdkTool(t *casemate.Tool) *sdk.Tool {
	return &sdk.Tool{Name: string(t.Name), Description: t.Description, InputSchema: t.Parameters}
}

// capabilities reads what a server said that it has, of that which is handed
// on. A server that says nothing offers nothing.
func capabilities(raw json.RawMessage) (c sdk.ServerCapabilities) {
	yes := func(path ...string) bool { return string(field(raw, path...)) == "true" }
	has := func(key string) bool { _, err := members(field(raw, key)); return err == nil }
	if has("prompts") {
		c.Prompts = &sdk.PromptCapabilities{ListChanged: yes("prompts", "listChanged")}
	}
	if has("resources") {
		c.Resources = &sdk.ResourceCapabilities{ListChanged: yes("resources", "listChanged"), Subscribe: yes("resources", "subscribe")}
	}
	if has("completions") {
		c.Completions = &sdk.CompletionCapabilities{}
	}
	if has("logging") {
		c.Logging = &sdk.LoggingCapabilities{}
	}
	return c
}

// join adds what c has to all.
func join(all, c *sdk.ServerCapabilities) {
	if p := c.Prompts; p != nil {
		if all.Prompts == nil {
			all.Prompts = &sdk.PromptCapabilities{}
		}
		all.Prompts.ListChanged = all.Prompts.ListChanged || p.ListChanged
	}
	if r := c.Resources; r != nil {
		if all.Resources == nil {
			all.Resources = &sdk.ResourceCapabilities{}
		}
		all.Resources.ListChanged = all.Resources.ListChanged || r.ListChanged
		all.Resources.Subscribe = all.Resources.Subscribe || r.Subscribe
	}
	if c.Completions != nil {
		all.Completions = c.Completions
	}
	if c.Logging != nil {
		all.Logging = c.Logging
	}
}

// serves says whether anything behind l answers a method.
func (l *listing) serves(method string) bool {
	return !optional[method] || servesBy(l.caps, method)
}

// optional are the methods that only a server with their capability has.
var optional = map[string]bool{
	"prompts/list": true, "prompts/get": true,
	"resources/list": true, "resources/templates/list": true, "resources/read": true, "resources/subscribe": true, "resources/unsubscribe": true,
	"completion/complete": true, "logging/setLevel": true,
}

func servesBy(c *sdk.ServerCapabilities, method string) bool {
	switch kind, _, _ := strings.Cut(method, "/"); kind {
	case "prompts":
		return c.Prompts != nil
	case "resources":
		return c.Resources != nil
	case "completion":
		return c.Completions != nil
	case "logging":
		return c.Logging != nil
	}
	return false
}

// with returns the servers that answer a method.
func (l *listing) with(method string) (out []*upstream) {
	for _, u := range l.servers {
		if servesBy(&u.caps, method) {
			out = append(out, u)
		}
	}
	return out
}

// page is the page of tools/list that a cursor names.
func (l *listing) page(cursor string) (json.RawMessage, error) {
	if cursor == "" && l.first != nil {
		return l.first, nil
	}
	begin := 0
	if cursor != "" {
		b, err := base64.RawURLEncoding.DecodeString(cursor)
		last, ok := strings.CutPrefix(string(b), cursorMark)
		if err != nil || !ok || len(last) > maxName {
			return nil, badCursor()
		}
		for begin < len(l.names) && l.names[begin] <= last {
			begin++
		}
	}
	return l.from(begin), nil
}

// from is the page of tools/list that begins with one of the tools.
func (l *listing) from(begin int) json.RawMessage {
	tools := l.tools[begin:]
	next := ""
	if len(tools) > toolsPage {
		tools = tools[:toolsPage]
		next = base64.RawURLEncoding.EncodeToString([]byte(cursorMark + l.names[begin+toolsPage-1]))
	}
	ms := []member{{"ttlMs", json.RawMessage("0")}, {"cacheScope", json.RawMessage(`"private"`)}, {"tools", array(tools)}}
	if next != "" {
		ms = append(ms, member{"nextCursor", encode(next)})
	}
	return compose(ms)
}

// array writes an array.
func array(values []json.RawMessage) json.RawMessage {
	out := []byte{'['}
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, v...)
	}
	return append(out, ']')
}

func badCursor() error { return invalidParams("the cursor is not one of this server") }

func invalidParams(format string, a ...any) error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf(format, a...)}
}

func methodNotFound(method string) *jsonrpc.Error {
	return &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: fmt.Sprintf("Method not found: %.64q", method)}
}
