package mcp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// The bounds of a line connection.
const (
	maxLine     = 16 << 20 // bytes
	maxInFlight = 1024     // requests without an answer
	codeBusy    = -32000   // of the range that JSON-RPC leaves to servers
)

var errLongLine = errors.New("the line is longer than 16 MiB")

// readLine returns the next line without its end, valid until the next call.
// A line over the limit is read to its end and reported as errLongLine; it
// takes no more memory than the limit. The last line may lack its end.
func readLine(r *bufio.Reader, buf []byte, limit int) (line, keep []byte, err error) {
	buf = buf[:0]
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if !long && len(buf)+len(part) <= limit+len("\r\n") { // its end counts not
			buf = append(buf, part...)
		} else {
			long = true
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err != nil && (len(buf) == 0 && !long || err != io.EOF):
			return nil, buf, err
		}
		line := bytes.TrimSuffix(bytes.TrimSuffix(buf, []byte("\n")), []byte("\r"))
		if long || len(line) > limit {
			return nil, buf, errLongLine
		}
		return line, buf, nil
	}
}

// A lineConn speaks JSON-RPC, one message a line. The SDK has one too, but
// that ends the connection at the first line that it cannot read, and then
// twenty running calls die of one bad message.
type lineConn struct {
	lines  chan line     // from the goroutine that reads
	gone   func()        // the input ended: cancels the calls
	closed chan struct{} //
	close  sync.Once

	serves  func() *listing // whoever makes it sets these, or it serves nothing
	origins *origins
	from    origin // of every request

	direct atomic.Pointer[func(*jsonrpc.Request, *message) bool] // serves what the SDK need not have; nil: nothing
	calls  sync.WaitGroup                                        // of it

	queue   []jsonrpc.Message // of a batch; Read alone uses it
	batches bool              // the client speaks a version that has them; Read alone uses it

	outMu sync.Mutex
	out   io.Writer

	mu       sync.Mutex
	inFlight map[jsonrpc.ID]place
	cancels  map[jsonrpc.ID]context.CancelFunc // of what is served directly
	writing  int                               // answers that left inFlight and are not sent yet
	idle     chan struct{}                     // non-nil: closed when nothing is in flight
}

type line struct {
	data []byte
	err  error
}

// A batch collects its answers, in the order of the requests.
type batch struct {
	left    int
	answers []json.RawMessage
}

// A place is where an answer goes: into a batch, or straight out.
type place struct {
	batch  *batch // nil outside of a batch
	at     int
	origin string // of the request
	stream *streamed
}

func newLineConn(in io.Reader, out io.Writer, gone func()) *lineConn {
	nothing := &listing{caps: &sdk.ServerCapabilities{}}
	c := &lineConn{serves: func() *listing { return nothing }, origins: newOrigins(context.Background()), from: origin{ctx: context.Background()}, lines: make(chan line), gone: gone, closed: make(chan struct{}), out: out, inFlight: map[jsonrpc.ID]place{}, cancels: map[jsonrpc.ID]context.CancelFunc{}}
	go c.readLines(bufio.NewReaderSize(in, 64<<10))
	return c
}

func (c *lineConn) readLines(in *bufio.Reader) {
	var buf []byte
	for {
		var l line
		var data []byte
		data, buf, l.err = readLine(in, buf, maxLine)
		l.data = bytes.Clone(data)
		if cap(buf) > 1<<20 {
			buf = nil // one large message does not hold its memory for good
		}
		select {
		case c.lines <- l:
		case <-c.closed:
			return
		}
		if l.err != nil && l.err != errLongLine {
			return
		}
	}
}

// Read returns the next message that the SDK may have; it answers the others
// itself. It is called from one goroutine.
func (c *lineConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	for len(c.queue) == 0 {
		select {
		case <-c.closed:
			return nil, io.EOF
		case l := <-c.lines:
			switch {
			case l.err == errLongLine:
				c.refuse(&fault{code: jsonrpc.CodeParseError, why: "Parse error: " + l.err.Error()})
			case l.err != nil:
				c.drain()
				return nil, io.EOF
			case len(bytes.TrimSpace(l.data)) > 0:
				c.take(l.data)
			}
		}
	}
	m := c.queue[0]
	c.queue = c.queue[1:]
	return m, nil
}

// drain cancels what runs and waits for the answers, a second at most.
func (c *lineConn) drain() {
	c.gone()
	c.mu.Lock()
	idle := make(chan struct{})
	if len(c.inFlight) == 0 && c.writing == 0 {
		close(idle)
	} else {
		c.idle = idle
	}
	c.mu.Unlock()
	select {
	case <-idle:
	case <-c.closed:
	case <-time.After(drainTime):
	}
}

// take queues the messages of one line, or refuses it.
func (c *lineConn) take(data []byte) {
	msgs, isBatch, f := parse(data)
	if f == nil && isBatch && !c.batches {
		f = invalid(nil, "batches ended with protocol version 2025-03-26")
	}
	if f == nil {
		f = unserved(c.serves(), msgs, isBatch)
	}
	var group *batch
	if isBatch {
		group = &batch{}
	}
	var queue []jsonrpc.Message
	var ids []jsonrpc.ID
	for i := 0; f == nil && i < len(msgs); i++ {
		msg, err := decoded(msgs[i])
		if err != nil {
			f = invalid(msgs[i].id, "%v", err)
			break
		}
		queue = append(queue, msg)
		if req, ok := msg.(*jsonrpc.Request); ok && req.IsCall() {
			ids = append(ids, req.ID)
		}
	}
	if f == nil {
		f = c.begin(ids, group)
	}
	if f != nil {
		c.refuse(f)
		return
	}
	for i, m := range msgs {
		if m.method == "initialize" {
			c.batches = batches(m.wants)
		}
		req, ok := queue[i].(*jsonrpc.Request)
		if ok && req.IsCall() {
			c.trace(req, m)
		}
		if direct := c.direct.Load(); !ok || isBatch || !c.cancelled(m) && (direct == nil || !(*direct)(req, m)) {
			c.queue = append(c.queue, queue[i])
		}
	}
}

// trace lets the handler of a request find where it comes from.
func (c *lineConn) trace(req *jsonrpc.Request, m *message) {
	from := c.from
	from.msg = m
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.inFlight[req.ID]
	if at.batch == nil {
		from.answer = &streamed{to: c, id: m.id}
	}
	at.origin, at.stream = c.origins.begin(&from), from.answer
	req.Extra = &sdk.RequestExtra{Header: http.Header{exchangeHeader: {at.origin}}}
	c.inFlight[req.ID] = at
}

// begin notes requests as in flight, all or none.
func (c *lineConn) begin(ids []jsonrpc.ID, group *batch) *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if _, ok := c.inFlight[id]; ok {
			return invalid(nil, "the id %v is that of a request in flight", id.Raw())
		}
	}
	if len(c.inFlight)+len(ids) > maxInFlight {
		f := &fault{code: codeBusy, why: "Busy: too many requests have no answer yet"}
		if len(ids) == 1 && group == nil {
			f.id, _ = json.Marshal(ids[0].Raw())
		}
		return f
	}
	for i, id := range ids {
		c.inFlight[id] = place{batch: group, at: i}
	}
	if group != nil {
		group.left = len(ids)
		group.answers = make([]json.RawMessage, len(ids))
	}
	return nil
}

func (c *lineConn) refuse(f *fault) {
	if !f.nothing {
		c.writeLine(f.answer()) // an error shows at the next Write of the SDK
	}
}

// Write sends a message of the SDK. It may be called from any goroutine, and
// blocks while the client does not read.
func (c *lineConn) Write(_ context.Context, msg jsonrpc.Message) error {
	resp, ok := msg.(*jsonrpc.Response)
	if ok {
		normalize(resp)
	}
	data, err := encodeMessage(msg)
	if err != nil {
		return err
	}
	if ok {
		defer c.written()
		if data = c.collect(resp.ID, data); data == nil {
			return nil
		}
	}
	return c.writeLine(data)
}

// encodeMessage writes a message. A result is JSON on one line already, and is
// not written anew.
func encodeMessage(msg jsonrpc.Message) ([]byte, error) {
	r, ok := msg.(*jsonrpc.Response)
	if !ok || r.Error != nil || len(r.Result) == 0 {
		return jsonrpc.EncodeMessage(msg)
	}
	id := encode(r.ID.Raw())
	out := make([]byte, 0, len(r.Result)+len(id)+64)
	out = append(append(out, `{"jsonrpc":"2.0","id":`...), id...)
	out = append(append(out, `,"result":`...), r.Result...)
	return append(out, '}'), nil
}

// collect returns what is to be sent now that the request of that id has its
// answer: the answer, or its whole batch, or nil. The id is free before the
// client can see the answer, and use it again. written must follow.
func (c *lineConn) collect(id jsonrpc.ID, answer []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	to := c.inFlight[id]
	delete(c.inFlight, id)
	c.origins.end(to.origin)
	c.writing++
	b := to.batch
	if to.stream.begun() {
		return nil // it was sent
	}
	if b == nil {
		return answer
	}
	b.answers[to.at] = answer
	if b.left--; b.left > 0 {
		return nil
	}
	all, err := json.Marshal(b.answers)
	if err != nil {
		panic("casemate: bug: " + err.Error())
	}
	return all
}

func (c *lineConn) written() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing--
	if c.idle != nil && len(c.inFlight) == 0 && c.writing == 0 {
		close(c.idle)
		c.idle = nil
	}
}

func (c *lineConn) writeLine(data []byte) error {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	_, err := c.out.Write(append(data, '\n'))
	return err
}

// Close unblocks Read.
func (c *lineConn) Close() error {
	c.close.Do(func() { close(c.closed) })
	return nil
}

// SessionID is empty: a session of Casemate is none of MCP.
func (c *lineConn) SessionID() string { return "" }
