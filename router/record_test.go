package router

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/casemate/casemate"
)

// A told recorder appends when it is waited for, or when the next is told.
type told struct{ *kept }

func (k told) Post(r casemate.Receipt) (func() error, error) {
	err := k.Record(r)
	return func() error { return err }, nil
}

// An outcome that could not be appended behind its answer holds up the calls
// after it, and is appended as soon as it can be.
func TestOwedOutcomes(t *testing.T) {
	k := told{&kept{}}
	w := newWorld(t, Config{Recorder: k}, append(mcp("good"), a("good"))...)
	w.must("good", "", "print 1")

	k.refuse = "outcome"
	o := w.code("good", "", "print 2")
	if o.Error != nil || textOf(o) != "2\n" {
		t.Fatalf("%+v", o.Error)
	}
	started := w.b.count()
	refused := w.code("good", "", "print 3")
	wants(t, refused, casemate.Internal, "disk full", string(o.Call), "does not run")
	wants(t, w.do(t.Context(), casemate.Call{Tool: "get", Session: w.NewSession()}, `{}`), casemate.Internal, "does not run")
	if w.b.count() != started {
		t.Error("a call ran while the outcome of another was owed")
	}
	k.mu.Lock()
	k.refuse = ""
	k.mu.Unlock()
	w.must("good", "", "print 4")
	if rs := k.of(o.Call); len(rs) != 2 || rs[1].Event != "outcome" || rs[1].Output == "" {
		t.Errorf("%+v", rs)
	}

	k.refuse = "intent"
	started = w.b.count()
	wants(t, w.code("good", "", "print 1"), casemate.Internal, "does not run")
	if w.b.count() != started {
		t.Error("a call whose intent was not appended ran")
	}
}

// Whoever waits for what is owed learns that it cannot be appended, also where
// somebody else is waiting for it already.
func TestOwedOutcomesAreWaitedForByAll(t *testing.T) {
	k := told{&kept{refuse: "outcome"}}
	w := newWorld(t, Config{Recorder: k})
	waits, open := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.owe(&posted{Receipt: casemate.Receipt{Event: "outcome", Call: "c_owed"}, appended: func() error {
		once.Do(func() { close(waits); <-open })
		return errors.New("the spawner ended")
	}})
	results := make(chan error, 2)
	go func() { results <- w.settle(1) }()
	<-waits
	go func() { results <- w.settle(1) }()
	for range 100 {
		runtime.Gosched() // to where it would leave without waiting
	}
	close(open)
	for range 2 {
		if <-results == nil {
			t.Error("an outcome that is not appended held nobody up")
		}
	}
	k.mu.Lock()
	k.refuse = ""
	k.mu.Unlock()
}

// A gated backend ends its guests when the gate opens.
type gated struct {
	*bare
	arrived, open chan struct{}
}

type gatedSandbox struct {
	casemate.Sandbox
	g *gated
}

func (g *gated) Start(ctx context.Context, s casemate.Spec) (casemate.Sandbox, error) {
	sb, err := g.bare.Start(ctx, s)
	return gatedSandbox{sb, g}, err
}

func (s gatedSandbox) Close() error {
	s.g.arrived <- struct{}{}
	<-s.g.open
	return s.Sandbox.Close()
}

// A guest that is done ends behind the answer of its call, and the record says
// what it used.
func TestEndsBehindItsAnswer(t *testing.T) {
	gate := &gated{bare: newBare(t), arrived: make(chan struct{}, 2*maxEnding), open: make(chan struct{})}
	w := newWorld(t, Config{Backends: []casemate.Backend{gate}, Concurrency: 2 * maxEnding, PerTool: 2 * maxEnding}, a("good"))
	call := func(ctx context.Context) *casemate.Outcome {
		return w.Call(ctx, casemate.Call{Tool: "good", Arguments: []byte(`{"code":"print 1"}`)})
	}
	var all []*casemate.Outcome
	for range maxEnding {
		o := call(t.Context())
		if o.Error != nil || textOf(o) != "1\n" {
			t.Fatalf("%+v", o.Error)
		}
		all = append(all, o)
	}
	over := make(chan *casemate.Outcome)
	go func() { over <- call(context.Background()) }()
	for range maxEnding + 1 { // it waits for the end of its own guest
		<-gate.arrived
	}
	select {
	case <-over:
		t.Error("more guests than allowed end behind their answers")
	default:
	}
	close(gate.open)
	all = append(all, <-over)
	w.owned.Wait()
	for _, o := range all {
		rs := w.k.of(o.Call)
		if len(rs) != 2 || rs[1].Event != "outcome" || rs[1].Usage.CPUMS <= 0 || rs[1].Output == "" {
			t.Fatalf("%+v", rs)
		}
	}
}
