package router

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

// An end is a ResultStream in memory.
type end struct {
	bytes.Buffer
	isError bool
	err     error // of End
	failed  error // of Write
	each    func()
	ended   int
}

func (s *end) Write(b []byte) (int, error) {
	if s.each != nil {
		s.each()
	}
	if s.failed != nil {
		return 0, s.failed
	}
	return s.Buffer.Write(b)
}

func (s *end) End() (bool, error) {
	s.ended++
	return s.isError, s.err
}

func roomy(t *casemate.Tool) { t.Security.Output = 8 << 20 }

// What was passed on is recorded by its digest, as what was not.
func TestPassing(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good", roomy)...)
	s := w.NewSession()
	const n = 4 << 20
	to := &end{}
	o := w.do(t.Context(), casemate.Call{Tool: "big", Session: s, Stream: to}, fmt.Sprintf(`{"n":%d}`, n))
	want := `{"content":[{"type":"text","text":"` + strings.Repeat("y", n) + `"}]}`
	if o.Error != nil || !o.Result.Streamed || o.Result.Raw != nil || o.Result.IsError || to.String() != want || to.ended != 1 {
		t.Fatalf("%+v, %d bytes", o.Error, to.Len())
	}
	sum := sha256.Sum256([]byte(want))
	digest := casemate.Digest("sha256:" + hex.EncodeToString(sum[:]))
	plain := w.do(t.Context(), casemate.Call{Tool: "big", Session: s}, fmt.Sprintf(`{"n":%d}`, n))
	if plain.Result == nil || string(plain.Result.Raw) != want || plain.Result.Streamed {
		t.Fatal(plain.Error)
	}
	for _, id := range []casemate.CallID{o.Call, plain.Call} {
		if rcs := w.k.of(id); len(rcs) != 2 || rcs[1].Output != digest {
			t.Errorf("recorded: %+v, want %s", rcs, digest)
		}
	}

	// Short results, calls with a key, and the server itself have no stream.
	to = &end{}
	for _, c := range []casemate.Call{{Tool: "big", Session: s, Stream: to}, {Tool: "big", Session: s, Stream: to, Key: "k"}} {
		n := map[bool]int{true: 10, false: 3 << 20}[c.Key == ""]
		if o := w.do(t.Context(), c, fmt.Sprintf(`{"n":%d}`, n)); o.Error != nil || o.Result.Raw == nil || to.Len() > 0 || to.ended > 0 {
			t.Errorf("%+v, %d bytes", o.Error, to.Len())
		}
	}
}

// What goes wrong behind the first part is the call's outcome.
func TestPassingFails(t *testing.T) {
	for name, c := range map[string]struct {
		end  *end
		n    int
		kind casemate.Kind
		ends int
	}{
		"the tool failed":  {&end{isError: true}, 4 << 20, casemate.ToolFailed, 1},
		"it is no result":  {&end{err: &casemate.Error{Op: "call", Kind: casemate.ToolFailed, Err: errors.New("none")}}, 4 << 20, casemate.ToolFailed, 1},
		"the client fails": {&end{failed: errors.New("a broken pipe")}, 4 << 20, casemate.Cancelled, 0},
		"over the limit":   {&end{}, 12 << 20, casemate.Killed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{}, mcp("good", roomy)...)
			s := w.NewSession()
			o := w.do(t.Context(), casemate.Call{Tool: "big", Session: s, Stream: c.end}, fmt.Sprintf(`{"n":%d}`, c.n))
			if o.Error == nil || o.Error.Kind != c.kind || !o.Result.Streamed || !o.Result.IsError || c.end.ended != c.ends {
				t.Errorf("%+v %+v", o.Error, o.Result)
			}
			if rcs := w.k.of(o.Call); len(rcs) != 2 || rcs[1].Error == nil || rcs[1].Output == "" {
				t.Errorf("recorded: %+v", rcs)
			}
			w.ok(s, "echo", `{"text":"on"}`)
		})
	}
}

// An outcome that cannot be recorded is an error also behind what was passed on.
func TestPassingUnrecorded(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good", roomy)...)
	to := &end{each: func() {
		w.k.mu.Lock()
		w.k.refuse = "outcome"
		w.k.mu.Unlock()
	}}
	o := w.do(t.Context(), casemate.Call{Tool: "big", Session: w.NewSession(), Stream: to}, fmt.Sprintf(`{"n":%d}`, 4<<20))
	if o.Error == nil || o.Error.Kind != casemate.Internal || o.Result != nil {
		t.Errorf("%+v %+v", o.Error, o.Result)
	}
}

// A caller that leaves in the middle ends its call alone.
func TestPassingCancelled(t *testing.T) {
	w := newWorld(t, Config{}, mcp("good", roomy)...)
	s := w.NewSession()
	ctx, cancel := context.WithCancel(t.Context())
	to := &end{each: cancel}
	o := w.do(ctx, casemate.Call{Tool: "big", Session: s, Stream: to}, fmt.Sprintf(`{"n":%d}`, 6<<20))
	if o.Error == nil || o.Error.Kind != casemate.Cancelled || !o.Result.Streamed || to.ended != 0 {
		t.Errorf("%+v %+v", o.Error, o.Result)
	}
	w.ok(s, "echo", `{"text":"on"}`)
}
