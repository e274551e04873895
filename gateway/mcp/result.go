package mcp

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// result is the outcome of a call as MCP has it. Every failure is a result
// that says isError and why, so that the model can correct itself; JSON-RPC
// errors are left for messages that name no tool, or are none.
func result(o *casemate.Outcome, anyStructured bool) *sdk.CallToolResult {
	res := failure(gateway.PlannerError(o.Error))
	if r := o.Result; r != nil {
		said := res.Content
		res = content(r, anyStructured)
		if o.Error != nil && !toldBy(r, o) {
			res.Content = append(res.Content, said...)
		}
		res.IsError = r.IsError || o.Error != nil
	}
	if o.Call != "" {
		res.Meta = sdk.Meta{callKey: string(o.Call)}
	}
	return res
}

// toldBy says whether the tool said of its own failure all that we would: a
// traceback ends with what the error repeats. An exit status, or output that
// is not what the manifest promises, no tool says.
func toldBy(r *casemate.Result, o *casemate.Outcome) bool {
	if o.Error.Kind != casemate.ToolFailed || len(r.Content) == 0 {
		return false
	}
	last := strings.TrimPrefix(o.Error.Message, string(o.Tool)+": ")
	return strings.HasSuffix(strings.TrimSpace(r.Content[0].Text), last)
}

// failure is the result of a call that has none. A nil e is that of an
// outcome with neither error nor result, which no router gives.
func failure(e *casemate.ErrorJSON) *sdk.CallToolResult {
	if e == nil {
		e = &casemate.ErrorJSON{Kind: casemate.Internal, Message: "the call has no result"}
	}
	text := string(e.Kind) + ": " + e.Message
	if e.Fix != "" {
		text += "\n" + e.Fix
	}
	return &sdk.CallToolResult{IsError: true, Content: []sdk.Content{&sdk.TextContent{Text: text}}}
}

// content is a result as MCP has it. Before 2026-07-28 structured content was
// an object; what is none then goes as text alone.
func content(r *casemate.Result, anyStructured bool) *sdk.CallToolResult {
	res := &sdk.CallToolResult{Content: []sdk.Content{}}
	for _, c := range r.Content {
		switch c.Type {
		case "text":
			res.Content = append(res.Content, &sdk.TextContent{Text: c.Text})
		case "image":
			res.Content = append(res.Content, &sdk.ImageContent{Data: c.Data, MIMEType: c.MimeType})
		case "resource":
			in := &sdk.ResourceContents{URI: c.URI, MIMEType: c.MimeType, Text: c.Text, Blob: c.Data}
			if strings.HasPrefix(c.URI, "file:///out/") {
				res.Content = append(res.Content, &sdk.EmbeddedResource{Resource: in})
			}
		}
	}
	if s := bytes.TrimSpace(r.Structured); len(s) > 0 {
		if len(res.Content) == 0 {
			res.Content = append(res.Content, &sdk.TextContent{Text: string(s)})
		}
		if s[0] == '{' || anyStructured {
			res.StructuredContent = json.RawMessage(s)
		}
	}
	return res
}
