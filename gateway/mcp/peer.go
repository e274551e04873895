package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/casemate/casemate"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// A sending is a message of a server's on its way to the client. The SDK has
// no method to send one as it is: it is put into the context of another, and
// the sending middleware exchanges them.
type sending struct {
	method string
	params json.RawMessage
	result json.RawMessage // of a request
}

type sendingKey struct{}

// errSent keeps the SDK from taking the result of one request for another's.
var errSent = errors.New("sent")

// exchange is the sending middleware.
func exchange(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
		x, ok := ctx.Value(sendingKey{}).(*sending)
		if !ok {
			return next(ctx, method, req)
		}
		ss, ok := req.GetSession().(*sdk.ServerSession)
		if !ok {
			return nil, errors.New("no session of a server")
		}
		res, err := next(ctx, x.method, &sdk.ServerRequest[*rawParams]{Session: ss, Params: &rawParams{raw: x.params}})
		if err != nil || res == nil {
			return nil, err
		}
		x.result = encode(res)
		return nil, errSent
	}
}

// A route is a way to a client: a session of MCP, and the request in whose
// answer it is to be told, where there is one.
type route struct {
	session *sdk.ServerSession
	ctx     context.Context // its values say which request; nil is none
}

// A ruled context ends with one context and has the values of another.
type ruled struct {
	context.Context
	values context.Context
}

func (r ruled) Value(key any) any { return r.values.Value(key) }

// with carries x to the client that r leads to.
func (r route) with(ctx context.Context, x *sending) context.Context {
	values := r.ctx
	if values == nil {
		values = context.Background()
	}
	return ruled{ctx, context.WithValue(values, sendingKey{}, x)}
}

// ask sends a request and waits for its answer.
func (r route) ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	x := &sending{method: method, params: params}
	if err := r.session.Ping(r.with(ctx, x), nil); err != nil && !errors.Is(err, errSent) {
		if e, ok := errors.AsType[*jsonrpc.Error](err); ok {
			return nil, &casemate.ClientError{Code: int(e.Code), Message: e.Message, Data: e.Data}
		}
		return nil, err
	}
	if x.result == nil {
		return nil, errors.New("the client answered nothing")
	}
	return x.result, nil
}

// tell sends a notification, and blocks while the client does not read.
func (r route) tell(ctx context.Context, method string, params json.RawMessage) error {
	return r.session.NotifyProgress(r.with(ctx, &sending{method: method, params: params}), &sdk.ProgressNotificationParams{})
}

// maxNotes is how many notifications may wait for a client that does not read.
const maxNotes = 256

// A note is a notification that waits to be sent.
type note struct {
	to     route
	method string
	params json.RawMessage
}

// An outbox sends notifications one after another, so that nobody waits for a
// client that does not read. Its methods may be used from any goroutine.
type outbox struct {
	ctx   context.Context
	ended chan struct{}

	mu     sync.Mutex
	notes  chan note // nil until there is one
	closed bool
}

// newOutbox makes one that sends until flush, or ctx is done.
func newOutbox(ctx context.Context) *outbox { return &outbox{ctx: ctx, ended: make(chan struct{})} }

// put adds a note; where too many wait it is lost.
func (b *outbox) put(n note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if b.notes == nil {
		b.notes = make(chan note, maxNotes)
		go b.send(b.notes)
	}
	select {
	case b.notes <- n:
	default:
	}
}

func (b *outbox) send(notes <-chan note) {
	defer close(b.ended)
	for b.ctx.Err() == nil {
		select {
		case n, ok := <-notes:
			if !ok {
				return
			}
			n.to.tell(b.ctx, n.method, n.params) // an error is a client that is gone, or has no stream open
		case <-b.ctx.Done():
		}
	}
}

// flush takes no more, and returns when everything is sent or ctx is done.
func (b *outbox) flush(ctx context.Context) {
	b.mu.Lock()
	sends := b.notes != nil
	if sends && !b.closed {
		close(b.notes)
	}
	b.closed = true
	b.mu.Unlock()
	if !sends {
		return
	}
	select {
	case <-b.ended:
	case <-ctx.Done():
	}
}

// A peer is the client of one request, as its MCP server sees it.
type peer struct {
	server   string // whose progress replaces ours
	version  string
	caps     json.RawMessage
	out      *outbox
	told     func() // called when the server tells of progress
	canAsk   func(ctx context.Context, key, method string, params json.RawMessage) (json.RawMessage, error)
	current  func() (to route, token json.RawMessage, ok bool) // of the request that waits
	logLevel string                                            // of a modern request; "" is no wish for logging
}

var _ casemate.Client = (*peer)(nil)

// Capabilities are those that the client declared.
func (p *peer) Capabilities() json.RawMessage { return p.caps }

// Version is that of the protocol which the client speaks.
func (p *peer) Version() string { return p.version }

// Ask asks the client.
func (p *peer) Ask(ctx context.Context, _, method string, params json.RawMessage) (json.RawMessage, error) {
	return p.canAsk(ctx, "", method, params)
}

// AskAs is Ask, of what the server names by a key.
func (p *peer) AskAs(ctx context.Context, key, _, method string, params json.RawMessage) (json.RawMessage, error) {
	return p.canAsk(ctx, key, method, params)
}

// Notify tells the client, in the stream of its request.
func (p *peer) Notify(_, method string, params json.RawMessage) {
	to, token, ok := p.current()
	if !ok {
		return
	}
	switch method {
	case "notifications/progress":
		ms, err := members(params)
		if token == nil || err != nil {
			return
		}
		p.told()
		params = compose(with(ms, "progressToken", token))
	case "notifications/message":
		if p.version >= stateless && !logged(p.logLevel, text(field(params, "level"))) {
			return
		}
	default:
		if p.version >= stateless {
			return // such a client hears of changes by subscriptions/listen alone
		}
	}
	p.out.put(note{to, method, params})
}

// levels are those of logging, least severe first.
var levels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// logged says whether a client that wants a level hears of one.
func logged(wants, level string) bool {
	if wants == "" {
		return false
	}
	for _, l := range levels {
		if l == wants {
			return true
		}
		if l == level {
			return false
		}
	}
	return false
}
