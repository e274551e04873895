package api

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/casemate/casemate/gateway"
)

// TestKeys: a session runs a call with a key once.
func TestKeys(t *testing.T) {
	s := withShell(t)
	s.reload(t)
	call := func(session, key, code string) (int, answer) {
		t.Helper()
		n, body := s.post(fmt.Sprintf(`{"tool":"kept","session":%q,"key":%q,"arguments":{"code":%q}}`, session, key, code))
		var a answer
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			t.Fatal(err)
		}
		return n, a
	}
	_, first := call("s", "k", "set ONE\nget")
	s.post(`{"tool":"kept","session":"s","arguments":{"code":"set TWO"}}`)
	code, again := call("s", "k", "set ONE\nget")
	if code != 200 || again.Call != first.Call || again.Receipt != first.Receipt || again.Status != "done" {
		t.Errorf("%d %+v\n%+v", code, again, first)
	}
	if _, body := s.post(`{"tool":"kept","session":"s","arguments":{"code":"get"}}`); !strings.Contains(body, "kept TWO") {
		t.Errorf("it ran again: %s", body)
	}
	if code, a := call("s", "k", "get"); code != 409 || a.Status != "conflict" {
		t.Errorf("with other arguments: %d %+v", code, a)
	}
	if code, a := call("t", "k", "get"); code != 200 || a.Call == first.Call {
		t.Errorf("in another session: %d %+v", code, a)
	}
	if code, _, _ := s.do(t.Context(), "POST", "/v1/calls", `{"tool":"kept","session":"s","key":"k","arguments":{"code":"get"}}`, "Authorization", "Bearer the-token-of-the-reader"); code != 200 {
		t.Errorf("of another caller: %d", code)
	}
	// Streamed, and in the background.
	st := s.stream(t.Context(), "POST", "/v1/calls", `{"tool":"kept","session":"s","key":"k","stream":true,"arguments":{"code":"set ONE\nget"}}`)
	if _, out := st.rest(); out.Call != first.Call || st.res.Header.Get(receiptHeader) != first.Receipt {
		t.Errorf("%+v", out)
	}
	body := `{"tool":"run","session":"s","key":"b","background":true,"arguments":{"code":"print x\nsleep"}}`
	one, two := s.begin(body), s.begin(body)
	s.back.Asleep(t, 1)
	if one.Call != two.Call {
		t.Errorf("%s and %s", one.Call, two.Call)
	}
	if v := s.waited(s.begin(strings.Replace(body, "print x", "print y", 1))); v.Status != "conflict" {
		t.Errorf("%+v", v)
	}
	s.get("DELETE", "/v1/calls/"+string(one.Call), "", nil)
}

// TestKeyOfTwoAtOnce: a call that two wait for goes on when one hangs up, also
// the one that it streams to.
func TestKeyOfTwoAtOnce(t *testing.T) {
	var out answer
	for i := range 10 { // nobody sees when the second has joined, only when it is about to
		if out = joinAndLeave(t, withShell(t), fmt.Sprint("k", i)); out.Status == "done" {
			return
		}
	}
	t.Errorf("%+v", out)
}

func joinAndLeave(t *testing.T, s *server, key string) (out answer) {
	body := fmt.Sprintf(`{"tool":"run","session":"s","key":%q,"stream":true,"arguments":{"code":"print x\nmeet 2\nprint y"}}`, key)
	ctx, hangUp := context.WithCancel(t.Context())
	if e := s.stream(ctx, "POST", "/v1/calls", body).next(); e.name != "stdout" {
		t.Fatal(e)
	}
	var wait sync.WaitGroup
	wait.Go(func() { _, out = s.stream(t.Context(), "POST", "/v1/calls", body).rest() })
	for one := (gateway.Session{}); one.Calls < 2; s.get("GET", "/v1/sessions/s", "", &one) {
		runtime.Gosched()
	}
	hangUp()
	for one := (gateway.Session{Calls: 2}); one.Calls == 2; s.get("GET", "/v1/sessions/s", "", &one) {
		runtime.Gosched()
	}
	s.post(`{"tool":"run","arguments":{"code":"meet 1"}}`) // is the second that the first waits for
	wait.Wait()
	return out
}
