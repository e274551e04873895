package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/gatewaytest"
)

const token = "a-token-of-the-test-0123456789"

// A log keeps receipts.
type log struct {
	mu   sync.Mutex
	kept []casemate.Receipt
}

func (l *log) Record(r casemate.Receipt) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, r)
	return nil
}

func (l *log) of(event string) (out []casemate.Receipt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.kept {
		if r.Event == event {
			out = append(out, r)
		}
	}
	return out
}

type server struct {
	t    *testing.T
	url  string
	back *gatewaytest.Backend
	api  *API
	log  *log
}

// others are the callers beside the default one.
func others() []gateway.Credential {
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	return []gateway.Credential{
		{Name: "reader", SHA256: sum("the-token-of-the-reader"), Tools: []string{"run", "ke*"}, Contexts: map[string][]string{"narrow": {"run", "data"}}},
		{Name: "nobody", SHA256: sum("the-token-of-nobody-at-all"), Tools: []string{}},
	}
}

func newServer(t *testing.T, idle time.Duration) *server {
	r, back := gatewaytest.New(t)
	return serve(t, r, back, idle, nil)
}

func serve(t *testing.T, r Router, back *gatewaytest.Backend, idle time.Duration, past []byte) *server {
	sessions := gateway.NewSessions(r, idle)
	l := &log{}
	sessions.Keep(l.Record, past)
	a := New(r, sessions, l.Record)
	h, err := gateway.Handler(gateway.Config{Token: token, Credentials: others(), Streams: Streams}, map[string]http.Handler{"/v1/": a})
	if err != nil {
		t.Fatal(err)
	}
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- gateway.Serve(ctx, on, h, time.Second, nil) }()
	t.Cleanup(func() { cancel(); <-done; a.Close(); sessions.Close() })
	return &server{t, "http://" + on.Addr().String(), back, a, l}
}

func (s *server) do(ctx context.Context, method, path, body string, headers ...string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func (s *server) post(body string, headers ...string) (int, string) {
	s.t.Helper()
	code, got, err := s.do(context.Background(), "POST", "/v1/calls", body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return code, got
}

func TestTools(t *testing.T) {
	code, body, err := newServer(t, 0).do(t.Context(), "GET", "/v1/tools", "")
	want := `{"object":"list","data":[` +
		`{"type":"function","function":{"name":"data","description":"Run code whose output is JSON.","parameters":{"type":"object","properties":{"code":{"type":"string"},"more":{"type":"string"}},"required":["code"]},"strict":false}},` +
		`{"type":"function","function":{"name":"kept","description":"Run code in the guest of its session.","parameters":{"type":"object","properties":{"code":{"type":"string"}},"required":["code"],"additionalProperties":false},"strict":true}},` +
		`{"type":"function","function":{"name":"run","description":"Run code.","parameters":{"type":"object","properties":{"code":{"type":"string"}},"required":["code"],"additionalProperties":false},"strict":true}}]}`
	if code != 200 || err != nil || strings.TrimSpace(body) != want {
		t.Errorf("%d %v\n%s\n%s", code, err, body, want)
	}
}

func TestCalls(t *testing.T) {
	s := newServer(t, 0)
	for _, c := range []struct {
		body   string
		code   int
		status string
		has    string
	}{
		{`{"tool":"run","arguments":{"code":"print hi"}}`, 200, "done", `"text":"hi\n"`},
		{`{"tool":"run","arguments":"{\"code\":\"print hi\"}"}`, 200, "done", `"text":"hi\n"`},
		{`{"tool":"data","arguments":{"code":"print {\"a\":1}"}}`, 200, "done", `"structuredContent":{"a":1}`},
		{`{"tool":"run","arguments":{"code":"fail boom"}}`, 200, "tool-failed", "boom"},
		{`{"tool":"run","arguments":{"cod":"x"}}`, 400, "invalid", "cod"},
		{`{"tool":"run"}`, 400, "invalid", "code"},
		{`{"tool":"nope","arguments":{}}`, 400, "invalid", "nope"},
		{`{"arguments":{}}`, 400, "invalid", "tool: missing"},
		{`{"tool":"run","arguments":{"code":"print x"},"ke":"k"}`, 400, "invalid", `\"ke\": there is no such key`},
		{`{"tool":"run","arguments":{"code":"print x"},"key":"k"}`, 400, "invalid", "there is no session"},
		{`{"tool":"run","arguments":{"code":"print x"},"session":"k","key":""}`, 400, "invalid", "key"},
		{`{"tool":"run","arguments":{"code":"print x"},"timeout":"10s"}`, 200, "done", "x"},
		{`{"tool":"run","arguments":{"code":"print x"},"timeout":1.5}`, 200, "done", "x"},
		{`{"tool":"run","arguments":{"code":"sleep"},"timeout":0.05}`, 200, "timeout", "time"},
		{`{"tool":"run","arguments":{"code":"print x"},"timeout":0}`, 400, "invalid", "timeout"},
		{`{"tool":"run","arguments":{"code":"print x"},"timeout":-1}`, 400, "invalid", "timeout"},
		{`{"tool":"run","arguments":{"code":"print x"},"timeout":1e300}`, 400, "invalid", "timeout"},
		{`{"tool":"run","arguments":{"code":"print x"},"timeout":"10"}`, 400, "invalid", "timeout"},
		{`{"tool":"run","arguments":{"code":"print x"},"timeout":"1h2x"}`, 400, "invalid", "timeout"},
		{`{"tool":"run","arguments":{"code":"print x"},"timeout":null}`, 400, "invalid", "timeout"},
		{`{"tool":"run","arguments":{"code":"print x"},"stdin":true}`, 400, "invalid", "background"},
		{`{"tool":"run","arguments":{"code":"print x"},"stream":1}`, 400, "invalid", "stream"},
		{`{"tool":"run","arguments":{"code":"print x"},"stream":true,"background":true}`, 400, "invalid", "background"},
		{`{"Tool":"run"}`, 400, "invalid", "Tool"},
		{`{"tool":"run","tool":"kept"}`, 400, "invalid", "twice"},
		{`{"tool":"run","arguments":{"code":"a","Code":"b"}}`, 400, "invalid", "case alone"},
		{`{"tool":"run","arguments":"{\"code\":\"a\",\"code\":\"b\"}"}`, 400, "invalid", "arguments"},
		{`{"tool":"run","arguments":[]}`, 400, "invalid", "arguments"},
		{`{"tool":"run","arguments":null}`, 400, "invalid", "arguments"},
		{`{"tool":"run","arguments":""}`, 400, "invalid", "arguments"},
		{`{"tool":1}`, 400, "invalid", "tool"},
		{`{"tool":"run","session":""}`, 400, "invalid", "session"},
		{`{"tool":"run","session":"a b","arguments":{"code":"print x"}}`, 400, "invalid", "session"},
		{`[]`, 400, "invalid", "not an object"},
		{`null`, 400, "invalid", "not an object"},
		{`{`, 400, "invalid", "JSON"},
		{strings.Repeat("[", 200_000), 400, "invalid", "nests"},
		{`{"tool":"run","arguments":{"code":"print still here"}}`, 200, "done", "still here"},
	} {
		code, body := s.post(c.body)
		var a struct{ Status string }
		if err := json.Unmarshal([]byte(body), &a); err != nil || code != c.code || a.Status != c.status || !strings.Contains(body, c.has) {
			t.Errorf("%.100s: %d %s\nwant %d %s %s", c.body, code, body, c.code, c.status, c.has)
		}
	}
	if code, _ := s.post(`{"tool":"run","arguments":{"code":"print x"}}`, "Content-Type", "text/plain"); code != 400 {
		t.Errorf("as text/plain, which pages may send anywhere: %d", code)
	}
}

func TestQueriesAreStrict(t *testing.T) {
	s := newServer(t, 0)
	for path, want := range map[string]int{
		"/v1/tools":                               200,
		"/v1/tools?x=1":                           400,
		"/v1/tools?%zz":                           400,
		"/v1/why?tool=run":                        200,
		"/v1/why?tool=run&tool=run":               400,
		"/v1/why?tool=run;session=x":              400,
		"/v1/sessions/s/files?path=a&Path=b":      400,
		"/v1/sessions/s/files?path=a&path=b":      400,
		"/v1/sessions/a%2Fb/files?path=a":         404, // of the session a/b
		"/v1/sessions/a/b/files?path=a":           404, // of no route
		"/v1/sessions/s/files?path=a&tool=kept":   404,
		"/v1/sessions/s/files/../files?path=none": 404,
	} {
		if code, body, err := s.do(t.Context(), "GET", path, ""); code != want || err != nil {
			t.Errorf("%s: %d %s %v, want %d", path, code, body, err, want)
		}
	}
}

func TestSessions(t *testing.T) {
	s := newServer(t, 0)
	run := func(session, code string, headers ...string) (int, string) {
		name := ""
		if session != "" {
			name = fmt.Sprintf(`,"session":%q`, session)
		}
		return s.post(fmt.Sprintf(`{"tool":"kept","arguments":{"code":%q}%s}`, code, name), headers...)
	}
	run("one", "set ONE")
	run("", "set NONE")
	for _, c := range []struct {
		session, want string
		headers       []string
	}{
		{"one", "kept ONE", nil},
		{"", "kept ONE", []string{gateway.SessionHeader, "one"}},
		{"one", "kept ONE", []string{gateway.SessionHeader, "one"}},
		{"two", "kept \\n", nil},
		{"", "kept \\n", nil},
	} {
		if code, body := run(c.session, "get", c.headers...); code != 200 || !strings.Contains(body, c.want) {
			t.Errorf("%q %v: %d %s, want %s", c.session, c.headers, code, body, c.want)
		}
	}
	if code, _ := run("one", "get", gateway.SessionHeader, "two"); code != 400 {
		t.Errorf("two names: %d", code)
	}
	end := func(name string) int {
		code, _, err := s.do(t.Context(), "DELETE", "/v1/sessions/"+name, "")
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if a, b, c := end("one"), end("one"), end("never"); a != 204 || b != 410 || c != 410 {
		t.Errorf("ended %d, again %d, unknown %d", a, b, c)
	}
	if code, body := run("one", "get"); code != 410 || !strings.Contains(body, `"status":"gone"`) {
		t.Errorf("an ended name was used again: %d %s", code, body)
	}
}

func TestIdleSessionsAreGone(t *testing.T) {
	s := newServer(t, 50*time.Millisecond)
	body := `{"tool":"kept","session":"a","arguments":{"code":"print x"}}`
	if code, got := s.post(body); code != 200 {
		t.Fatal(code, got)
	}
	time.Sleep(300 * time.Millisecond)
	if code, got := s.post(body); code != 410 {
		t.Errorf("%d %s", code, got)
	}
}

// TestHangUp: the call of a client that goes away is killed, and its
// neighbours are not.
func TestHangUp(t *testing.T) {
	s := newServer(t, 0)
	ctx, hangUp := context.WithCancel(t.Context())
	over := make(chan struct{}, 2)
	for _, c := range []context.Context{ctx, t.Context()} {
		go func() {
			s.do(c, "POST", "/v1/calls", `{"tool":"run","arguments":{"code":"sleep"}}`)
			over <- struct{}{}
		}()
	}
	s.back.Asleep(t, 2)
	hangUp()
	<-over
	s.back.Asleep(t, 1)
}

func TestStrict(t *testing.T) {
	for schema, want := range map[string]bool{
		`{"type":"object","properties":{},"additionalProperties":false}`:                                                                                                                                   true,
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}`:                                                                                             true,
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`:                                                                                                                          false,
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":true}`:                                                                                              false,
		`{"type":"object","properties":{"a":{"type":"string"},"b":{}},"required":["a"],"additionalProperties":false}`:                                                                                      false,
		`{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"string"}}}},"required":["a"],"additionalProperties":false}`:                                                        false,
		`{"type":"object","properties":{"a":{"type":["object","null"],"properties":{"b":{"type":"string"}},"required":["b"],"additionalProperties":false}},"required":["a"],"additionalProperties":false}`: true,
		`{"type":"object","properties":{"a":{"type":["object","null"]}},"required":["a"],"additionalProperties":false}`:                                                                                    false,
		`{"type":"object","properties":{"a":{"type":"array","items":{"type":"object"}}},"required":["a"],"additionalProperties":false}`:                                                                    false,
		`{"type":"object","properties":{"a":{"anyOf":[{"type":"string"},{"type":"object","properties":{}}]}},"required":["a"],"additionalProperties":false}`:                                               false,
		`{"type":"object","properties":{"a":{"anyOf":[{"type":"string"},{"type":"null"}]}},"required":["a"],"additionalProperties":false}`:                                                                 true,
		`{"type":"object","properties":{"a":{"oneOf":[{"type":"string"}]}},"required":["a"],"additionalProperties":false}`:                                                                                 false,
		`{"type":"object","properties":{"a":true},"required":["a"],"additionalProperties":false}`:                                                                                                          false,
		`{"type":"object"}`: false,
		`{}`:                false,
		`true`:              false,
		``:                  false,
	} {
		if got := Strict(json.RawMessage(schema)); got != want {
			t.Errorf("%s: %v", schema, got)
		}
	}
}
