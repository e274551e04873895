// Package upstream is the client of one MCP server, over its guest's pipe. It
// speaks raw JSON-RPC, so that what a server offers passes through unharmed,
// and takes every byte of the server for hostile.
//
// # Versions
//
// A server is spoken to by initialize, in 2025-11-25; it may answer with an
// older version. Where the caller speaks 2026-07-28, server/discover is tried
// first, and initialize follows when it is refused, garbled, or silent for
// three seconds; a server that refuses initialize is asked by server/discover.
// A stateless server gets the _meta of that version with each request; its
// input requests are answered, and subscriptions kept, as if it were not.
//
// # What the server may ask
//
// ping is answered. roots/list is asked of the client, and each file root is
// named by what the sandbox sees; roots that it does not see are left out.
// sampling/createMessage and elicitation/create need the manifest's grant and
// a client that has them; includeContext is taken out, the server is named in
// what the client sees, and a form that asks for something like a password is
// refused, as is an elicitation by URL. The test for passwords is a net for
// the careless: words can always be chosen around it.
//
// # Approval
//
// Check compares the server's tools/list with what was approved, in canonical
// JSON. The list is read after the handshake and again after each
// notifications/tools/list_changed; a server that changes its tools without
// saying so is found out when it starts the next time.
//
// # Parked
//
// A server may be opened before its client is there (Options.Parked), and is
// told what Shape says. What it asks of its client meanwhile, and up to 16
// notifications, wait until the client comes; one that asks more than four
// things is not to be parked.
//
// # Long results
//
// A result of more than 1 MiB goes to who asks for it in parts (Request.Part)
// while the server writes it, checked as JSON in UTF-8 as it comes, and is kept
// nowhere. An answer whose id stands behind its result is passed on so only where
// it can be to no other request; else, and to everyone else, it goes whole. While
// its caller does not take it, the server's other callers wait, until the call
// ends.
//
// # Limits
//
// A message: the profile's output (at least 4 MiB) and 64 KiB; one that is
// longer is skipped, and fails the request that it answers. Lines that are no
// JSON object, answers to nothing, and what else cannot be used are skipped
// and logged; 256 MiB of it, or 64 Ki messages, without an answer between them
// end the server. The log: lines of 1 KiB, 600 a minute. Requests to the
// server at once: 64, and a subscription of each resource. Requests of the
// server: four at once; a minute, 60 of roots, 30 of sampling, 10 of
// elicitation. tools/list: 2,000 tools, 100 pages, 16 MiB. Subscriptions: 1,000.
package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// The versions of the protocol that are asked for.
const (
	Stateful  = "2025-11-25"
	Stateless = "2026-07-28"
)

// The bounds; see the package comment.
const (
	leastMessage = 4 << 20
	overhead     = 64 << 10 // of a message, beside the result in it
	maxPending   = 64
	maxJunk      = 256 << 20
	maxUnasked   = 64 << 10 // messages
	maxSubs      = 1000
	maxURI       = 4 << 10
	openTime     = time.Minute     // of the handshake
	discoverTime = 3 * time.Second // of server/discover before initialize
)

// Options say what a server is, and who is behind it.
type Options struct {
	Run     *casemate.MCP
	Mounts  []casemate.Mount // what the sandbox sees of the host
	Output  int64            // bytes of one result
	Version string           // what the caller speaks; before 2026-07-28, and "", is 2025-11-25
	About   string           // the version of Casemate that the server is told

	// Capabilities are the client's. The server is told of those that it may use.
	Capabilities json.RawMessage

	// Clients are those to whom the server talks outside of calls, at most a
	// few. Nil is none.
	Clients func() []casemate.Client

	// Log gets what the server prints on its standard error, and what of its
	// output was skipped and why, a line each, as hostile as the server. Nil
	// discards.
	Log func(line string)

	// State is what an earlier server of the same session was told, which this
	// one is told again.
	State State

	// Parked says that its client comes later, by Adopt.
	Parked bool
}

// State is what a server keeps for its client, beside its own memory.
type State struct {
	Level         string   // of logging
	Subscriptions []string // URIs of resources
}

// ErrGone is wrapped where the server ended before it answered.
var ErrGone = errors.New("the server ended")

// ErrOutput is wrapped where a result was longer than Options.Output.
var ErrOutput = errors.New("the result is over the output limit")

// Exited is wrapped where the server's process ended, with that status.
type Exited int32

func (e Exited) Error() string { return fmt.Sprintf("status %d", int32(e)) }

// An RPCError is an error that the server answered.
type RPCError struct {
	Raw     json.RawMessage // the error object, as it was written
	Code    int
	Message string
}

func (e *RPCError) Error() string {
	return fmt.Sprintf("error %d: %s", e.Code, e.Message)
}

// A Server is one MCP server that runs. Its methods may be used from any
// goroutine.
type Server struct {
	o        Options
	most     int // bytes of a message
	patience int // bytes without an answer, beside one message
	pipe     io.ReadWriteCloser
	number   uint32    // of the Open
	to       io.Writer // its standard input, where the pipe does not carry it

	ctx    context.Context // ends with the server
	cancel context.CancelFunc
	owned  sync.WaitGroup
	gone   chan struct{} // closed when err is set
	err    error

	out   chan *outgoing
	taken chan struct{} // a value when the window opened
	log   logger

	listing chan struct{} // whoever fills it lists the tools

	mu         sync.Mutex
	window     int // bytes of Stdin that may be sent
	next       uint64
	pending    map[uint64]*pending
	unanswered map[uint64]bool // requests that nobody waits for, and the server may answer
	junk       int             // bytes without an answer
	unasked    int             // messages without one
	heard      uint64
	init       json.RawMessage // as initialize answers
	stateless  bool
	version    string
	tools      map[string]*listed
	order      []json.RawMessage
	stale      bool // tools are to be listed again
	state      State
	listens    map[string]context.CancelFunc // by URI; "" is of the lists
	asking     int                           // requests of the server in progress
	asked      map[string]*rate
	parked     bool          // no client is there yet
	adopted    chan struct{} // closed when one is
	held       []envelope    // notifications for it
	spoiled    bool          // it cannot be told all that it should be
}

// Open opens the guest at the other end of pipe, which has said that it is
// ready, and shakes hands; in reads from pipe. It blocks for a minute at most.
// The server lives until Close, or until it ends; on an error the pipe is
// closed.
func Open(ctx context.Context, pipe io.ReadWriteCloser, in io.Reader, o Options) (*Server, error) {
	s := unopened(o, pipe)
	if err := s.open(ctx, in); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) open(ctx context.Context, in io.Reader) error {
	if p, ok := s.pipe.(interface {
		Streams() (in io.Writer, out, err io.Reader, ok bool)
	}); ok {
		if to, out, stderr, ok := p.Streams(); ok {
			s.to = to
			s.owned.Go(func() { s.printed(stderr) })
			s.owned.Go(func() { s.end(s.direct(out, in)) })
		}
	}
	if s.to == nil {
		s.owned.Go(func() { s.read(in) })
	}
	s.owned.Go(s.write)
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	return s.shake(ctx)
}

func unopened(o Options, pipe io.ReadWriteCloser) *Server {
	s := &Server{
		o: o, pipe: pipe, most: int(max(o.Output, leastMessage)) + overhead,
		number: rand.Uint32() | 1, // not to be guessed
		gone:   make(chan struct{}), listing: make(chan struct{}, 1), out: make(chan *outgoing, maxPending), taken: make(chan struct{}, 1),
		window: guest.Window, pending: map[uint64]*pending{}, unanswered: map[uint64]bool{}, listens: map[string]context.CancelFunc{}, asked: map[string]*rate{},
		log: logger{to: o.Log}, stale: true, patience: maxJunk,
		parked: o.Parked, adopted: make(chan struct{}),
	}
	if !o.Parked {
		close(s.adopted)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close closes the pipe, and returns when nothing uses it any more. The
// sandbox is its owner's to end.
func (s *Server) Close() {
	s.pipe.Close()
	s.cancel()
	s.owned.Wait()
}

// Gone is closed when the server has ended, or cannot be spoken to any more.
func (s *Server) Gone() <-chan struct{} { return s.gone }

// Err says why Gone is closed: it wraps guest.ErrProtocol where the server
// misbehaved.
func (s *Server) Err() error {
	<-s.gone
	return s.err
}

// Initialized is what initialize answered, or as much of it as server/discover
// did.
func (s *Server) Initialized() json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.init
}

// State is what the server was told that another has to be told, too.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Subscriptions = append([]string(nil), st.Subscriptions...)
	return st
}

// Heard counts the messages that the server sent.
func (s *Server) Heard() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard
}

// end is called once, by the reader.
func (s *Server) end(err error) {
	s.mu.Lock()
	s.err = err
	all := s.pending
	s.pending = nil
	s.mu.Unlock()
	s.cancel()
	close(s.gone) // first: whoever gets an answer of below sees that it is
	for _, p := range all {
		p.answer <- answer{err: fmt.Errorf("%w: %w", ErrGone, err)}
	}
}

// A logger bounds what is logged.
type logger struct {
	to    func(string)
	mu    sync.Mutex
	since time.Time
	lines int
}

const (
	maxLine  = 1 << 10
	maxLines = 600 // a minute
)

// muted says whether a line would not be logged.
func (l *logger) muted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to == nil || l.lines >= maxLines && time.Since(l.since) < time.Minute
}

func (l *logger) line(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		return
	}
	if now := time.Now(); now.Sub(l.since) >= time.Minute {
		l.since, l.lines = now, 0
	}
	switch l.lines++; {
	case l.lines < maxLines:
		l.to(string(bytes.ToValidUTF8(b[:min(len(b), maxLine)], []byte("\uFFFD"))))
	case l.lines == maxLines:
		l.to("[casemate] it says too much: the rest of this minute is left out")
	}
}

// skip logs what of the server's output was not used, and why.
func (s *Server) skip(why string, b []byte) {
	const shown = 200
	s.log.line(fmt.Appendf(nil, "[casemate] skipped: %s: %.*q", why, shown, b[:min(len(b), shown)]))
}
