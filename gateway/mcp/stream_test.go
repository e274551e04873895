package mcp

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/gatewaytest"
)

// A long says what line of its own a server answers: Before and After around
// MiB of text, in place of ID its id; or it ends after Before and the text.
type long struct {
	Before, After string
	MiB           int
	Die           bool
}

// serveLong answers a call that asks for it.
func serveLong(id, params json.RawMessage) bool {
	var p struct{ Arguments struct{ Long *long } }
	if json.Unmarshal(params, &p) != nil || p.Arguments.Long == nil {
		return false
	}
	l := p.Arguments.Long
	fill := strings.NewReplacer("ID", string(id), "BAD", "\x01")
	out := bufio.NewWriter(os.Stdout)
	out.WriteString(fill.Replace(l.Before))
	for range l.MiB {
		out.WriteString(strings.Repeat("x", 1<<20))
	}
	if !l.Die {
		out.WriteString(fill.Replace(l.After) + "\n")
	}
	out.Flush()
	if l.Die {
		os.Exit(3)
	}
	return true
}

const firstHead = `{"jsonrpc":"2.0","id":ID,"result":`

// A longClient asks for a long result, and returns the message that answers.
type longClient func(t *testing.T, l long) (id string, message []byte)

func (l long) call(id, meta string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":"odd","arguments":{"long":%s},"_meta":{%s}}}`, id, encode(l), meta)
}

// stdioLong is one on standard input and output.
func stdioLong(t *testing.T, version string) longClient {
	r, _ := gatewaytest.NewServers(t, odd(t))
	inR, in := io.Pipe()
	out, outW := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- ServeStdio(t.Context(), inR, outW, gateway.ServerView(r, "odd"), Options{}) }()
	t.Cleanup(func() { in.Close(); <-done })
	lines := bufio.NewReader(out)
	n, more := 0, ""
	if version == stateless {
		more = "," + inMeta()
	} else {
		io.WriteString(in, initialize(version)+"\n")
		lines.ReadBytes('\n')
		io.WriteString(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
	}
	return func(t *testing.T, l long) (string, []byte) {
		n++
		id := fmt.Sprintf("call %d", n)
		io.WriteString(in, l.call(id, fmt.Sprintf(`"progressToken":%d%s`, n, more))+"\n")
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		return `"` + id + `"`, line
	}
}

// inMeta is what a request without a handshake says in _meta.
func inMeta() string {
	return strings.TrimSuffix(strings.TrimPrefix(meta(stateless), `"_meta":{`), "}")
}

// httpLong is one over HTTP.
func httpLong(t *testing.T, version string) longClient {
	r, _ := gatewaytest.NewServers(t, odd(t))
	d := serveDoor(t, r, gateway.ServerView(r, "odd"), gateway.Config{Token: token}, Options{})
	hs, more := modern("tools/call", "odd"), ","+inMeta()
	if version != stateless {
		hs, more = d.begin(version), ""
	}
	n := 0
	return func(t *testing.T, l long) (string, []byte) {
		n++
		id := fmt.Sprintf("call %d", n)
		a := d.post(l.call(id, fmt.Sprintf(`"progressToken":%d%s`, n, more)), hs...)
		// A reader of events takes \r for the end of a line, as \n.
		lines := strings.FieldsFunc(a.body, func(r rune) bool { return r == '\r' || r == '\n' })
		data, ok := "", false
		if len(lines) == 2 && strings.HasSuffix(a.body, "\n\n") {
			data, ok = strings.CutPrefix(lines[1], "data: ")
		}
		if a.status != 200 || !ok {
			t.Fatalf("%d: %d lines: %.300q … %q", a.status, len(lines), a.body, a.body[max(0, len(a.body)-300):])
		}
		return `"` + id + `"`, []byte(data)
	}
}

func TestLongResults(t *testing.T) {
	for name, c := range map[string]func(*testing.T, string) longClient{"stdio": stdioLong, "http": httpLong} {
		for _, version := range []string{"2025-11-25", stateless} {
			t.Run(name+"/"+version, func(t *testing.T) { longResults(t, c(t, version), version) })
		}
	}
}

// longResults: a long result is one message, and JSON, whatever becomes of it.
func longResults(t *testing.T, ask longClient, version string) {
	type result struct {
		Content []struct{ Type, Text string }
		IsError *bool
		Meta    map[string]any `json:"_meta"`
		Extra   any
		Kind    string `json:"resultType"`
	}
	for name, c := range map[string]struct {
		long
		text   int    // bytes of the first part
		last   string // of the content: a part of the last text
		failed bool
		extra  string
	}{
		"whole":              {long: long{Before: firstHead + `{"content":[{"type":"text","text":"`, MiB: 5, After: `"}],"isError":false,"extra":[1.50]}}`}, text: 5 << 20, extra: "[1.50]"},
		"lines of CR":        {long: long{Before: firstHead + "{\"extra\":[\r1,\r\r2],\r\"content\":[\r\r{\"type\":\"text\",\"text\":\"", MiB: 2, After: "\"}\r]\r}}"}, text: 2 << 20},
		"id last":            {long: long{Before: `{"result":{"extra":{"a":null},"_meta":{"casemate/call":"forged","of":"theirs"},"content":[{"type":"text","text":"`, MiB: 5, After: `"} ] },"jsonrpc":"2.0","id":ID}`}, text: 5 << 20, extra: `{"a":null}`},
		"failed itself":      {long: long{Before: firstHead + `{"isError":true,"content":[{"type":"text","text":"`, MiB: 5, After: `"}]}}`}, text: 5 << 20, failed: true},
		"malformed":          {long: long{Before: firstHead + `{"content":[{"type":"text","text":"`, MiB: 5, After: `BAD"}]}}`}, last: "turned out to be none", failed: true},
		"cut short":          {long: long{Before: firstHead + `{"content":[{"type":"text","text":"`, MiB: 5, After: ``}, last: "turned out to be none", failed: true},
		"malformed later":    {long: long{Before: firstHead + `{"content":[{"type":"text","text":"`, MiB: 5, After: `"},]}}`}, text: 5 << 20, last: "turned out to be none", failed: true},
		"not JSON behind it": {long: long{Before: firstHead + `{"content":[{"type":"text","text":"`, MiB: 5, After: `"}],"extra": nul }}`}, text: 5 << 20, failed: true, extra: "null,"},
		"over the limit":     {long: long{Before: firstHead + `{"content":[{"type":"text","text":"`, MiB: 65, After: `"}]}}`}, last: "output limit", failed: true},
		"dies":               {long: long{Before: firstHead + `{"content":[{"type":"text","text":"\u00`, MiB: 0, Die: true}, last: "ended before it answered", failed: true},
		"dies later":         {long: long{Before: firstHead + `{"content":[{"type":"text","text":"`, MiB: 5, Die: true}, last: "ended before it answered", failed: true},
		"asks":               {long: long{Before: firstHead + `{"content":[{"type":"text","text":"`, MiB: 5, After: `"}],"inputRequests":{"x":{}}}}`}, text: 5 << 20, last: "request for input", failed: true},
		"asks otherwise":     {long: long{Before: firstHead + `{"content":[{"type":"text","text":"`, MiB: 5, After: `"}],"resultType":"input_required"}}`}, text: 5 << 20, last: "request for input", failed: true},
		"no content":         {long: long{Before: firstHead + `{"extra":"`, MiB: 5, After: `"}}`}},
		"content is none":    {long: long{Before: firstHead + `{"content":"`, MiB: 5, After: `"}}`}, last: "no array", failed: true},
		"in what is no content": {long: long{Before: firstHead + `{"content":[],"extra":{"a":["`, MiB: 5, After: `BAD`},
			failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			id, line := ask(t, c.long)
			var m struct {
				Version string `json:"jsonrpc"`
				ID      json.RawMessage
				Result  json.RawMessage
			}
			if err := json.Unmarshal(line, &m); err != nil {
				t.Fatalf("%v\n%.200s … %s", err, line, line[max(0, len(line)-200):])
			}
			var got result
			if err := json.Unmarshal(m.Result, &got); err != nil || m.Version != "2.0" || string(m.ID) != id {
				t.Fatalf("%v, %s %s", err, m.Version, m.ID)
			}
			is := got.IsError != nil && *got.IsError
			if is != c.failed {
				t.Errorf("isError %v: %.200q", is, line[max(0, len(line)-200):])
			}
			if c.text > 0 && (len(got.Content) == 0 || len(got.Content[0].Text) != c.text) {
				t.Errorf("%d parts", len(got.Content))
			}
			if version == stateless && got.Kind != "complete" {
				t.Errorf("resultType is %q", got.Kind)
			}
			if k := len(got.Content); c.last != "" && (k == 0 || !strings.Contains(got.Content[k-1].Text, c.last)) {
				t.Errorf("it does not say %q: %.300q", c.last, line[max(0, len(line)-300):])
			}
			if call, _ := got.Meta[callKey].(string); !strings.HasPrefix(call, "c_") {
				t.Errorf("_meta %v", got.Meta)
			}
			if c.extra != "" && !strings.Contains(string(line), `"extra":`+c.extra) {
				t.Errorf("extra is another: %.200q", line[max(0, len(line)-200):])
			}
			if strings.Contains(name, "last") && got.Meta["of"] != "theirs" {
				t.Errorf("_meta %v", got.Meta)
			}
		})
	}
	ask(t, long{Before: firstHead + `{}}`}) // it may tell that the server was started afresh
	if _, line := ask(t, long{Before: firstHead + `{"content":[]}}`}); !strings.Contains(string(line), `"content":[]`) {
		t.Errorf("a short one: %s", line)
	}
}

// TestCutLongResult: where the request ends before its long result does, also
// with a client that does not read, the client takes it for no whole one.
func TestCutLongResult(t *testing.T) {
	wrote, stopped := make(chan error, 1), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := newEventStream(w, r)
		go func() {
			out := e.hold()
			defer e.free()
			_, err := out.Write(make([]byte, 64<<20)) // more than the client's side takes unread
			wrote <- err
		}()
		<-stopped
		if !e.end() {
			t.Error("it was whole")
		}
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	res, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.CopyN(io.Discard, res.Body, 1<<20); err != nil {
		t.Fatal(n, err)
	}
	close(stopped)
	if err := <-wrote; err == nil {
		t.Error("it was written on")
	}
	if _, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Error("it ends as if it were whole")
	}
}
