package router

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casemate/casemate"
)

// mcp returns the tools of the server that behaves so, and the server itself.
func mcp(how string, change ...func(*casemate.Tool)) []*casemate.Tool {
	of := func(tool, listed string) *casemate.Tool {
		t := &casemate.Tool{Name: casemate.ToolName(tool), Parameters: []byte(`{"type":"object","properties":{"text":{"type":"string"}}}`),
			Run:      casemate.Run{MCP: &casemate.MCP{Server: "srv", Command: []string{"/bin/srv", how}, Tool: tool, Listed: []byte(listed)}},
			Security: casemate.Profile{Timeout: 20 * time.Second, Output: 1 << 20, Scope: casemate.ScopeSession}}
		for _, c := range change {
			c(t)
		}
		return t
	}
	base := of("", `{"protocolVersion":"2025-06-18"}`)
	base.Name = "srv"
	all := []*casemate.Tool{base}
	for _, n := range listedTools {
		all = append(all, of(n, listedRaw(n, "")))
	}
	return all
}

func may(sampling, elicitation bool) func(*casemate.Tool) {
	return func(t *casemate.Tool) { t.Run.MCP.Sampling, t.Run.MCP.Elicitation = sampling, elicitation }
}

func within(d time.Duration) func(*casemate.Tool) {
	return func(t *casemate.Tool) { t.Security.Timeout = d }
}

// A person is a client.
type person struct {
	caps    string
	version string
	ask     func(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error)

	mu    sync.Mutex
	heard []string
	note  chan string
}

func newPerson(caps string) *person { return &person{caps: caps, note: make(chan string, 1000)} }

func (p *person) Capabilities() json.RawMessage { return []byte(p.caps) }
func (p *person) Version() string               { return p.version }

func (p *person) Ask(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error) {
	p.mu.Lock()
	p.heard = append(p.heard, server+" "+method+" "+string(params))
	p.mu.Unlock()
	return p.ask(ctx, method, params)
}

func (p *person) Notify(server, method string, params json.RawMessage) {
	select {
	case p.note <- server + " " + method + " " + string(params):
	default:
	}
}

// hears waits until the person heard something with these words.
func (p *person) hears(t testing.TB, words ...string) string {
	t.Helper()
	timeout := time.After(20 * time.Second)
next:
	for {
		select {
		case n := <-p.note:
			for _, w := range words {
				if !strings.Contains(n, w) {
					continue next
				}
			}
			return n
		case <-timeout:
			t.Fatalf("heard nothing of %q", words)
		}
	}
}

func (w *world) do(ctx context.Context, c casemate.Call, args string) *casemate.Outcome {
	c.Arguments = []byte(args)
	return w.Call(ctx, c)
}

// ok returns the text of a call of an MCP tool that succeeds.
func (w *world) ok(s casemate.SessionID, tool casemate.ToolName, args string) string {
	w.t.Helper()
	o := w.do(context.Background(), casemate.Call{Tool: tool, Session: s}, args)
	if o.Error != nil || o.Result == nil || o.Result.IsError {
		w.t.Fatalf("%s: %+v %+v", tool, o.Error, o.Result)
	}
	return textOf(o)
}

func TestMCPResult(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good")...)
	if got := len(w.Tools()); got != len(listedTools) {
		t.Errorf("%d tools are listed, of %d", got, len(listedTools))
	}
	if got := w.Servers(); len(got) != 1 || got[0].Name != "srv" {
		t.Errorf("servers: %+v", got)
	}
	s := w.NewSession()
	o := w.do(context.Background(), casemate.Call{Tool: "echo", Session: s}, `{"text":"hi"}`)
	if o.Error != nil {
		t.Fatal(o.Error)
	}
	want := `{"content":[{"type":"text","text":"hi"},{"type":"text","text":"t","annotations":{"priority":1}},{"type":"resource_link","uri":"x://y","name":"n","icons":[]}],"structuredContent":{"b":1e2,"a":[]},"_meta":{"m":1},"extra":true}`
	if string(o.Result.Raw) != want {
		t.Errorf("raw %s", o.Result.Raw)
	}
	b, _ := json.Marshal(o.Result)
	if want := `{"content":[{"type":"text","text":"hi"},{"type":"text","text":"t","annotations":{"priority":1}},{"type":"resource_link","uri":"x://y","name":"n","icons":[]}],"structuredContent":{"b":1e2,"a":[]},"isError":false}`; string(b) != want {
		t.Errorf("as JSON %s", b)
	}
	var back casemate.Result
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(back); string(again) != string(b) {
		t.Errorf("there and back %s", again)
	}
	if o.Receipt != string(o.Call) || o.Backend != "bare" || o.Enforced == nil || len(o.Label.Writers) != 1 || o.Label.Writers[0] != "tool:echo" {
		t.Errorf("the outcome lacks parts: %+v", o)
	}
	o = w.do(context.Background(), casemate.Call{Tool: "fail", Session: s}, `{}`)
	wants(t, o, casemate.ToolFailed, "it broke")
	if !o.Result.IsError || o.Result.Raw == nil {
		t.Errorf("%+v", o.Result)
	}
	o = w.do(context.Background(), casemate.Call{Tool: "rpc", Session: s}, `{}`)
	wants(t, o, casemate.ToolFailed, "-32602", "argument")
	if string(o.ServerError) != `{"code":-32602,"message":"bad \u001b[2J argument","data":[1]}` {
		t.Errorf("the server's error is %s", o.ServerError)
	}
	wants(t, w.do(context.Background(), casemate.Call{Tool: "echo", Session: s}, `{"text":5}`), casemate.Invalid, "text: want string")
	wants(t, w.do(context.Background(), casemate.Call{Tool: "srv", Session: s}, `{}`), casemate.Invalid, "no tool is called")
	if n := w.b.count(); n != 1 {
		t.Errorf("%d guests were started for one session", n)
	}
	for _, rc := range w.k.of(o.Call) {
		if rc.Digest == "" || rc.Args == "" || rc.Session != s {
			t.Errorf("receipt %+v", rc)
		}
	}
}

func TestMCPMethods(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good")...)
	s := w.NewSession()
	ask := func(method, params string) *casemate.Outcome {
		return w.do(context.Background(), casemate.Call{Tool: "srv", Session: s, Method: method}, params)
	}
	o := ask("prompts/list", `{}`)
	if o.Error != nil || string(o.Result.Raw) != `{"prompts":[{"name":"p"}]}` {
		t.Errorf("%+v %+v", o.Error, o.Result)
	}
	rcs := w.k.of(o.Call)
	if len(rcs) != 2 || rcs[0].Method != "prompts/list" || rcs[0].Tool != "srv" || rcs[1].Output == "" {
		t.Errorf("receipts %+v", rcs)
	}
	o = ask("prompts/get", `{"name":"x"}`)
	wants(t, o, casemate.ToolFailed, "-32601")
	if !strings.Contains(string(o.ServerError), `"data":{"x":1}`) {
		t.Errorf("%s", o.ServerError)
	}
	for _, m := range []string{"tools/call", "initialize", "notifications/initialized", "tools/list", "x\x1b", strings.Repeat("m", 1<<20)} {
		wants(t, ask(m, `{}`), casemate.Invalid, "is not asked by")
	}
	wants(t, ask("prompts/list", `[]`), casemate.Invalid, "object")
	wants(t, w.do(context.Background(), casemate.Call{Tool: "echo", Session: s, Method: "prompts/list"}, `{}`), casemate.Invalid, "no MCP server is called")
	o = ask(listing, `{}`)
	var all struct {
		Initialize struct{ ProtocolVersion, Instructions string }
		Tools      []json.RawMessage
	}
	if o.Error != nil || json.Unmarshal(o.Result.Raw, &all) != nil || all.Initialize.ProtocolVersion != "2025-06-18" || all.Initialize.Instructions != "Be nice." ||
		len(all.Tools) != len(listedTools) || string(all.Tools[0]) != listedRaw("echo", "") {
		t.Errorf("listing: %+v %+v", o.Error, o.Result)
	}
	// Without a session it is asked of a server of its own, which is gone then.
	if o := w.do(context.Background(), casemate.Call{Tool: "srv", Method: listing}, ``); o.Error != nil {
		t.Error(o.Error)
	}
	if w.b.count() != 2 || w.b.alive() != 1 {
		t.Errorf("%d guests were started, %d are alive", w.b.count(), w.b.alive())
	}
}

func TestMCPKeepsItsStateAndServesAtOnce(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good")...)
	s := w.NewSession()
	w.ok(s, "set", `{"text":"x"}`)
	if got := w.ok(s, "get", `{}`); got != "<x> " {
		t.Errorf("it remembers %q", got)
	}
	if got := w.ok(w.NewSession(), "get", `{}`); got != "<> " {
		t.Errorf("another session sees %q", got)
	}
	var all sync.WaitGroup
	for range perServer {
		all.Go(func() { w.ok(s, "meet", fmt.Sprintf(`{"n":%d}`, perServer)) })
	}
	all.Wait()
	if n := w.b.count(); n != 2 {
		t.Errorf("%d guests were started", n)
	}
}

func TestMCPHostile(t *testing.T) {
	for _, c := range []struct {
		tool  casemate.ToolName
		args  string
		kind  casemate.Kind // "" is none
		words []string
		text  string
		lives bool // the server serves on
	}{
		{"twice", `{}`, "", nil, "once", true},
		{"garbage", `{}`, "", nil, "after it", true},
		{"big", `{"n":100}`, "", nil, strings.Repeat("y", 100), true},
		{"big", `{"n":2000000}`, casemate.Killed, []string{"output limit of 1MiB"}, "", true},
		{"big", `{"n":100000000}`, casemate.Killed, []string{"output limit of 1MiB"}, "", true},
		{"die", `{}`, casemate.ToolFailed, []string{"srv ended before it answered", "status 7"}, "", false},
		{"flood", `{}`, casemate.ToolFailed, []string{"flood"}, "", false},
	} {
		t.Run(string(c.tool)+c.args, func(t *testing.T) {
			var mu sync.Mutex
			logged := 0
			w := newWorld(t, Config{ServerLog: func(server casemate.ToolName, _ casemate.SessionID, line string) {
				mu.Lock()
				defer mu.Unlock()
				if logged += len(line); server != "srv" || len(line) > 2<<10 {
					t.Errorf("%s logged %d bytes in a line", server, len(line))
				}
			}}, mcp("good")...)
			s := w.NewSession()
			w.ok(s, "set", `{"text":"x"}`)
			o := w.do(context.Background(), casemate.Call{Tool: c.tool, Session: s}, c.args)
			if c.kind == "" && o.Error != nil || textOf(o) != c.text {
				t.Fatalf("%+v %.100q", o.Error, textOf(o))
			}
			if c.kind != "" {
				wants(t, o, c.kind, c.words...)
			}
			o = w.do(context.Background(), casemate.Call{Tool: "get", Session: s}, `{}`)
			text := textOf(o)
			switch {
			case o.Error != nil:
				t.Error(o.Error)
			case c.lives && text != "<x> ":
				t.Errorf("afterwards it says %q", text)
			case !c.lives && (!strings.HasPrefix(text, "<> ") || !strings.Contains(text, "[casemate] the server srv was started afresh") || !strings.Contains(string(o.Result.Raw), "started afresh")):
				t.Errorf("the caller is not told: %q", text)
			}
			if text := w.ok(s, "get", `{}`); strings.Contains(text, "casemate") {
				t.Errorf("the caller is told twice: %q", text)
			}
			mu.Lock()
			defer mu.Unlock()
			if logged == 0 || logged > 1<<20 {
				t.Errorf("%d bytes were logged", logged)
			}
		})
	}
}

func TestMCPDiesInTheMiddleOfOthers(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good")...)
	s := w.NewSession()
	p := newPerson(`{}`)
	var all sync.WaitGroup
	all.Go(func() {
		o := w.do(context.Background(), casemate.Call{Tool: "wait", Session: s, Client: p}, `{}`)
		wants(t, o, casemate.ToolFailed, "srv ended before it answered", "status 7")
	})
	p.hears(t, "waits")
	wants(t, w.do(context.Background(), casemate.Call{Tool: "die", Session: s}, `{}`), casemate.ToolFailed, "status 7")
	all.Wait()
	if got := w.ok(s, "get", `{}`); !strings.Contains(got, "started afresh") {
		t.Errorf("it says %q", got)
	}
}

func TestMCPNeverAnswers(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good", within(400*time.Millisecond))...)
	s := w.NewSession()
	pid := w.ok(s, "pid", `{}`)
	wants(t, w.do(context.Background(), casemate.Call{Tool: "never", Session: s}, `{}`), casemate.Timeout, "400ms")
	if got := w.ok(s, "pid", `{}`); strings.HasPrefix(got, pid+"[") || got == pid || !strings.Contains(got, "did not answer") {
		t.Errorf("a server that hangs serves on, or nobody is told: %q", got)
	}
	short := w.do(context.Background(), casemate.Call{Tool: "never", Session: s, Timeout: 100 * time.Millisecond}, `{}`)
	wants(t, short, casemate.Timeout, "100ms")
}

func TestMCPNoHandshake(t *testing.T) {
	for how, c := range map[string]struct {
		kind casemate.Kind
		word string
	}{"future": {casemate.ToolFailed, "2099-01-01"}} {
		w := newWorld(t, Config{}, mcp(how)...)
		s := w.NewSession()
		for range 2 {
			wants(t, w.do(context.Background(), casemate.Call{Tool: "echo", Session: s}, `{}`), c.kind, c.word)
		}
		if n := w.b.alive(); n != 0 {
			t.Errorf("%s: %d guests are alive", how, n)
		}
	}
	w := newWorld(t, Config{}, mcp("mute")...)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(200*time.Millisecond, cancel)
	wants(t, w.do(ctx, casemate.Call{Tool: "echo", Session: w.NewSession()}, `{}`), casemate.Cancelled)
	if n := w.b.alive(); n != 0 {
		t.Errorf("%d guests are alive", n)
	}
}

func TestMCPVersions(t *testing.T) {
	for _, how := range []string{"good", "stateless", "fragile", "deaf"} {
		for _, version := range []string{"", "2025-11-25", "2026-07-28"} {
			t.Run(how+" "+version, func(t *testing.T) {
				w := newWorld(t, Config{}, mcp(how)...)
				p := newPerson(`{"roots":{}}`)
				p.version = version
				o := w.do(context.Background(), casemate.Call{Tool: "raw", Session: w.NewSession(), Client: p}, `{}`)
				if o.Error != nil {
					t.Fatal(o.Error)
				}
				if stateless := strings.Contains(textOf(o), `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`); stateless != (how == "stateless") {
					t.Errorf("it was called by %s", textOf(o))
				}
			})
		}
	}
}

func TestMCPCancel(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good")...)
	s, p := w.NewSession(), newPerson(`{}`)
	defer w.Attach(s, p)()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		wants(t, w.do(ctx, casemate.Call{Tool: "wait", Session: s}, `{}`), casemate.Cancelled, "went away")
	})
	p.hears(t, "waits")
	cancel()
	all.Wait()
	p.hears(t, "was cancelled") // and its late answer is no one's
	w.ok(s, "set", `{"text":"x"}`)
	if got := w.ok(s, "get", `{}`); got != "<x> " {
		t.Errorf("it says %q", got)
	}
}

func TestMCPProgressIsTheCallers(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good")...)
	s, mine, other := w.NewSession(), newPerson(`{}`), newPerson(`{}`)
	defer w.Attach(s, other)()
	o := w.do(context.Background(), casemate.Call{Tool: "progress", Session: s, Client: mine,
		Meta: []byte(`{"progressToken":"mine","traceparent":"00-1","casemate/session":"x","io.modelcontextprotocol/protocolVersion":"2026-07-28"}`)}, `{}`)
	if o.Error != nil {
		t.Fatal(o.Error)
	}
	if n := mine.hears(t, "notifications/progress"); !strings.Contains(n, `"progressToken":"mine"`) || !strings.Contains(n, "half") {
		t.Errorf("heard %s", n)
	}
	for _, ch := range []chan string{mine.note, other.note} {
		select {
		case n := <-ch:
			t.Errorf("heard %s, too", n)
		default:
		}
	}
	sent := textOf(o)
	if !strings.Contains(sent, `"traceparent":"00-1"`) || strings.Contains(sent, "mine") || strings.Contains(sent, "casemate/session") || strings.Contains(sent, "protocolVersion") {
		t.Errorf("the server was sent %s", sent)
	}
}

// A tool that is not the one that was approved is not called.
func TestMCPChangesItsTools(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good")...)
	s := w.NewSession()
	w.ok(s, "change", `{}`)
	o := w.do(context.Background(), casemate.Call{Tool: "echo", Session: s}, `{}`)
	wants(t, o, casemate.Denied, "description")
	if o.Error.Fix != "casemate tools approve srv" {
		t.Errorf("fix %q", o.Error.Fix)
	}
	// The listing is what it is now, for whoever approves it.
	l := w.do(context.Background(), casemate.Call{Tool: "srv", Session: s, Method: listing}, `{}`)
	if l.Error != nil || !strings.Contains(string(l.Result.Raw), "And more.") {
		t.Errorf("%+v", l.Error)
	}
	// One that differs from the start, is not listed, or was never approved.
	tools := mcp("good")
	tools[1].Run.MCP.Listed = []byte(strings.Replace(listedRaw("echo", ""), "true", "false", 1))
	tools[2].Run.MCP.Listed = []byte(`{"name":"fail"`)
	tools[3].Run.MCP.Tool = "gone"
	tools[4].Parameters = []byte(`{"type":"object","$ref":"file:///etc/passwd"}`)
	tools[5].Parameters = []byte(`not JSON`)
	tools[6].Run.MCP.Listed = []byte(`{"annotations":{"readOnlyHint":true}, "inputSchema":{"type":"object"},"description":"Does wait.","name":"\u0077ait"}`)
	w = newWorld(t, Config{}, tools...)
	s = w.NewSession()
	call := func(i int) *casemate.Outcome {
		return w.do(context.Background(), casemate.Call{Tool: tools[i].Name, Session: s, Timeout: time.Second}, `{}`)
	}
	wants(t, call(1), casemate.Denied, "annotations")
	wants(t, call(2), casemate.Denied, "never approved")
	wants(t, call(3), casemate.Denied, "does not list it")
	wants(t, call(4), casemate.Unsupported, "schema")
	wants(t, call(5), casemate.Unsupported, "schema")
	if o := call(6); o.Error == nil || o.Error.Kind != casemate.Timeout { // it waits: the same tool in other words
		t.Errorf("%+v", o.Error)
	}
	for how, word := range map[string]string{"endless": "100 pages", "many": "2000", "double": "two of its tools"} {
		w := newWorld(t, Config{}, mcp(how)...)
		o := w.do(context.Background(), casemate.Call{Tool: "echo", Session: w.NewSession()}, `{}`)
		if o.Error == nil || !strings.Contains(o.Error.Message, word) {
			t.Errorf("%s: %+v", how, o.Error)
		}
	}
}

func TestMCPRoots(t *testing.T) {
	tools := mcp("good", func(t *casemate.Tool) {
		t.Security.Filesystem = []casemate.Mount{{Path: "/home/u/docs", At: "/docs", Access: casemate.Read}, {Path: "/home/u/docs/deep", At: "/deep", Access: casemate.Read}}
	})
	w := newWorld(t, Config{}, tools...)
	s, p := w.NewSession(), newPerson(`{"roots":{"listChanged":true},"sampling":{},"elicitation":{}}`)
	p.ask = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return []byte(`{"roots":[{"uri":"file:///home/u/docs","name":"Docs"},{"uri":"file:///home/u/docs/a%20b"},{"uri":"file:///home/u/docs/deep/x"},{"uri":"file:///home/u/docs-evil"},
			{"uri":"file:///home/u"},{"uri":"file:///home/u/docs/../.ssh"},{"uri":"https://x/home/u/docs"},{"uri":"file://host/home/u/docs"},{"uri":5}]}`), nil
	}
	defer w.Attach(s, p)()
	want := `{"roots":[{"uri":"file:///docs","name":"Docs"},{"uri":"file:///docs/a%20b"},{"uri":"file:///deep/x"}]}{"roots":{"listChanged":true}}`
	if got := w.ok(s, "roots", `{}`); got != want {
		t.Errorf("the server sees %s", got)
	}
}

func TestMCPSampling(t *testing.T) {
	p := newPerson(`{"sampling":{},"elicitation":{}}`)
	p.ask = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return []byte(`{"role":"assistant"}`), nil
	}
	w := newWorld(t, Config{}, mcp("good")...)
	s := w.NewSession()
	o := w.do(context.Background(), casemate.Call{Tool: "sample", Session: s, Client: p}, `{"n":3}`)
	if o.Error != nil || !strings.Contains(textOf(o), "-32601") || len(p.heard) != 0 {
		t.Errorf("without a grant: %+v %s", o.Error, textOf(o))
	}
	w = newWorld(t, Config{}, mcp("good", may(true, false))...)
	s = w.NewSession()
	o = w.do(context.Background(), casemate.Call{Tool: "sample", Session: s, Client: p}, `{"n":200}`) // in a loop
	if o.Error != nil || !strings.Contains(textOf(o), "a minute are the limit") || len(p.heard) != 30 {
		t.Errorf("%+v: the client was asked %d times", o.Error, len(p.heard))
	}
	if got := p.heard[0]; got != `srv sampling/createMessage {"messages":[],"maxTokens":5,"_meta":{"casemate/server":"srv"}}` {
		t.Errorf("the client was asked %s", got)
	}
}

func TestMCPElicitation(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good", may(false, true))...)
	s, p := w.NewSession(), newPerson(`{"elicitation":{}}`)
	p.ask = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return []byte(`{"action":"accept","content":{}}`), nil
	}
	form := func(message, properties string) string {
		b, _ := json.Marshal(map[string]string{"params": fmt.Sprintf(`{"message":%q,"requestedSchema":{"type":"object","properties":%s}}`, message, properties)})
		return string(b)
	}
	call := func(args string) string {
		t.Helper()
		o := w.do(context.Background(), casemate.Call{Tool: "elicit", Session: s, Client: p}, args)
		if o.Error != nil {
			t.Fatal(o.Error)
		}
		return textOf(o)
	}
	if got := call(form("Which colour?", `{"colour":{"type":"string"}}`)); !strings.Contains(got, "accept") || !strings.Contains(p.heard[0], `"[srv] Which colour?"`) {
		t.Errorf("%s %s", got, p.heard)
	}
	for _, bad := range []string{
		form("x", `{"password":{"type":"string"}}`), form("x", `{"v":{"type":"string","title":"Your PIN"}}`), form("x", `{"v":{"type":"string","format":"password"}}`),
		form("x", `{"userToken":{"type":"string"}}`), form("Enter your P a s s-word", `{"v":{"type":"string"}}`), form("x", `{"a":{},"a":{}}`),
		`{"params":"{\"message\":\"x\",\"mode\":\"url\",\"url\":\"https://evil.test\"}"}`,
	} {
		if got := call(bad); !strings.Contains(got, "-32602") {
			t.Errorf("%s was answered %s", bad, got)
		}
	}
	if len(p.heard) != 1 {
		t.Errorf("the client was asked %s", p.heard)
	}
}

func TestMCPSubscriptionsSurvive(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good")...)
	s, p := w.NewSession(), newPerson(`{}`)
	detach := w.Attach(s, p)
	ask := func(method, params string) {
		t.Helper()
		if o := w.do(context.Background(), casemate.Call{Tool: "srv", Session: s, Method: method}, params); o.Error != nil {
			t.Fatal(o.Error)
		}
	}
	ask("resources/subscribe", `{"uri":"x://1"}`)
	ask("logging/setLevel", `{"level":"debug"}`)
	w.ok(s, "touch", `{}`)
	p.hears(t, "notifications/resources/updated", "x://1")
	w.do(context.Background(), casemate.Call{Tool: "die", Session: s}, `{}`)
	w.ok(s, "touch", `{}`)
	p.hears(t, "notifications/resources/updated", "x://1")
	if got := w.ok(s, "get", `{}`); got != "<> debug" {
		t.Errorf("the level is %s", got)
	}
	detach()
	w.ok(s, "touch", `{}`)
	select {
	case n := <-p.note:
		t.Errorf("who left heard %s", n)
	default:
	}
}

func TestMCPEndsWithItsSession(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good")...)
	s, p := w.NewSession(), newPerson(`{}`)
	var all sync.WaitGroup
	all.Go(func() {
		wants(t, w.do(context.Background(), casemate.Call{Tool: "wait", Session: s, Client: p}, `{}`), casemate.Cancelled, "session was ended")
	})
	p.hears(t, "waits")
	w.EndSession(s)
	if n := w.b.alive(); n != 0 {
		t.Errorf("%d guests are alive", n)
	}
	all.Wait()
}

// A session that has a variant gets it, and no other session does.
func TestVariant(t *testing.T) {
	tools := mcp("good")
	w := newWorld(t, Config{}, tools...)
	s := w.NewSession()
	w.ok(s, "get", `{}`)
	w.Variant(s, tools[1].Guest(), "sha256:other")
	if got := w.ok(s, "get", `{}`); !strings.Contains(got, "other values") {
		t.Errorf("the caller is not told: %q", got)
	}
	w.ok(w.NewSession(), "get", `{}`)
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	base := tools[1].Guest()
	if got := fmt.Sprint(w.b.asked); got != fmt.Sprint([]casemate.Digest{base, "sha256:other", base}) {
		t.Errorf("the backend was asked for %s", got)
	}
}
