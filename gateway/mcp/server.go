package mcp

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// sessionKey names the session of a call in its _meta.
const sessionKey = "casemate/session"

// callKey names the call in the _meta of its result.
const callKey = "casemate/call"

// Options are what a server may be told.
type Options struct {
	Version  string        // of Casemate, as clients see it
	Progress time.Duration // between progress notifications of a call; 0 is 5 s
	Log      *slog.Logger  // nil discards
}

func (o Options) withDefaults() Options {
	if o.Version == "" {
		o.Version = "devel"
	}
	if o.Progress == 0 {
		o.Progress = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// An origin is where a call came from.
type origin struct {
	ctx     context.Context // its end cancels the call
	caller  gateway.Caller
	session casemate.SessionID // of the transport; "" where a call without a name gets its own
	named   string             // by the transport; "" where it named none
}

// A server is the SDK's server, with the tools of a router.
type server struct {
	Options
	router   gateway.Router
	sessions *gateway.Sessions
	origin   func(*sdk.CallToolRequest) *origin
	sdk      *sdk.Server
	have     map[casemate.ToolName]casemate.Digest
}

func newServer(r gateway.Router, sessions *gateway.Sessions, o Options, from func(*sdk.CallToolRequest) *origin) *server {
	s := &server{Options: o.withDefaults(), router: r, sessions: sessions, origin: from, have: map[casemate.ToolName]casemate.Digest{}}
	s.sdk = sdk.NewServer(&sdk.Implementation{Name: "casemate", Version: s.Version}, &sdk.ServerOptions{
		Capabilities: &sdk.ServerCapabilities{Tools: &sdk.ToolCapabilities{ListChanged: true}},
		SetCacheable: func(_ context.Context, _ sdk.Request, c *sdk.Cacheable) { c.TTLMs, c.CacheScope = 0, "private" },
	})
	s.sdk.AddReceivingMiddleware(s.recover)
	return s
}

// follow keeps the tools of the SDK's server those of the router, until ctx
// is done; the SDK tells clients of every change. The first reading is done
// when it returns; done is closed when it has ended.
func (s *server) follow(ctx context.Context) (done <-chan struct{}) {
	changed := s.router.Changed()
	s.sync()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			changed = s.router.Changed() // before reading, so that none is missed
			s.sync()
		}
	}()
	return ended
}

func (s *server) sync() {
	now := map[casemate.ToolName]casemate.Digest{}
	for _, t := range s.router.Tools() {
		now[t.Name] = t.Digest()
		if s.have[t.Name] == now[t.Name] {
			continue
		}
		if err := s.add(t); err != nil {
			s.Log.Error("a tool is not offered by MCP", "tool", t.Name, "error", err)
			delete(now, t.Name)
		}
	}
	for name := range s.have {
		if _, ok := now[name]; !ok {
			s.sdk.RemoveTools(string(name))
		}
	}
	s.have = now
}

// add offers t. The SDK panics where it cannot offer a schema, as one with
// the x-mcp-header key in a place where that key has no meaning.
func (s *server) add(t *casemate.Tool) (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("%v", x)
		}
	}()
	s.sdk.AddTool(&sdk.Tool{Name: string(t.Name), Description: t.Description, InputSchema: t.Parameters}, s.call)
	return nil
}

// recover keeps a panic of a handler from ending the process: the SDK runs
// handlers in goroutines of its own.
func (s *server) recover(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, req sdk.Request) (res sdk.Result, err error) {
		defer func() {
			if x := recover(); x != nil {
				s.Log.Error("a request made its handler panic", "method", method, "panic", fmt.Sprint(x))
				res, err = nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "Internal error"}
			}
		}()
		return next(ctx, method, req)
	}
}

// call is the handler of every tool.
func (s *server) call(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	from := s.origin(req)
	if from.ctx.Err() != nil {
		return failure(&casemate.ErrorJSON{Kind: casemate.Cancelled, Message: "the client is gone"}), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(from.ctx, cancel)()

	session, release, err := s.session(from, req.Params.Meta)
	if err != nil {
		return failure(casemate.JSON(err)), nil
	}
	defer release()
	args := req.Params.Arguments
	if len(args) == 0 {
		args = []byte("{}")
	}
	if token := req.Params.GetProgressToken(); token != nil {
		defer s.progress(ctx, req.Session, token)()
	}
	o := s.router.Call(ctx, casemate.Call{Session: session, Tool: casemate.ToolName(req.Params.Name), Arguments: args})
	return result(o, req.ProtocolVersion() >= stateless), nil
}

// session is the one that the call names, or that of its transport, or one of
// its own.
func (s *server) session(from *origin, meta sdk.Meta) (casemate.SessionID, func(), error) {
	name := from.named
	if v, ok := meta[sessionKey]; ok {
		inner, isText := v.(string)
		if !isText || inner == "" || name != "" && name != inner {
			return "", nil, &casemate.Error{Op: "session", Kind: casemate.Invalid,
				Err: fmt.Errorf("_meta %q is not the name of a session, or not the one that the %s header names", sessionKey, gateway.SessionHeader)}
		}
		name = inner
	}
	if name == "" && from.session != "" {
		return from.session, func() {}, nil
	}
	return s.sessions.Use(from.caller, name)
}

// progress tells the client that a call still runs, and for how many seconds
// it has, until the function that it returns is called; that waits until no
// more is sent.
func (s *server) progress(ctx context.Context, to *sdk.ServerSession, token any) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(s.Progress)
		defer tick.Stop()
		for begin := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := to.NotifyProgress(ctx, &sdk.ProgressNotificationParams{
				ProgressToken: token, Progress: time.Since(begin).Seconds(), Message: "running"})
			if err != nil {
				return
			}
		}
	}()
	return func() { cancel(); <-ended }
}
