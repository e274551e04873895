package router

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/casemate/casemate"
)

// answered makes the result of what an MCP server answered: raw, and, of a
// tool, its parts. Its error is that of a tool that says itself that it
// failed. note says to the caller, in the result, that the server was started
// afresh, and why.
func (k *call) answered(raw json.RawMessage, note string) (*casemate.Result, error) {
	res := &casemate.Result{Content: []casemate.Content{}, Raw: raw}
	if note != "" {
		note = "[casemate] the server " + k.tool.Run.MCP.Server + " was started afresh, and does not remember what came before: " + note
	}
	if raw == nil {
		if note != "" {
			res.Content = append(res.Content, casemate.Content{Type: "text", Text: note})
		}
		return res, nil
	}
	fail := func(why string) error {
		return &casemate.Error{Op: "call", Kind: casemate.ToolFailed, Err: errors.New(why)}
	}
	var all map[string]json.RawMessage // upstream has seen that no key stands twice
	if err := json.Unmarshal(raw, &all); err != nil || all == nil {
		res.Raw = nil
		return res, fail("its server answered with a result that is no object")
	}
	if k.tool.base() {
		if note != "" {
			res.Raw = noted(all, "_meta", note)
		}
		return res, nil
	}
	var parts []json.RawMessage
	if c := all["content"]; c != nil {
		if err := json.Unmarshal(c, &parts); err != nil {
			return &casemate.Result{Content: res.Content}, fail("its server answered with content that is no array")
		}
	}
	if note != "" {
		b, err := json.Marshal(casemate.Content{Type: "text", Text: note})
		if err == nil {
			parts = append(parts, b)
			res.Raw = noted(all, "content", parts)
		}
	}
	for _, p := range parts {
		res.Content = append(res.Content, part(p))
	}
	if s := all["structuredContent"]; s != nil && string(s) != "null" {
		res.Structured = s
	}
	var isError bool
	if err := json.Unmarshal(all["isError"], &isError); all["isError"] != nil && err != nil {
		isError = true // it says something about an error
	}
	if !isError {
		return res, nil
	}
	why := ""
	for _, c := range res.Content {
		if c.Type == "text" && strings.TrimSpace(c.Text) != "" {
			why = c.Text
			break
		}
	}
	return res, fail(lastLine([]byte(why)))
}

// noted is a result with a note of ours in it.
func noted(all map[string]json.RawMessage, key string, v any) json.RawMessage {
	if text, ok := v.(string); ok {
		meta := map[string]json.RawMessage{}
		json.Unmarshal(all[key], &meta) // one that is no object is replaced
		if meta == nil {
			meta = map[string]json.RawMessage{}
		}
		meta["casemate/note"], _ = encode(text)
		v = meta
	}
	b, err := encode(v)
	if err != nil {
		return nil
	}
	all[key] = b
	b, err = encode(all)
	if err != nil {
		return nil
	}
	return b
}

// part reads one part of a result. Only its type and its text are read:
// whatever else it has stays in Raw.
func part(raw json.RawMessage) casemate.Content {
	c := casemate.Content{Raw: raw}
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return c
	}
	get := func(key string) (s string) {
		json.Unmarshal(all[key], &s)
		return s
	}
	c.Type = get("type")
	switch c.Type {
	case "text":
		c.Text = get("text")
		if len(all) == 2 && all["text"] != nil {
			c.Raw = nil // there is no more to it
		}
	case "image", "audio":
		c.MimeType = get("mimeType")
		json.Unmarshal(all["data"], &c.Data)
	case "resource_link":
		c.MimeType, c.URI = get("mimeType"), get("uri")
	case "resource":
		var in map[string]json.RawMessage
		json.Unmarshal(all["resource"], &in)
		all = in
		c.MimeType, c.URI, c.Text = get("mimeType"), get("uri"), get("text")
		json.Unmarshal(all["blob"], &c.Data)
	}
	return c
}
