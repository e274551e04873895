package router

import (
	"context"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/casemate/casemate"
)

// granted is bare, and knows what each of its sandboxes was granted. Where it
// narrows, one that is there can be given less.
type granted struct {
	*bare
	mu      sync.Mutex
	grants  map[*bareSandbox][]casemate.Grant
	narrows bool
}

func (b *granted) Start(ctx context.Context, s casemate.Spec) (casemate.Sandbox, error) {
	sb, err := b.bare.Start(ctx, s)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grants[sb.(*bareSandbox)] = []casemate.Grant{s.Grant}
	return &late{sb.(*bareSandbox), b}, nil
}

type late struct {
	*bareSandbox
	b *granted
}

func (l *late) Narrow(_ context.Context, g casemate.Grant) error {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if !l.b.narrows {
		return &casemate.Error{Op: "narrow", Kind: casemate.Unsupported}
	}
	l.b.grants[l.bareSandbox] = append(l.b.grants[l.bareSandbox], g)
	return nil
}

// A call with limits is served by a sandbox that was given no more, late or from
// the start, and by no other; one without gets the whole profile.
func TestLimits(t *testing.T) {
	for _, narrows := range []bool{true, false} {
		b := &granted{bare: newBare(t), grants: map[*bareSandbox][]casemate.Grant{}, narrows: narrows}
		tool := a("good")
		tool.Security.Filesystem = []casemate.Mount{{Path: t.TempDir(), At: "/docs", Access: casemate.Read}}
		w := newWorld(t, Config{Backends: []casemate.Backend{b}}, tool)
		call := func(l casemate.Limits) *casemate.Outcome {
			return w.Call(t.Context(), casemate.Call{Tool: "good", Arguments: []byte(`{"code":"pid"}`), Limits: l})
		}
		want := casemate.Grant{Memory: 1 << 20, Processes: 3, CPU: 0.5, Disk: 4096, Without: []string{"/docs"}}
		o := call(casemate.Limits{Memory: 1 << 20, Processes: 3, CPU: 0.5, Disk: 4096, Without: []string{"/docs"}, Timeout: 2 * time.Second, Output: 1000})
		if o.Error != nil {
			t.Fatal(o.Error)
		}
		if e := o.Enforced; e.Timeout.Limit != 2000 || e.Output.Limit != 1000 || !reflect.DeepEqual(e.Without, want.Without) {
			t.Errorf("%+v", e)
		}
		var served []casemate.Grant
		b.mu.Lock()
		for sb, grants := range b.grants {
			if pidOf(sb) == textOf(o) {
				served = grants
			}
		}
		b.mu.Unlock()
		if !narrows {
			want.Tool = w.tools["good"].guest
		}
		if len(served) == 0 || !reflect.DeepEqual(served[len(served)-1], want) {
			t.Errorf("late %v: it was given %+v", narrows, served)
		}
		if o := call(casemate.Limits{}); o.Error != nil || o.Enforced.Timeout != nil {
			t.Errorf("%+v", o)
		}
		i := slices.IndexFunc(w.k.of(o.Call), func(r casemate.Receipt) bool {
			return r.Limits != nil && r.Limits.Memory == 1<<20 && r.Event == "intent"
		})
		if i < 0 {
			t.Error("no record has the limits")
		}
	}
}

func pidOf(s *bareSandbox) string { return strconv.Itoa(s.Pid()) }

// No limit is more than the profile's, and none is of a sandbox that other calls
// share; each is refused by its name, and nothing is started.
func TestLimitsRefused(t *testing.T) {
	tool := a("good")
	tool.Security.Filesystem = []casemate.Mount{{Path: t.TempDir(), At: "/docs", Access: casemate.Read}}
	w := newWorld(t, Config{}, tool, a("good", inSession, called("session")))
	p := tool.Security.WithDefaults()
	for field, l := range map[string]casemate.Limits{
		"memory": {Memory: p.Memory + 1}, "disk": {Disk: p.Disk + 1}, "output": {Output: p.Output + 1}, "cpu": {CPU: p.CPU + 0.001},
		"processes": {Processes: p.Processes + 1}, "timeout": {Timeout: p.Timeout + 1}, "without": {Without: []string{"/docs/"}},
	} {
		wants(t, w.Call(t.Context(), casemate.Call{Tool: "good", Arguments: []byte(`{"code":"pid"}`), Limits: l}), casemate.Invalid, "limits."+field)
	}
	for _, l := range []casemate.Limits{{Memory: -1}, {Processes: -1}, {Timeout: -1}, {Output: -1}, {CPU: -1}, {Disk: -1}} {
		wants(t, w.Call(t.Context(), casemate.Call{Tool: "good", Arguments: []byte(`{"code":"pid"}`), Limits: l}), casemate.Invalid, "negative")
	}
	s := w.NewSession()
	in := func(l casemate.Limits) *casemate.Outcome {
		return w.Call(t.Context(), casemate.Call{Tool: "session", Session: s, Arguments: []byte(`{"code":"print x"}`), Limits: l})
	}
	wants(t, in(casemate.Limits{Memory: 1 << 20}), casemate.Invalid, "limits.memory", "session")
	if len(w.b.starts) != 0 {
		t.Error("something was started")
	}
	if o := in(casemate.Limits{Timeout: time.Second, Output: 100}); o.Error != nil || o.Enforced.Output.Limit != 100 {
		t.Errorf("%+v", o)
	}
}

// The limits of time and output hold.
func TestLimitsHold(t *testing.T) {
	w := newWorld(t, Config{}, a("good"))
	call := func(code string, l casemate.Limits) *casemate.Outcome {
		return w.Call(t.Context(), casemate.Call{Tool: "good", Arguments: []byte(`{"code":"` + code + `"}`), Limits: l})
	}
	wants(t, call("sleep 20s", casemate.Limits{Timeout: 50 * time.Millisecond}), casemate.Timeout, "50ms")
	wants(t, call("repeat 2000", casemate.Limits{Output: 1024}), casemate.Killed, "1KiB")
}
