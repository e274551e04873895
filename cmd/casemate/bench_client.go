package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A benchClient is an MCP client that costs next to nothing, so that what is
// measured is the server: it writes lines of JSON-RPC that it does not compute
// anew, and of an answer reads the id. Calls may be in flight at once.
type benchClient struct {
	ask  func(ctx context.Context, id int, request []byte) ([]byte, error)
	ends []func()

	mu   sync.Mutex
	next int
}

func (c *benchClient) close() {
	for i := len(c.ends) - 1; i >= 0; i-- {
		c.ends[i]()
	}
}

// request returns the whole answer, which is no error of the protocol.
func (c *benchClient) request(ctx context.Context, method, params string) ([]byte, error) {
	c.mu.Lock()
	c.next++
	id := c.next
	c.mu.Unlock()
	b, err := c.ask(ctx, id, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`+"\n", id, method, params))
	if err != nil {
		return nil, err
	}
	return b, nil
}

// call calls a tool and makes sure of a word of its answer.
func (c *benchClient) call(ctx context.Context, params, want string) error {
	b, err := c.request(ctx, "tools/call", params)
	if err == nil && (!bytes.Contains(b, []byte(want)) || bytes.Contains(b, []byte(`"isError":true`))) {
		err = fmt.Errorf("it answered %.300s", b)
	}
	return err
}

// timed is a subject's run.
func (c *benchClient) timed(params, want string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		err := c.call(ctx, params, want)
		return time.Since(began), err
	}
}

const greeting = `{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}`

func (c *benchClient) greet(ctx context.Context, notify func([]byte) error) error {
	if _, err := c.request(ctx, "initialize", greeting); err != nil {
		return err
	}
	return notify([]byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n"))
}

// dialStdio starts an MCP server that speaks on its standard streams.
func dialStdio(ctx context.Context, cmd *exec.Cmd) (*benchClient, error) {
	said := &tailBuffer{}
	cmd.Stderr = said
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var mu sync.Mutex // of what follows
	waiting, over := map[int]chan []byte{}, false
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		lines := bufio.NewReaderSize(out, 64<<10)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				break
			}
			var m struct {
				ID     *int   `json:"id"`
				Method string `json:"method"`
			}
			if json.Unmarshal(line, &m) != nil || m.ID == nil || m.Method != "" {
				continue
			}
			mu.Lock()
			ch := waiting[*m.ID]
			delete(waiting, *m.ID)
			mu.Unlock()
			if ch != nil {
				ch <- line
			}
		}
		mu.Lock()
		defer mu.Unlock()
		over = true
		for _, ch := range waiting {
			close(ch)
		}
	}()
	var write sync.Mutex
	send := func(b []byte) error {
		write.Lock()
		defer write.Unlock()
		_, err := in.Write(b)
		return err
	}
	c := &benchClient{}
	c.ask = func(ctx context.Context, id int, request []byte) ([]byte, error) {
		ch := make(chan []byte, 1)
		mu.Lock()
		if over {
			mu.Unlock()
			return nil, fmt.Errorf("the server is gone: %s", lastLine(said))
		}
		waiting[id] = ch
		mu.Unlock()
		if err := send(request); err != nil {
			return nil, err
		}
		late := time.NewTimer(patience)
		defer late.Stop()
		select {
		case b, ok := <-ch:
			if !ok {
				return nil, fmt.Errorf("the server is gone: %s", lastLine(said))
			}
			return b, nil
		case <-late.C:
			return nil, fmt.Errorf("no answer within %s: %s", patience, lastLine(said))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.ends = append(c.ends, func() {
		in.Close()
		late := time.AfterFunc(15*time.Second, func() { cmd.Process.Kill() })
		<-gone
		cmd.Wait()
		late.Stop()
	})
	if err := c.greet(ctx, send); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// dialHTTP speaks to an MCP server at url, which answers within ten seconds
// from now.
func dialHTTP(ctx context.Context, url, token string) (*benchClient, error) {
	session := ""
	transport := &http.Transport{}
	hc := &http.Client{Transport: transport, Timeout: patience}
	post := func(ctx context.Context, body []byte) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		req.Header.Set("Authorization", "Bearer "+token)
		if session != "" {
			req.Header.Set("Mcp-Session-Id", session)
			req.Header.Set("Mcp-Protocol-Version", "2025-06-18")
		}
		res, err := hc.Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode/100 != 2 {
			err = fmt.Errorf("%s: %.300s", res.Status, b)
		}
		if s := res.Header.Get("Mcp-Session-Id"); err == nil && session == "" {
			session = s
		}
		return b, err
	}
	c := &benchClient{ask: func(ctx context.Context, _ int, request []byte) ([]byte, error) { return post(ctx, request) }}
	c.ends = append(c.ends, transport.CloseIdleConnections)
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		err = c.greet(ctx, func(b []byte) error { _, err := post(ctx, b); return err })
		if !errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		time.Sleep(20 * time.Millisecond) // it is a program that starts: nothing says when it listens
	}
	return c, err
}

// lastLine is the last that a program said: what went wrong, mostly.
func lastLine(said *tailBuffer) string {
	text := strings.TrimSpace(said.String())
	return text[strings.LastIndexByte(text, '\n')+1:]
}
