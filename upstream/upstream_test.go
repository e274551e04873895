package upstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// A peer is the guest's end of a pipe, with a server of a few lines behind it.
type peer struct {
	conn net.Conn

	mu     sync.Mutex
	number uint32
}

func (p *peer) frame(t guest.Type, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	guest.Write(p.conn, guest.Frame{Type: t, Call: p.number, Body: body})
}

func (p *peer) print(format string, a ...any) {
	b := fmt.Appendf(nil, format+"\n", a...)
	for len(b) > 0 {
		n := min(len(b), guest.MaxReply)
		p.frame(guest.Stdout, b[:n])
		b = b[n:]
	}
}

func (p *peer) done(status uint32) {
	p.frame(guest.Done, binary.BigEndian.AppendUint32(nil, status))
}

// A said is one message that a peer was sent.
type said struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// peered starts a peer that answers each message by answer.
func peered(t testing.TB, answer func(*peer, said)) (net.Conn, *peer) {
	ours, theirs := net.Pipe()
	p := &peer{conn: theirs}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer theirs.Close()
		in := bufio.NewReader(theirs)
		var buf []byte
		for {
			f, err := guest.Read(in, guest.MaxCall)
			if err != nil {
				return
			}
			switch f.Type {
			case guest.Open:
				p.mu.Lock()
				p.number = f.Call
				p.mu.Unlock()
			case guest.Stdin:
				go p.frame(guest.Taken, binary.BigEndian.AppendUint32(nil, uint32(len(f.Body))))
				buf = append(buf, f.Body...)
				for {
					i := bytes.IndexByte(buf, '\n')
					if i < 0 {
						break
					}
					var m said
					if err := json.Unmarshal(buf[:i], &m); err != nil {
						t.Errorf("it was sent %q", buf[:i])
					}
					buf = bytes.Clone(buf[i+1:])
					go answer(p, m)
				}
			}
		}
	}()
	t.Cleanup(func() { ours.Close(); <-ended })
	return ours, p
}

// polite does what every server does, and returns false for what is left.
func polite(p *peer, m said) bool {
	switch m.Method {
	case "initialize":
		p.print(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{}}}`, m.ID)
	case "tools/list":
		p.print(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{}}]}}`, m.ID)
	default:
		return m.ID == nil
	}
	return true
}

func options() Options {
	return Options{Run: &casemate.MCP{Server: "srv"}, Output: 1 << 20}
}

func opened(t testing.TB, o Options, answer func(*peer, said)) (*Server, *peer) {
	t.Helper()
	conn, p := peered(t, answer)
	s := unopened(o, conn)
	s.patience = 1 << 20
	t.Cleanup(s.Close)
	if err := s.open(context.Background(), conn); err != nil {
		t.Fatal(err)
	}
	return s, p
}

// What a guest sends that no guest may ends it, and says so.
func TestBreach(t *testing.T) {
	for name, do := range map[string]func(p *peer){
		"another call": func(p *peer) {
			guest.Write(p.conn, guest.Frame{Type: guest.Stdout, Call: p.number + 1, Body: []byte("x")})
		},
		"unknown type":  func(p *peer) { p.frame('?', nil) },
		"a file":        func(p *peer) { p.frame(guest.File, nil) },
		"long":          func(p *peer) { p.frame(guest.Stdout, make([]byte, guest.MaxReply+1)) },
		"took too much": func(p *peer) { p.frame(guest.Taken, []byte{0, 1, 0, 0}) },
		"short status":  func(p *peer) { p.frame(guest.Done, []byte{1}) },
		"empty frames": func(p *peer) {
			for range (1<<20+leastMessage+overhead)/frameCost + 2 {
				p.frame(guest.Stdout, nil)
			}
		},
		"notifications": func(p *peer) {
			for range maxUnasked + 2 {
				p.print(`{"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
			}
		},
		"long lines": func(p *peer) {
			for range 12 {
				p.frame(guest.Stdout, bytes.Repeat([]byte("x"), guest.MaxReply))
			}
		},
		"standard error": func(p *peer) {
			for range 12 {
				p.frame(guest.Stderr, bytes.Repeat([]byte("x\n"), guest.MaxReply/2))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := opened(t, options(), func(p *peer, m said) {
				if !polite(p, m) {
					do(p)
				}
			})
			_, err := s.Call(context.Background(), Request{Method: "x"})
			if !errors.Is(err, ErrGone) || !errors.Is(err, guest.ErrProtocol) {
				t.Errorf("the error is %v", err)
			}
			if _, err := s.Call(context.Background(), Request{Method: "x"}); !errors.Is(err, ErrGone) {
				t.Errorf("afterwards the error is %v", err)
			}
		})
	}
}

func TestEnds(t *testing.T) {
	s, _ := opened(t, options(), func(p *peer, m said) {
		if !polite(p, m) {
			p.done(3)
		}
	})
	_, err := s.Call(context.Background(), Request{Method: "x"})
	if e, ok := errors.AsType[Exited](err); !ok || e != 3 || !errors.Is(err, ErrGone) {
		t.Errorf("the error is %v", err)
	}
	if e, ok := errors.AsType[Exited](s.Err()); !ok || e != 3 {
		t.Errorf("it ended with %v", s.Err())
	}
}

// A server that does not read holds up nobody who does not ask it.
func TestServerDoesNotRead(t *testing.T) {
	conn, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		in := bufio.NewReader(theirs)
		var number uint32
		for {
			f, err := guest.Read(in, guest.MaxCall)
			if err != nil {
				return
			}
			if f.Type == guest.Open {
				number = f.Call
			}
			if bytes.Contains(f.Body, []byte(`"initialize"`)) {
				go guest.Write(theirs, guest.Frame{Type: guest.Stdout, Call: number, Body: []byte(`{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}` + "\n")})
			}
		}
	}()
	s, err := Open(context.Background(), conn, conn, options())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	params, _ := json.Marshal(map[string]string{"x": strings.Repeat("y", 2*guest.Window)})
	var all sync.WaitGroup
	for range 3 * maxPending {
		all.Go(func() {
			_, err := s.Call(ctx, Request{Method: "x", Params: params})
			if k := casemate.KindOf(err); !errors.Is(err, context.DeadlineExceeded) && k != casemate.Busy {
				t.Errorf("the error is %v", err)
			}
		})
	}
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) != 0 || s.window < 0 {
		t.Errorf("%d requests are left, the window is %d", len(s.pending), s.window)
	}
}

func TestStatelessInputsAndSubscriptions(t *testing.T) {
	o := options()
	o.Run.Elicitation = true
	o.Version = Stateless
	o.Capabilities = []byte(`{"elicitation":{"form":{},"url":{}},"sampling":{}}`)
	listening := make(chan said, 4)
	s, p := opened(t, o, func(p *peer, m said) {
		switch m.Method {
		case "server/discover":
			p.print(`{"jsonrpc":"2.0","id":%s,"result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n","version":"1"}}}}`, m.ID)
		case "subscriptions/listen":
			listening <- m
		case "tools/call":
			switch {
			case !strings.Contains(string(m.Params), "inputResponses"):
				p.print(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"input_required","inputRequests":{"q":{"method":"elicitation/create","params":{"message":"Which?","requestedSchema":{"type":"object","properties":{"a":{"type":"string"}}}}}},"requestState":"st"}}`, m.ID)
			default:
				p.print(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","content":[],"x":%s}}`, m.ID, m.Params)
			}
		case "notifications/cancelled":
			listening <- m
		}
	})
	if got := string(s.Initialized()); got != `{"protocolVersion":"2026-07-28","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"n","version":"1"}}` {
		t.Errorf("as initialize answers: %s", got)
	}
	if m := <-listening; !strings.Contains(string(m.Params), `"notifications":{"toolsListChanged":true}`) {
		t.Errorf("it listens to %s", m.Params)
	}
	c := &asked{caps: `{"elicitation":{"form":{},"url":{}}}`, answer: `{"action":"accept"}`}
	result, err := s.Call(context.Background(), Request{Method: "tools/call", Params: []byte(`{"name":"t"}`), Client: c})
	if err != nil || !strings.Contains(string(result), `"inputResponses":{"q":{"action":"accept"}},"requestState":"st"`) {
		t.Errorf("%s %v", result, err)
	}
	if !strings.Contains(string(result), `"io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}}}`) {
		t.Errorf("the server was sent %s", result)
	}
	if len(c.heard) != 1 || !strings.Contains(c.heard[0], "[srv] Which?") {
		t.Errorf("the client was asked %s", c.heard)
	}
	if _, err := s.Call(context.Background(), Request{Method: "resources/subscribe", Params: []byte(`{"uri":"x://1"}`)}); err != nil {
		t.Fatal(err)
	}
	if m := <-listening; !strings.Contains(string(m.Params), `"resourceSubscriptions":["x://1"]`) {
		t.Errorf("it listens to %s", m.Params)
	}
	if got := s.State().Subscriptions; len(got) != 1 || got[0] != "x://1" {
		t.Errorf("subscriptions %s", got)
	}
	if _, err := s.Call(context.Background(), Request{Method: "resources/unsubscribe", Params: []byte(`{"uri":"x://1"}`)}); err != nil {
		t.Fatal(err)
	}
	if m := <-listening; m.Method != "notifications/cancelled" {
		t.Errorf("it was sent %s", m.Method)
	}
	_ = p
}

type asked struct {
	caps, answer string
	err          error
	mu           sync.Mutex
	heard        []string
}

func (a *asked) Capabilities() json.RawMessage { return []byte(a.caps) }
func (a *asked) Ask(_ context.Context, server, method string, params json.RawMessage) (json.RawMessage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = append(a.heard, server+" "+method+" "+string(params))
	return []byte(a.answer), a.err
}
func (a *asked) Notify(string, string, json.RawMessage) {}

// A server asks more at once than it may, with ids that are none, and gets an
// answer of one line to each that has one.
func TestAskedTooMuch(t *testing.T) {
	block := make(chan struct{})
	c := &blocking{asked{caps: `{"sampling":{}}`, answer: "{\n}"}, block}
	o := options()
	o.Run.Sampling = true
	answers := make(chan string, 64)
	s, _ := opened(t, o, func(p *peer, m said) {
		if m.Method == "" {
			answers <- string(m.ID)
			return
		}
		if polite(p, m) {
			return
		}
		for i := range maxAsking + 3 {
			p.print(`{"jsonrpc":"2.0","id":"s%d","method":"sampling/createMessage","params":{}}`, i)
		}
		p.print(`{"jsonrpc":"2.0","id":{},"method":"ping"}`)
		p.print(`{"jsonrpc":"2.0","id":1.5,"method":"ping"}`)
		for range 4 { // three that were too many, and the ping
			<-answers
		}
		close(block)
		for range maxAsking {
			<-answers
		}
		p.print(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
	})
	if _, err := s.Call(context.Background(), Request{Method: "x", Client: c}); err != nil {
		t.Error(err)
	}
	if len(c.heard) != maxAsking {
		t.Errorf("the client was asked %d times", len(c.heard))
	}
}

type blocking struct {
	asked
	block chan struct{}
}

func (b *blocking) Ask(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error) {
	r, err := b.asked.Ask(ctx, server, method, params)
	<-b.block
	return r, err
}
