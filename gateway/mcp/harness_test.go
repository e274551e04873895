package mcp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/gatewaytest"
	"github.com/casemate/casemate/router"
)

var update = flag.Bool("update", false, "write the golden files")

const token = "a-token-of-the-test-0123456789"

// golden compares got with testdata/golden/NAME, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs; go test -update accepts this:\n%s", path, got)
	}
}

var ids = regexp.MustCompile(`c_[a-z2-7]{26}`)

// scrub removes what no two runs share.
func scrub(s string) string { return ids.ReplaceAllString(s, "c_CALL") }

// A client is the other end of a ServeStdio.
type client struct {
	t     *testing.T
	in    io.WriteCloser
	lines chan string
	done  chan error
	back  *gatewaytest.Backend
	r     *router.Router
	close context.CancelFunc
}

func newClient(t *testing.T, o Options) *client {
	r, back := gatewaytest.New(t)
	return connect(t, r, back, o)
}

func connect(t *testing.T, r *router.Router, back *gatewaytest.Backend, o Options) *client {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{t: t, in: inW, lines: make(chan string, 4096), done: make(chan error, 1), back: back, r: r, close: cancel}
	go func() {
		err := ServeStdio(ctx, inR, outW, r, o)
		outW.Close()
		inR.Close()
		c.done <- err
	}()
	go func() {
		defer close(c.lines)
		for sc := bufio.NewReader(outR); ; {
			line, err := sc.ReadString('\n')
			if err != nil {
				return
			}
			c.lines <- strings.TrimSuffix(line, "\n")
		}
	}()
	t.Cleanup(func() { cancel(); inW.Close() })
	return c
}

func (c *client) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next line of the server.
func (c *client) next() string {
	c.t.Helper()
	select {
	case l, ok := <-c.lines:
		if !ok {
			c.t.Fatal("the server hung up")
		}
		return l
	case <-time.After(10 * time.Second):
		c.t.Fatal("no answer")
	}
	return ""
}

func (c *client) ask(line string) string { c.t.Helper(); c.send(line); return c.next() }

func (c *client) quiet() {
	c.t.Helper()
	select {
	case l := <-c.lines:
		c.t.Errorf("unexpected: %s", l)
	case <-time.After(50 * time.Millisecond):
	}
}

func (c *client) initialize(version string) {
	c.t.Helper()
	if got := c.ask(initialize(version)); !strings.Contains(got, `"protocolVersion":"`+version+`"`) {
		c.t.Fatalf("initialize: %s", got)
	}
	c.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

func initialize(version string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`, version)
}

// meta is the _meta of a request of the versions without a handshake.
func meta(version string) string {
	return fmt.Sprintf(`"_meta":{"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"}}`, version)
}

func callTool(id any, tool, code, more string) string {
	i, _ := json.Marshal(id)
	c, _ := json.Marshal(code)
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":{"code":%s}%s}}`, i, tool, c, more)
}

// A door is an HTTP server with MCP behind the real door.
type door struct {
	t     *testing.T
	url   string
	token string
	addr  net.Addr
	back  *gatewaytest.Backend
	r     *router.Router
}

func sha(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func newDoor(t *testing.T, o Options) *door {
	t.Helper()
	r, back := gatewaytest.New(t)
	d := serveDoor(t, r, r, gateway.Config{Token: token}, o)
	d.back = back
	return d
}

// serveDoor serves what is shown of r.
func serveDoor(t *testing.T, r *router.Router, shown gateway.Router, c gateway.Config, o Options) *door {
	t.Helper()
	sessions := gateway.NewSessions(r, 0)
	ctx, cancel := context.WithCancel(context.Background())
	h, err := gateway.Handler(c, map[string]http.Handler{"/mcp": Handler(ctx, shown, sessions, o)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- gateway.Serve(ctx, l, h, time.Second, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		sessions.Close()
	})
	return &door{t: t, url: "http://" + l.Addr().String() + "/mcp", token: token, addr: l.Addr(), r: r}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// post sends one body; headers are pairs.
func (d *door) post(body string, headers ...string) answer {
	d.t.Helper()
	a, err := d.do(context.Background(), "POST", body, headers...)
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

func (d *door) do(ctx context.Context, method, body string, headers ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, d.url, bytes.NewReader([]byte(body)))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Authorization", "Bearer "+d.token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(b)}, err
}
