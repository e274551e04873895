package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/casemate/casemate"
)

// The bounds of what a server may ask.
const (
	maxAsking = 4 // at once
	maxRoots  = 1000
	askTime   = 10 * time.Minute
)

// perMinute bounds each method that a server may ask by.
func perMinute(method string) int {
	switch method {
	case "roots/list":
		return 60
	case "sampling/createMessage":
		return 30
	case "elicitation/create":
		return 10
	}
	return 0
}

// A rate counts what was asked in a minute.
type rate struct {
	since time.Time
	n     int
}

// A refusal is an error that a server is answered.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

const (
	methodNotFound = -32601
	invalidParams  = -32602
	internalError  = -32603
	refusedCode    = -1 // as clients answer what their user declines
)

// requested takes a request of the server, and answers it in the background.
func (s *Server) requested(e envelope) {
	s.mu.Lock()
	s.unasked++
	s.mu.Unlock()
	if len(e.id) > 256 || e.id[0] == '{' || e.id[0] == '[' {
		s.skip("a request without a usable id", e.id)
		return
	}
	if e.name == "ping" {
		s.post(response(e.id, "result", json.RawMessage("{}")))
		return
	}
	s.mu.Lock()
	busy := s.asking >= maxAsking
	if !busy {
		s.asking++
	} else if s.parked {
		s.spoiled = true
	}
	s.mu.Unlock()
	if busy {
		s.refuse(e.id, &refusal{internalError, "too many requests at once"})
		return
	}
	s.owned.Go(func() {
		defer func() {
			s.mu.Lock()
			s.asking--
			s.mu.Unlock()
		}()
		select {
		case <-s.adopted: // nobody can be asked before
		case <-s.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, askTime)
		defer cancel()
		result, err := s.fulfil(ctx, e.name, e.params, nil)
		if err != nil {
			s.refuse(e.id, err)
			return
		}
		if result, err = single(result); err != nil || result == nil {
			s.refuse(e.id, &refusal{internalError, "the client's answer is not JSON"})
			return
		}
		s.post(response(e.id, "result", result))
	})
}

func (s *Server) refuse(id json.RawMessage, err error) {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		r = &refusal{refusedCode, "the client did not answer"} // the rest is none of the server's business
	}
	ms := []member{{"code", fmt.Append(nil, r.code)}, {"message", quoted(r.text)}}
	if e, ok := errors.AsType[*casemate.ClientError](err); ok { // the client's own words
		ms = []member{{"code", fmt.Append(nil, e.Code)}, {"message", quoted(e.Message)}}
		if json.Valid(e.Data) {
			ms = append(ms, member{"data", e.Data})
		}
	}
	if b, err := single(object(ms)); err == nil {
		s.post(response(id, "error", b))
	}
}

// withdrawn takes back a request of the server. Whoever answers it may go on:
// what comes of it the server ignores.
func (s *Server) withdrawn(id json.RawMessage) {
	s.log.line(fmt.Appendf(nil, "[casemate] the server does not wait for the answer to %.40q any more", id))
}

// fulfil answers what the server asks of the client: of that one, or, where it
// is nil, of the one that fits.
func (s *Server) fulfil(ctx context.Context, method string, params json.RawMessage, of casemate.Client) (json.RawMessage, error) {
	name := ""
	switch method {
	case "roots/list":
		name = "roots"
	case "sampling/createMessage":
		if s.o.Run.Sampling {
			name = "sampling"
		}
	case "elicitation/create":
		if s.o.Run.Elicitation {
			name = "elicitation"
		}
	}
	if name == "" {
		return nil, &refusal{methodNotFound, "the client does not offer " + cut(method, 80)}
	}
	c := of
	if c == nil {
		c = s.who(name)
	}
	if c == nil || field(c.Capabilities(), name) == nil {
		return nil, &refusal{methodNotFound, "the client does not offer " + method}
	}
	if !s.allow(method) {
		return nil, &refusal{internalError, fmt.Sprintf("%d a minute are the limit", perMinute(method))}
	}
	switch name {
	case "roots":
		return s.roots(ctx, c)
	case "elicitation":
		if err := checkForm(params); err != nil {
			return nil, err
		}
		// The message is what a user reads: who asks stands first in it.
		params = with(params, "message", quoted("["+s.o.Run.Server+"] "+str(params, "message")))
	default:
		params = with(params, "includeContext", nil)
	}
	params = with(params, "_meta", object([]member{{"casemate/server", quoted(s.o.Run.Server)}}))
	return c.Ask(ctx, s.o.Run.Server, method, params)
}

func cut(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "\uFFFD") }

// allow counts one request of a method.
func (s *Server) allow(method string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.asked[method]
	if now := time.Now(); r == nil || now.Sub(r.since) >= time.Minute {
		r = &rate{since: now}
		s.asked[method] = r
	}
	r.n++
	return r.n <= perMinute(method)
}

// who is the client that is asked: that of the request that was sent last, or
// one that is attached.
func (s *Server) who(capability string) casemate.Client {
	if c := s.latest(); c != nil && field(c.Capabilities(), capability) != nil {
		return c
	}
	for _, c := range s.attached() {
		if field(c.Capabilities(), capability) != nil {
			return c
		}
	}
	return nil
}

// latest is the client of the request that was sent last, of those that wait.
func (s *Server) latest() casemate.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last *pending
	for _, p := range s.pending {
		if p.client != nil && (last == nil || p.order > last.order) {
			last = p
		}
	}
	if last == nil {
		return nil
	}
	return last.client
}

// roots asks for the client's roots and names them as the sandbox sees them.
func (s *Server) roots(ctx context.Context, c casemate.Client) (json.RawMessage, error) {
	result, err := c.Ask(ctx, s.o.Run.Server, "roots/list", json.RawMessage("{}"))
	if err != nil {
		return nil, err
	}
	all, err := elements(field(result, "roots"), maxRoots)
	if err != nil {
		return nil, err
	}
	out := []byte{'['}
	for _, root := range all {
		uri, ok := seen(str(root, "uri"), s.o.Mounts)
		if !ok {
			continue
		}
		ms := []member{{"uri", quoted(uri)}}
		if name := str(root, "name"); name != "" {
			ms = append(ms, member{"name", quoted(name)})
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, object(ms)...)
	}
	return object([]member{{"roots", append(out, ']')}}), nil
}

// seen returns a file URI of the host as the sandbox sees it, by the mount
// that lies deepest.
func seen(uri string, mounts []casemate.Mount) (string, bool) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" || u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") {
		return "", false
	}
	p, at, deepest := path.Clean(u.Path), "", -1
	for _, m := range mounts {
		host := path.Clean(m.Path)
		rest, ok := strings.CutPrefix(p, strings.TrimSuffix(host, "/"))
		if !ok || rest != "" && rest[0] != '/' || len(host) <= deepest {
			continue
		}
		deepest, at = len(host), path.Join("/", m.At, rest)
	}
	if deepest < 0 {
		return "", false
	}
	return (&url.URL{Scheme: "file", Path: at}).String(), true
}

// inputs answers what a result of a stateless server asks for, and returns
// the params of the next round; nil where the result asks for nothing.
func (s *Server) inputs(ctx context.Context, r Request, result json.RawMessage) (json.RawMessage, error) {
	if !s.isStateless() || str(result, "resultType") != "input_required" {
		return nil, nil
	}
	requests := field(result, "inputRequests")
	if requests == nil {
		requests = json.RawMessage("{}")
	}
	ms, err := members(requests)
	if err != nil || len(ms) > maxAsking {
		return nil, fmt.Errorf("it asks for input, but inputRequests is no object of at most %d", maxAsking)
	}
	out := make([]member, len(ms))
	errs := make([]error, len(ms))
	var all sync.WaitGroup
	for i, m := range ms { // at once, so that a client can be asked all of it at once
		all.Go(func() {
			of := r.Client
			if of != nil {
				of = input{of, m.key}
			}
			out[i].key = m.key
			out[i].value, errs[i] = s.fulfil(ctx, str(m.value, "method"), field(m.value, "params"), of)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("it asked for input: %w", err)
	}
	params := with(r.Params, "inputResponses", object(out))
	if st := field(result, "requestState"); st != nil {
		params = with(params, "requestState", st)
	}
	return params, nil
}

// An input is a client that is asked what a result names by a key; one that
// speaks 2026-07-28 too is asked by the same.
type input struct {
	casemate.Client
	key string
}

func (i input) Ask(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error) {
	if c, ok := i.Client.(interface {
		AskAs(ctx context.Context, key, server, method string, params json.RawMessage) (json.RawMessage, error)
	}); ok {
		return c.AskAs(ctx, i.key, server, method, params)
	}
	return i.Client.Ask(ctx, server, method, params)
}
