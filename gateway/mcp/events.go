package mcp

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// writeTime is how long a client over HTTP has to take a part of a long result.
const writeTime = 30 * time.Second

// An outlet is the way to a client, which one answer can have to itself.
type outlet interface {
	// hold waits until nobody writes, and keeps others from it until free.
	hold() io.Writer
	free()

	// frame is what stands before a message, and behind it.
	frame() (head, tail string)
}

func (c *lineConn) hold() io.Writer            { c.outMu.Lock(); return c.out }
func (c *lineConn) free()                      { c.outMu.Unlock() }
func (c *lineConn) frame() (head, tail string) { return "", "\n" }

// An eventStream is the answer over HTTP to one request: the SDK's events, or
// some of them and then a long result, behind which the SDK says nothing any
// more. One that ends before its long result does is cut off, so that no client
// takes it for a whole one.
type eventStream struct {
	http.ResponseWriter
	ctx  context.Context // of the request
	turn chan struct{}   // holds a value while somebody writes an event
	left atomic.Bool     // the SDK is done with the request

	mu   sync.Mutex // while bytes are written
	open bool       // a long result began, and is not whole
	lost bool       // a part of it was not written
	over bool       // nothing is written any more
}

func newEventStream(w http.ResponseWriter, r *http.Request) *eventStream {
	return &eventStream{ResponseWriter: w, ctx: r.Context(), turn: make(chan struct{}, 1)}
}

// Unwrap is for http.ResponseController.
func (e *eventStream) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// Write writes a whole event of the SDK's, and drops one behind the answer.
func (e *eventStream) Write(b []byte) (int, error) {
	select {
	case e.turn <- struct{}{}:
	case <-e.ctx.Done():
		return 0, e.ctx.Err()
	}
	defer func() { <-e.turn }()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return len(b), nil
	}
	return e.ResponseWriter.Write(b)
}

// FlushError is for http.ResponseController.
func (e *eventStream) FlushError() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return nil
	}
	return http.NewResponseController(e.ResponseWriter).Flush()
}

func (e *eventStream) hold() io.Writer {
	e.turn <- struct{}{}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open = true
	return partWriter{e}
}

func (e *eventStream) free() {
	e.mu.Lock()
	if !e.over {
		http.NewResponseController(e.ResponseWriter).Flush() // an error shows at the end of the request
	}
	e.open, e.over = false, true
	e.mu.Unlock()
	<-e.turn
}

func (e *eventStream) frame() (head, tail string) { return "event: message\ndata: ", "\n\n" }

// end is called when the SDK is done with the request: nothing is written when
// it returns. It says whether a long result is cut off.
func (e *eventStream) end() (cut bool) {
	e.left.Store(true)
	rc := http.NewResponseController(e.ResponseWriter)
	if !e.mu.TryLock() {
		rc.SetWriteDeadline(time.Unix(1, 0)) // a client that does not read holds up nothing
		e.mu.Lock()
		rc.SetWriteDeadline(time.Time{})
	}
	defer e.mu.Unlock()
	e.over = true
	return e.open || e.lost
}

// A partWriter writes parts of a long result.
type partWriter struct{ e *eventStream }

func (p partWriter) Write(b []byte) (int, error) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	rc := http.NewResponseController(p.e.ResponseWriter)
	rc.SetWriteDeadline(time.Now().Add(writeTime)) // an error means a transport without deadlines
	defer rc.SetWriteDeadline(time.Time{})
	if p.e.over || p.e.left.Load() { // after the deadline, which end shortens
		p.e.lost = true
		return 0, io.ErrClosedPipe
	}
	n, err := p.e.ResponseWriter.Write(b)
	p.e.lost = p.e.lost || err != nil
	return n, err
}
