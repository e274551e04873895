package mcp

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// decoded is a message as the SDK has it. What was read is not read again.
func decoded(m *message) (jsonrpc.Message, error) {
	if m.method == "" {
		return jsonrpc.DecodeMessage(m.raw)
	}
	var of any
	if m.id != nil {
		of = text(m.id)
		if m.id[0] != '"' {
			n, err := strconv.ParseInt(string(m.id), 10, 64)
			if err != nil {
				return nil, err
			}
			of = float64(n) // which validID has seen to be exact
		}
	}
	id, err := jsonrpc.MakeID(of)
	if err != nil {
		return nil, err
	}
	return &jsonrpc.Request{ID: id, Method: m.method, Params: m.params}, nil
}

// direct serves a call of an MCP server's tool without the SDK, which takes as
// long for it as everything else together, and returns whether it does. It is
// for what the SDK would hand to callServer as it is: one request of a client
// that began with initialize. It does not block.
func (s *server) direct(c *lineConn, ss *sdk.ServerSession, req *jsonrpc.Request, m *message) bool {
	if m.method != "tools/call" || m.id == nil || m.version != "" {
		return false
	}
	t := s.listing().byName[m.name]
	s.mu.Lock()
	begun := s.convs[ss] != nil
	s.mu.Unlock()
	if t == nil || t.Run.MCP == nil || !begun {
		return false
	}
	p := &sdk.CallToolParamsRaw{Name: m.name, Arguments: field(m.params, "arguments")}
	if m.meta != nil && json.Unmarshal(m.meta, &p.Meta) != nil {
		return false
	}
	call := &sdk.ServerRequest[*sdk.CallToolParamsRaw]{Session: ss, Params: p, Extra: req.Extra.(*sdk.RequestExtra)}
	serve := s.recover(func(ctx context.Context, _ string, r sdk.Request) (sdk.Result, error) {
		return s.callServer(ctx, r, t, p)
	})
	ctx, cancel := context.WithCancel(c.from.ctx)
	c.mu.Lock()
	c.cancels[req.ID] = cancel
	c.mu.Unlock()
	c.calls.Go(func() {
		defer cancel()
		answer := &jsonrpc.Response{ID: req.ID}
		res, err := serve(ctx, m.method, call)
		if r, ok := res.(*rawResult); ok && err == nil {
			answer.Result, err = r.MarshalJSON()
		}
		answer.Error = err
		c.mu.Lock()
		delete(c.cancels, req.ID)
		c.mu.Unlock()
		c.Write(ctx, answer) // an error shows at the next Write of the SDK
	})
	return true
}

// cancelled ends a call that is served directly, where a notification names it.
func (c *lineConn) cancelled(m *message) bool {
	of := field(m.params, "requestId")
	if m.method != "notifications/cancelled" || of == nil || !validID(of) {
		return false
	}
	named, err := decoded(&message{method: m.method, id: of})
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cancel, ok := c.cancels[named.(*jsonrpc.Request).ID]
	if ok {
		cancel()
	}
	return ok
}
