package router

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/pool"
)

// line is a recorder that encodes as the record file does.
type line struct {
	mu sync.Mutex
	b  []byte
}

func (l *line) Record(r casemate.Receipt) error {
	b, err := json.Marshal(r)
	l.mu.Lock()
	l.b = append(l.b[:0], b...)
	l.mu.Unlock()
	return err
}

// BenchmarkDecideAndRecord is the router's own work for a call: look up,
// decode, check, decide, record the intent and the outcome. It must stay
// under 150 µs.
func BenchmarkDecideAndRecord(b *testing.B) {
	r, err := New(Config{Recorder: &line{}, Pool: pool.Limits{Max: -1}, Backends: []casemate.Backend{echo{}}, Tools: []*casemate.Tool{a("good", func(t *casemate.Tool) { t.Security.Rate.PerMinute = 1 << 40 })}})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Shutdown(context.Background())
	args := []byte(`{"code":"import json\nprint(json.dumps({'a': [1, 2, 3], 'b': 'some text that is a bit longer'}))\n"}`)
	for b.Loop() {
		k := &call{Call: casemate.Call{ID: casemate.CallID(newID("c_")), Tool: "good", Arguments: args}, r: r, out: &casemate.Outcome{}}
		k.cancel = func(error) {}
		if err := r.enter(k); err != nil {
			b.Fatal(err)
		}
		var err error
		if k.tool, err = r.lookup(k.Tool, false); err != nil {
			b.Fatal(err)
		}
		if k.pairs, err = k.tool.prepare(casemate.Call{Arguments: args}); err != nil {
			b.Fatal(err)
		}
		if err := k.decide(); err != nil {
			b.Fatal(err)
		}
		if err := k.intend(); err != nil {
			b.Fatal(err)
		}
		k.unbook()
		k.finish(nil)
		r.leave(k)
	}
}

// BenchmarkCall is a whole call with a guest that costs next to nothing, so
// that it is the router's work and a few switches between goroutines.
func BenchmarkCall(b *testing.B) {
	r, err := New(Config{Recorder: &line{}, Pool: pool.Limits{Max: -1}, Backends: []casemate.Backend{echo{}}, Tools: []*casemate.Tool{a("good")}})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Shutdown(context.Background())
	c := casemate.Call{Tool: "good", Arguments: []byte(`{"code":"print(1)"}`)}
	for b.Loop() {
		if o := r.Call(context.Background(), c); o.Error != nil {
			b.Fatal(o.Error)
		}
	}
}

// BenchmarkReload is 1,000 tools.
func BenchmarkReload(b *testing.B) {
	var tools []*casemate.Tool
	for i := range 1000 {
		tools = append(tools, a("good", called(casemate.ToolName("t"+string(rune('a'+i%26))+newID("")))))
	}
	for b.Loop() {
		r, err := New(Config{Recorder: &line{}, Pool: pool.Limits{Max: -1}, Backends: []casemate.Backend{echo{}}, Tools: tools})
		if err != nil {
			b.Fatal(err)
		}
		r.Shutdown(context.Background())
	}
}

// echo is a backend of the benchmarks: its guest is a goroutine on a pipe.
type echo struct{}

func (echo) Name() string { return "echo" }
func (echo) Probe(context.Context) (casemate.Capabilities, error) {
	return casemate.Capabilities{Name: "echo", Available: true, Assurance: casemate.Weak}, nil
}

func (echo) Start(context.Context, casemate.Spec) (casemate.Sandbox, error) {
	near, far := net.Pipe()
	go func() {
		guest.Write(far, guest.Frame{Type: guest.Ready, Body: guest.AppendPairs(nil, []guest.Pair{{Key: "version", Value: "1"}})})
		f, err := guest.Read(far, guest.MaxCall)
		if err != nil {
			return
		}
		guest.Write(far, guest.Frame{Type: guest.Stdout, Call: f.Call, Body: []byte("1\n")})
		guest.Write(far, guest.Frame{Type: guest.Done, Call: f.Call, Body: binary.BigEndian.AppendUint32(nil, 0)})
	}()
	return echoed{near}, nil
}

type echoed struct{ c net.Conn }

func (e echoed) Guest() io.ReadWriteCloser                   { return e.c }
func (e echoed) Enforced() casemate.Enforced                 { return casemate.Enforced{} }
func (e echoed) Close() error                                { return e.c.Close() }
func (e echoed) Wait(context.Context) (casemate.Exit, error) { return casemate.Exit{}, nil }

// BenchmarkMCP is a call of a tool of a server that runs, behind the real
// runner and without walls.
func BenchmarkMCP(b *testing.B) {
	tools := mcp("good")
	w := newWorld(b, Config{}, tools...)
	s := w.NewSession()
	w.ok(s, "get", `{}`)
	for b.Loop() {
		w.ok(s, "get", `{}`)
	}
}

// BenchmarkMCPResult is a call whose result is long.
func BenchmarkMCPResult(b *testing.B) {
	w := newWorld(b, Config{}, mcp("good", func(t *casemate.Tool) { t.Security.Output = 128 << 20 })...)
	s := w.NewSession()
	w.ok(s, "get", `{}`)
	b.ReportAllocs()
	for b.Loop() {
		if o := w.do(context.Background(), casemate.Call{Tool: "big", Session: s}, `{"n":33554432}`); o.Error != nil || len(o.Result.Raw) < 32<<20 {
			b.Fatal(o.Error)
		}
	}
}
