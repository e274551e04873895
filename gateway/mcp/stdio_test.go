package mcp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/gatewaytest"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestCallsRunAtOnce(t *testing.T) {
	const n = 20
	c := newClient(t, Options{})
	c.initialize("2025-06-18")
	for i := range n {
		c.send(callTool(i+1, "run", fmt.Sprintf("meet %d\nprint met", n), ""))
	}
	got := map[string]bool{}
	for range n {
		line := c.next()
		var m struct {
			ID     json.RawMessage
			Result struct{ IsError bool }
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Result.IsError || !strings.Contains(line, "met") {
			t.Fatalf("%s", line)
		}
		got[string(m.ID)] = true
	}
	if len(got) != n {
		t.Errorf("%d answers of %d", len(got), n)
	}
}

// TestEOF: when the client goes, what runs is killed, everything is answered,
// and the server ends.
func TestEOF(t *testing.T) {
	c := newClient(t, Options{})
	c.initialize("2025-06-18")
	for i := range 3 {
		c.send(callTool(i+1, "run", "sleep", ""))
	}
	c.back.Asleep(t, 3)
	c.send(`{"jsonrpc":"2.0","id":9,"method":"tools/list"}`)
	begin := time.Now()
	c.in.Close()
	if err := <-c.done; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %v", took)
	}
	c.back.Asleep(t, 0)
	n := 0
	for l := range c.lines {
		n++
		if !strings.Contains(l, "cancelled") && !strings.Contains(l, `"id":9,"result"`) {
			t.Errorf("%s", l)
		}
	}
	if n != 4 {
		t.Errorf("%d answers of 4", n)
	}
	if s := c.r.Status(); len(s.Calls) != 0 {
		t.Errorf("calls are left: %+v", s.Calls)
	}
}

func TestContextEndsTheServer(t *testing.T) {
	c := newClient(t, Options{})
	c.initialize("2025-06-18")
	c.send(callTool(1, "run", "sleep", ""))
	c.back.Asleep(t, 1)
	begin := time.Now()
	c.close()
	<-c.done
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	c.back.Asleep(t, 0)
}

func TestCancelled(t *testing.T) {
	c := newClient(t, Options{})
	c.initialize("2025-11-25")
	c.send(callTool(1, "run", "sleep", ""))
	c.send(callTool("two", "run", "sleep", ""))
	c.back.Asleep(t, 2)
	c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"enough"}}`)
	c.back.Asleep(t, 1)
	if got := c.next(); !strings.Contains(got, `"id":1,`) {
		t.Errorf("%s", got)
	}
	c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"nobody"}}`)
	if got := c.ask(callTool(3, "run", "print x", "")); !strings.Contains(got, `"id":3,"result"`) {
		t.Errorf("%s", got)
	}
	c.back.Asleep(t, 1)
}

func TestProgress(t *testing.T) {
	for _, version := range []string{"2024-11-05", "2026-07-28"} {
		c := newClient(t, Options{Progress: 20 * time.Millisecond})
		extra := `,"_meta":{"progressToken":"tok"}`
		if version >= stateless {
			extra = strings.Replace(","+meta(version), `{`, `{"progressToken":"tok",`, 1)
		} else {
			c.initialize(version)
		}
		c.send(callTool(1, "run", "sleep", extra))
		last := -1.0
		for range 3 {
			var m struct {
				Method string
				Params struct {
					ProgressToken string
					Progress      float64
				}
			}
			line := c.next()
			if err := json.Unmarshal([]byte(line), &m); err != nil || m.Method != "notifications/progress" || m.Params.ProgressToken != "tok" || m.Params.Progress <= last {
				t.Fatalf("%s: %s", version, line)
			}
			last = m.Params.Progress
		}
		c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
		for !strings.Contains(c.next(), `"id":1`) {
		}
		c.quiet() // none after the answer
		if version < stateless {
			c.send(callTool(2, "run", "sleep", ""))
			c.back.Asleep(t, 1)
			c.quiet() // none without a token
		}
	}
}

func TestToolsChange(t *testing.T) {
	c := newClient(t, Options{})
	c.initialize("2025-06-18")
	tools := gatewaytest.Tools()
	fresh := *tools[0]
	fresh.Description = "Changed."
	added := *tools[2]
	added.Name = "added"
	if err := c.r.Reload([]*casemate.Tool{&fresh, &added, tools[2]}, nil); err != nil {
		t.Fatal(err)
	}
	if got := c.next(); got != `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}` {
		t.Errorf("%s", got)
	}
	got := c.ask(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	if !strings.Contains(got, "Changed.") || !strings.Contains(got, `"added"`) || strings.Contains(got, `"kept"`) {
		t.Errorf("%s", got)
	}
	if got := c.ask(callTool(2, "kept", "print x", "")); !strings.Contains(got, "-32602") {
		t.Errorf("a removed tool: %s", got)
	}
	if got := c.ask(callTool(3, "added", "print x", "")); !strings.Contains(got, `"x\n"`) {
		t.Errorf("an added tool: %s", got)
	}
	// Without a handshake a client asks for it.
	c.send(`{"jsonrpc":"2.0","id":4,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},` + meta("2026-07-28") + `}}`)
	if got := c.next(); !strings.Contains(got, "subscriptions/acknowledged") {
		t.Errorf("%s", got)
	}
	if err := c.r.Reload(tools, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := c.next(); !strings.Contains(got, "tools/list_changed") {
			t.Errorf("%s", got)
		}
	}
}

// TestSessionsOnStdio: the client process is one session, and may name more.
func TestSessionsOnStdio(t *testing.T) {
	r, back := gatewaytest.New(t)
	named := func(name string) string { return fmt.Sprintf(`,"_meta":{%q:%q}`, sessionKey, name) }
	c := connect(t, r, back, Options{})
	c.initialize("2025-06-18")
	c.ask(callTool(1, "kept", "set OWN", ""))
	c.ask(callTool(2, "kept", "set NAMED", named("a")))
	for more, want := range map[string]string{"": "kept OWN", named("a"): "kept NAMED", named("b"): "kept \\n", `,"_meta":{"casemate/session":7}`: "isError", named(""): "isError"} {
		if got := c.ask(callTool(3, "kept", "get", more)); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", more, got, want)
		}
	}
	other := connect(t, r, back, Options{})
	other.initialize("2025-06-18")
	for _, more := range []string{"", named("a")} {
		if got := other.ask(callTool(1, "kept", "get", more)); !strings.Contains(got, "kept \\n") {
			t.Errorf("another client, %s: %s", more, got)
		}
	}
	c.in.Close()
	<-c.done
	for _, p := range r.Status().Pools {
		if p.Tool == "kept" && p.Busy != 2 { // the two of the other client
			t.Errorf("guests of the sessions that ended: %+v", p)
		}
	}
}

// TestBadLines: each is answered as JSON-RPC asks, or not at all, and the
// server goes on.
func TestBadLines(t *testing.T) {
	c := newClient(t, Options{})
	c.initialize("2025-06-18")
	for _, l := range []struct{ line, want string }{
		{`{`, `"id":null,"error":{"code":-32700`},
		{`hello`, `-32700`},
		{"\xff\xfe", `-32700`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping"} {}`, `-32700`},
		{`"text"`, `-32600`},
		{`null`, `-32600`},
		{`{}`, `-32600`},
		{`[]`, `-32600`},
		{strings.Repeat("[", 200_000), `-32700`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","params":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 101), `-32700`},
		{`{"id":1,"method":"ping"}`, `"id":1,"error":{"code":-32600`},
		{`{"jsonrpc":"1.0","id":1,"method":"ping"}`, `"id":1,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":null,"method":"ping"}`, `"id":null,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, `"id":null,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}`, `"id":null,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":{},"method":"ping"}`, `"id":null,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":7}`, `"id":1,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":7}`, `"id":1,"error":{"code":-32602`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, `"id":1,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"run"}}`, `"id":1,"error":{"code":-32602`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run","arguments":null}}`, `"id":1,"error":{"code":-32602`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run","_meta":{"Casemate/Session":"x"}}}`, `"id":1,"error":{"code":-32602`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}`, `"id":1,"error":{"code":-32602`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["` + strings.Repeat("a", 9000) + `"]}}`, `"id":1,"error":{"code":-32602`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + strings.Repeat("a", 9000) + `"}}`, `"id":1,"error":{"code":-32602`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"paramſ":{}}`, `"id":null,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"junk"}}`, `"id":1,"error":{"code":-32602`},
		{`{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}`, `"id":1,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`, `"id":1,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","method":"no/such"}`, ``},
		{`{"jsonrpc":"2.0","method":"ping"}`, `-32600`},
		{`{"jsonrpc":"2.0","id":77,"result":{}}`, ``},
		{`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}`, ``},
		{``, ``},
		{"  \t\r", ``},
		{initialize("2025-06-18"), `"id":0,"error":{"code":-32600`},
	} {
		c.send(l.line)
		if l.want != "" {
			if got := c.next(); !strings.Contains(got, l.want) || len(got) > 2000 {
				t.Errorf("%.100s: %.300s, want %s", l.line, got, l.want)
			}
		}
		if got := c.ask(`{"jsonrpc":"2.0","id":"alive","method":"ping"}`); got != `{"jsonrpc":"2.0","id":"alive","result":{}}` {
			t.Fatalf("after %.100s: %s", l.line, got)
		}
	}
}

func TestBeforeInitialize(t *testing.T) {
	c := newClient(t, Options{})
	if got := c.ask(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); !strings.Contains(got, `"id":1,"error":{"code":-32600`) {
		t.Errorf("%s", got)
	}
	c.initialize("2025-06-18")
}

func TestLongLine(t *testing.T) {
	c := newClient(t, Options{})
	c.initialize("2025-06-18")
	c.send(`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"` + strings.Repeat("x", maxLine) + `"}}`)
	if got := c.next(); !strings.Contains(got, "-32700") {
		t.Errorf("%s", got)
	}
	if got := c.ask(`{"jsonrpc":"2.0","id":2,"method":"ping"}`); !strings.Contains(got, `"id":2,"result"`) {
		t.Errorf("%s", got)
	}
}

func TestTooManyInFlight(t *testing.T) {
	c := newClient(t, Options{})
	c.initialize("2025-06-18")
	conn := newLineConn(strings.NewReader(""), io.Discard, func() {})
	defer conn.Close()
	for i := range maxInFlight {
		conn.take([]byte(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"ping"}`, i)))
	}
	var out bytes.Buffer
	conn.out = &out
	conn.take([]byte(`{"jsonrpc":"2.0","id":"more","method":"ping"}`))
	conn.take([]byte(`{"jsonrpc":"2.0","id":5,"method":"ping"}`))
	if got := out.String(); len(conn.queue) != maxInFlight || !strings.Contains(got, `"id":"more","error":{"code":-32000`) || !strings.Contains(got, "in flight") {
		t.Errorf("%d queued, %s", len(conn.queue), got)
	}
}

func TestBatch(t *testing.T) {
	c := newClient(t, Options{})
	c.initialize("2025-03-26")
	got := c.ask(`[` + callTool(1, "run", "print one", "") + `,{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}},{"jsonrpc":"2.0","id":2,"method":"ping"}]`)
	var all []struct{ ID int }
	if err := json.Unmarshal([]byte(got), &all); err != nil || len(all) != 2 || all[0].ID != 1 || all[1].ID != 2 || !strings.Contains(got, "one") {
		t.Errorf("%v: %s", err, got)
	}
	c.send(`[{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}]`)
	c.quiet()
	for _, bad := range []string{
		`[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":1,"method":"ping"}]`,
		`[` + strings.Repeat(`{"jsonrpc":"2.0","method":"notifications/cancelled"},`, maxBatch) + `{"jsonrpc":"2.0","id":1,"method":"ping"}]`,
		`[{"jsonrpc":"2.0","id":1,"method":"ping"},7]`,
	} {
		if got := c.ask(bad); !strings.Contains(got, `"id":null,"error":{"code":-32600`) {
			t.Errorf("%.100s: %s", bad, got)
		}
	}
}

// TestOutcomes: what a planner learns of each kind of failure.
func TestOutcomes(t *testing.T) {
	secret := "rule 7 of /etc/casemate"
	for kind, hidden := range map[casemate.Kind]bool{
		casemate.Denied: true, casemate.Internal: true,
		casemate.Invalid: false, casemate.Unsupported: false, casemate.Timeout: false, casemate.Killed: false, casemate.Busy: false, casemate.Cancelled: false, casemate.Gone: false,
	} {
		res := result(&casemate.Outcome{Call: "c_1", Error: &casemate.ErrorJSON{Kind: kind, Message: secret, Fix: "fix it"},
			Decision: &casemate.Decision{Effect: "deny", Reasons: []string{secret}}, Result: &casemate.Result{Content: []casemate.Content{{Type: "text", Text: "partial"}}, IsError: true}}, true)
		b, err := json.Marshal(res)
		if err != nil {
			t.Fatal(err)
		}
		got := string(b)
		if strings.Contains(got, secret) == hidden || !res.IsError || !strings.Contains(got, string(kind)) || !strings.Contains(got, "partial") || !strings.Contains(got, "c_1") {
			t.Errorf("%s: %s", kind, got)
		}
	}
	if res := result(&casemate.Outcome{}, true); !res.IsError || len(res.Content) != 1 {
		t.Errorf("an outcome of nothing: %+v", res)
	}
}

// TestToolFailed: a planner learns why a tool failed, once.
func TestToolFailed(t *testing.T) {
	for _, c := range []struct{ said, message, want string }{
		{"Traceback\nZeroDivisionError: division by zero\n", "run: ZeroDivisionError: division by zero", "Traceback\nZeroDivisionError: division by zero\n"},
		{"half a line", "run: exit status 3", "half a line|tool-failed: run: exit status 3"},
		{"nope\n", "run: its standard output is not one JSON value", "nope\n|tool-failed: run: its standard output is not one JSON value"},
		{"", "run: exit status 3", "tool-failed: run: exit status 3"},
	} {
		o := &casemate.Outcome{Tool: "run", Error: &casemate.ErrorJSON{Kind: casemate.ToolFailed, Message: c.message}, Result: &casemate.Result{IsError: true}}
		if c.said != "" {
			o.Result.Content = []casemate.Content{{Type: "text", Text: c.said}}
		}
		res := result(o, true)
		var got []string
		for _, c := range res.Content {
			got = append(got, c.(*sdk.TextContent).Text)
		}
		if strings.Join(got, "|") != c.want || !res.IsError {
			t.Errorf("%q and %q: %q, want %q", c.said, c.message, got, c.want)
		}
	}
}

// TestPanic: a router that panics fails one call.
func TestPanic(t *testing.T) {
	r, _ := gatewaytest.New(t)
	var p panicking
	p.Router = r
	in, inW := io.Pipe()
	outR, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- ServeStdio(t.Context(), in, out, &p, Options{}); out.Close() }()
	lines := bufio.NewScanner(outR)
	ask := func(s string) string {
		go io.WriteString(inW, s+"\n")
		lines.Scan()
		return lines.Text()
	}
	ask(initialize("2025-06-18"))
	if got := ask(callTool(1, "run", "print x", "")); !strings.Contains(got, `"id":1,"error":{"code":-32603`) || strings.Contains(got, "secret") {
		t.Errorf("%s", got)
	}
	if got := ask(`{"jsonrpc":"2.0","id":2,"method":"ping"}`); !strings.Contains(got, `"id":2,"result"`) {
		t.Errorf("%s", got)
	}
	inW.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type panicking struct{ gateway.Router }

func (*panicking) Call(context.Context, casemate.Call) *casemate.Outcome { panic("a secret") }

func TestReadLine(t *testing.T) {
	const limit = 40
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"\n", []string{""}},
		{"a\nb\r\nc", []string{"a", "b", "c"}},
		{strings.Repeat("x", limit) + "\n" + strings.Repeat("y", limit+1) + "\nz\n", []string{strings.Repeat("x", limit), "LONG", "z"}},
		{strings.Repeat("x", 5*limit) + "\n" + strings.Repeat("y", 5*limit), []string{"LONG", "LONG"}},
	} {
		if got := linesOf(t, c.in, limit); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
	broken := errors.New("broken")
	_, _, err := readLine(bufio.NewReader(io.MultiReader(strings.NewReader("half a mess"), failing{broken})), nil, limit)
	if !errors.Is(err, broken) {
		t.Errorf("half a line before an error: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func linesOf(t *testing.T, in string, limit int) (got []string) {
	r := bufio.NewReaderSize(strings.NewReader(in), 16)
	var buf []byte
	for {
		var line []byte
		var err error
		line, buf, err = readLine(r, buf, limit)
		if cap(buf) > 2*limit+64 {
			t.Fatalf("a buffer of %d", cap(buf))
		}
		switch err {
		case nil:
			got = append(got, string(line))
		case errLongLine:
			got = append(got, "LONG")
		case io.EOF:
			return got
		default:
			t.Fatal(err)
		}
	}
}

func FuzzReadLine(f *testing.F) {
	f.Add("a\nb\r\n\n" + strings.Repeat("x", 100) + "\nc")
	f.Fuzz(func(t *testing.T, in string) {
		const limit = 40
		var want []string
		for rest := in; rest != ""; {
			line, after, found := strings.Cut(rest, "\n")
			if !found {
				after = ""
			}
			if line = strings.TrimSuffix(line, "\r"); len(line) > limit {
				line = "LONG"
			}
			want, rest = append(want, line), after
		}
		if got := linesOf(t, in, limit); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	})
}

// FuzzParse: what passes is what the SDK reads too, and never more.
func FuzzParse(f *testing.F) {
	for _, v := range versions {
		for _, l := range exchanges(v) {
			f.Add([]byte(l))
		}
		f.Add([]byte(initialize(v)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		msgs, _, bad := parse(data)
		if bad != nil {
			var m map[string]json.RawMessage
			if err := json.Unmarshal(bad.answer(), &m); err != nil || m["id"] == nil || m["error"] == nil {
				t.Fatalf("%s", bad.answer())
			}
			return
		}
		for _, m := range msgs {
			checkAgainstSDK(t, m)
		}
	})
}
