package api

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/gatewaytest"
	"github.com/casemate/casemate/router"
)

// tools are those of the router, by name.
func (s *server) tools(t *testing.T) map[casemate.ToolName]*casemate.Tool {
	out := map[casemate.ToolName]*casemate.Tool{}
	for _, tool := range s.api.router.Tools() {
		out[tool.Name] = tool
	}
	return out
}

// reload adds tools to the router's.
func (s *server) reload(t *testing.T, more ...*casemate.Tool) {
	t.Helper()
	if err := s.api.router.(*router.Router).Reload(append(gatewaytest.Tools(), more...), nil); err != nil {
		t.Fatal(err)
	}
}

func TestWhatACallerMayCall(t *testing.T) {
	s := newServer(t, 0)
	const reader, nobody = "Bearer the-token-of-the-reader", "Bearer the-token-of-nobody-at-all"
	names := func(path, auth string) string {
		var list struct {
			Data []struct{ Function struct{ Name string } }
		}
		if code := s.get("GET", path, "", &list, "Authorization", auth); code != 200 {
			return fmt.Sprint(code)
		}
		var out []string
		for _, d := range list.Data {
			out = append(out, d.Function.Name)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct{ path, auth, want string }{
		{"/v1/tools", "Bearer " + token, "data kept run"},
		{"/v1/tools", reader, "kept run"},
		{"/v1/tools?context=narrow", reader, "run"}, // a context only narrows: data is none of the reader's
		{"/v1/tools", nobody, ""},
		{"/v1/tools?context=wide", reader, "403"},
		{"/v1/tools?context=", reader, "400"},
		{"/v1/tools?context=narrow&context=narrow", reader, "400"},
		{"/v1/tools?context=narrow", "Bearer " + token, "403"},
		{"/v1/tools", "Bearer the-token-of-the-reade", "401"},
		{"/v1/tools", "Bearer the-token-of-the-readerx", "401"},
	} {
		if got := names(c.path, c.auth); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.path, c.auth, got, c.want)
		}
	}
	// A tool that it may not call is answered like one that does not exist, by
	// every way of calling.
	for _, more := range []string{"", `,"stream":true`, `,"background":true`, `,"session":"s","key":"k"`} {
		answer := func(tool string) string {
			code, body, err := s.do(t.Context(), "POST", "/v1/calls", fmt.Sprintf(`{"tool":%q,"arguments":{"code":"print x"}%s}`, tool, more), "Authorization", reader)
			if err != nil {
				t.Fatal(err)
			}
			var a answer
			if i := strings.Index(body, "{"); json.Unmarshal([]byte(body[i:]), &a) != nil || a.Call == "" || a.Receipt == "" {
				t.Errorf("%s: %s", more, body)
			}
			return fmt.Sprint(code, strings.NewReplacer(string(a.Call), "CALL", `"`+tool, `"TOOL`, `\"`+tool, `\"TOOL`).Replace(body))
		}
		if denied, unknown := answer("data"), answer("date"); denied != unknown || !strings.Contains(denied, "there is no tool") {
			t.Errorf("%s: %s\n%s", more, denied, unknown)
		}
	}
	if code, body, _ := s.do(t.Context(), "POST", "/v1/calls?context=narrow", `{"tool":"kept","arguments":{"code":"print x"}}`, "Authorization", reader); code != 400 || !strings.Contains(body, "there is no tool") {
		t.Errorf("outside of its context: %d %s", code, body)
	}
	for _, r := range s.log.of("outcome") {
		if r.Tool == "data" && r.Error == nil {
			t.Errorf("data ran: %+v", r)
		}
	}
}

func TestSessionsOfCallers(t *testing.T) {
	s := newServer(t, 0)
	const reader = "the-token-of-the-reader"
	as := func(tok, method, path, body string, into any) int {
		return s.get(method, path, body, into, "Authorization", "Bearer "+tok)
	}
	var made, named, again gateway.Session
	if code := as(token, "POST", "/v1/sessions", "", &made); code != 201 || !strings.HasPrefix(made.Name, "s_") || len(made.Name) != 28 {
		t.Fatal(code, made)
	}
	if code := as(token, "POST", "/v1/sessions", `{"name":"mine"}`, &named); code != 201 || named.Name != "mine" {
		t.Fatal(code, named)
	}
	if code := as(token, "POST", "/v1/sessions", `{"name":"mine"}`, &again); code != 200 || !again.Created.Equal(named.Created) {
		t.Error(code, again)
	}
	for _, body := range []string{`{"name":""}`, `{"name":"a b"}`, `{"name":1}`, `{"id":"x"}`, `[]`, `{"name":"a","name":"b"}`} {
		if code := as(token, "POST", "/v1/sessions", body, nil); code != 400 {
			t.Errorf("%s: %d", body, code)
		}
	}
	run := func(tok, session, code string) (int, string) {
		n, body, err := s.do(t.Context(), "POST", "/v1/calls", fmt.Sprintf(`{"tool":"kept","session":%q,"arguments":{"code":%q}}`, session, code), "Authorization", "Bearer "+tok)
		if err != nil {
			t.Fatal(err)
		}
		return n, body
	}
	run(token, made.Name, "set MADE")
	if _, body := run(token, made.Name, "get"); !strings.Contains(body, "kept MADE") {
		t.Error(body)
	}
	// Another caller has none of them, and makes none by a name that is made here.
	if code, body := run(reader, made.Name, "get"); code != 410 {
		t.Errorf("%d %s", code, body)
	}
	for method, path := range map[string]string{"GET": "/v1/sessions/mine", "DELETE": "/v1/sessions/mine"} {
		if code := as(reader, method, path, "", nil); code != 410 {
			t.Errorf("%s: %d", method, code)
		}
	}
	var list struct{ Sessions []gateway.Session }
	if as(reader, "GET", "/v1/sessions", "", &list); len(list.Sessions) != 0 {
		t.Errorf("%+v", list)
	}
	if as(token, "GET", "/v1/sessions", "", &list); len(list.Sessions) != 2 || list.Sessions[0].Name != made.Name || fmt.Sprint(list.Sessions[0].Tools) != "[kept]" {
		t.Errorf("%+v", list)
	}
	if code := as(token, "DELETE", "/v1/sessions/"+made.Name, "", nil); code != 204 {
		t.Error(code)
	}
	for _, session := range []string{made.Name, "s_aaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		if code, body := run(token, session, "get"); code != 410 || !strings.Contains(body, `"gone"`) {
			t.Errorf("%d %s", code, body)
		}
	}
}

// TestNamesOutliveTheProcess: what was named before a restart is gone after it.
func TestNamesOutliveTheProcess(t *testing.T) {
	s := newServer(t, 0)
	s.post(`{"tool":"kept","session":"before","arguments":{"code":"print x"}}`)
	events := s.log.of("session")
	if len(events) != 1 || events[0].Name == "" || events[0].Call == "" || strings.Contains(fmt.Sprint(events[0]), "before") {
		t.Fatalf("%+v", events)
	}
	k, ok := gateway.KeyOf(events[0].Name)
	if !ok {
		t.Fatal(events[0].Name)
	}
	r, back := gatewaytest.New(t)
	after := serve(t, r, back, 0, k[:])
	for session, want := range map[string]int{"before": 410, "other": 200} {
		if code, body := after.post(fmt.Sprintf(`{"tool":"kept","session":%q,"arguments":{"code":"print x"}}`, session)); code != want {
			t.Errorf("%s: %d %s", session, code, body)
		}
	}
	// Another caller's is its own.
	if code := after.get("POST", "/v1/sessions", `{"name":"before"}`, nil, "Authorization", "Bearer the-token-of-the-reader"); code != 201 {
		t.Error(code)
	}
	for _, d := range []casemate.Digest{"", "sha256:", "x", casemate.Digest("sha256:" + hex.EncodeToString(make([]byte, 31)))} {
		if _, ok := gateway.KeyOf(d); ok {
			t.Errorf("%q is a key", d)
		}
	}
}

func TestWhy(t *testing.T) {
	s := newServer(t, 0)
	ask := func(body, auth string) (int, string) {
		code, got, err := s.do(t.Context(), "POST", "/v1/why", body, "Authorization", "Bearer "+auth)
		if err != nil {
			t.Fatal(err)
		}
		return code, got
	}
	s.get("POST", "/v1/sessions", `{"name":"over"}`, nil)
	s.get("DELETE", "/v1/sessions/over", "", nil)
	for _, c := range []struct{ body, auth, want string }{
		{`{"tool":"run"}`, token, "allow"},
		{`{"tool":"run","arguments":{"code":"x"}}`, token, "allow"},
		{`{"tool":"run","arguments":{"cod":"x"}}`, token, "deny"},
		{`{"tool":"run","session":"over"}`, token, "deny"},
		{`{"tool":"run","session":"new"}`, token, "allow"},
		{`{"tool":"nope"}`, token, "deny"},
		{`{"tool":"data"}`, "the-token-of-the-reader", "deny"},
		{`{"tool":"date"}`, "the-token-of-the-reader", "deny"},
	} {
		code, body := ask(c.body, c.auth)
		var a map[string]string
		if err := json.Unmarshal([]byte(body), &a); err != nil || code != 200 || a["effect"] != c.want || len(a) != 4 || a["id"] == "" || a["id"] != a["receipt"] {
			t.Errorf("%s: %d %s, want %s", c.body, code, body, c.want)
		}
		rs := s.log.of("why")
		if last := rs[len(rs)-1]; string(last.Call) != a["id"] || len(last.Decision.Reasons) == 0 {
			t.Errorf("the operator learns nothing: %+v", last)
		}
	}
	var list struct{ Sessions []gateway.Session }
	if s.get("GET", "/v1/sessions", "", &list); len(list.Sessions) != 0 {
		t.Errorf("a question began a session: %+v", list)
	}
	for _, body := range []string{`{}`, `{"tool":1}`, `{"tool":"run","reasons":true}`} {
		if code, _ := ask(body, token); code != 400 {
			t.Errorf("%s: %d", body, code)
		}
	}
	if code := s.get("GET", "/v1/why?tool=run", "", nil); code != 200 {
		t.Error(code)
	}
	busy := 0
	for range 2*perMinute + 1 { // a minute may end meanwhile, once
		if code, _ := ask(`{"tool":"run"}`, token); code == 429 {
			busy++
		}
	}
	if busy == 0 {
		t.Error("dry runs have no limit")
	}
	if code, _ := ask(`{"tool":"run"}`, "the-token-of-the-reader"); code != 200 {
		t.Errorf("one caller's limit is another's: %d", code)
	}
}
