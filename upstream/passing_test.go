package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casemate/casemate/internal/guest"
)

func large(mib int) string {
	return `{"content":[{"type":"text","text":"` + strings.Repeat("x\\u00e9é ", mib<<20/10) + `"}],"isError":false}`
}

func largeOptions() Options {
	o := options()
	o.Output = 8 << 20
	return o
}

// passed calls and keeps the parts that come.
func passed(ctx context.Context, s *Server, each func()) (string, json.RawMessage, error) {
	var parts bytes.Buffer
	raw, err := s.Call(ctx, Request{Method: "tools/call", Params: json.RawMessage(`{"name":"t"}`), Part: func(b []byte) error {
		parts.Write(b)
		if each != nil {
			each()
		}
		return nil
	}})
	return parts.String(), raw, err
}

// A long result comes in parts, to the byte, wherever the id stands.
func TestPassing(t *testing.T) {
	result := large(3)
	for name, line := range map[string]func(id string) string{
		"id first": func(id string) string { return `{"jsonrpc":"2.0","id":` + id + `,"result":` + result + `}` },
		"id last":  func(id string) string { return ` {"result" : ` + result + ` , "jsonrpc":"2.0","id":` + id + "}\r" },
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := opened(t, largeOptions(), func(p *peer, m said) {
				if !polite(p, m) {
					p.print("%s", line(string(m.ID)))
					p.print(`{"jsonrpc":"2.0","method":"notifications/message","params":{}}`) // the next line is read as one
				}
			})
			for range 2 {
				got, raw, err := passed(t.Context(), s, nil)
				if err != nil || raw != nil || got != result {
					t.Errorf("%d bytes, %d more, %v", len(got), len(raw), err)
				}
			}
			// Who takes no parts gets it whole.
			raw, err := s.Call(t.Context(), Request{Method: "tools/call", Params: json.RawMessage(`{"name":"t"}`)})
			if err != nil || string(raw) != result {
				t.Errorf("%d bytes, %v", len(raw), err)
			}
		})
	}
}

// Short results come whole.
func TestPassingShort(t *testing.T) {
	s, _ := opened(t, largeOptions(), func(p *peer, m said) {
		if !polite(p, m) {
			p.print(`{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}`, m.ID)
		}
	})
	if got, raw, err := passed(t.Context(), s, nil); err != nil || got != "" || string(raw) != `{"content":[]}` {
		t.Errorf("%q %q %v", got, raw, err)
	}
}

// What goes wrong in the middle ends the call alone, where the server lives.
func TestPassingFails(t *testing.T) {
	half := large(3)[:2<<20]
	head := func(m said) string { return `{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":` }
	for name, c := range map[string]struct {
		answer func(p *peer, m said)
		want   error
		gone   bool
	}{
		"malformed":       {answer: func(p *peer, m said) { p.print("%s%s\x00%s", head(m), half, half) }, want: errUnlike},
		"cut short":       {answer: func(p *peer, m said) { p.print("%s%s", head(m), half) }, want: errUnlike},
		"more behind it":  {answer: func(p *peer, m said) { p.print("%s%s} {}", head(m), large(2)) }, want: errUnlike},
		"another version": {answer: func(p *peer, m said) { p.print(`{"id":%s,"result":%s,"jsonrpc":"1.0"}`, m.ID, large(2)) }, want: errUnlike},
		"an error too":    {answer: func(p *peer, m said) { p.print("%s%s,\"error\":{}}", head(m), large(2)) }, want: errUnlike},
		"two results":     {answer: func(p *peer, m said) { p.print("%s%s,\"result\":{}}", head(m), large(2)) }, want: errUnlike},
		"two ids":         {answer: func(p *peer, m said) { p.print("%s%s,\"id\":7}", head(m), large(2)) }, want: errUnlike},
		"another id":      {answer: func(p *peer, m said) { p.print(`{"result":%s,"jsonrpc":"2.0","id":1%s}`, large(2), m.ID) }, want: errUnlike},
		"over the limit":  {answer: func(p *peer, m said) { p.print("%s%s}", head(m), large(12)) }, want: ErrOutput},
		"dies": {answer: func(p *peer, m said) {
			for i, all := 0, head(m)+half; i < len(all); i += chunk {
				p.frame(guest.Stdout, []byte(all[i:min(len(all), i+chunk)]))
			}
			p.done(1)
		}, want: ErrGone, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			bad := true
			var one sync.Mutex // line at a time
			s, _ := opened(t, largeOptions(), func(p *peer, m said) {
				one.Lock()
				defer one.Unlock()
				switch {
				case polite(p, m):
				case bad:
					c.answer(p, m)
				default:
					p.print(`{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}`, m.ID)
				}
			})
			got, raw, err := passed(t.Context(), s, nil)
			if !errors.Is(err, c.want) || raw != nil || len(got) < passFrom/2 || int64(len(got)) > s.o.Output+overhead {
				t.Errorf("%d bytes passed, %v", len(got), err)
			}
			bad = false
			if _, _, err := passed(t.Context(), s, nil); (err != nil) != c.gone {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

// A caller that leaves in the middle, or fails, gets no more; the rest of the
// line is dropped, and the server goes on.
func TestPassingLeft(t *testing.T) {
	fault := errors.New("a fault")
	for _, failing := range []bool{false, true} {
		more := make(chan struct{})
		told := make(chan struct{}, 1)
		var one sync.Mutex // line at a time
		s, _ := opened(t, largeOptions(), func(p *peer, m said) {
			switch {
			case m.Method == "notifications/cancelled":
				told <- struct{}{}
			case polite(p, m):
			default:
				one.Lock()
				defer one.Unlock()
				all := []byte(`{"result":` + large(4) + `,"jsonrpc":"2.0","id":` + string(m.ID) + "}\n")
				for i := 0; i < len(all); i += 64 << 10 {
					if i > 2<<20 {
						<-more
					}
					p.frame(guest.Stdout, all[i:min(len(all), i+64<<10)])
				}
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_, err := s.Call(ctx, Request{Method: "tools/call", Params: json.RawMessage(`{}`), Part: func(b []byte) error {
			if n++; failing {
				return fault
			}
			cancel()
			return nil
		}})
		if want := map[bool]error{false: context.Canceled, true: fault}[failing]; !errors.Is(err, want) {
			t.Error(err)
		}
		select {
		case <-told:
		case <-time.After(time.Minute):
			t.Error("the server was not told")
		}
		close(more)
		seen := n
		if got, raw, err := passed(t.Context(), s, nil); err != nil || got+string(raw) != large(4) {
			t.Errorf("the next: %d+%d bytes, %v", len(got), len(raw), err)
		}
		if n != seen {
			t.Error("it got more")
		}
		cancel()
	}
}

// Where the id stands behind the result, and it can be the answer to several
// requests, it is read whole: no part of it goes to the wrong one.
func TestPassingUncertain(t *testing.T) {
	both := make(chan struct{})
	s, _ := opened(t, largeOptions(), func(p *peer, m said) {
		switch {
		case m.Method == "notifications/cancelled":
			close(both)
		case polite(p, m):
		case string(m.ID) == "3":
			<-both
			for _, id := range []string{"2", "3"} {
				p.print(`{"result":{"of":%s,"text":%q},"jsonrpc":"2.0","id":%s}`, id, strings.Repeat("x", 2<<20), id)
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		passed(ctx, s, nil)
	}()
	for { // until the server has it
		s.mu.Lock()
		n := len(s.pending)
		s.mu.Unlock()
		if n > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		got, raw, err := passed(t.Context(), s, nil)
		if err != nil || !strings.HasPrefix(got+string(raw), `{"of":3,`) {
			t.Errorf("%.60q, %.60q, %v", got, raw, err)
		}
	}()
	for {
		s.mu.Lock()
		n := len(s.pending)
		s.mu.Unlock()
		if n == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-ended
	<-answered
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unanswered) > 0 {
		t.Error("it waits for ever for what came")
	}
}
