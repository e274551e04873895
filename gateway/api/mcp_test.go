package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate/gateway/gatewaytest"
)

const asServer = "-serve-mcp"

func TestMain(m *testing.M) {
	if slices.Contains(os.Args[1:], asServer) {
		serveMCP()
		return
	}
	os.Exit(m.Run())
}

// serveMCP is a small MCP server on standard input and output, with one tool
// that echoes and one that sleeps.
func serveMCP() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var m struct {
			ID     json.RawMessage
			Method string
			Params struct {
				Name      string
				Arguments map[string]string
			}
		}
		if json.Unmarshal(in.Bytes(), &m) != nil || m.ID == nil {
			continue
		}
		result := `{}`
		switch m.Method {
		case "initialize":
			result = `{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"small","version":"1"}}`
		case "tools/list":
			schema := `"inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}`
			result = `{"tools":[{"name":"echo","description":"Say it again.",` + schema + `},{"name":"hang",` + schema + `}]}`
		case "tools/call":
			if m.Params.Name == "hang" {
				continue
			}
			text, _ := json.Marshal(m.Params.Arguments["text"])
			result = fmt.Sprintf(`{"content":[{"type":"text","text":%s,"annotations":{"priority":1}}],"structuredContent":{"text":%s}}`, text, text)
		}
		fmt.Printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":%s}\n", m.ID, result)
	}
}

// TestToolsOfServers: they are called like any other, in every way.
func TestToolsOfServers(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, back := gatewaytest.NewServers(t, gatewaytest.Server{Name: "small", Command: []string{self, asServer}})
	s := serve(t, r, back, 0, nil)
	_, list, err := s.do(t.Context(), "GET", "/v1/tools", "")
	if err != nil || !strings.Contains(list, `{"name":"echo","description":"Say it again.","parameters":{`) || strings.Contains(list, `"name":"small"`) {
		t.Errorf("%s %v", list, err)
	}
	const call = `{"tool":"echo","session":"s","arguments":{"text":"said"}`
	code, body := s.post(call + `}`)
	if code != 200 || !strings.Contains(body, `"structuredContent":{"text":"said"}`) || !strings.Contains(body, `"status":"done"`) {
		t.Errorf("%d %s", code, body)
	}
	if err := newChecker(t).valid("/components/schemas/Outcome", body); err != nil {
		t.Error(err)
	}
	if _, out := s.stream(t.Context(), "POST", "/v1/calls", call+`,"stream":true}`).rest(); out.Status != "done" || string(out.Result.Structured) != `{"text":"said"}` {
		t.Errorf("%+v", out)
	}
	if v := s.waited(s.begin(call + `,"background":true}`)); v.Status != "done" || string(v.Outcome.Result.Structured) != `{"text":"said"}` {
		t.Errorf("%+v", v)
	}
	if code, body := s.post(call + `,"background":true,"stdin":true}`); code != 400 {
		t.Errorf("%d %s", code, body)
	}
	j := s.begin(`{"tool":"hang","session":"s","background":true}`)
	if code := s.get("POST", "/v1/calls/"+string(j.Call)+"/signal", `{"signal":"TERM"}`, nil); code != 409 {
		t.Errorf("a signal: %d", code)
	}
	var v jobView
	if code := s.get("DELETE", "/v1/calls/"+string(j.Call), "", &v); code != 200 || v.Status != "cancelled" {
		t.Errorf("%d %+v", code, v)
	}
	// The server itself is no tool, and its files are its own.
	if code, body := s.post(`{"tool":"small"}`); code != 400 {
		t.Errorf("%d %s", code, body)
	}
	if code := s.get("GET", "/v1/sessions/s/files?path=x&tool=echo", "", nil); code != 400 {
		t.Errorf("files: %d", code)
	}
	if code := s.get("PUT", "/v1/sessions/s/files?path=x", "x", nil); code != 200 { // of kept, the only tool that has any
		t.Errorf("files: %d", code)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"tool":"run","arguments":{"code":"x"},"session":"s","key":"k","timeout":"1s","stdin":true,"background":true}`))
	f.Add([]byte(`{"tool":"run","arguments":"{}","timeout":1e3,"stream":false}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		q := &request{}
		err := fields(body, "", q.readers())
		if err == nil && (len(q.Key) > maxKey || q.Timeout < 0 || q.Timeout > maxTimeout || q.Arguments != nil && !json.Valid(q.Arguments)) {
			t.Errorf("%+v", q)
		}
		readFile(body)
		codeOf(string(body))
	})
}
