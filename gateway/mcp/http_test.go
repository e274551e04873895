package mcp

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/gatewaytest"
)

// begin does the handshake of a version that has one and returns the headers
// of its session.
func (d *door) begin(version string) []string {
	d.t.Helper()
	a := d.post(initialize(version))
	id := a.header.Get("Mcp-Session-Id")
	if a.status != 200 || id == "" || !strings.Contains(a.body, `"serverInfo"`) {
		d.t.Fatalf("initialize: %d %s", a.status, a.body)
	}
	hs := []string{"Mcp-Session-Id", id, "MCP-Protocol-Version", version}
	if a := d.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, hs...); a.status != 202 {
		d.t.Fatalf("initialized: %d %s", a.status, a.body)
	}
	return hs
}

// modern are the headers of a request of a version without a handshake.
func modern(method, name string) []string {
	hs := []string{"MCP-Protocol-Version", stateless, "Mcp-Method", method}
	if name != "" {
		hs = append(hs, "Mcp-Name", name)
	}
	return hs
}

// TestHeaderBody is the regression of that name.
func TestHeaderBody(t *testing.T) {
	d := newDoor(t, Options{})
	legacy := d.begin("2025-06-18")
	m := "," + meta(stateless)
	oldCall, newCall := callTool(1, "run", "print RAN", ""), callTool(1, "run", "print RAN", m)
	b64 := func(s string) string { return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?=" }
	for _, c := range []struct {
		name, body string
		headers    []string
		ran        bool
	}{
		{"as they should be", newCall, modern("tools/call", "run"), true},
		{"encoded name", newCall, modern("tools/call", b64("run")), false},
		{"legacy without", oldCall, legacy, true},
		{"legacy with", oldCall, append([]string{"Mcp-Method", "tools/call", "Mcp-Name", "run"}, legacy...), true},
		{"other method", newCall, modern("tools/list", "run"), false},
		{"method in other case", newCall, modern("Tools/Call", "run"), false},
		{"other name", newCall, modern("tools/call", "data"), false},
		{"other encoded name", newCall, modern("tools/call", b64("data")), false},
		{"bad encoding", newCall, modern("tools/call", "=?base64?!?="), false},
		{"name of a list", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta(stateless) + `}}`, modern("tools/list", "run"), false},
		{"no method", newCall, []string{"MCP-Protocol-Version", stateless, "Mcp-Name", "run"}, false},
		{"no name", newCall, modern("tools/call", ""), false},
		{"no version", newCall, []string{"Mcp-Method", "tools/call", "Mcp-Name", "run"}, false},
		{"legacy version", newCall, append([]string{"Mcp-Method", "tools/call", "Mcp-Name", "run"}, legacy...), false},
		{"other version", newCall, []string{"MCP-Protocol-Version", "2099-01-01", "Mcp-Method", "tools/call", "Mcp-Name", "run"}, false},
		{"version in the header alone", oldCall, modern("tools/call", "run"), false},
		{"two methods", newCall, append(modern("tools/call", "run"), "Mcp-Method", "tools/list"), false},
		{"two names", newCall, append(modern("tools/call", "run"), "Mcp-Name", "data"), false},
		{"two versions", newCall, append(modern("tools/call", "run"), "Mcp-Protocol-Version", "2025-06-18"), false},
		{"legacy other method", oldCall, append([]string{"Mcp-Method", "tools/list"}, legacy...), false},
		{"legacy other name", oldCall, append([]string{"Mcp-Name", "data"}, legacy...), false},
		{"legacy parameter", oldCall, append([]string{"Mcp-Param-Code", "print other"}, legacy...), false},
		{"two sessions", oldCall, append([]string{gateway.SessionHeader, "a", gateway.SessionHeader, "b"}, legacy...), false},
		{"other session in the body", callTool(1, "run", "print RAN", `,"_meta":{"casemate/session":"a"}`), append([]string{gateway.SessionHeader, "b"}, legacy...), false},
		{"batch with a method", "[" + oldCall + "]", []string{"Mcp-Session-Id", legacy[1], "Mcp-Method", "tools/call"}, false},
		{"initialize of another version", initialize("2025-06-18"), []string{"MCP-Protocol-Version", "2025-11-25"}, false},
	} {
		a := d.post(c.body, c.headers...)
		if ran := strings.Contains(a.body, `"RAN\n"`); ran != c.ran || !ran && a.status == 200 && !strings.Contains(a.body, "isError") {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
}

// TestJSONCase is the regression of that name, over HTTP; TestBadLines has it
// on stdio.
func TestJSONCase(t *testing.T) {
	d := newDoor(t, Options{})
	hs := d.begin("2025-06-18")
	call := callTool(1, "run", "print RAN", "")
	for _, r := range [][2]string{
		{`"method"`, `"Method"`}, {`"params"`, `"paramſ"`}, {`"name"`, `"Name"`}, {`"arguments"`, `"Arguments"`},
		{`"method":`, `"method":"ping","method":`}, {`"name":`, `"name":"data","name":`}, {`"method":`, `"METHOD":"ping","method":`},
		{`"code":`, `"code":"print other","code":`}, {`"code":`, `"Code":"print other","code":`}, {`"arguments":`, `"argumentſ":{},"arguments":`},
	} {
		body := strings.Replace(call, r[0], r[1], 1)
		if body == call {
			t.Fatalf("%s is not there", r[0])
		}
		if a := d.post(body, hs...); a.status != 400 || !strings.Contains(a.body, "-3260") || strings.Contains(a.body, `"RAN\n"`) {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := d.post(call, hs...); !strings.Contains(a.body, `"RAN\n"`) {
		t.Errorf("the call itself: %d %s", a.status, a.body)
	}
}

func TestBadRequests(t *testing.T) {
	d := newDoor(t, Options{})
	hs := d.begin("2025-06-18")
	for _, c := range []struct {
		name, method, body string
		headers            []string
		want               int
	}{
		{"deep", "POST", strings.Repeat("[", 200_000), nil, 400},
		{"deep object", "POST", strings.Repeat(`{"a":`, 200_000), nil, 400},
		{"empty", "POST", "", nil, 400},
		{"large", "POST", `"` + strings.Repeat("x", gateway.MaxBody) + `"`, nil, 413},
		{"no session", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, nil, 400},
		{"unknown session", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, []string{"Mcp-Session-Id", "nope"}, 404},
		{"unknown version", "POST", initialize("2025-06-18"), []string{"MCP-Protocol-Version", "1999-01-01"}, 400},
		{"PUT", "PUT", "{}", hs, 405},
		{"GET without a session", "GET", "", nil, 400},
		{"GET of the version without streams", "GET", "", []string{"MCP-Protocol-Version", stateless}, 405},
		{"DELETE of the version without sessions", "DELETE", "", []string{"MCP-Protocol-Version", stateless}, 405},
		{"DELETE of no session", "DELETE", "", []string{"Mcp-Session-Id", "nope"}, 404},
		{"OPTIONS", "OPTIONS", "", nil, 405},
	} {
		a, err := d.do(t.Context(), c.method, c.body, c.headers...)
		if err != nil || a.status != c.want || a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v %d %.200s, want %d", c.name, err, a.status, a.body, c.want)
		}
	}
	if a := d.post(callTool(1, "run", "print x", ""), hs...); !strings.Contains(a.body, `"x\n"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestInitializeNeedsNoSession: what the first request of every client is.
func TestInitializeNeedsNoSession(t *testing.T) {
	d := newDoor(t, Options{})
	for _, v := range versions[:4] {
		if a := d.post(initialize(v)); a.status != 200 || !strings.Contains(a.body, `"serverInfo":{"name":"casemate"`) || !strings.Contains(a.body, v) {
			t.Errorf("%s: %d %s", v, a.status, a.body)
		}
	}
	// A client of the newest version that tries the old handshake gets the newest that has one.
	if a := d.post(initialize("2026-07-28")); a.status != 200 || !strings.Contains(a.body, "2025-11-25") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestHangUpHTTP: closing the connection kills the call, in every version.
func TestHangUpHTTP(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			d := newDoor(t, Options{})
			var hs []string
			body := callTool(1, "run", "sleep", "")
			if version >= stateless {
				hs, body = modern("tools/call", "run"), callTool(1, "run", "sleep", ","+meta(version))
			} else {
				hs = d.begin(version)
			}
			ctx, hangUp := context.WithCancel(t.Context())
			over := make(chan error, 1)
			go func() { _, err := d.do(ctx, "POST", body, hs...); over <- err }()
			d.back.Asleep(t, 1)
			hangUp()
			<-over
			d.back.Asleep(t, 0)
			body = strings.Replace(body, "sleep", "print on", 1)
			if a := d.post(strings.Replace(body, `"id":1`, `"id":2`, 1), hs...); !strings.Contains(a.body, `"on\n"`) {
				t.Errorf("afterwards: %d %s", a.status, a.body)
			}
		})
	}
}

func TestCancelledHTTP(t *testing.T) {
	d := newDoor(t, Options{})
	hs := d.begin("2025-11-25")
	over := make(chan answer, 1)
	go func() { over <- d.post(callTool(1, "run", "sleep", ""), hs...) }()
	d.back.Asleep(t, 1)
	d.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`, hs...)
	d.back.Asleep(t, 0)
	if a := <-over; a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestSessionsHTTP(t *testing.T) {
	d := newDoor(t, Options{})
	one, two := d.begin("2025-06-18"), d.begin("2025-11-25")
	named := func(hs []string, name string) []string { return append([]string{gateway.SessionHeader, name}, hs...) }
	inner := func(name string) string { return fmt.Sprintf(`,"_meta":{%q:%q}`, sessionKey, name) }
	newer := strings.Replace(","+meta(stateless), "{", `{"casemate/session":"a",`, 1)
	d.post(callTool(1, "kept", "set A", ""), named(one, "a")...)
	d.post(callTool(2, "kept", "set NONE", ""), one...)
	for i, c := range []struct {
		more    string
		headers []string
		want    string
	}{
		{"", named(one, "a"), "kept A"},
		{"", named(two, "a"), "kept A"}, // never that of MCP
		{inner("a"), two, "kept A"},
		{inner("a"), named(two, "a"), "kept A"},
		{newer, modern("tools/call", "kept"), "kept A"},
		{"", named(one, "b"), "kept \\n"},
		{"", one, "kept \\n"}, // one of its own for each call
		{inner("b"), named(two, "a"), "isError"},
	} {
		if a := d.post(callTool(3, "kept", "get", c.more), c.headers...); !strings.Contains(a.body, c.want) {
			t.Errorf("%d: %s, want %s", i, a.body, c.want)
		}
	}
}

// TestForgedExchange: a client cannot name another's request.
func TestForgedExchange(t *testing.T) {
	d := newDoor(t, Options{})
	hs := append([]string{exchangeHeader, "x", exchangeHeader, "y"}, d.begin("2025-06-18")...)
	if a := d.post(callTool(1, "run", "print x", ""), hs...); !strings.Contains(a.body, `"x\n"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestStream: a client of the old versions hears of changes on its stream.
func TestStream(t *testing.T) {
	d := newDoor(t, Options{})
	hs := d.begin("2025-06-18")
	r, _ := http.NewRequestWithContext(t.Context(), "GET", d.url, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(hs); i += 2 {
		r.Header.Set(hs[i], hs[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(err, res.StatusCode)
	}
	defer res.Body.Close()
	if err := d.r.Reload(gatewaytest.Tools()[:1], nil); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		for sc := bufio.NewScanner(res.Body); sc.Scan(); {
			lines <- sc.Text()
		}
		close(lines)
	}()
	for {
		select {
		case l := <-lines:
			if strings.Contains(l, "tools/list_changed") {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no word of the change")
		}
	}
}

// TestUnofferable: a tool whose schema the SDK cannot offer is left out, and
// costs no other tool.
func TestUnofferable(t *testing.T) {
	c := newClient(t, Options{})
	c.initialize("2025-06-18")
	odd := *gatewaytest.Tools()[2]
	odd.Name = "odd"
	odd.Parameters = []byte(`{"type":"object","properties":{"code":{"type":"object","x-mcp-header":"Host"}}}`)
	if err := c.r.Reload([]*casemate.Tool{&odd, gatewaytest.Tools()[2]}, nil); err != nil {
		t.Fatal(err)
	}
	c.next()
	if got := c.ask(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); strings.Contains(got, "odd") || !strings.Contains(got, `"run"`) {
		t.Errorf("%s", got)
	}
}
