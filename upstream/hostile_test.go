package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// TestJSONCaseOfServers: what is taken out of what a server says is gone by any
// reading, and a form has one.
func TestJSONCaseOfServers(t *testing.T) {
	for _, c := range [][3]string{
		{`{"includeContext":"all","IncludeContext":"all","a":1}`, "includeContext", `{"a":1}`},
		{`{"includecontext":"all"}`, "includeContext", `{}`},
		{`{"a":1,"include\u0043ontext":"all"}`, "includeContext", `{"a":1}`},
	} {
		if got := with(json.RawMessage(c[0]), c[1], nil); string(got) != c[2] {
			t.Errorf("%s without %s is %s", c[0], c[1], got)
		}
	}
	form := func(schema string) string {
		return `{"message":"Who?","requestedSchema":` + schema + `}`
	}
	if err := checkForm([]byte(form(`{"type":"object","properties":{"a":{"type":"string","title":"Name"}}}`))); err != nil {
		t.Error(err)
	}
	for _, params := range []string{
		form(`{"type":"object","properties":{"a":{"title":"Name","title":"Password"}}}`),
		form(`{"type":"object","properties":{"a":{"Title":"Password"}}}`),
		form(`{"type":"object","Properties":{"password":{}}}`),
		form(`{"type":"object","properties":{},"properties":{"password":{}}}`),
		form(`{"type":"object","properties":{"a":{"type":"object","properties":{"password":{"type":"string"}}}}}`),
		form(`{"type":"object","properties":{"a":{"anyOf":[{"const":"x"},{"title":"PIN"}]}}}`),
		form(`{"type":"object","properties":{"a":{"Format":"password"}}}`),
		`{"Mode":"url","URL":"http://evil.test/","message":"Who?","requestedSchema":{}}`,
		`{"mode":"form","mode":"url","message":"Who?","requestedSchema":{}}`,
		`{"message":"Who?","Message":"Your password?","requestedSchema":{}}`,
	} {
		if checkForm([]byte(params)) == nil {
			t.Errorf("%s passes", params)
		}
	}
	for _, params := range []string{
		`{"_meta":{"io.modelcontextprotocol/subscriptionId":1,"a":1,"a":2}}`,
		`{"_meta":{},"_meta":{"io.modelcontextprotocol/subscriptionId":1}}`,
		`{"_Meta":{"io.modelcontextprotocol/subscriptionId":1}}`,
	} {
		if got := string(plain([]byte(params))); got != `{}` {
			t.Errorf("%s is handed on as %s", params, got)
		}
	}
	if got := string(plain([]byte(`{"uri":"x","_meta":{"a":1}}`))); got != `{"uri":"x","_meta":{"a":1}}` {
		t.Error(got)
	}
}

// TestManySubscriptions: what a client subscribes to takes no place of its
// calls, and what the server ended can be begun again.
func TestManySubscriptions(t *testing.T) {
	o := options()
	o.Version = Stateless
	listens := make(chan said, 4*maxPending)
	s, p := opened(t, o, func(p *peer, m said) {
		switch m.Method {
		case "server/discover":
			p.print(`{"jsonrpc":"2.0","id":%s,"result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}}`, m.ID)
		case "subscriptions/listen":
			listens <- m
		case "tools/call":
			p.print(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next := func() said {
		select {
		case m := <-listens:
			return m
		case <-ctx.Done():
			t.Fatal("the server was not asked")
			return said{}
		}
	}
	subscribe := func(i int) {
		t.Helper()
		params := fmt.Appendf(nil, `{"uri":"x://%d"}`, i)
		if _, err := s.Call(ctx, Request{Method: "resources/subscribe", Params: params}); err != nil {
			t.Fatal(err)
		}
	}
	var first said
	for i := range maxPending + 8 {
		subscribe(i)
		if m := next(); i == 0 {
			first = m
		}
	}
	if _, err := s.Call(ctx, Request{Method: "tools/call", Params: []byte(`{"name":"t"}`)}); err != nil {
		t.Errorf("a call beside %d subscriptions: %v", maxPending+8, err)
	}
	p.print(`{"jsonrpc":"2.0","id":%s,"result":{}}`, first.ID) // the server ends one
	for ctx.Err() == nil && len(listens) == 0 {
		subscribe(0)
		time.Sleep(time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("a subscription that the server ended is not begun again")
	}
}

// TestListenAfterTheEnd: a server that ends while its client subscribes is not
// asked any more.
func TestListenAfterTheEnd(t *testing.T) {
	s, p := opened(t, options(), func(p *peer, m said) { polite(p, m) })
	p.done(0)
	<-s.Gone()
	s.Close()
	s.listen("x://1", json.RawMessage(`{}`))
	if n := len(s.listens); n != 0 {
		t.Errorf("%d goroutines begin behind the end", n)
	}
}
