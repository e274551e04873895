package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// callServer calls a tool of an MCP server, and answers what the server does.
func (s *server) callServer(ctx context.Context, req sdk.Request, t *casemate.Tool, p *sdk.CallToolParamsRaw) (sdk.Result, error) {
	modern := s.versionOf(req) >= stateless
	from := s.origins.of(req)
	c := casemate.Call{Tool: t.Name, Arguments: p.Arguments}
	if len(c.Arguments) == 0 {
		c.Arguments = []byte("{}")
	}
	switch {
	case from.msg != nil:
		c.Meta = from.msg.meta
	case p.Meta != nil:
		c.Meta = encode(p.Meta)
	}
	if l := field(c.Meta, limitsKey); l != nil { // which the server is not told
		if err := limits(&c, l); err != nil {
			return &rawResult{raw: encode(failure(casemate.JSON(err))), modern: modern}, nil
		}
	}
	o, more, err := s.hand(ctx, req, from, t.Run.MCP.Server, c)
	switch {
	case err != nil:
		if _, ok := errors.AsType[*jsonrpc.Error](err); ok {
			return nil, err
		}
		return &rawResult{raw: encode(failure(casemate.JSON(err))), modern: modern}, nil
	case more != nil:
		return more, nil
	case from.answer.begun():
		return &rawResult{raw: json.RawMessage("{}")}, nil // it was sent
	case o.ServerError != nil:
		return nil, serverError(o.ServerError)
	case o.Result == nil || o.Result.Raw == nil:
		return answered(o, encode(result(o, modern)), modern), nil
	case asks(o.Result.Raw):
		return answered(o, encode(failure(wantsInput())), modern), nil
	case o.Error != nil && string(field(o.Result.Raw, "isError")) != "true":
		return answered(o, withFailure(o.Result.Raw, gateway.PlannerError(o.Error)), modern), nil
	}
	return answered(o, o.Result.Raw, modern), nil
}

// asks says whether a result is none, but what its client is to be asked. The
// router asks, and only what the manifest grants; what is left was not granted.
func asks(raw json.RawMessage) bool {
	ms, err := members(raw)
	return err == nil && slices.ContainsFunc(ms, func(m member) bool { // by any reading
		return strings.EqualFold(m.key, "inputRequests") || strings.EqualFold(m.key, "resultType") && text(m.value) != "complete"
	})
}

func wantsInput() *casemate.ErrorJSON {
	return &casemate.ErrorJSON{Kind: casemate.ToolFailed, Message: "the server answered with a request for input instead of a result"}
}

// withFailure is a result of a tool whose call failed all the same: what it
// wrote was not carried out, for example.
func withFailure(raw json.RawMessage, e *casemate.ErrorJSON) json.RawMessage {
	ms, err := members(raw)
	if err != nil {
		return encode(failure(e))
	}
	said := elements(get(ms, "content"))
	for _, c := range failure(e).Content {
		said = append(said, encode(c))
	}
	return compose(with(with(ms, "content", array(said)), "isError", json.RawMessage("true")))
}

// answered is a result for the client, with the id of its call.
func answered(o *casemate.Outcome, raw json.RawMessage, modern bool) *rawResult {
	r := &rawResult{raw: raw, modern: modern}
	if o.Call != "" {
		r.Meta = sdk.Meta{callKey: string(o.Call)}
	}
	return r
}

// serverError is an error that a server answered. One that asks for input, by
// an address that the client is to open, is as little granted as a result that
// does.
func serverError(raw json.RawMessage) error {
	e := &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: text(field(raw, "message")), Data: field(raw, "data")}
	var code int64
	if json.Unmarshal(field(raw, "code"), &code) == nil && code != 0 {
		e.Code = code
	}
	switch e.Code {
	case sdk.CodeURLElicitationRequired:
		return refusal(wantsInput(), "")
	case jsonrpc.CodeMethodNotFound:
		return &notFound{e}
	}
	return e
}

// A notFound is a server's error of that code. The SDK takes what is one by
// errors.Is for its own, and writes its own words.
type notFound struct{ wire *jsonrpc.Error }

func (e *notFound) Error() string { return e.wire.Message }

func (e *notFound) As(target any) bool {
	p, ok := target.(**jsonrpc.Error)
	if ok {
		*p = e.wire
	}
	return ok
}

// ask asks the server u by a method, and returns what it answers.
func (s *server) ask(ctx context.Context, req sdk.Request, u *upstream, method string, params json.RawMessage) (*casemate.Outcome, *rawResult, error) {
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	o, more, err := s.hand(ctx, req, s.origins.of(req), u.name(), casemate.Call{Tool: u.Name, Method: method, Arguments: params})
	switch {
	case err != nil:
		if _, ok := errors.AsType[*jsonrpc.Error](err); !ok {
			err = refusal(casemate.JSON(err), "")
		}
		return nil, nil, err
	case more != nil:
		return nil, more, nil
	case o.ServerError != nil:
		return nil, nil, serverError(o.ServerError)
	case o.Error != nil || o.Result == nil || o.Result.Raw == nil:
		return nil, nil, refusal(gateway.PlannerError(o.Error), o.Call)
	case asks(o.Result.Raw):
		return nil, nil, refusal(wantsInput(), o.Call)
	}
	return o, nil, nil
}

// refusal is why a request that is no call of a tool was not answered.
func refusal(e *casemate.ErrorJSON, id casemate.CallID) *jsonrpc.Error {
	if e == nil {
		e = &casemate.ErrorJSON{Kind: casemate.Internal, Message: "the request has no result"}
	}
	err := &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: string(e.Kind) + ": " + e.Message}
	switch e.Kind {
	case casemate.Invalid:
		err.Code = jsonrpc.CodeInvalidParams
	case casemate.Busy:
		err.Code = codeBusy
	}
	if id != "" {
		err.Data = compose([]member{{callKey, encode(id)}})
	}
	return err
}

// hand hands a call to the router, with the client of req as its client. It
// returns the outcome, or, to a client from 2026-07-28 on, what it must answer
// before there is one.
func (s *server) hand(ctx context.Context, req sdk.Request, from *origin, server string, c casemate.Call) (*casemate.Outcome, *rawResult, error) {
	if from.ctx.Err() != nil {
		return nil, nil, &casemate.Error{Op: "call", Kind: casemate.Cancelled, Err: context.Canceled}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(from.ctx, cancel)()
	ss, _ := req.GetSession().(*sdk.ServerSession)
	to := route{ss, ctx}

	version := s.versionOf(req)
	if version >= stateless {
		if state := text(field(from.params(), "requestState")); state != "" {
			r, err := s.resume(from, state, c, field(from.params(), "inputResponses"))
			if err != nil {
				return nil, nil, err
			}
			return s.wait(ctx, req, r, to)
		}
	}
	id, release, err := s.session(from, metaOf(req), true, version >= stateless)
	if err != nil {
		return nil, nil, err
	}
	c.Session = id
	if version >= stateless {
		return s.wait(ctx, req, s.run(ctx, req, from, version, server, c, release), to)
	}

	defer release()
	conv := s.conversation(req)
	p := &peer{server: server, version: version, out: newOutbox(ctx), current: func() (route, json.RawMessage, bool) { return to, tokenOf(req), true }}
	p.canAsk = func(ctx context.Context, _, method string, params json.RawMessage) (json.RawMessage, error) {
		return to.ask(ctx, method, params)
	}
	defer p.out.flush(ctx)
	if conv != nil {
		p.caps = conv.caps
		conv.use(id)
		defer conv.request(p)()
	}
	p.told = s.ticks(ctx, req)
	defer p.told()
	c.Client = p
	if from.answer != nil && c.Method == "" {
		c.Stream = from.answer
	}
	o := s.router.Call(ctx, c)
	if from.answer.begun() {
		from.answer.finish(o) // before anything waits for what waits for it
	}
	if o.Error != nil && o.Error.Kind == casemate.Gone {
		s.lost(conv, id)
	}
	return o, nil, nil
}

// lost forgets a session that the router has ended.
func (s *server) lost(conv *conversation, id casemate.SessionID) {
	if conv != nil {
		conv.leave(id)
	}
	if s.common != nil {
		s.common.forget(id)
	}
}

// params are those of the request as they were sent; nil of one of a batch.
func (o *origin) params() json.RawMessage {
	if o.msg == nil {
		return nil
	}
	return o.msg.params
}

// tokenOf is the progress token of a request as JSON, nil where it has none.
func tokenOf(req sdk.Request) json.RawMessage {
	if v, ok := metaOf(req)["progressToken"]; ok && v != nil {
		return encode(v)
	}
	return nil
}

// ticks tells of progress by the clock, where the client wants it, until the
// function that it returns is called the first time.
func (s *server) ticks(ctx context.Context, req sdk.Request) (stop func()) {
	ss, _ := req.GetSession().(*sdk.ServerSession)
	v, ok := metaOf(req)["progressToken"]
	if !ok || v == nil || ss == nil {
		return func() {}
	}
	return sync.OnceFunc(s.progress(ctx, ss, v))
}

// rootsChanged tells the servers that the client has used.
func (s *server) rootsChanged(ctx context.Context, c *conversation) {
	c.mu.Lock()
	called := map[string]bool{}
	for name := range c.called {
		called[name] = true
	}
	var ids []casemate.SessionID
	for id := range c.attached {
		ids = append(ids, id)
	}
	c.mu.Unlock()
	ctx = context.WithoutCancel(ctx) // a notification's context ends with its handling
	for _, u := range s.listing().servers {
		if !called[u.name()] {
			continue
		}
		for _, id := range ids {
			s.router.Call(ctx, casemate.Call{Session: id, Tool: u.Name, Method: "notifications/roots/list_changed", Arguments: json.RawMessage("{}"), Client: c})
		}
	}
}
