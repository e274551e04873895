package upstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate/internal/guest"
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

// TestPartIsNotOverwritten: what a caller was handed is its own until it took
// it, though the server is closed meanwhile: a server that could exchange it
// would write to the client behind every check.
func TestPartIsNotOverwritten(t *testing.T) {
	conn, _ := peered(t, func(p *peer, m said) {
		if polite(p, m) {
			return
		}
		const part = 100
		frame := func(text string) []byte {
			return guest.Append(nil, guest.Frame{Type: guest.Stdout, Call: p.number, Body: []byte(text)})
		}
		p.frame(guest.Stdout, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"x":"`, m.ID))
		for range passFrom/part + 1 {
			p.frame(guest.Stdout, []byte(strings.Repeat("a", part)))
		}
		p.conn.Write(append(frame(strings.Repeat("b", part)), frame(strings.Repeat("Z", part))...))
	})
	s := unopened(options(), conn)
	defer s.Close()
	if err := s.open(t.Context(), bufio.NewReaderSize(conn, 64<<10)); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte)
	hold := make(chan struct{})
	over := make(chan error, 1)
	go func() {
		_, err := s.Call(t.Context(), Request{Method: "x", Part: func(b []byte) error {
			if b[0] == 'b' {
				got <- b
				<-hold
			}
			return nil
		}})
		over <- err
	}()
	b := <-got
	s.Close()
	if bytes.ContainsRune(b, 'Z') {
		t.Errorf("it became %s", b)
	}
	close(hold)
	if err := <-over; err == nil {
		t.Error("the call did not fail")
	}
}

// TestListIsNotWaitedFor: who does not wait any more does not wait for another's
// reading of the list of tools.
func TestListIsNotWaitedFor(t *testing.T) {
	asked := make(chan bool, 1)
	s, _ := opened(t, options(), func(p *peer, m said) {
		if m.Method == "tools/list" {
			asked <- true
			return // and never answers
		}
		polite(p, m)
	})
	long, end := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- s.Check(long, "t", nil) }()
	<-asked
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	second := make(chan error, 1)
	go func() { second <- s.Check(gone, "t", nil) }()
	select {
	case err := <-second:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits for the other")
	}
	end()
	<-first
}
