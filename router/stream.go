package router

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// A dispatch is what a guest is asked for one call.
type dispatch struct {
	frame guest.Type // Call, Open or Files
	pairs []guest.Pair
	limit int64 // bytes that are kept of the reply

	output func(stream int, b []byte) error // nil: what is printed is kept
	stdin  io.Reader                        // of Open, and of Files that write
	feeds  bool                             // it has standard input
	events <-chan casemate.Event
	size   casemate.Size
}

// errCaller is wrapped where the caller did not take, or give, its bytes.
var errCaller = errors.New("the caller's end of a stream failed")

// dispatch says how the guest is asked for the call.
func (k *call) dispatch() dispatch {
	d := dispatch{frame: guest.Call, pairs: k.pairs, limit: k.output(), output: k.Output}
	if k.Files != nil {
		return k.fileDispatch()
	}
	if k.command() && (k.Stdin != nil || k.Events != nil || k.Output != nil || k.Terminal != casemate.Size{}) {
		d.frame, d.stdin, d.feeds, d.events, d.size = guest.Open, k.Stdin, true, k.Events, k.Terminal
	}
	return d
}

// command says whether the call's guest is a command, which has an exit status
// and can be spoken to while it runs.
func (k *call) command() bool {
	return k.Files == nil && (k.tool.Run.Exec != nil || k.tool.Run.Shell != nil)
}

// checkStreams says whether a tool can be called so.
func (t *tool) checkStreams(c casemate.Call) error {
	invalid := func(fix, format string, a ...any) error {
		return &casemate.Error{Op: "call", Tool: t.Name, Kind: casemate.Invalid, Err: fmt.Errorf(format, a...), Fix: fix}
	}
	command := t.Run.Exec != nil || t.Run.Shell != nil
	switch {
	case c.Files != nil && (t.Run.MCP != nil || t.Run.Builtin != ""):
		return invalid("call its own functions", "files: a tool of this kind gives its files by its own functions alone")
	case c.Files != nil && (c.Session == "" || t.profile.Scope != casemate.ScopeSession):
		return invalid("name a session, and a tool with scope: session", "files: only the guest of a session has files that outlive a call")
	case c.Files != nil && (c.Stdin != nil || c.Events != nil || c.Output != nil || c.Terminal != casemate.Size{}):
		return invalid("leave out the streams", "files: a call for files has no streams")
	case !command && (c.Stdin != nil || c.Events != nil || c.Terminal != casemate.Size{}):
		return invalid("leave them out", "only an exec or shell tool has standard input, signals or a terminal while it runs")
	case t.Run.MCP != nil && c.Output != nil:
		return invalid("leave it out", "a tool of an MCP server prints nothing")
	}
	return nil
}

// A feeder sends a guest what comes while it runs: its standard input, within
// the window, and events.
type feeder struct {
	g      *live
	number uint32
	opened chan struct{} // a value when the window opened
	over   chan struct{} // closed when the call is

	mu     sync.Mutex
	window int
}

func (g *live) feed(number uint32) *feeder {
	return &feeder{g: g, number: number, opened: make(chan struct{}, 1), over: make(chan struct{}), window: guest.Window}
}

// write sends a frame of the call, as long as that is not over.
func (f *feeder) write(t guest.Type, body []byte) error {
	f.g.writing.Lock()
	defer f.g.writing.Unlock()
	select {
	case <-f.over:
		return io.ErrClosedPipe
	default:
	}
	return guest.Write(f.g.pipe, guest.Frame{Type: t, Call: f.number, Body: body})
}

// taken opens the window by what the guest took.
func (f *feeder) taken(body []byte) error {
	n := int64(binary.BigEndian.Uint32(body))
	f.mu.Lock()
	defer f.mu.Unlock()
	if n > int64(guest.Window-f.window) {
		return breach("it took more than it was sent")
	}
	f.window += int(n)
	select {
	case f.opened <- struct{}{}:
	default:
	}
	return nil
}

// reserve waits for room in the window; 0 means that the call is over.
func (f *feeder) reserve(n int) int {
	for {
		f.mu.Lock()
		n := min(n, f.window)
		f.window -= n
		f.mu.Unlock()
		if n > 0 {
			return n
		}
		select {
		case <-f.opened:
		case <-f.over:
			return 0
		}
	}
}

// pour sends everything of r, and the end. A Read that blocks is left to
// itself when the call is over: nothing can end it but its owner.
func (f *feeder) pour(r io.Reader, failed func(error)) {
	buf := make([]byte, 64<<10)
	for r != nil {
		n, err := r.Read(buf)
		for b := buf[:n]; len(b) > 0; {
			m := f.reserve(len(b))
			if m == 0 || f.write(guest.Stdin, b[:m]) != nil {
				return
			}
			b = b[m:]
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			failed(fmt.Errorf("%w: %w", errCaller, err))
			return
		}
	}
	f.write(guest.Stdin, nil)
}

// relay sends events until the call is over.
func (f *feeder) relay(events <-chan casemate.Event) {
	for {
		select {
		case <-f.over:
			return
		case e, ok := <-events:
			switch {
			case !ok:
				return
			case e.Signal > 0 && e.Signal <= 64:
				f.write(guest.Signal, []byte{byte(e.Signal)})
			case e.Signal == 0 && e.Size != casemate.Size{}:
				f.write(guest.Size, sizeBody(e.Size))
			}
		}
	}
}

func sizeBody(s casemate.Size) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.Columns), s.Rows)
}

// begin asks the guest, and feeds it in the background until end is called.
func (g *live) begin(d dispatch, number uint32, failed func(error)) (f *feeder, end func(), err error) {
	f = g.feed(number)
	if d.size != (casemate.Size{}) {
		if err := f.write(guest.Size, sizeBody(d.size)); err != nil {
			return nil, nil, err
		}
	}
	if err := f.write(d.frame, guest.AppendPairs(nil, d.pairs)); err != nil {
		return nil, nil, err
	}
	if d.feeds {
		go f.pour(d.stdin, failed) // see pour: nobody can wait for it
	}
	if d.events != nil {
		g.r.owned.Go(func() { f.relay(d.events) })
	}
	return f, func() { close(f.over) }, nil
}

// exitCode is the exit status of a command that ran to its end, or whose time
// was over.
func (k *call) exitCode(rp *reply, err error) *int {
	if !k.command() {
		return nil
	}
	code := int(rp.status)
	switch {
	case casemate.KindOf(err) == casemate.Timeout && err != nil:
		code = 124
	case !rp.done:
		return nil
	}
	return &code
}

// failedBy stops a call whose caller's own stream failed.
func failedBy(cancel context.CancelCauseFunc, t casemate.ToolName) func(error) {
	return func(err error) {
		cancel(&casemate.Error{Op: "call", Tool: t, Kind: casemate.Cancelled, Err: err, Fix: "see why the caller's end failed"})
	}
}
