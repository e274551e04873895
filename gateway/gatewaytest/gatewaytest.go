// Package gatewaytest makes a real router for the tests of the gateway, over a
// backend whose guests are goroutines that speak the real wire protocol. They
// are confined by nothing, and do what the argument "code" says, a line each:
//
//	print TEXT        write to standard output
//	value TEXT        have a value
//	file NAME MIME TEXT
//	fail TEXT         fail
//	meet N            wait until N guests do
//	sleep             wait until killed
//	set TEXT          remember
//	get               print what was remembered
//
// The guest of an MCP server is a process, its command.
package gatewaytest

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/router"
)

// Backend starts goroutines.
type Backend struct {
	mu      sync.Mutex
	changed chan struct{} // closed at the next change of what follows
	asleep  int
	meeting int
}

// Name is "goroutine".
func (b *Backend) Name() string { return "goroutine" }

// Probe says that it is there.
func (b *Backend) Probe(context.Context) (casemate.Capabilities, error) {
	return casemate.Capabilities{Name: b.Name(), Available: true, Assurance: casemate.VeryStrong}, nil
}

// Start starts one guest.
func (b *Backend) Start(_ context.Context, spec casemate.Spec) (casemate.Sandbox, error) {
	ours, theirs := net.Pipe()
	s := &sandbox{Conn: ours, gone: make(chan struct{})}
	go func() {
		defer close(s.gone)
		defer theirs.Close()
		b.guest(theirs, spec.Tool)
	}()
	return s, nil
}

type sandbox struct {
	net.Conn
	gone chan struct{}
}

func (s *sandbox) Guest() io.ReadWriteCloser { return s.Conn }

func (s *sandbox) Enforced() casemate.Enforced {
	return casemate.Enforced{Namespaces: []string{}, Degraded: []string{}}
}

func (s *sandbox) Wait(ctx context.Context) (casemate.Exit, error) {
	select {
	case <-s.gone:
		return casemate.Exit{}, nil
	case <-ctx.Done():
		return casemate.Exit{}, ctx.Err()
	}
}

func (s *sandbox) Close() error {
	s.Conn.Close()
	<-s.gone
	return nil
}

// Asleep waits until n guests sleep.
func (b *Backend) Asleep(t testing.TB, n int) {
	t.Helper()
	if !b.until(time.After(10*time.Second), func() bool { return b.asleep == n }) {
		t.Fatalf("%d guests do not sleep after ten seconds", n)
	}
}

// change changes what the backend counts.
func (b *Backend) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	if b.changed != nil {
		close(b.changed)
	}
	b.changed = make(chan struct{})
}

func (b *Backend) until(stop <-chan time.Time, ok func() bool) bool {
	for {
		b.mu.Lock()
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		done, changed := ok(), b.changed
		b.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-stop:
			return false
		}
	}
}

func (b *Backend) guest(pipe net.Conn, t *casemate.Tool) {
	send := func(t guest.Type, call uint32, body string) bool {
		return guest.Write(pipe, guest.Frame{Type: t, Call: call, Body: []byte(body)}) == nil
	}
	if !send(guest.Ready, 0, string(guest.AppendPairs(nil, []guest.Pair{{Key: "version", Value: strconv.Itoa(guest.Version)}, {Key: "runtime", Value: "goroutine"}}))) {
		return
	}
	if t != nil && t.Run.MCP != nil {
		serve(pipe, t.Run.MCP.Command)
		return
	}
	in := bufio.NewReader(pipe)
	kept, stored := "", files{}
	for {
		f, err := guest.Read(in, guest.MaxCall)
		if err != nil {
			return
		}
		if f.Type != guest.Call && f.Type != guest.Open && f.Type != guest.Files {
			continue // it belongs to a call that is over
		}
		ps, err := guest.ParsePairs(f.Body)
		if err != nil {
			return
		}
		box := &inbox{in: in, call: f.Call, send: send}
		if f.Type == guest.Files {
			stored.serve(box, ps)
			continue
		}
		code, ok := guest.Get(ps, "code")
		if !ok {
			code, _ = guest.Get(ps, "command")
		}
		for _, line := range strings.Split(code, "\n") {
			word, rest, _ := strings.Cut(line, " ")
			switch word {
			case "print":
				send(guest.Stdout, f.Call, rest+"\n")
			case "value":
				send(guest.Value, f.Call, rest)
			case "fail":
				send(guest.Failure, f.Call, rest)
			case "file":
				p := strings.SplitN(rest, " ", 3)
				send(guest.File, f.Call, string(guest.AppendPairs(nil, []guest.Pair{{Key: "name", Value: p[0]}, {Key: "mime", Value: p[1]}, {Key: "data", Value: p[2]}})))
			case "meet":
				n, _ := strconv.Atoi(rest)
				b.change(func() { b.meeting++ })
				if !b.until(time.After(10*time.Second), func() bool { return b.meeting >= n }) {
					send(guest.Failure, f.Call, "alone")
				}
			case "sleep":
				b.change(func() { b.asleep++ })
				in.Peek(1) // ends when the pipe does
				b.change(func() { b.asleep-- })
			case "set":
				kept = rest
			case "get":
				send(guest.Stdout, f.Call, "kept "+kept+"\n")
			default:
				box.spoken(word, rest)
			}
		}
		var status [4]byte
		binary.BigEndian.PutUint32(status[:], 0)
		if !send(guest.Done, f.Call, string(status[:])) {
			return
		}
	}
}

// Tools are the tools of the router that New makes: "run", the same for a
// session, "kept", and "data", whose output is JSON.
func Tools() []*casemate.Tool {
	code := json.RawMessage(`{"type":"object","properties":{"code":{"type":"string"}},"required":["code"],"additionalProperties":false}`)
	script := casemate.Run{Python: &casemate.Script{}}
	return []*casemate.Tool{
		{Name: "data", Description: "Run code whose output is JSON.", Parameters: json.RawMessage(`{"type":"object","properties":{"code":{"type":"string"},"more":{"type":"string"}},"required":["code"]}`),
			Run: casemate.Run{Exec: &casemate.Exec{Command: []string{"/bin/code", "--", "{code}"}, Result: "json"}}},
		{Name: "kept", Description: "Run code in the guest of its session.", Parameters: code, Run: script, Security: casemate.Profile{Scope: casemate.ScopeSession}},
		{Name: "run", Description: "Run code.", Parameters: code, Run: script},
	}
}

type discard struct{}

func (discard) Record(casemate.Receipt) error { return nil }

// New makes a router that is shut down when the test ends.
func New(t testing.TB) (*router.Router, *Backend) {
	t.Helper()
	b := &Backend{}
	r, err := router.New(router.Config{
		Tools: Tools(), Backends: []casemate.Backend{b}, Recorder: discard{}, PerTool: 32,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Error(fmt.Errorf("shut down: %w", err))
		}
	})
	return r, b
}
