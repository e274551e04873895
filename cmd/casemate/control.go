package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/router"
)

// The control protocol joins an operator's process to a router: the one that
// started it, by an inherited socket pair, and others of the same user, by a
// unix socket in the runtime folder. A message is its length (4 bytes,
// big-endian) and JSON. Requests carry a number, and their replies the same,
// in any order; a message with number 0 says why the router gives up.
type message struct {
	ID    uint64              `json:"id"`
	Op    string              `json:"op,omitempty"` // of a request
	Body  json.RawMessage     `json:"body,omitempty"`
	Error *casemate.ErrorJSON `json:"error,omitempty"` // of a reply

	file  *os.File                    // that came with it
	serve func(context.Context) error // of opShim
}

// The requests. An operator's socket knows status and stop alone.
const (
	opReady    = "ready"    // → {} when the router serves
	opCall     = "call"     // callBody → casemate.Outcome
	opExec     = "exec"     // execBody → casemate.Outcome: a call whose streams the router inherited
	opEvent    = "event"    // casemate.Event, of that call → {}
	opListing  = "listing"  // listingBody → listedBody: what an MCP server lists
	opCancel   = "cancel"   // cancelBody → {}: cancels the call of that request
	opWhy      = "why"      // callBody → router.Why
	opTools    = "tools"    // → a router.Why for each tool
	opStatus   = "status"   // → router.Status
	opStop     = "stop"     // stopBody → stoppedBody
	opReload   = "reload"   // reloadBody → {}
	opSpawner  = "spawner"  // with its connection: a spawner instead of one that ended → {}
	opShim     = "shim"     // shimBody, with the shim's connection → {} when that is over
	opVariants = "variants" // variantsBody → {}
	opStale    = "stale"    // staleBody → {}: what is parked of them is thrown away
	opPressure = "pressure" // → {}: the machine lacks memory; what is parked gives way
	opShutdown = "shutdown" // → {} when no call is left; the router ends
)

type callBody struct {
	Tool      casemate.ToolName `json:"tool"`
	Arguments []byte            `json:"arguments"` // as they came; perhaps not JSON
	Limits    casemate.Limits   `json:"limits,omitzero"`
	Inputs    []casemate.Input  `json:"inputs,omitempty"`
}

type execBody struct {
	Tool     casemate.ToolName `json:"tool"`
	Terminal casemate.Size     `json:"terminal,omitzero"`
}

type listingBody struct {
	Server casemate.ToolName `json:"server"`
}

type listedBody struct {
	Listing []byte            `json:"listing,omitempty"` // as the server wrote it: catalog.NewListing reads it
	Outcome *casemate.Outcome `json:"outcome"`
}

type cancelBody struct {
	ID uint64 `json:"id"`
}

// shimBody says whom a connection serves. Variants are, for sandboxes of the
// server that differ from session to session, the digest of the tool's own and
// that of the session's.
type shimBody struct {
	Server   string                              `json:"server"`
	Session  string                              `json:"session"` // the operator's name of it
	Variants map[casemate.Digest]casemate.Digest `json:"variants,omitempty"`
}

// variantsBody replaces the variants of a session that was begun by a shim;
// "" is none.
type variantsBody struct {
	Session  string                              `json:"session"`
	Variants map[casemate.Digest]casemate.Digest `json:"variants"`
}

type stopBody struct {
	Session casemate.SessionID `json:"session,omitempty"`
	All     bool               `json:"all,omitempty"`
}

type stoppedBody struct {
	Stopped int `json:"stopped"`
}

// reloadBody is what a router serves: the tools, the backend that each was
// compiled for, and for those that cannot be enforced here why not.
type reloadBody struct {
	Tools   []*casemate.Tool                          `json:"tools"`
	Refused map[casemate.ToolName]*casemate.ErrorJSON `json:"refused,omitempty"`
	Chosen  map[casemate.Digest]router.Choice         `json:"chosen,omitempty"` // of a tool's guest: its backend
}

// maxMessage bounds a message to a router, in bytes: what a call may pass,
// in base64, and its frame.
const maxMessage = 128 << 20

func writeMessage(w io.Writer, m message) error { return writeFrame(w, m) }

// readMessage reads one message of at most max bytes. It allocates no more
// than what has arrived.
func readMessage(r io.Reader, max int64) (message, error) {
	b, err := readFrame(r, max)
	if err != nil {
		return message{}, err
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		return message{}, fmt.Errorf("control message: %w", err)
	}
	return m, nil
}

// writeFrame writes the length of v's JSON (4 bytes, big-endian) and that.
func writeFrame(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > 1<<31-1 {
		return errors.New("control message is longer than 2 GiB")
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

// readFrame reads what writeFrame wrote, of at most max bytes, and no byte
// beyond it. It allocates no more than what has arrived.
func readFrame(r io.Reader, max int64) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(n[:]))
	if size > max {
		return nil, fmt.Errorf("control message of %d bytes is longer than %d", size, max)
	}
	b, err := io.ReadAll(io.LimitReader(r, size))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) < size {
		return nil, io.ErrUnexpectedEOF
	}
	return b, nil
}

// client is the operator's end of a control connection.
type client struct {
	conn net.Conn
	gone chan struct{} // closed when the connection is over
	out  sync.Mutex    // of writing; never taken with mu held

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan message
	err     error // why gone is closed
}

// newClient serves conn until it ends. A reply longer than max bytes ends it.
func newClient(conn net.Conn, max int64) *client {
	c := &client{conn: conn, gone: make(chan struct{}), waiting: map[uint64]chan message{}}
	go c.read(max)
	return c
}

func (c *client) read(max int64) {
	r := bufio.NewReader(c.conn)
	for {
		m, err := readMessage(r, max)
		if err == nil && m.ID == 0 {
			err = errors.New("the router gave up")
			if m.Error != nil {
				err = remote(m.Error)
			}
		}
		c.mu.Lock()
		if err != nil {
			c.err = err
			c.mu.Unlock()
			c.conn.Close()
			close(c.gone)
			return
		}
		ch := c.waiting[m.ID]
		delete(c.waiting, m.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- m
		}
	}
}

// do sends one request and decodes its reply into out. When ctx is done it
// returns at once, and of a call the router is told.
func (c *client) do(ctx context.Context, op string, in, out any) error {
	p, err := c.send(c.conn, op, in)
	if err != nil {
		return err
	}
	return p.wait(ctx, out)
}

// hand sends one request with a descriptor, which only the other side has
// then; wait is for its reply.
func (c *client) hand(op string, f *os.File, in any) (p *pending, err error) {
	return c.send(&rightsWriter{c.conn.(*net.UnixConn), f}, op, in)
}

// A pending request was sent and has no reply yet.
type pending struct {
	*client
	id    uint64
	op    string
	reply chan message
}

func (c *client) send(to io.Writer, op string, in any) (*pending, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	p := &pending{c, 0, op, make(chan message, 1)}
	c.mu.Lock()
	c.next++
	p.id = c.next
	c.waiting[p.id] = p.reply
	c.mu.Unlock()
	c.out.Lock()
	err = writeMessage(to, message{ID: p.id, Op: op, Body: body})
	c.out.Unlock()
	if err != nil {
		<-c.closed()
		return nil, c.why(err)
	}
	return p, nil
}

func (p *pending) wait(ctx context.Context, out any) error {
	done := ctx.Done()
	for {
		select {
		case m := <-p.reply:
			if m.Error != nil {
				return remote(m.Error)
			}
			if out == nil {
				return nil
			}
			return json.Unmarshal(m.Body, out)
		case <-p.gone:
			return p.why(nil)
		case <-done:
			if p.op != opCall && p.op != opExec && p.op != opListing {
				return ctx.Err()
			}
			done = nil // the router still answers, with what became of the call
			go p.do(context.WithoutCancel(ctx), opCancel, cancelBody{p.id}, nil)
		}
	}
}

// closed ends the connection, for a request that could not be written, and
// returns a channel that is closed when its reader has said why.
func (c *client) closed() <-chan struct{} {
	if u, ok := c.conn.(*net.UnixConn); ok {
		u.CloseWrite()
	}
	return c.gone
}

func (c *client) why(also error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := errors.AsType[*casemate.Error](c.err); ok {
		return e
	}
	return &casemate.Error{Op: "router", Kind: casemate.Internal, Err: errors.Join(errors.New("the router is gone"), c.noEOF(), also),
		Fix: "see what it said before; run the command again"}
}

func (c *client) noEOF() error {
	if errors.Is(c.err, io.EOF) {
		return nil
	}
	return c.err
}

func (c *client) close() { c.conn.Close(); <-c.gone }

// remote is an error of the other side of a control connection.
func remote(j *casemate.ErrorJSON) error {
	return &casemate.Error{Kind: j.Kind, Err: errors.New(j.Message), Fix: j.Fix}
}
