package mcp

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/casemate/casemate"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// maxAnswer bounds one message of a server, in bytes.
const maxAnswer = 32 << 20

// A Client is a planner's end of a server on two pipes, by the SDK's own
// client. It is for programs that drive a server, such as casemate demo.
type Client struct{ session *sdk.ClientSession }

// Dial greets the server that reads in and writes out, and blocks until it
// has answered or ctx is done. It owns both.
func Dial(ctx context.Context, name string, in io.WriteCloser, out io.ReadCloser) (*Client, error) {
	c := sdk.NewClient(&sdk.Implementation{Name: name, Version: "1"}, nil)
	s, err := c.Connect(ctx, &sdk.IOTransport{Reader: out, Writer: in, MaxLineLength: maxAnswer}, nil)
	if err != nil {
		return nil, fmt.Errorf("the MCP server did not greet: %w", err)
	}
	return &Client{s}, nil
}

// Call calls a tool and blocks until it has answered or ctx is done, which
// cancels the call. A failure of the tool is a result that says IsError.
func (c *Client) Call(ctx context.Context, tool string, args map[string]any) (*casemate.Result, error) {
	r, err := c.session.CallTool(ctx, &sdk.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errors.New("the MCP server answered nothing")
	}
	out := &casemate.Result{IsError: r.IsError}
	for _, part := range r.Content {
		switch p := part.(type) {
		case *sdk.TextContent:
			out.Content = append(out.Content, casemate.Content{Type: "text", Text: p.Text})
		case *sdk.ImageContent:
			out.Content = append(out.Content, casemate.Content{Type: "image", Data: p.Data, MimeType: p.MIMEType})
		case *sdk.EmbeddedResource:
			out.Content = append(out.Content, casemate.Content{Type: "resource", Text: p.Resource.Text, Data: p.Resource.Blob, MimeType: p.Resource.MIMEType, URI: p.Resource.URI})
		}
	}
	return out, nil
}

// Close hangs up.
func (c *Client) Close() error { return c.session.Close() }
