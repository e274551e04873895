package router

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/casemate/casemate"
)

// byKey calls a tool with a key.
func (w *world) byKey(ctx context.Context, s casemate.SessionID, key, args string) *casemate.Outcome {
	return w.do(ctx, casemate.Call{Tool: "good", Session: s, Key: key}, args)
}

func TestKeyRunsOnce(t *testing.T) {
	w := newWorld(t, Config{}, a("good", inSession))
	s, other := w.NewSession(), w.NewSession()
	ctx := context.Background()
	first := w.byKey(ctx, s, "k1", `{"code":"set x 1\npid"}`)
	if first.Error != nil {
		t.Fatal(first.Error)
	}
	w.must("good", s, "set x 2")
	again := w.byKey(ctx, s, "k1", ` {"code" : "set x 1\npid"} `)
	if again.Error != nil || again.Call != first.Call || again.Receipt != first.Receipt || textOf(again) != textOf(first) {
		t.Errorf("the second time: %+v", again)
	}
	if got := w.must("good", s, "get x"); got != "<2>" {
		t.Errorf("it ran twice: %q", got)
	}
	rcs := w.k.of(first.Call)
	if len(rcs) != 2 || !strings.HasPrefix(string(rcs[0].Key), "sha256:") || rcs[0].Key != rcs[1].Key || strings.Contains(string(rcs[0].Key), "k1") {
		t.Errorf("receipts %+v", rcs)
	}
	wants(t, w.byKey(ctx, s, "k1", `{"code":"pid"}`), casemate.Conflict, "other arguments")
	wants(t, w.do(ctx, casemate.Call{Tool: "other", Session: s, Key: "k1"}, `{"code":"set x 1\npid"}`), casemate.Conflict)
	if o := w.byKey(ctx, other, "k1", `{"code":"set x 1\npid"}`); o.Error != nil || o.Call == first.Call {
		t.Errorf("a key is another session's, too: %+v", o)
	}
	wants(t, w.byKey(ctx, "", "k1", `{"code":"pid"}`), casemate.Invalid, "names none")
	wants(t, w.byKey(ctx, s, strings.Repeat("k", 1000), `{"code":"pid"}`), casemate.Invalid, "longer than")
	// What did not run may be tried again with its key.
	wants(t, w.byKey(ctx, s, "k2", `{"cod":"pid"}`), casemate.Invalid)
	if o := w.byKey(ctx, s, "k2", `{"code":"print x"}`); o.Error != nil || textOf(o) != "x\n" {
		t.Errorf("%+v", o.Error)
	}
	// What failed is what came of it.
	failed := w.byKey(ctx, s, "k3", `{"code":"fail once"}`)
	wants(t, failed, casemate.ToolFailed, "once")
	if o := w.byKey(ctx, s, "k3", `{"code":"fail once"}`); o.Call != failed.Call {
		t.Errorf("%+v", o)
	}
	w.EndSession(s)
	wants(t, w.byKey(ctx, s, "k1", `{"code":"set x 1\npid"}`), casemate.Gone)
}

func TestKeyIsJoined(t *testing.T) {
	w := newWorld(t, Config{}, a("good", inSession))
	s := w.NewSession()
	begun := make(chan struct{}, 1)
	call := casemate.Call{Tool: "good", Session: s, Key: "k", Output: func(int, []byte) error { begun <- struct{}{}; return nil }}
	ctx, leave := context.WithCancel(context.Background())
	var all sync.WaitGroup
	outs := make([]*casemate.Outcome, 4)
	const code = `{"code":"print x\nsleep 300ms\npid"}`
	all.Go(func() { outs[0] = w.do(ctx, call, code) })
	<-begun
	for i := range 3 {
		all.Go(func() { outs[i+1] = w.byKey(context.Background(), s, "k", code) })
	}
	w.joined(s, "k", 4)
	leave() // the others still wait for it
	all.Wait()
	wants(t, outs[0], casemate.Cancelled)
	for _, o := range outs[1:] {
		if o.Error != nil || o.Call != outs[1].Call {
			t.Errorf("%+v", o)
		}
	}
	// When the last has left, it is cancelled, and that is what became of it.
	ctx, leave = context.WithCancel(context.Background())
	call.Key = "k2"
	all.Go(func() { outs[0] = w.do(ctx, call, `{"code":"print x\nsleep 1m"}`) })
	<-begun
	leave()
	all.Wait()
	wants(t, outs[0], casemate.Cancelled)
	if o := w.byKey(context.Background(), s, "k2", `{"code":"print x\nsleep 1m"}`); o.Error == nil || o.Error.Kind != casemate.Cancelled || o.Call != outs[0].Call {
		t.Errorf("%+v", o)
	}
}

// joined waits until n callers wait for the call of a key.
func (w *world) joined(s casemate.SessionID, key string, n int) {
	for {
		w.mu.Lock()
		e := w.sessions[s].keys[keyOf(s, key)]
		ok := e != nil && e.waiting == n
		w.mu.Unlock()
		if ok {
			return
		}
	}
}

// What is kept is bounded; a key that is kept no more never runs again.
func TestKeysAreBounded(t *testing.T) {
	w := newWorld(t, Config{}, a("good", inSession, func(t *casemate.Tool) { t.Security.Output = 16 << 20 }))
	s := w.NewSession()
	ctx := context.Background()
	big := func(i int) *casemate.Outcome {
		return w.byKey(ctx, s, fmt.Sprint("k", i), fmt.Sprintf(`{"code":"repeat %d"}`, 12<<20))
	}
	for i := range 7 {
		if o := big(i); o.Error != nil || len(textOf(o)) != 12<<20 {
			t.Fatalf("%+v", o.Error)
		}
	}
	wants(t, big(0), casemate.Unknown, "kept no more")
	if o := big(6); o.Error != nil {
		t.Error(o.Error)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keyedBytes > maxKeyed || w.remembered != 7 {
		t.Errorf("%d bytes of %d keys", w.keyedBytes, w.remembered)
	}
}
