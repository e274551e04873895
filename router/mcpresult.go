package router

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/upstream"
)

// answered makes the result of what an MCP server answered: raw, and, of a
// tool, its parts. Its error is that of a tool that says itself that it
// failed, or of what was passed on and is no result. note says to the caller, in
// the result, that the server was started afresh, and why; failed is what the
// request ended with.
func (k *call) answered(raw json.RawMessage, note string, failed error) (*casemate.Result, error) {
	if note != "" {
		note = "[casemate] the server " + k.tool.Run.MCP.Server + " was started afresh, and does not remember what came before: " + note
	}
	said := casemate.Content{Type: "text", Text: note}
	res := &casemate.Result{Content: []casemate.Content{}, Raw: raw}
	fail := func(why string) error {
		return &casemate.Error{Op: "call", Kind: casemate.ToolFailed, Err: errors.New(why)}
	}
	switch {
	case raw == nil:
		if note != "" {
			res.Content = append(res.Content, said)
		}
		if res.Streamed = k.passed != nil; !res.Streamed || failed != nil {
			return res, nil
		}
		isError, err := k.Stream.End()
		if err == nil && isError {
			err = fail("the tool failed, as its result says")
		}
		return res, err
	case raw[0] != '{':
		res.Raw = nil
		return res, fail("its server answered with a result that is no object")
	case k.tool.base():
		if note != "" {
			res.Raw = upstream.NotedMeta(raw, note)
		}
		return res, nil
	}
	r, err := upstream.ReadResult(raw)
	if err != nil {
		res.Raw = nil
		return res, fail("its server answered with a result that is none: " + err.Error())
	}
	res.Content, res.Structured = r.Content, r.Structured
	if note != "" {
		res.Content, res.Raw = append(res.Content, said), r.Noted(note)
	}
	if !r.IsError {
		return res, nil
	}
	why := ""
	for _, c := range r.Content {
		if c.Type == "text" && strings.TrimSpace(c.Text) != "" {
			why = c.Text
			break
		}
	}
	return res, fail(lastLine([]byte(cutHead(why))))
}

// cutHead keeps the end of a long text.
func cutHead(s string) string { return s[max(0, len(s)-4<<10):] }
