package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/casemate/casemate/gateway/gatewaytest"
)

// TestMetrics: after real calls the page counts them, and is one that a strict
// reader takes.
func TestMetrics(t *testing.T) {
	p := newPlace(t, shellTool)
	p.withCallers()
	a := p.api()
	page := func() gatewaytest.Metrics {
		t.Helper()
		code, text := a.do(t.Context(), "GET", "/metrics", "", "")
		m, err := gatewaytest.ParseMetrics(text)
		if code != 200 || err != nil {
			t.Fatalf("%d %v\n%s", code, err, text)
		}
		return m
	}
	eventually(t, "a sandbox of each tool is parked", func() bool {
		m := page()
		return m[`casemate_pool_parked{tool="shell",backend="process"}`] > 0 && m[`casemate_pool_parked{tool="kept",backend="process"}`] > 0
	})
	for range 3 {
		if status, text := a.call(`{"tool":"shell","arguments":{"command":"echo hi"}}`); status != "done" || text != "hi\n" {
			t.Fatalf("%s %q", status, text)
		}
	}
	for body, want := range map[string]string{
		`{"tool":"shell","arguments":{}}`:                                 "invalid",
		`{"tool":"shel{x=\"1\"}\n","arguments":{}}`:                       "invalid",
		`{"tool":"other","arguments":{}}`:                                 "invalid",
		`{"tool":"shell","arguments":{"command":"kill -9 $$"}}`:           "",
		`{"tool":"kept","session":"s","arguments":{"command":"echo hi"}}`: "done",
	} {
		if status, _ := a.call(body); want != "" && status != want {
			t.Errorf("%s: %s", body, status)
		}
	}
	m := page()
	for series, want := range map[string]float64{
		`casemate_calls_total{tool="shell",outcome="done"}`:           3,
		`casemate_calls_total{tool="shell",outcome="invalid"}`:        1,
		`casemate_calls_total{tool="",outcome="invalid"}`:             2,
		`casemate_calls_total{tool="kept",outcome="done"}`:            1,
		`casemate_call_seconds_count{tool="shell"}`:                   5,
		`casemate_pool_claims_total{tool="shell",backend="process"}`:  4,
		`casemate_pool_busy{tool="kept",backend="process"}`:           1,
		`casemate_pool_refused_total{tool="shell",backend="process"}`: 0,
	} {
		if v, ok := m[series]; !ok || v != want {
			t.Errorf("%s: %v %v, want %v", series, v, ok, want)
		}
	}
	if m[`casemate_pool_claim_seconds_count{tool="shell",backend="process"}`] != 4 || m[`casemate_pool_start_seconds_count{tool="shell",backend="process"}`] < 1 {
		t.Error("starts and claims are not timed")
	}
	for series := range m {
		if strings.Contains(series, "shel{") || strings.Contains(series, `"other"`) {
			t.Errorf("a caller made the series %s", series)
		}
	}
}

// TestWhoReadsMetrics: it names the tools of all callers, so that the
// operator alone reads it, and from no page of another site.
func TestWhoReadsMetrics(t *testing.T) {
	p := newPlace(t, shellTool)
	p.withCallers()
	a := p.api("--listen", "127.0.0.1:0")
	_, said, _ := strings.Cut(a.said.String(), "http://127.0.0.1:")
	port, _, _ := strings.Cut(said, "/")
	for _, c := range []struct {
		method, host, origin, token string
		want                        int
	}{
		{"GET", "", "", testToken, 200},
		{"HEAD", "", "", testToken, 200},
		{"GET", "", "http://127.0.0.1:" + port, testToken, 200},
		{"GET", "", "", "", 401},
		{"GET", "", "", "wrong-token-0123456789", 401},
		{"GET", "", "", otherToken, 403},
		{"GET", "", "http://evil.example", testToken, 403},
		{"GET", "evil.example", "", testToken, 421},
		{"GET", "evil.example", "http://evil.example", testToken, 421},
		{"POST", "", "", testToken, 405},
		{"OPTIONS", "", "", testToken, 405},
	} {
		r, _ := http.NewRequest(c.method, "http://127.0.0.1:"+port+"/metrics", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.want || strings.Contains(string(b), "casemate_pool") != (c.want == 200 && c.method == "GET") {
			t.Errorf("%+v: %d %.80q", c, res.StatusCode, b)
		}
		if c.want == 200 && res.Header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
			t.Errorf("content type %q", res.Header.Get("Content-Type"))
		}
	}
	for token, want := range map[string]int{"": 200, otherToken: 403} {
		if code, body := a.do(t.Context(), "GET", "/metrics", "", token); code != want {
			t.Errorf("by the unix socket with %q: %d %s", token, code, body)
		}
	}
	if code, _ := a.do(t.Context(), "GET", "/metrics?context=none", "", otherToken); code != 403 {
		t.Errorf("by a context: %d", code)
	}
}
