package mcp

//lint:file-ignore SA1019 what 2026-07-28 deprecates is passed on all the same: most clients and servers are older

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/gatewaytest"
	"github.com/casemate/casemate/router"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// An end is the SDK's client of a real router with real servers.
type end struct {
	*sdk.ClientSession
	t      *testing.T
	r      *router.Router
	events chan string // what the servers said
}

// next returns the next event that begins with prefix; others are dropped.
func (e *end) next(prefix string) string {
	e.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case s := <-e.events:
			if strings.HasPrefix(s, prefix) {
				return s
			}
		case <-late:
			e.t.Fatalf("no event %q", prefix)
		}
	}
}

// clientOf makes a client that answers everything, and notes what it is told.
func clientOf(events chan string) *sdk.Client {
	note := func(format string, a ...any) {
		select {
		case events <- fmt.Sprintf(format, a...):
		default:
		}
	}
	c := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, &sdk.ClientOptions{
		CreateMessageHandler: func(_ context.Context, r *sdk.CreateMessageRequest) (*sdk.CreateMessageResult, error) {
			note("sampling %s", encode(r.Params))
			return &sdk.CreateMessageResult{Model: "m", Role: "assistant", Content: &sdk.TextContent{Text: "thought"}}, nil
		},
		ElicitationHandler: func(_ context.Context, r *sdk.ElicitRequest) (*sdk.ElicitResult, error) {
			note("elicitation %s", encode(r.Params))
			return &sdk.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
		ToolListChangedHandler:     func(context.Context, *sdk.ToolListChangedRequest) { note("tools changed") },
		PromptListChangedHandler:   func(context.Context, *sdk.PromptListChangedRequest) { note("prompts changed") },
		ResourceListChangedHandler: func(context.Context, *sdk.ResourceListChangedRequest) { note("resources changed") },
		ResourceUpdatedHandler:     func(_ context.Context, r *sdk.ResourceUpdatedNotificationRequest) { note("updated %s", r.Params.URI) },
		LoggingMessageHandler: func(_ context.Context, r *sdk.LoggingMessageRequest) {
			note("log %s %s %v", r.Params.Logger, r.Params.Level, r.Params.Data)
		},
		ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) {
			note("progress %v %v of %v %s", r.Params.ProgressToken, r.Params.Progress, r.Params.Total, r.Params.Message)
		},
	})
	c.AddRoots(&sdk.Root{URI: "file:///host/project/sub", Name: "sub"}, &sdk.Root{URI: "file:///host/secret", Name: "secret"})
	return c
}

// ends runs a test with a client of each version over each transport.
func ends(t *testing.T, servers []gatewaytest.Server, view func(gateway.Router) gateway.Router, test func(t *testing.T, e *end)) {
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		for _, transport := range []string{"stdio", "http"} {
			t.Run(transport+"-"+version, func(t *testing.T) {
				r, _ := gatewaytest.NewServers(t, servers...)
				test(t, dial(t, r, view, transport, version))
			})
		}
	}
}

func dial(t *testing.T, r *router.Router, view func(gateway.Router) gateway.Router, transport, version string) *end {
	t.Helper()
	var shown gateway.Router = r
	if view != nil {
		shown = view(r)
	}
	if transport == "stdio" {
		return dialStdio(t, r, shown, version, Options{Version: "1", Progress: time.Hour})
	}
	d := serveDoor(t, r, shown, gateway.Config{Token: token}, Options{Version: "1", Progress: time.Hour})
	way := &sdk.StreamableClientTransport{Endpoint: d.url, HTTPClient: &http.Client{Transport: bearer(token)}}
	return meet(t, r, way, version)
}

func dialStdio(t *testing.T, r *router.Router, shown gateway.Router, version string, o Options) *end {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		done <- ServeStdio(ctx, inR, outW, shown, o)
		outW.Close()
	}()
	t.Cleanup(func() {
		inW.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		cancel()
	})
	return meet(t, r, &sdk.IOTransport{Reader: outR, Writer: inW, MaxLineLength: maxAnswer}, version)
}

func meet(t *testing.T, r *router.Router, way sdk.Transport, version string) *end {
	t.Helper()
	e := &end{t: t, r: r, events: make(chan string, 1000)}
	s, err := clientOf(e.events).Connect(t.Context(), way, &sdk.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if got := s.InitializeResult().ProtocolVersion; got != version {
		t.Fatalf("speaks %s", got)
	}
	e.ClientSession = s
	return e
}

type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func (e *end) call(name, in string) *sdk.CallToolResult {
	e.t.Helper()
	res, err := e.CallTool(e.t.Context(), &sdk.CallToolParams{Name: name, Arguments: map[string]any{"text": in}})
	if err != nil {
		e.t.Fatalf("%s: %v", name, err)
	}
	return res
}

func said(r *sdk.CallToolResult) string {
	var b strings.Builder
	for _, c := range r.Content {
		if t, ok := c.(*sdk.TextContent); ok {
			b.WriteString(t.Text)
		}
	}
	return b.String()
}

// TestToolsPass: what a server lists and answers arrives as it is, but for the
// prefix of the name and what is ours in _meta.
func TestToolsPass(t *testing.T) {
	one := everything(t, "one")
	one.Prefix = "one_"
	ends(t, []gatewaytest.Server{one}, nil, func(t *testing.T, e *end) {
		var echo *sdk.Tool
		for tool, err := range e.Tools(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			if tool.Name == "one_echo" {
				echo = tool
			}
		}
		got := string(encode(echo))
		for _, want := range []string{`"title":"Echo"`, `"readOnlyHint":true`, `"destructiveHint":false`, `"outputSchema":{"properties":{"said"`, `"icons":[{"src":"data:image/png;base64,AA=="}]`, `"vendor/x":1.5`, `Echo <text> & more.`} {
			if !strings.Contains(got, want) {
				t.Errorf("%s is not in %s", want, got)
			}
		}
		res, err := e.CallTool(t.Context(), &sdk.CallToolParams{Name: "one_echo", Meta: sdk.Meta{"vendor/in": "seen"}, Arguments: map[string]any{"text": "hello <&>"}})
		if err != nil {
			t.Fatal(err)
		}
		if said(res) != "one says hello <&>" || fmt.Sprint(res.StructuredContent) != "map[said:hello <&>]" || res.Meta["vendor/y"] != "z" || res.Meta["seen"] != "seen" {
			t.Errorf("%s", encode(res))
		}
		if id, _ := res.Meta[callKey].(string); !strings.HasPrefix(id, "c_") {
			t.Errorf("the call's id is %q", id)
		}
		kinds := string(encode(e.call("one_kinds", "")))
		for _, want := range []string{`"audience":["user"]`, `"type":"image"`, `"type":"audio","mimeType":"audio/wav","data":"d2F2"`, `"type":"resource_link"`, `"blob":"YmxvYg=="`} {
			if !strings.Contains(kinds, want) {
				t.Errorf("%s is not in %s", want, kinds)
			}
		}
		if res := e.call("one_fail", "x"); !res.IsError || said(res) != "it failed: x" {
			t.Errorf("%s", encode(res))
		}
		_, err = e.CallTool(t.Context(), &sdk.CallToolParams{Name: "one_refuse"})
		var wire *jsonrpc.Error
		if !errors.As(err, &wire) || wire.Code != -32002 || string(wire.Data) != `{"uri":"mem://none"}` {
			t.Errorf("the server's error: %v", err)
		}
	})
}

// TestUnknownFieldsPass: what no type of the SDK knows arrives too, byte for
// byte where it is not ours.
func TestUnknownFieldsPass(t *testing.T) {
	r, back := gatewaytest.NewServers(t, odd(t))
	c := connect(t, r, back, Options{})
	c.initialize("2025-11-25")
	for _, x := range []struct{ ask, want string }{
		{`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, `{"name":"odd","description":"odd","inputSchema":{"type":"object"},"future":{"z":[1.0,1e400]},"annotations":{"odd":true}}`},
		{`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"odd","arguments":{"n":1.0}}}`, `"content":[{"type":"hologram","rays":[1.50]}],"structuredContent":{"big":12345678901234567890,"lt":"<&>"},"later":`},
		{`{"jsonrpc":"2.0","id":3,"method":"prompts/list","params":{"cursor":"any"}}`, `{"prompts":[{"name":"p","future":1.0}],"nextCursor":"odd cursor","later":true,`},
		{`{"jsonrpc":"2.0","id":4,"method":"prompts/get","params":{"name":"q"}}`, `"error":{"code":-32601,"message":"no","data":{"why":"<odd>"}}`},
		{`{"jsonrpc":"2.0","id":5,"method":"resources/list"}`, `"error":{"code":-32601,"message":"Method not found: \"resources/list\""}`},
		{`{"jsonrpc":"2.0","id":6,"method":"logging/setLevel","params":{"level":"debug"}}`, `"error":{"code":-32601`},
	} {
		if got := c.ask(x.ask); !strings.Contains(got, x.want) {
			t.Errorf("%s\n%s\nwant %s", x.ask, got, x.want)
		}
	}
}

// TestCapabilities: what is said is what the servers have, and no more.
func TestCapabilities(t *testing.T) {
	for _, x := range []struct {
		name    string
		servers []gatewaytest.Server
		want    string
		says    string
	}{
		{"none", nil, `{"tools":{"listChanged":true}}`, ""},
		{"odd", []gatewaytest.Server{odd(t)}, `{"prompts":{},"tools":{"listChanged":true}}`, ""},
		{"lone", []gatewaytest.Server{everything(t, "one")}, `{"completions":{},"logging":{},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}}`, "Instructions of one."},
		{"two", two(t), `{"completions":{},"logging":{},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}}`, "# one\n\nInstructions of one.\n\n# two\n\nInstructions of two."},
	} {
		t.Run(x.name, func(t *testing.T) {
			ends(t, x.servers, nil, func(t *testing.T, e *end) {
				got := e.InitializeResult()
				if caps := string(encode(got.Capabilities)); caps != x.want || got.Instructions != x.says {
					t.Errorf("%s, %q", caps, got.Instructions)
				}
			})
		})
	}
}

func two(t testing.TB) []gatewaytest.Server {
	one, other := everything(t, "one"), everything(t, "two")
	one.Prefix, other.Prefix = "one_", "two_"
	return []gatewaytest.Server{one, other}
}

// TestPromptsAndResources: of a lone server under its own names, of two under
// prefixes, and of a view of one of two as if it were alone.
func TestPromptsAndResources(t *testing.T) {
	shim := func(r gateway.Router) gateway.Router { return gateway.ServerView(r, "one") }
	for _, x := range []struct {
		name, prefix string
		servers      []gatewaytest.Server
		view         func(gateway.Router) gateway.Router
	}{{"lone", "", []gatewaytest.Server{everything(t, "one")}, nil}, {"two", "one_", two(t), nil}, {"shim", "", two(t), shim}} {
		t.Run(x.name, func(t *testing.T) {
			ends(t, x.servers, x.view, func(t *testing.T, e *end) {
				var prompts, resources, templates []string
				for p, err := range e.Prompts(t.Context(), nil) {
					if err != nil {
						t.Fatal(err)
					}
					prompts = append(prompts, p.Name)
				}
				for r, err := range e.Resources(t.Context(), nil) {
					if err != nil {
						t.Fatal(err)
					}
					resources = append(resources, r.URI)
				}
				for r, err := range e.ResourceTemplates(t.Context(), nil) {
					if err != nil {
						t.Fatal(err)
					}
					templates = append(templates, r.URITemplate)
				}
				want := "[greet] [mem://one/one mem://shared] [mem://one/item/{id}]"
				if x.name == "two" {
					want = "[one_greet two_greet] [mem://one/one mem://shared mem://shared mem://two/one] [mem://one/item/{id} mem://two/item/{id}]"
				}
				if got := fmt.Sprint(prompts, resources, templates); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				p, err := e.GetPrompt(t.Context(), &sdk.GetPromptParams{Name: x.prefix + "greet", Arguments: map[string]string{"who": "you"}})
				if err != nil || p.Messages[0].Content.(*sdk.TextContent).Text != "one greets you" {
					t.Errorf("%s %v", encode(p), err)
				}
				if _, err := e.GetPrompt(t.Context(), &sdk.GetPromptParams{Name: "nope"}); err == nil {
					t.Error("a prompt that is not there")
				}
				for _, uri := range []string{"mem://one/one", "mem://one/item/7"} {
					r, err := e.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: uri})
					if err != nil || r.Contents[0].Text != "one has it" {
						t.Errorf("%s: %s %v", uri, encode(r), err)
					}
				}
				if _, err := e.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "mem://shared"}); (err != nil) != (x.name == "two") {
					t.Errorf("a resource that two servers list: %v", err)
				}
				if _, err := e.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "mem://nowhere"}); err == nil {
					t.Error("a resource that is not there")
				}
				done, err := e.Complete(t.Context(), &sdk.CompleteParams{Ref: &sdk.CompleteReference{Type: "ref/prompt", Name: x.prefix + "greet"}, Argument: sdk.CompleteParamsArgument{Name: "who", Value: "A"}})
				if err != nil || done.Completion.Values[0] != "one completes greet A" {
					t.Errorf("%s %v", encode(done), err)
				}
				done, err = e.Complete(t.Context(), &sdk.CompleteParams{Ref: &sdk.CompleteReference{Type: "ref/resource", URI: "mem://one/item/{id}"}, Argument: sdk.CompleteParamsArgument{Name: "id", Value: "A"}})
				if err != nil || done.Completion.Values[0] != "one completes mem://one/item/{id} A" {
					t.Errorf("%s %v", encode(done), err)
				}
			})
		})
	}
}

// TestServersTell: progress with the client's token, logging, changes of
// lists, updates of resources.
func TestServersTell(t *testing.T) {
	ends(t, []gatewaytest.Server{everything(t, "one")}, nil, func(t *testing.T, e *end) {
		p := &sdk.CallToolParams{Name: "progress"}
		p.SetProgressToken("mine")
		if _, err := e.CallTool(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if got, want := e.next("progress"), fmt.Sprintf("progress mine %d of 3 step", i); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		if e.InitializeResult().ProtocolVersion < stateless {
			if err := e.SetLoggingLevel(t.Context(), &sdk.SetLoggingLevelParams{Level: "info"}); err != nil {
				t.Fatal(err)
			}
			e.call("log", "words")
			if got := e.next("log"); got != "log one warning words" {
				t.Error(got)
			}
		}
		e.call("add", "another")
		e.next("prompts changed")
		if err := e.Subscribe(t.Context(), &sdk.SubscribeParams{URI: "mem://one/one"}); err != nil {
			t.Fatal(err)
		}
		// A subscription of 2026-07-28 is a stream that begins in the background.
		for deadline := time.Now().Add(20 * time.Second); ; {
			e.call("touch", "mem://one/one")
			select {
			case s := <-e.events:
				if s == "updated mem://one/one" {
					return
				}
			case <-time.After(100 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				t.Fatal("no word of the update")
			}
		}
	})
}

// TestServersAsk: what a server asks in the middle of a call reaches the
// client, over every transport and in every version, and the answer the server.
func TestServersAsk(t *testing.T) {
	s := everything(t, "one")
	s.Mounts = []casemate.Mount{{Path: "/host/project", At: "/work", Access: casemate.Read}}
	ends(t, []gatewaytest.Server{s}, nil, func(t *testing.T, e *end) {
		if got := said(e.call("sample", "")); !strings.Contains(got, `"text":"thought"`) {
			t.Error(got)
		}
		if got := e.next("sampling"); strings.Contains(got, "allServers") {
			t.Error(got)
		}
		if got := said(e.call("elicit", "")); !strings.Contains(got, `"name":"Ada"`) || !strings.Contains(got, "state of the server") {
			t.Error(got)
		}
		if got := e.next("elicitation"); !strings.Contains(got, "[one] your name?") {
			t.Error(got)
		}
		if got := said(e.call("roots", "")); !strings.Contains(got, `file:///work/sub`) || strings.Contains(got, "secret") || strings.Contains(got, "/host") {
			t.Error(got)
		}
		if got := said(e.call("all", "")); !strings.Contains(got, "thought") || !strings.Contains(got, "Ada") || !strings.Contains(got, "/work/sub") {
			t.Error(got)
		}
	})
}

// TestNotGranted: without the manifest's grant nothing is asked of the client.
func TestNotGranted(t *testing.T) {
	s := everything(t, "one")
	s.Sampling, s.Elicitation = false, false
	ends(t, []gatewaytest.Server{s}, nil, func(t *testing.T, e *end) {
		for _, name := range []string{"sample", "elicit"} {
			res, err := e.CallTool(t.Context(), &sdk.CallToolParams{Name: name})
			if err == nil && !res.IsError {
				t.Errorf("%s: %s", name, encode(res))
			}
		}
		select {
		case got := <-e.events:
			t.Errorf("the client was asked: %s", got)
		default:
		}
	})
}

// TestForgedInput: a server that speaks an older version cannot ask by a
// result what it was not granted.
func TestForgedInput(t *testing.T) {
	s := odd(t)
	s.Elicitation = false
	ends(t, []gatewaytest.Server{s}, nil, func(t *testing.T, e *end) {
		res, err := e.CallTool(t.Context(), &sdk.CallToolParams{Name: "odd", Arguments: map[string]any{"text": "ASK"}})
		if err != nil || !res.IsError || !strings.Contains(said(res), "request for input") {
			t.Errorf("%s %v", encode(res), err)
		}
		select {
		case got := <-e.events:
			t.Errorf("the client was asked: %s", got)
		default:
		}
	})
}

// TestCancelReachesServer: a client that cancels its call cancels that of the
// server, which goes on to serve.
func TestCancelReachesServer(t *testing.T) {
	ends(t, []gatewaytest.Server{everything(t, "one")}, nil, func(t *testing.T, e *end) {
		file := filepath.Join(t.TempDir(), "state")
		pid := said(e.call("pid", ""))
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() {
			_, err := e.CallTool(ctx, &sdk.CallToolParams{Name: "wait", Arguments: map[string]any{"text": file}})
			over <- err
		}()
		until(t, file, "begun")
		cancel()
		if err := <-over; err == nil {
			t.Error("a call that was cancelled has a result")
		}
		until(t, file, "cancelled")
		if got := said(e.call("pid", "")); got != pid {
			t.Errorf("the server was %s and is %s", pid, got)
		}
	})
}

func until(t *testing.T, file, want string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if b, _ := os.ReadFile(file); string(b) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s never said %q", file, want)
		}
	}
}

// TestSharedOverHTTP: clients that make a session of MCP for each call, or
// none, find the server that their caller has; another caller has another.
func TestSharedOverHTTP(t *testing.T) {
	r, _ := gatewaytest.NewServers(t, everything(t, "one"))
	d := serveDoor(t, r, r, gateway.Config{Token: token, Credentials: []gateway.Credential{
		{Name: "other", SHA256: sha(other), Tools: []string{"pid"}, Contexts: map[string][]string{"none": {}}}}}, Options{})
	pid := func(token, version, query string) (string, error) {
		way := &sdk.StreamableClientTransport{Endpoint: d.url + query, HTTPClient: &http.Client{Transport: bearer(token)}}
		s, err := clientOf(make(chan string, 10)).Connect(t.Context(), way, &sdk.ClientSessionOptions{ProtocolVersion: version})
		if err != nil {
			return "", err
		}
		defer s.Close()
		if caps := s.InitializeResult().Capabilities; token == other && (caps.Prompts != nil || caps.Resources != nil) {
			t.Errorf("who may call one tool of a server is offered %s", encode(caps))
		}
		var names []string
		for tool, err := range s.Tools(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, tool.Name)
		}
		if token == other && query == "" && !slices.Equal(names, []string{"pid"}) {
			t.Errorf("a caller is shown %v", names)
		}
		res, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: "pid"})
		if err != nil {
			return "", err
		}
		if _, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: "echo"}); token == other && err == nil {
			t.Error("a caller has called what it may not call")
		}
		return said(res), nil
	}
	mine := map[string]bool{}
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		first, err := pid(token, version, "")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := pid(token, version, ""); err != nil || again != first {
			t.Errorf("one caller had the servers %s and %s: %v", first, again, err)
		}
		mine[first] = true
	}
	theirs, err := pid(other, "2025-11-25", "")
	if err != nil || mine[theirs] {
		t.Errorf("another caller had %s of %v: %v", theirs, mine, err)
	}
	if got, err := pid(other, "2025-11-25", "?context=none"); err == nil {
		t.Errorf("a context without tools called %s", got)
	}
	if a, err := d.do(t.Context(), "POST", initialize("2025-11-25")); err != nil || a.status != 200 {
		t.Errorf("%v %v", a, err)
	}
	d.url += "?context=unknown"
	if a, err := d.do(t.Context(), "POST", initialize("2025-11-25")); err != nil || a.status != 403 {
		t.Errorf("an unknown context: %v %v", a, err)
	}
}

const other = "another-token-of-the-test-0123"

// TestForeignSession: a session of MCP is its caller's alone.
func TestForeignSession(t *testing.T) {
	r, _ := gatewaytest.New(t)
	d := serveDoor(t, r, r, gateway.Config{Token: token, Credentials: []gateway.Credential{{Name: "other", SHA256: sha(other)}}}, Options{})
	id := d.post(initialize("2025-11-25")).header.Get("Mcp-Session-Id")
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	if a := d.post(list, "Mcp-Session-Id", id, "Mcp-Protocol-Version", "2025-11-25"); a.status != 200 {
		t.Errorf("%v", a)
	}
	d.token = other
	for _, method := range []string{"POST", "GET", "DELETE"} {
		a, err := d.do(t.Context(), method, list, "Mcp-Session-Id", id, "Mcp-Protocol-Version", "2025-11-25")
		if err != nil || a.status != 404 {
			t.Errorf("%s: %v %v", method, a, err)
		}
	}
}

// TestSessionsOfOneCaller: who begins sessions of MCP without end leaves some
// for another.
func TestSessionsOfOneCaller(t *testing.T) {
	r, _ := gatewaytest.New(t)
	d := serveDoor(t, r, r, gateway.Config{Token: token, Credentials: []gateway.Credential{{Name: "other", SHA256: sha(other)}}}, Options{})
	n := 0
	for ; n <= maxSessions && d.post(initialize("2025-11-25")).status == 200; n++ {
	}
	if n != maxOfOne {
		t.Errorf("one caller began %d", n)
	}
	d.token = other
	if a := d.post(initialize("2025-11-25")); a.status != 200 {
		t.Errorf("another caller: %v", a)
	}
}

// TestTamperedState: a call that waits for an answer is its caller's alone,
// and answered once.
func TestTamperedState(t *testing.T) {
	r, _ := gatewaytest.NewServers(t, everything(t, "one"))
	d := serveDoor(t, r, r, gateway.Config{Token: token, Credentials: []gateway.Credential{{Name: "other", SHA256: sha(other)}}}, Options{})
	m := strings.Replace(meta(stateless), `clientCapabilities":{}`, `clientCapabilities":{"elicitation":{}}`, 1)
	ask := func(tool, more string) string {
		t.Helper()
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{}` + more + `,` + m + `}}`
		return d.post(body, "Mcp-Protocol-Version", stateless, "Mcp-Method", "tools/call", "Mcp-Name", tool).body
	}
	first := ask("elicit", "")
	_, rest, _ := strings.Cut(first, `"requestState":"`)
	state, _, _ := strings.Cut(rest, `"`)
	if state == "" || !strings.Contains(first, `"resultType":"input_required"`) {
		t.Fatal(first)
	}
	_, rest, _ = strings.Cut(first, `"inputRequests":{"`)
	id, _, _ := strings.Cut(rest, `"`)
	answer := `,"requestState":"` + state + `","inputResponses":{"` + id + `":{"action":"accept","content":{"name":"Bo"}}}`
	for name, got := range map[string]string{
		"tampered":     ask("elicit", strings.Replace(answer, state, state+"x", 1)),
		"another tool": ask("pid", answer),
	} {
		if !strings.Contains(got, `"code":-32602`) {
			t.Errorf("%s: %s", name, got)
		}
	}
	d.token = other
	if got := ask("elicit", answer); !strings.Contains(got, `"code":-32602`) {
		t.Errorf("another caller: %s", got)
	}
	d.token = token
	again := ask("elicit", `,"requestState":"`+state+`"`)
	if !strings.Contains(again, `"resultType":"input_required"`) || strings.Contains(again, state) {
		t.Fatalf("without an answer: %s", again)
	}
	_, rest, _ = strings.Cut(again, `"requestState":"`)
	next, _, _ := strings.Cut(rest, `"`)
	if got := ask("elicit", strings.Replace(answer, state, next, 1)); !strings.Contains(got, "Bo") {
		t.Errorf("answered: %s", got)
	}
	if got := ask("elicit", strings.Replace(answer, state, next, 1)); !strings.Contains(got, `"code":-32602`) {
		t.Errorf("answered twice: %s", got)
	}
}

// TestGivenSession: a session that was there before stays.
func TestGivenSession(t *testing.T) {
	r, _ := gatewaytest.NewServers(t, everything(t, "one"))
	id := r.NewSession()
	var pids []string
	for range 2 {
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- ServeStdio(t.Context(), inR, outW, gateway.ServerView(r, "one"), Options{Session: id}) }()
		c, err := Dial(t.Context(), "test", inW, outR)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Call(t.Context(), "pid", map[string]any{})
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, res.Content[0].Text)
		inW.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if pids[0] != pids[1] {
		t.Errorf("%v", pids)
	}
}

// TestShimsOfOneProgram: the shims of a program share a session, and each
// hears of its own server alone.
func TestShimsOfOneProgram(t *testing.T) {
	r, _ := gatewaytest.NewServers(t, two(t)...)
	id := r.NewSession()
	var shims []*end
	for _, server := range []string{"one", "two"} {
		shims = append(shims, dialStdio(t, r, gateway.ServerView(r, server), "2025-11-25", Options{Session: id}))
	}
	for i, server := range []string{"one", "two"} {
		uri := "mem://" + server + "/one"
		if err := shims[i].Subscribe(t.Context(), &sdk.SubscribeParams{URI: uri}); err != nil {
			t.Fatal(err)
		}
		shims[i].call("touch", uri)
	}
	for i, server := range []string{"one", "two"} {
		if got, want := shims[i].next(""), "updated mem://"+server+"/one"; got != want {
			t.Errorf("shim %d: %s, want %s", i, got, want)
		}
	}
	if got := said(shims[0].call("roots", "")); !strings.Contains(got, `roots {"roots":[]}`) {
		t.Error(got) // none is mounted
	}
}

// TestMissing: a list of several servers is that of those that answer, and
// says whose is missing.
func TestMissing(t *testing.T) {
	servers := two(t)
	r, back := gatewaytest.NewServers(t, servers...)
	tools := gatewaytest.Tools()
	for _, s := range servers {
		all := gatewaytest.List(t, r, s)
		if s.Name == "two" {
			for _, tool := range all {
				tool.Run.MCP.Command = []string{"/nonexistent"}
			}
		}
		tools = append(tools, all...)
	}
	if err := r.Reload(tools, nil); err != nil {
		t.Fatal(err)
	}
	c := connect(t, r, back, Options{})
	c.initialize("2025-11-25")
	got := c.ask(`{"jsonrpc":"2.0","id":1,"method":"prompts/list"}`)
	if !strings.Contains(got, "one_greet") || strings.Contains(got, "casemate/missing") {
		t.Error(got)
	}
	cursor := text(field(json.RawMessage(got), "result", "nextCursor"))
	got = c.ask(`{"jsonrpc":"2.0","id":2,"method":"prompts/list","params":{"cursor":"` + cursor + `"}}`)
	if cursor == "" || !strings.Contains(got, `"prompts":[]`) || !strings.Contains(got, `"casemate/missing":{"two":`) {
		t.Error(got)
	}
	if got := c.ask(`{"jsonrpc":"2.0","id":3,"method":"prompts/list","params":{"cursor":"junk"}}`); !strings.Contains(got, `"code":-32602`) {
		t.Error(got)
	}
}
