package api

import (
	"strings"
	"testing"
	"time"
)

// TestLimits: a call takes from its tool what its body says, and the outcome
// tells; what cannot be is refused by its name.
func TestLimits(t *testing.T) {
	s := newServer(t, time.Minute)
	code, body := s.post(`{"tool":"run","arguments":{"code":"print x"},"limits":{"memory":"1MiB","output":100,"timeout":5}}`)
	if code != 200 || !strings.Contains(body, `"timeout":{"limit":5000,"by":"router"},"output":{"limit":100,"by":"router"}`) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := s.post(`{"tool":"run","arguments":{"code":"sleep"},"limits":{"timeout":"50ms"}}`); !strings.Contains(body, "its time of 50ms was over") {
		t.Errorf("%d %s", code, body)
	}
	for body, field := range map[string]string{`{"memory":"1TiB"}`: "limits.memory", `{"memory":"much"}`: "limits.memory", `{"without":["/none"]}`: "limits.without",
		`{"network":"none"}`: "limits.network", `[]`: "limits", `null`: "limits", `{"memory":1,"memory":2}`: "memory"} {
		if code, got := s.post(`{"tool":"run","arguments":{"code":"print x"},"limits":` + body + `}`); code != 400 || !strings.Contains(got, field) {
			t.Errorf("%s: %d %s", body, code, got)
		}
	}
}

// TestInputs: what a call is given reaches its sandbox, or the call says why
// not; here the backend takes none.
func TestInputs(t *testing.T) {
	s := newServer(t, time.Minute)
	for body, want := range map[string]string{
		`{"a.txt":"YQ=="}`:        "takes none",
		`{"a/b":"YQ=="}`:          "inputs: the name",
		`{"":"YQ=="}`:             "inputs: the name",
		`{"a":"not base64"}`:      "inputs",
		`{"a":7}`:                 "inputs",
		`["YQ=="]`:                "inputs",
		`{"a":"YQ==","a":"YQ=="}`: "a",
	} {
		if code, got := s.post(`{"tool":"run","arguments":{"code":"print x"},"inputs":` + body + `}`); code == 200 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s", body, code, got)
		}
	}
}
