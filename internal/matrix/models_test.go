package matrix

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A script is a model on loopback that asks for the calls of a list, one after
// another, and keeps what it was told.
type script struct {
	mu     sync.Mutex
	calls  []map[string]any // name, input
	next   int
	heard  strings.Builder
	answer func(w http.ResponseWriter, s *script, call map[string]any)
}

func (h *home) calls(prefix string) []map[string]any {
	return []map[string]any{
		{"name": prefix + "read_it", "input": map[string]any{"path": h.env["INSIDE"]}},
		{"name": prefix + "read_it", "input": map[string]any{"path": h.env["OUTSIDE"]}},
		{"name": prefix + "environment", "input": map[string]any{}},
	}
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 32<<20))
	var q struct{ Tools []json.RawMessage }
	json.Unmarshal(body, &q)
	path := strings.TrimSuffix(r.URL.Path, "/")
	if r.Method != http.MethodPost || !strings.HasSuffix(path, "/messages") && !strings.HasSuffix(path, "/responses") {
		if strings.HasSuffix(path, "/count_tokens") {
			fmt.Fprint(w, `{"input_tokens":1}`)
			return
		}
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var call map[string]any
	if len(q.Tools) > 0 { // titles and the like have none, and are not part of the script
		s.heard.Write(said(body))
		if s.next < len(s.calls) {
			call = s.calls[s.next]
		}
		s.next++
	}
	s.answer(w, s, call)
}

// said are the parts of a request that came from tools, and the tools' names.
func said(body []byte) []byte {
	var q struct {
		Tools []struct {
			Name  string
			Tools []struct{ Name string }
		}
		Messages []struct{ Content json.RawMessage }
		Input    []struct {
			Type   string
			Output json.RawMessage
		}
	}
	json.Unmarshal(body, &q)
	var out []byte
	for _, t := range q.Tools {
		out = append(out, t.Name+" "...)
		for _, n := range t.Tools {
			out = append(out, n.Name+" "...)
		}
	}
	for _, m := range q.Messages {
		var parts []struct {
			Type    string
			Content json.RawMessage
		}
		json.Unmarshal(m.Content, &parts)
		for _, p := range parts {
			if p.Type == "tool_result" {
				out = append(append(out, '\n'), p.Content...)
			}
		}
	}
	for _, i := range q.Input {
		if strings.HasSuffix(i.Type, "_output") {
			out = append(append(out, '\n'), i.Output...)
		}
	}
	return append(out, '\n')
}

// serve listens where the client runs. As root that is a network of its own,
// which leads nowhere: these clients speak to their makers by themselves.
func (s *script) serve(t *testing.T, h *home) (url string) {
	l, err := h.listen()
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String()
}

func event(w io.Writer, kind string, v map[string]any) {
	v["type"] = kind
	b, _ := json.Marshal(v)
	fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind, b)
}

// claude runs Claude Code with no account: its model is a script.
func claude(t *testing.T, h *home, dir string) string {
	s := &script{calls: h.calls("mcp__reader__"), answer: anthropic}
	url := s.serve(t, h)
	b, _ := json.Marshal(map[string]any{"mcpServers": map[string]any{"reader": h.entry}})
	config := h.wrap(t, ".mcp.json", string(b))
	// Its script that puts this at its place was not run.
	binaries, err := filepath.Glob(filepath.Join(dir, "node_modules", "@anthropic-ai", "claude-code-linux-*", "claude"))
	if err != nil || len(binaries) != 1 {
		t.Fatalf("its program: %q, %v", binaries, err)
	}
	h.output(t, map[string]string{"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "a-key-of-the-test", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "MCP_TIMEOUT": "60000"},
		binaries[0], "-p", "go", "--mcp-config", config, "--strict-mcp-config",
		"--allowedTools", "mcp__reader__read_it,mcp__reader__environment")
	return s.heard.String()
}

// anthropic answers as the Messages API does, by events.
func anthropic(w http.ResponseWriter, s *script, call map[string]any) {
	block, delta, stop := map[string]any{"type": "text", "text": ""}, map[string]any{"type": "text_delta", "text": "done"}, "end_turn"
	if call != nil {
		input, _ := json.Marshal(call["input"])
		block = map[string]any{"type": "tool_use", "id": fmt.Sprintf("toolu_%d", s.next), "name": call["name"], "input": map[string]any{}}
		delta, stop = map[string]any{"type": "input_json_delta", "partial_json": string(input)}, "tool_use"
	}
	usage := map[string]any{"input_tokens": 1, "output_tokens": 1}
	w.Header().Set("Content-Type", "text/event-stream")
	event(w, "message_start", map[string]any{"message": map[string]any{"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []any{}, "stop_reason": nil, "stop_sequence": nil, "usage": usage}})
	event(w, "content_block_start", map[string]any{"index": 0, "content_block": block})
	event(w, "content_block_delta", map[string]any{"index": 0, "delta": delta})
	event(w, "content_block_stop", map[string]any{"index": 0})
	event(w, "message_delta", map[string]any{"delta": map[string]any{"stop_reason": stop, "stop_sequence": nil}, "usage": map[string]any{"output_tokens": 1}})
	event(w, "message_stop", map[string]any{})
}

// codex runs the Codex CLI with a model of the test's own.
func codex(t *testing.T, h *home, dir string) string {
	s := &script{answer: responses}
	for _, c := range h.calls("") {
		c["namespace"] = "mcp__reader"
		s.calls = append(s.calls, c)
	}
	url := s.serve(t, h)
	args, _ := json.Marshal(h.entry["args"])
	h.wrap(t, "codex/config.toml", fmt.Sprintf(`model = "m"
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "%s/v1"
wire_api = "responses"

[mcp_servers.reader]
command = "/usr/bin/python3"
args = %s
env_vars = ["XDG_RUNTIME_DIR"]
required = true
startup_timeout_sec = 60
default_tools_approval_mode = "approve"
`, url, args))
	h.output(t, map[string]string{"CODEX_HOME": filepath.Join(h.dir, "codex"), "OPENAI_API_KEY": "a-key-of-the-test"},
		filepath.Join(dir, "node_modules", ".bin", "codex"), "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "go")
	return s.heard.String()
}

// responses answers as the Responses API does.
func responses(w http.ResponseWriter, s *script, call map[string]any) {
	item := map[string]any{"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": []any{map[string]any{"type": "output_text", "text": "done", "annotations": []any{}}}}
	if call != nil {
		input, _ := json.Marshal(call["input"])
		item = map[string]any{"type": "function_call", "id": fmt.Sprintf("f%d", s.next), "call_id": fmt.Sprintf("call_%d", s.next), "name": call["name"], "namespace": call["namespace"], "arguments": string(input), "status": "completed"}
	}
	response := func(status string, output ...any) map[string]any {
		return map[string]any{"id": "resp_1", "object": "response", "status": status, "model": "m", "output": output, "usage": map[string]any{
			"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "input_tokens_details": map[string]any{"cached_tokens": 0}, "output_tokens_details": map[string]any{"reasoning_tokens": 0}}}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event(w, "response.created", map[string]any{"response": response("in_progress")})
	event(w, "response.output_item.done", map[string]any{"output_index": 0, "item": item})
	event(w, "response.completed", map[string]any{"response": response("completed", item)})
}
