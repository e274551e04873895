package mcp

//lint:file-ignore SA1019 what 2026-07-28 deprecates is passed on all the same: most clients and servers are older

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/casemate/casemate/gateway/gatewaytest"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestMain lets this program be the MCP servers of its own tests.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-serve-everything" {
		serveEverything(os.Args[2])
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "-serve-odd" {
		serveOdd()
		return
	}
	os.Exit(m.Run())
}

// everything is a server that offers everything, under a name.
func everything(t testing.TB, name string) gatewaytest.Server {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return gatewaytest.Server{Name: name, Command: []string{self, "-serve-everything", name}, Sampling: true, Elicitation: true}
}

func odd(t testing.TB) gatewaytest.Server {
	s := everything(t, "odd")
	s.Command = []string{s.Command[0], "-serve-odd"}
	return s
}

func serveEverything(name string) {
	s := sdk.NewServer(&sdk.Implementation{Name: name + " itself", Title: "Everything", Version: "9"}, &sdk.ServerOptions{
		Instructions: "Instructions of " + name + ".",
		CompletionHandler: func(_ context.Context, r *sdk.CompleteRequest) (*sdk.CompleteResult, error) {
			of := r.Params.Ref.Name + r.Params.Ref.URI
			return &sdk.CompleteResult{Completion: sdk.CompletionResultDetails{Values: []string{name + " completes " + of + " " + r.Params.Argument.Value}}}, nil
		},
		SubscribeHandler:   func(context.Context, *sdk.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *sdk.UnsubscribeRequest) error { return nil },
		Capabilities:       &sdk.ServerCapabilities{Logging: &sdk.LoggingCapabilities{}},
	})
	text := func(format string, a ...any) *sdk.CallToolResult {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: fmt.Sprintf(format, a...)}}}
	}
	type call = *sdk.CallToolRequest
	tool := func(t *sdk.Tool, h func(context.Context, call, string) (*sdk.CallToolResult, error)) {
		t.InputSchema = json.RawMessage(`{"type":"object","properties":{"text":{"type":"string"}}}`)
		s.AddTool(t, func(ctx context.Context, r call) (*sdk.CallToolResult, error) {
			var args struct{ Text string }
			if len(r.Params.Arguments) > 0 {
				if err := json.Unmarshal(r.Params.Arguments, &args); err != nil {
					return nil, err
				}
			}
			return h(ctx, r, args.Text)
		})
	}
	no := false
	tool(&sdk.Tool{Name: "echo", Title: "Echo", Description: "Echo <text> & more.", Annotations: &sdk.ToolAnnotations{Title: "Echo!", ReadOnlyHint: true, DestructiveHint: &no},
		Icons: []sdk.Icon{{Source: "data:image/png;base64,AA=="}}, Meta: sdk.Meta{"vendor/x": 1.5},
		OutputSchema: json.RawMessage(`{"type":"object","properties":{"said":{"type":"string"}}}`)},
		func(_ context.Context, r call, in string) (*sdk.CallToolResult, error) {
			res := text("%s says %s", name, in)
			res.StructuredContent = map[string]any{"said": in}
			res.Meta = sdk.Meta{"vendor/y": "z", "casemate/call": "forged", "seen": r.Params.Meta["vendor/in"]}
			return res, nil
		})
	tool(&sdk.Tool{Name: "kinds"}, func(context.Context, call, string) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{
			&sdk.TextContent{Text: "t", Annotations: &sdk.Annotations{Audience: []sdk.Role{"user"}, Priority: 0.5}},
			&sdk.ImageContent{MIMEType: "image/png", Data: []byte("png")},
			&sdk.AudioContent{MIMEType: "audio/wav", Data: []byte("wav")},
			&sdk.ResourceLink{URI: "mem://" + name + "/one", Name: "one"},
			&sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "mem://x", Blob: []byte("blob"), MIMEType: "x/y"}},
		}}, nil
	})
	tool(&sdk.Tool{Name: "fail"}, func(_ context.Context, _ call, in string) (*sdk.CallToolResult, error) {
		res := text("it failed: %s", in)
		res.IsError = true
		return res, nil
	})
	tool(&sdk.Tool{Name: "refuse"}, func(context.Context, call, string) (*sdk.CallToolResult, error) {
		return nil, &jsonrpc.Error{Code: -32002, Message: "not there", Data: json.RawMessage(`{"uri":"mem://none"}`)}
	})
	tool(&sdk.Tool{Name: "progress"}, func(ctx context.Context, r call, _ string) (*sdk.CallToolResult, error) {
		for i := range 3 {
			if token := r.Params.GetProgressToken(); token != nil {
				r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: token, Progress: float64(i), Total: 3, Message: "step"})
			}
		}
		return text("done"), nil
	})
	tool(&sdk.Tool{Name: "log"}, func(ctx context.Context, r call, in string) (*sdk.CallToolResult, error) {
		r.Session.Log(ctx, &sdk.LoggingMessageParams{Level: "warning", Logger: name, Data: in})
		return text("logged"), nil
	})
	tool(&sdk.Tool{Name: "wait"}, func(ctx context.Context, _ call, file string) (*sdk.CallToolResult, error) {
		if err := os.WriteFile(file, []byte("begun"), 0o600); err != nil {
			return nil, err
		}
		<-ctx.Done()
		return text("too late"), os.WriteFile(file, []byte("cancelled"), 0o600)
	})
	tool(&sdk.Tool{Name: "pid"}, func(context.Context, call, string) (*sdk.CallToolResult, error) { return text("%d", os.Getpid()), nil })
	tool(&sdk.Tool{Name: "touch"}, func(ctx context.Context, _ call, uri string) (*sdk.CallToolResult, error) {
		return text("touched"), s.ResourceUpdated(ctx, &sdk.ResourceUpdatedNotificationParams{URI: uri})
	})
	prompt := func(p string) {
		s.AddPrompt(&sdk.Prompt{Name: p, Title: "Prompt", Arguments: []*sdk.PromptArgument{{Name: "who"}}}, func(_ context.Context, r *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
			return &sdk.GetPromptResult{Description: p, Messages: []*sdk.PromptMessage{{Role: "user", Content: &sdk.TextContent{Text: name + " greets " + r.Params.Arguments["who"]}}}}, nil
		})
	}
	prompt("greet")
	tool(&sdk.Tool{Name: "add"}, func(_ context.Context, _ call, p string) (*sdk.CallToolResult, error) {
		prompt(p)
		return text("added"), nil
	})
	asks := map[string]sdk.InputRequest{
		"sample": &sdk.CreateMessageParams{MaxTokens: 7, IncludeContext: "allServers", Messages: []*sdk.SamplingMessage{{Role: "user", Content: &sdk.TextContent{Text: "think"}}}},
		"elicit": &sdk.ElicitParams{Message: "your name?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}}}`)},
		"roots":  &sdk.ListRootsParams{},
	}
	ask := func(tools string, names ...string) {
		tool(&sdk.Tool{Name: tools}, func(_ context.Context, r call, _ string) (*sdk.CallToolResult, error) {
			wants := sdk.InputRequestMap{}
			var got []string
			for _, n := range names {
				if a := r.Params.InputResponses[n]; a != nil {
					got = append(got, n+" "+string(encode(a)))
				}
				wants[n] = asks[n]
			}
			if len(got) < len(names) {
				return &sdk.CallToolResult{InputRequests: wants, RequestState: "state of the server"}, nil
			}
			return text("%s; state %q", strings.Join(got, "; "), r.Params.RequestState), nil
		})
	}
	ask("sample", "sample")
	ask("elicit", "elicit")
	ask("roots", "roots")
	ask("all", "sample", "elicit", "roots")
	for _, uri := range []string{"mem://" + name + "/one", "mem://shared"} {
		s.AddResource(&sdk.Resource{URI: uri, Name: uri, MIMEType: "text/plain"}, read(name))
	}
	s.AddResourceTemplate(&sdk.ResourceTemplate{URITemplate: "mem://" + name + "/item/{id}", Name: "item"}, read(name))
	if err := s.Run(context.Background(), &sdk.StdioTransport{}); err != nil {
		os.Exit(1)
	}
}

func read(name string) sdk.ResourceHandler {
	return func(_ context.Context, r *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
		return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: r.Params.URI, Text: name + " has it"}}}, nil
	}
}

// serveOdd serves what the SDK's types do not know, line by line, in 2025-06-18.
func serveOdd() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 32<<20)
	for in.Scan() {
		var m struct {
			ID     json.RawMessage
			Method string
			Params json.RawMessage
		}
		if json.Unmarshal(in.Bytes(), &m) != nil || m.ID == nil {
			continue
		}
		result := ""
		switch m.Method {
		case "initialize":
			result = `{"protocolVersion":"2025-06-18","capabilities":{"tools":{},"prompts":{},"experimental":{"x":{}}},"serverInfo":{"name":"odd","version":"1"}}`
		case "tools/list":
			result = `{"tools":[{"name":"odd","description":"odd","inputSchema":{"type":"object"},"future":{"z":[1.0,1e400]},"annotations":{"odd":true}}]}`
		case "tools/call":
			if serveLong(m.ID, m.Params) {
				continue
			}
			result = `{"content":[{"type":"hologram","rays":[1.50]}],"structuredContent":{"big":12345678901234567890,"lt":"<&>"},"later":{"params":` + string(m.Params) + `}}`
			if strings.Contains(string(m.Params), "ASK") {
				result = `{"resultType":"input_required","inputRequests":{"x":{"method":"elicitation/create","params":{"message":"password?","requestedSchema":{"type":"object","properties":{}}}}}}`
			}
		case "prompts/list":
			result = `{"prompts":[{"name":"p","future":1.0}],"nextCursor":"odd cursor","later":true}`
		default:
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no","data":{"why":"<odd>"}}}`+"\n", m.ID)
			continue
		}
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", m.ID, result)
	}
}
