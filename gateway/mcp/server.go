package mcp

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// sessionKey names the session of a call in its _meta.
const sessionKey = "casemate/session"

// limitsKey holds, in the _meta of a call, what it takes from what its tool has;
// see casemate.Limits.
const limitsKey = "casemate/limits"

// callKey names the call in the _meta of its result.
const callKey = "casemate/call"

// Options are what a server may be told.
type Options struct {
	Version  string        // of Casemate, as clients see it
	Progress time.Duration // between progress notifications of a call; 0 is 5 s
	Log      *slog.Logger  // nil discards

	// Session, of ServeStdio, is one that exists and is the client's own; it is
	// not ended. "" begins one, and ends it with the client.
	Session casemate.SessionID
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

// A server is the SDK's server in front of one router, as one caller sees it.
type server struct {
	Options
	router   gateway.Router
	sessions *gateway.Sessions
	origins  *origins
	common   *commons // nil where each transport has its own session
	sdk      *sdk.Server
	have     map[casemate.ToolName]casemate.Digest // sync alone uses it

	mu         sync.Mutex
	listed     *listing
	convs      map[*sdk.ServerSession]*conversation
	listeners  map[*listener]struct{}
	subscribed map[subscription]int // how many listeners share each
	owners     map[string]*owner    // of resources, by URI
	owned      map[string]int       // bytes of them that each server listed
	parked     map[string]*running
}

func newServer(r gateway.Router, sessions *gateway.Sessions, o Options, from *origins) *server {
	s := &server{Options: o.withDefaults(), router: r, sessions: sessions, origins: from,
		have: map[casemate.ToolName]casemate.Digest{}, listed: &listing{caps: &sdk.ServerCapabilities{}},
		convs: map[*sdk.ServerSession]*conversation{}, listeners: map[*listener]struct{}{},
		owners: map[string]*owner{}, owned: map[string]int{}, parked: map[string]*running{}, subscribed: map[subscription]int{}}
	s.sdk = sdk.NewServer(s.implementation(), &sdk.ServerOptions{
		Capabilities: &sdk.ServerCapabilities{Tools: &sdk.ToolCapabilities{ListChanged: true}},
		SetCacheable: func(_ context.Context, _ sdk.Request, c *sdk.Cacheable) { c.TTLMs, c.CacheScope = 0, "private" },
	})
	s.sdk.AddReceivingMiddleware(s.recover, s.receive)
	s.sdk.AddSendingMiddleware(exchange)
	return s
}

// implementation is who the client is told it speaks to: Casemate, or the one
// server that it is shown.
func (s *server) implementation() *sdk.Implementation {
	me := &sdk.Implementation{Name: "casemate", Version: s.Version}
	v, ok := s.router.(*gateway.View)
	if !ok || v.Server() == "" {
		return me
	}
	for _, t := range v.Servers() {
		var them sdk.Implementation
		if json.Unmarshal(field(t.Run.MCP.Listed, "serverInfo"), &them) == nil && them.Name != "" {
			return &them
		}
	}
	return me
}

// listing is what the router offers now.
func (s *server) listing() *listing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed
}

// shows says whether the client sees anything of an MCP server.
func (s *server) shows(server string) bool {
	l := s.listing()
	for _, u := range l.servers {
		if u.name() == server {
			return true
		}
	}
	for _, t := range l.byName {
		if m := t.Run.MCP; m != nil && m.Server == server {
			return true
		}
	}
	return false
}

// follow keeps what clients are told that of the router, until ctx is done;
// they are told of every change. The first reading is done when it returns;
// done is closed when it has ended.
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

// sync reads the router. The SDK's server is told of the tools, although it
// lists and calls none of a server's: it compares their headers, and tells
// clients before 2026-07-28 of changes.
func (s *server) sync() {
	now := map[casemate.ToolName]casemate.Digest{}
	next := list(s.router, func(t *casemate.Tool) error {
		digest := t.Digest()
		if s.have[t.Name] != digest {
			if err := s.add(t); err != nil && t.Run.MCP == nil {
				s.Log.Error("a tool is not offered by MCP", "tool", t.Name, "error", err)
				return err
			}
		}
		now[t.Name] = digest
		return nil
	})
	s.mu.Lock()
	s.listed = next
	s.owners, s.owned = map[string]*owner{}, map[string]int{}
	var told []*listener
	for l := range s.listeners {
		told = append(told, l)
	}
	s.mu.Unlock()
	for name := range s.have {
		if _, ok := now[name]; !ok {
			s.sdk.RemoveTools(string(name))
		}
	}
	s.have = now
	for _, l := range told {
		l.Notify("", "notifications/tools/list_changed", nil)
	}
}

// add offers t. The SDK panics where it cannot offer a schema, as one with
// the x-mcp-header key in a place where that key has no meaning.
func (s *server) add(t *casemate.Tool) (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("%v", x)
		}
	}()
	s.sdk.AddTool(sdkTool(t), s.call)
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

// receive answers what the SDK would answer by its own types, or not at all.
func (s *server) receive(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
		l := s.listing()
		switch p := req.GetParams().(type) {
		case *sdk.InitializeParams:
			res, err := next(ctx, method, req)
			if r, ok := res.(*sdk.InitializeResult); ok && err == nil {
				r.Capabilities, r.Instructions = l.caps, l.instructions
				s.converse(req, r.ProtocolVersion)
			}
			return res, err
		case *sdk.InitializedParams:
			res, err := next(ctx, method, req)
			if c := s.conversation(req); c != nil && err == nil {
				c.begin()
			}
			return res, err
		case *sdk.ListToolsParams:
			cursor := ""
			if p != nil {
				cursor = p.Cursor
			}
			page, err := l.page(cursor)
			if err != nil {
				return nil, err
			}
			return &rawResult{raw: page, modern: s.versionOf(req) >= stateless}, nil
		case *sdk.CallToolParamsRaw:
			t := l.byName[p.Name]
			if t == nil || t.Run.MCP == nil {
				return next(ctx, method, req)
			}
			return s.callServer(ctx, req, t, p)
		case *sdk.SubscriptionsListenParams:
			return s.listen(ctx, req, p)
		}
		switch {
		case optional[method]:
			return s.feature(ctx, method, req)
		case method == "notifications/roots/list_changed":
			if c := s.conversation(req); c != nil {
				go s.rootsChanged(ctx, c)
			}
			return next(ctx, method, req)
		}
		res, err := next(ctx, method, req)
		if r, ok := res.(*sdk.DiscoverResult); ok && err == nil {
			r.Capabilities, r.Instructions = l.caps, l.instructions
		}
		return res, err
	}
}

// versionOf is what the client of a request speaks.
func (s *server) versionOf(req sdk.Request) string {
	if v, ok := metaOf(req)[sdk.MetaKeyProtocolVersion].(string); ok {
		return v
	}
	if c := s.conversation(req); c != nil {
		return c.version
	}
	return ""
}

func metaOf(req sdk.Request) map[string]any {
	// A list without params has a nil pointer here, whose methods are not to be called.
	switch p := req.GetParams().(type) {
	case nil:
		return nil
	case *sdk.ListToolsParams:
		if p == nil {
			return nil
		}
	case *sdk.ListPromptsParams:
		if p == nil {
			return nil
		}
	case *sdk.ListResourcesParams:
		if p == nil {
			return nil
		}
	case *sdk.ListResourceTemplatesParams:
		if p == nil {
			return nil
		}
	}
	return req.GetParams().GetMeta()
}

// call is the handler of every tool that is not a server's.
func (s *server) call(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	from := s.origins.of(req)
	if from.ctx.Err() != nil {
		return failure(&casemate.ErrorJSON{Kind: casemate.Cancelled, Message: "the client is gone"}), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(from.ctx, cancel)()

	session, release, err := s.session(from, req.Params.Meta, false, false)
	if err != nil {
		return failure(casemate.JSON(err)), nil
	}
	defer release()
	args := req.Params.Arguments
	if len(args) == 0 {
		args = []byte("{}")
	}
	c := casemate.Call{Session: session, Tool: casemate.ToolName(req.Params.Name), Arguments: args}
	if l, ok := req.Params.Meta[limitsKey]; ok {
		if err := limits(&c, encode(l)); err != nil {
			return failure(casemate.JSON(err)), nil
		}
	}
	if token := req.Params.GetProgressToken(); token != nil {
		defer s.progress(ctx, req.Session, token)()
	}
	o := s.router.Call(ctx, c)
	return result(o, req.ProtocolVersion() >= stateless), nil
}

// limits reads the limits of a call.
func limits(c *casemate.Call, raw json.RawMessage) error {
	if err := json.Unmarshal(raw, &c.Limits); err != nil {
		return &casemate.Error{Op: "call", Tool: c.Tool, Kind: casemate.Invalid, Err: fmt.Errorf("_meta %q: %w", limitsKey, err),
			Fix: `write it as {"memory": "64MiB", "timeout": "2s", "without": ["/docs"]}`}
	}
	return nil
}

// session is the one that the request names, or that of its transport. Where
// there is neither, a request to an MCP server has that of its caller, and any
// other one of its own.
func (s *server) session(from *origin, meta sdk.Meta, server, modern bool) (casemate.SessionID, func(), error) {
	name := from.named
	if v, ok := meta[sessionKey]; ok {
		inner, isText := v.(string)
		if !isText || inner == "" || name != "" && name != inner {
			return "", nil, &casemate.Error{Op: "session", Kind: casemate.Invalid,
				Err: fmt.Errorf("_meta %q is not the name of a session, or not the one that the %s header names", sessionKey, gateway.SessionHeader)}
		}
		name = inner
	}
	switch {
	case name == "" && from.session != "":
		return from.session, func() {}, nil
	case name == "" && server && s.common != nil:
		id, release := s.common.of(modern).use()
		return id, release, nil
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
