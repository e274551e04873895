package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casemate/casemate"
)

// shell is a tool whose guest is the real runner.
func shell(change ...func(*casemate.Tool)) *casemate.Tool {
	t := &casemate.Tool{Name: "sh", Parameters: []byte(`{"type":"object","properties":{"command":{"type":"string"}},"required":["command"]}`),
		Run: casemate.Run{Shell: &casemate.Shell{}}, Security: casemate.Profile{Timeout: 20 * time.Second, Output: 64 << 10}}
	for _, c := range change {
		c(t)
	}
	return t
}

// sink keeps what a command prints.
type sink struct {
	mu   sync.Mutex
	out  [3]bytes.Buffer
	more chan struct{}
}

func (s *sink) take(stream int, b []byte) error {
	s.mu.Lock()
	s.out[stream].Write(b)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return nil
}

func (s *sink) text(stream int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out[stream].String()
}

// until waits until stream 1 holds a text.
func (s *sink) until(t testing.TB, text string) {
	t.Helper()
	for end := time.After(20 * time.Second); !strings.Contains(s.text(1), text); {
		select {
		case <-s.more:
		case <-end:
			t.Fatalf("it printed %q, not %q", s.text(1), text)
		}
	}
}

func (w *world) sh(c casemate.Call, command string) (*casemate.Outcome, *sink) {
	s := &sink{more: make(chan struct{}, 1)}
	c.Tool, c.Output = "sh", s.take
	args, _ := encode(map[string]any{"command": command})
	return w.do(context.Background(), c, string(args)), s
}

func code(o *casemate.Outcome) int {
	if o.Result == nil || o.Result.ExitCode == nil {
		return -1
	}
	return *o.Result.ExitCode
}

func TestStream(t *testing.T) {
	w := newWorld(t, Config{}, shell())
	o, out := w.sh(casemate.Call{Stdin: strings.NewReader("in")}, "cat; echo err >&2; exit 7")
	if o.Error != nil || code(o) != 7 || !o.Result.IsError || out.text(1) != "in" || out.text(2) != "err\n" || textOf(o) != "" {
		t.Errorf("%+v %+v %q %q", o.Error, o.Result, out.text(1), out.text(2))
	}
	if o, out = w.sh(casemate.Call{}, "cat; echo end"); code(o) != 0 || out.text(1) != "end\n" {
		t.Errorf("without standard input: %+v %q", o.Error, out.text(1))
	}
	const much = 3 << 20 // windows, and more than the output limit
	o, out = w.sh(casemate.Call{Stdin: strings.NewReader(strings.Repeat("0123456789abcde\n", much/16))}, "cat")
	if o.Error != nil || code(o) != 0 || out.text(1) != strings.Repeat("0123456789abcde\n", much/16) {
		t.Errorf("%+v: %d bytes came back", o.Error, len(out.text(1)))
	}
	if o, _ = w.sh(casemate.Call{Timeout: 200 * time.Millisecond}, "sleep 60"); code(o) != 124 {
		t.Errorf("%+v", o.Result)
	}
	wants(t, o, casemate.Timeout, "200ms")
	if o, _ = w.sh(casemate.Call{}, "/no/such/program"); code(o) != 127 || o.Error != nil {
		t.Errorf("%+v %+v", o.Error, o.Result)
	}
	// Without a stream, an exit status is a failure, and is there.
	o = w.do(context.Background(), casemate.Call{Tool: "sh"}, `{"command":"exit 3"}`)
	wants(t, o, casemate.ToolFailed, "exit status 3")
	if code(o) != 3 {
		t.Errorf("%+v", o.Result)
	}
}

func TestStreamEvents(t *testing.T) {
	w := newWorld(t, Config{}, shell())
	events := make(chan casemate.Event, 4)
	s := &sink{more: make(chan struct{}, 1)}
	in, feed := io.Pipe()
	defer feed.Close()
	var all sync.WaitGroup
	all.Go(func() {
		o := w.do(context.Background(), casemate.Call{Tool: "sh", Output: s.take, Stdin: in, Events: events}, `{"command":"trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.05; done"}`)
		if o.Error != nil || code(o) != 5 || !strings.Contains(s.text(1), "got") {
			t.Errorf("%+v %+v %q", o.Error, o.Result, s.text(1))
		}
	})
	s.until(t, "ready")
	events <- casemate.Event{Signal: 10}
	all.Wait()
	s = &sink{more: make(chan struct{}, 1)}
	all.Go(func() {
		o := w.do(context.Background(), casemate.Call{Tool: "sh", Output: s.take, Events: events, Terminal: casemate.Size{Columns: 70, Rows: 20}},
			`{"command":"stty size; until stty size | grep '33 99'; do sleep 0.05; done"}`)
		if o.Error != nil || code(o) != 0 {
			t.Errorf("%+v %q", o.Error, s.text(1))
		}
	})
	s.until(t, "20 70")
	events <- casemate.Event{Size: casemate.Size{Columns: 99, Rows: 33}}
	all.Wait()
	s.until(t, "33 99")
}

// The caller's end fails, or the caller leaves.
func TestStreamCallerFails(t *testing.T) {
	w := newWorld(t, Config{}, shell())
	broken := errors.New("broken pipe")
	o := w.do(context.Background(), casemate.Call{Tool: "sh", Output: func(int, []byte) error { return broken }}, `{"command":"while echo y; do :; done"}`)
	wants(t, o, casemate.Cancelled, "broken pipe")
	o, _ = w.sh(casemate.Call{Stdin: failing{broken}}, "cat; sleep 60")
	wants(t, o, casemate.Cancelled, "broken pipe")
	if n := w.b.alive(); n != 0 {
		t.Errorf("%d guests are alive", n)
	}
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

func TestStreamIsForCommands(t *testing.T) {
	w := newWorld(t, Config{}, append(mcp("good"), a("good"), shell())...)
	s := w.NewSession()
	for _, c := range []casemate.Call{
		{Tool: "good", Stdin: strings.NewReader("")}, {Tool: "good", Events: make(chan casemate.Event)}, {Tool: "good", Terminal: casemate.Size{Columns: 1, Rows: 1}},
		{Tool: "echo", Stdin: strings.NewReader("")}, {Tool: "echo", Output: func(int, []byte) error { return nil }},
		{Tool: "echo", Session: s, Files: &casemate.FileRequest{Op: "list", Path: "/"}},
		{Tool: "sh", Session: s, Files: &casemate.FileRequest{Op: "list", Path: "/"}}, // its guest is a call's
	} {
		wants(t, w.do(context.Background(), c, `{"code":""}`), casemate.Invalid)
	}
	if n := w.b.count(); n != 0 {
		t.Errorf("%d guests were started", n)
	}
	// An interpreter prints as it goes.
	out := &sink{more: make(chan struct{}, 1)}
	o := w.do(context.Background(), casemate.Call{Tool: "good", Output: out.take}, `{"code":"print a\ncomplain b\nvalue c"}`)
	if o.Error != nil || out.text(1) != "a\n" || out.text(2) != "b" || textOf(o) != "c" {
		t.Errorf("%+v %q", o.Error, textOf(o))
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, Config{}, shell(inSession))
	s := w.NewSession()
	files := func(q casemate.FileRequest) *casemate.Outcome {
		return w.do(context.Background(), casemate.Call{Tool: "sh", Session: s, Files: &q}, `{}`)
	}
	big := strings.Repeat("0123456789abcde\n", 1<<16)
	path := filepath.Join(dir, "a", "b.txt")
	if o := files(casemate.FileRequest{Op: "write", Path: path, Data: strings.NewReader(big)}); o.Error != nil || o.Receipt == "" {
		t.Fatalf("%+v", o)
	}
	if b, _ := os.ReadFile(path); string(b) != big {
		t.Errorf("%d bytes were written", len(b))
	}
	var got bytes.Buffer
	if o := files(casemate.FileRequest{Op: "read", Path: path, To: &got}); o.Error != nil || got.String() != big || textOf(o) != "" {
		t.Errorf("%+v: %d bytes were read", o.Error, got.Len())
	}
	o := files(casemate.FileRequest{Op: "list", Path: dir})
	var listed struct{ Entries []fileEntry }
	if o.Error != nil || json.Unmarshal(o.Result.Structured, &listed) != nil || len(listed.Entries) != 1 || listed.Entries[0].Name != "a" || listed.Entries[0].Kind != "folder" || textOf(o) != "" {
		t.Errorf("%+v %s", o.Error, o.Result.Structured)
	}
	o = files(casemate.FileRequest{Op: "stat", Path: path})
	if o.Error != nil || json.Unmarshal(o.Result.Structured, &listed) != nil || listed.Entries[0].Size != int64(len(big)) || listed.Entries[0].Modified.IsZero() {
		t.Errorf("%+v %s", o.Error, o.Result.Structured)
	}
	wants(t, files(casemate.FileRequest{Op: "read", Path: dir + "/none", To: &got}), casemate.ToolFailed, "sh: file_not_found: ")
	wants(t, files(casemate.FileRequest{Op: "read", Path: dir, To: &got}), casemate.ToolFailed, "is_directory")
	wants(t, files(casemate.FileRequest{Op: "chmod", Path: dir}), casemate.Invalid, "chmod")
	wants(t, files(casemate.FileRequest{Op: "read", Path: path}), casemate.Invalid, "place")
	if o := files(casemate.FileRequest{Op: "remove", Path: path}); o.Error != nil {
		t.Error(o.Error)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("it is still there")
	}
	if got := w.do(context.Background(), casemate.Call{Tool: "sh", Session: s}, `{"command":"echo on"}`); textOf(got) != "on\n" {
		t.Errorf("%+v", got.Error)
	}
	if n := w.b.count(); n != 1 {
		t.Errorf("%d guests were started", n)
	}
}
