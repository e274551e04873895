package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
)

const (
	longResult = 100 << 20 // bytes
	longMemory = 16 << 10  // KiB that it may cost the router
)

// longTools are a server's tool and a program that answer as many Z as they are
// asked for.
const longTools = `
  - name: far
    security: {timeout: 60s, output: 200MiB}
    mcp:
      command:
        - python3
        - -c
        - |
          import json, sys
          out = sys.stdout
          for line in sys.stdin:
              m = json.loads(line)
              if "id" not in m:
                  continue
              a = {"jsonrpc": "2.0", "id": m["id"]}
              if m["method"] == "initialize":
                  a["result"] = {"protocolVersion": m["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "l", "version": "1"}}
              elif m["method"] == "tools/list":
                  a["result"] = {"tools": [{"name": "long", "inputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}}}]}
              elif m["method"] == "tools/call":
                  out.write('{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"' % json.dumps(m["id"]))
                  n = m["params"]["arguments"]["n"]
                  while n > 0:
                      out.write("Z" * min(n, 1 << 16))
                      n -= 1 << 16
                  out.write('"}]}}\n')
                  out.flush()
                  continue
              else:
                  a["error"] = {"code": -32601, "message": "no such method"}
              print(json.dumps(a), flush=True)
  - name: print
    parameters: {type: object, properties: {bytes: {type: integer}}, required: [bytes]}
    run: {exec: {command: [/bin/sh, -c, "head -c \"$1\" /dev/zero | tr '\\000' Z", sh, "{bytes}"]}}
    security: {timeout: 60s, output: 200MiB}
`

// A sieve counts the Z, and keeps what is none.
type sieve struct {
	n    int
	rest bytes.Buffer
}

func (s *sieve) Write(b []byte) (int, error) {
	for all := len(b); ; {
		i := bytes.IndexByte(b, 'Z')
		if i < 0 {
			s.rest.Write(b)
			return all, nil
		}
		s.rest.Write(b[:i])
		before := len(b)
		b = bytes.TrimLeft(b[i:], "Z")
		s.n += before - i - len(b)
	}
}

// peak begins the peak of a process's memory anew, and returns what it was.
func peak(t *testing.T, pid int) (kib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	line, _, _ := strings.Cut(rest, "kB")
	if kib, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Logf("the peak counts from the start of the process on: %v", err)
	}
	return kib
}

// TestLongResults: 100 MiB pass through a router that has less than 16 MiB more
// for it, in each way in which a result is passed on while it comes.
func TestLongResults(t *testing.T) {
	// check calls with a few bytes, and with many.
	check := func(t *testing.T, s *serving, call func(n int, to io.Writer), whole func(t *testing.T, rest string)) {
		t.Helper()
		pid := member(t, family(s.cmd.Process.Pid), "casemate router")
		call(10, io.Discard) // the first one starts the server
		peak(t, pid)
		var out sieve
		call(10, &out)
		whole(t, out.rest.String())
		before := peak(t, pid)
		out = sieve{}
		call(longResult, &out)
		after := peak(t, pid)
		whole(t, out.rest.String())
		if out.n != longResult {
			t.Errorf("%d bytes came", out.n)
		}
		t.Logf("%d KiB after a small call, %d KiB more for a long one", before, after-before)
		if after-before >= longMemory {
			t.Errorf("a result of %d MiB takes %d KiB of memory more than a small one", longResult>>20, after-before)
		}
	}
	message := func(t *testing.T, rest string) {
		t.Helper()
		var m struct {
			Result *struct {
				Content []struct{ Text *string }
				IsError bool
			}
		}
		if err := json.Unmarshal([]byte(rest), &m); err != nil || m.Result == nil || len(m.Result.Content) != 1 || m.Result.Content[0].Text == nil || *m.Result.Content[0].Text != "" || m.Result.IsError {
			t.Errorf("but for its text the answer is %.500q, %v", rest, err)
		}
	}

	t.Run("stdio", func(t *testing.T) {
		s := newPlace(t, longTools).serve().initialize()
		check(t, s, func(n int, to io.Writer) {
			s.send("tools/call", map[string]any{"name": "long", "arguments": map[string]any{"n": n}})
			for more := true; more; {
				b, err := s.out.ReadSlice('\n')
				if more = err != nil; more && len(b) == 0 {
					t.Fatal(err)
				}
				to.Write(b)
			}
		}, message)
	})

	post := func(t *testing.T, a *apiServer, path, body string, to io.Writer, headers ...string) http.Header {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://localhost"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		res, err := a.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.Copy(to, res.Body); err != nil || res.StatusCode/100 != 2 {
			t.Fatalf("%d, %v", res.StatusCode, err)
		}
		return res.Header
	}
	event := func(t *testing.T, rest string) {
		t.Helper()
		data, ok := strings.CutPrefix(strings.TrimSuffix(rest, "\n\n"), "event: message\ndata: ")
		if !ok || !strings.HasSuffix(rest, "\n\n") {
			t.Errorf("but for its text the answer is %.500q", rest)
		}
		message(t, data)
	}
	t.Run("http", func(t *testing.T) {
		a := newPlace(t, longTools).api()
		id := post(t, a, "/mcp", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, io.Discard).Get("Mcp-Session-Id")
		session := []string{"Mcp-Session-Id", id, "Mcp-Protocol-Version", "2025-11-25"}
		post(t, a, "/mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, io.Discard, session...)
		check(t, a.serving, func(n int, to io.Writer) {
			post(t, a, "/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"long","arguments":{"n":%d}}}`, n), to, session...)
		}, event)
	})
	t.Run("http without a session", func(t *testing.T) {
		a := newPlace(t, longTools).api()
		const version = "2026-07-28"
		check(t, a.serving, func(n int, to io.Writer) {
			post(t, a, "/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"long","arguments":{"n":%d},"_meta":{"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}}}`, n, version), to,
				"Mcp-Protocol-Version", version, "Mcp-Method", "tools/call", "Mcp-Name", "long")
		}, event)
	})
	t.Run("printed", func(t *testing.T) {
		a := newPlace(t, longTools).api()
		check(t, a.serving, func(n int, to io.Writer) {
			post(t, a, "/v1/calls", fmt.Sprintf(`{"tool":"print","arguments":{"bytes":%d},"stream":true}`, n), to)
		}, func(t *testing.T, rest string) {
			t.Helper()
			if !strings.HasPrefix(rest, `event: stdout`) || !strings.Contains(rest, `"status":"done"`) || !strings.HasSuffix(rest, "\n\n") {
				t.Errorf("the answer ends %q", rest[max(0, len(rest)-500):])
			}
		})
	})
}
