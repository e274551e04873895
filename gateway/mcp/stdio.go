package mcp

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/casemate/casemate/gateway"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// drainTime is how long calls that were cancelled by the end of the input
// have to be answered before the server ends without them.
const drainTime = time.Second

// ServeStdio serves the client at the other end of in and out, until in ends,
// or ctx is done, or out fails. Then it cancels what runs and returns within
// two seconds. The client has one session, from the start to the end, and may
// name others; with Options.Session that one is there before and stays.
//
// If in cannot be interrupted, a goroutine stays in its Read until in is
// closed.
func ServeStdio(ctx context.Context, in io.Reader, out io.Writer, r gateway.Router, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sessions := gateway.NewSessions(r, 0)
	defer sessions.Close()
	own := o.Session
	if own == "" {
		own = r.NewSession()
		defer r.EndSession(own)
	}

	s := newServer(r, sessions, o, newOrigins(ctx))
	defer func(done <-chan struct{}) { cancel(); <-done }(s.follow(ctx))
	defer s.end()

	conn := newLineConn(in, out, cancel)
	conn.serves = s.listing
	conn.origins, conn.from = s.origins, origin{ctx: ctx, caller: "stdio", session: own}
	ss, err := s.sdk.Connect(ctx, &lineTransport{conn}, nil)
	if err != nil {
		return err
	}
	direct := func(req *jsonrpc.Request, m *message) bool { return s.direct(conn, ss, req, m) }
	conn.direct.Store(&direct)
	ended := make(chan error, 1)
	go func() {
		err := ss.Wait()
		conn.calls.Wait() // nothing is read any more, so that there are no new ones
		ended <- err
	}()
	left := false
	select {
	case err = <-ended:
		left = ctx.Err() != nil
	case <-ctx.Done(): // by the caller, or because the input ended
		if d, ok := in.(interface{ SetReadDeadline(time.Time) error }); ok {
			d.SetReadDeadline(time.Now()) // an error means that it cannot be interrupted
		}
		select {
		case err = <-ended:
			left = true
		case <-time.After(2*drainTime - drainTime/4):
			err = errors.New("calls did not end when the client left")
		}
	}
	if left || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return nil // the client left: what could not be sent any more is no fault
	}
	return err
}

// A lineTransport is the SDK's transport over one lineConn.
type lineTransport struct{ conn *lineConn }

func (t *lineTransport) Connect(context.Context) (sdk.Connection, error) { return t.conn, nil }

var _ sdk.Connection = (*lineConn)(nil)

// normalize gives an error that the SDK made of a plain Go error, whose code
// would be 0, a code of JSON-RPC.
func normalize(r *jsonrpc.Response) {
	if r.Error == nil {
		return
	}
	if e, ok := errors.AsType[*jsonrpc.Error](r.Error); ok && e.Code != 0 {
		if _, server := r.Error.(*notFound); server {
			r.Error = e
		}
		return
	}
	code := int64(jsonrpc.CodeInvalidRequest)
	if errors.Is(r.Error, context.Canceled) || errors.Is(r.Error, io.EOF) {
		code = jsonrpc.CodeInternalError
	}
	r.Error = &jsonrpc.Error{Code: code, Message: r.Error.Error()}
}
