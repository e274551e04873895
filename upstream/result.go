package upstream

import (
	"encoding/json"
	"errors"

	"github.com/casemate/casemate"
)

// maxParts bounds the parts of one result.
const maxParts = 1 << 16

// A Result is the result of tools/call, read. What it holds aliases the text
// that it was read from.
type Result struct {
	Content    []casemate.Content
	Structured json.RawMessage
	IsError    bool

	members []member
	parts   []json.RawMessage
}

// ReadResult reads the result of tools/call. Of its parts only what
// casemate.Content has fields for is read; all of a part is in Raw, where there
// is more to it than a text.
func ReadResult(raw json.RawMessage) (*Result, error) {
	ms, err := members(raw)
	if err != nil {
		return nil, err
	}
	r := &Result{Content: []casemate.Content{}, members: ms}
	for _, m := range ms {
		switch m.key {
		case "content":
			if r.parts, err = elements(m.value, maxParts); err != nil {
				return nil, errors.New("content: " + err.Error())
			}
		case "structuredContent":
			if string(m.value) != "null" {
				r.Structured = m.value
			}
		case "isError":
			r.IsError = string(m.value) != "false" && string(m.value) != "null"
		}
	}
	for _, p := range r.parts {
		r.Content = append(r.Content, part(p))
	}
	return r, nil
}

// Noted is the text of the result with a last part that says note.
func (r *Result) Noted(note string) json.RawMessage {
	all := []byte{'['}
	for _, p := range r.parts {
		all = append(append(all, p...), ',')
	}
	all = append(append(all, object([]member{{"type", quoted("text")}, {"text", quoted(note)}})...), ']')
	return with(object(r.members), "content", all)
}

// NotedMeta is any result with note in its _meta.
func NotedMeta(raw json.RawMessage, note string) json.RawMessage {
	return with(raw, "_meta", with(field(raw, "_meta"), "casemate/note", quoted(note)))
}

// part reads one part of a result.
func part(raw json.RawMessage) casemate.Content {
	c := casemate.Content{Raw: raw}
	ms, err := members(raw)
	if err != nil {
		return c
	}
	get := func(key string) (s string) {
		for _, m := range ms {
			if m.key == key {
				s, _ = text(m.value)
			}
		}
		return s
	}
	data := func(key string) (b []byte) {
		for _, m := range ms {
			if m.key == key && json.Unmarshal(m.value, &b) != nil {
				return nil
			}
		}
		return b
	}
	switch c.Type = get("type"); c.Type {
	case "text":
		c.Text = get("text")
		if len(ms) == 2 {
			c.Raw = nil // there is no more to it
		}
	case "image", "audio":
		c.MimeType, c.Data = get("mimeType"), data("data")
	case "resource_link":
		c.MimeType, c.URI = get("mimeType"), get("uri")
	case "resource":
		for _, m := range ms {
			if m.key == "resource" {
				ms, _ = members(m.value)
				break
			}
		}
		c.MimeType, c.URI, c.Text, c.Data = get("mimeType"), get("uri"), get("text"), data("blob")
	}
	return c
}
