package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/casemate/casemate"
)

// The bounds of tools/list.
const (
	maxTools   = 2000
	maxPages   = 100
	maxListing = 16 << 20
	maxCursor  = 4 << 10
)

// A listed is one tool as the server lists it.
type listed struct {
	raw       json.RawMessage
	canonical []byte
	err       error           // it has no canonical form
	same      json.RawMessage // what it was compared with last, and is
}

// Check says whether the tool of that name is listed by the server as it was
// approved. It asks the server where the list may have changed. Its error is
// of kind Denied where the tool is another one now.
func (s *Server) Check(ctx context.Context, tool string, approved json.RawMessage) error {
	tools, err := s.list(ctx)
	if err != nil {
		return err
	}
	deny := func(format string, a ...any) error {
		return &casemate.Error{Op: "call", Kind: casemate.Denied, Err: fmt.Errorf(format, a...), Fix: "casemate tools approve " + s.o.Run.Server}
	}
	now := tools[tool]
	if now.is(approved, s) {
		return nil
	}
	want, err := canonical(approved)
	switch {
	case err != nil:
		return deny("it was never approved")
	case now == nil:
		return deny("its server does not list it any more")
	case now.err != nil:
		return deny("its server lists it in a way that has no one reading: %w", now.err)
	case !bytes.Equal(now.canonical, want):
		return deny("its server lists it otherwise than it was approved: %s", difference(approved, now.raw))
	}
	s.mu.Lock()
	now.same = approved
	s.mu.Unlock()
	return nil
}

// is says whether l was found to be the approved one before.
func (l *listed) is(approved json.RawMessage, s *Server) bool {
	if l == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.same != nil && bytes.Equal(l.same, approved)
}

// difference names the keys in which two tools differ.
func difference(was, is json.RawMessage) string {
	var keys []string
	for _, k := range [...]string{"description", "title", "inputSchema", "outputSchema", "annotations"} {
		a, _ := canonical(field(was, k))
		b, _ := canonical(field(is, k))
		if !bytes.Equal(a, b) {
			keys = append(keys, k)
		}
	}
	if keys == nil {
		return "in part"
	}
	return string(bytes.Join(slices.Collect(func(yield func([]byte) bool) {
		for _, k := range keys {
			if !yield([]byte(k)) {
				return
			}
		}
	}), []byte(", ")))
}

// Listing returns {initialize, tools}: what initialize answered, and every
// tool as the server lists it now.
func (s *Server) Listing(ctx context.Context) (json.RawMessage, error) {
	if _, err := s.list(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []byte{'['}
	for i, raw := range s.order {
		if i > 0 {
			all = append(all, ',')
		}
		all = append(all, raw...)
	}
	return object([]member{{"initialize", s.init}, {"tools", append(all, ']')}}), nil
}

// list returns the tools of the server by their names, asking it where they
// may have changed.
func (s *Server) list(ctx context.Context) (map[string]*listed, error) {
	select {
	case s.listing <- struct{}{}:
		defer func() { <-s.listing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	stale, tools, init := s.stale, s.tools, s.init
	s.stale = false // a change while it is read makes it stale again
	s.mu.Unlock()
	if !stale {
		return tools, nil
	}
	caps := field(init, "capabilities")
	var order []json.RawMessage
	err := error(nil)
	if field(caps, "tools") != nil {
		order, err = s.pages(ctx)
	}
	if err == nil {
		tools, err = index(order)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.stale = true
		return nil, err
	}
	s.tools, s.order = tools, order
	return tools, nil
}

// pages reads every page of tools/list.
func (s *Server) pages(ctx context.Context) ([]json.RawMessage, error) {
	fail := func(format string, a ...any) error {
		return &casemate.Error{Op: "call", Kind: casemate.ToolFailed, Err: fmt.Errorf("tools/list: "+format, a...), Fix: "see what the server printed: its log has its standard error"}
	}
	var all []json.RawMessage
	total, cursor := 0, ""
	for range maxPages {
		params := json.RawMessage("{}")
		if cursor != "" {
			params = object([]member{{"cursor", quoted(cursor)}})
		}
		result, err := s.ask(ctx, Request{Method: "tools/list"}, params)
		if e, ok := errors.AsType[*RPCError](err); ok {
			return nil, fail("the server answered %w", e)
		}
		if err != nil {
			return nil, err
		}
		if total += len(result); total > maxListing {
			return nil, fail("the list is longer than %d MiB", maxListing>>20)
		}
		page, err := elements(field(result, "tools"), maxTools-len(all))
		if err != nil {
			return nil, fail("tools: %w, where %d in all are the limit", err, maxTools)
		}
		all = append(all, page...)
		next := field(result, "nextCursor")
		if next == nil || string(next) == "null" {
			return all, nil
		}
		was := cursor
		if cursor, err = text(next); err != nil || len(cursor) > maxCursor || cursor == was && cursor != "" {
			return nil, fail("nextCursor leads nowhere")
		}
		if cursor == "" {
			return all, nil
		}
	}
	return nil, fail("there are more than %d pages", maxPages)
}

// index finds the tools by their names. A name that stands twice has no one
// meaning: neither is taken.
func index(order []json.RawMessage) (map[string]*listed, error) {
	tools := map[string]*listed{}
	for _, raw := range order {
		l := &listed{raw: raw}
		l.canonical, l.err = canonical(raw)
		name := str(raw, "name")
		if tools[name] != nil {
			l.err = errors.New("two of its tools have this name")
		}
		tools[name] = l
	}
	return tools, nil
}
