package mcp

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/casemate/casemate/gateway"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// Bounds of MCP sessions over HTTP, which cost a goroutine or two each.
const (
	maxSessions = 1024
	maxOfOne    = 768 // of one caller
	sessionIdle = 10 * time.Minute
)

// Handler serves streamable HTTP at one path, behind the door of package
// gateway, until ctx is done.
func Handler(ctx context.Context, r gateway.Router, sessions *gateway.Sessions, o Options) http.Handler {
	h := &handler{ctx: ctx, router: r, sessions: sessions, options: o, origins: newOrigins(ctx), fronts: map[string]*server{}}
	get := func(r *http.Request) *sdk.Server { return h.front(r).sdk }
	opts := sdk.StreamableHTTPOptions{
		SessionTimeout:               sessionIdle,
		DisableLocalhostProtection:   true, // the door does it, for every address
		MaxRequestBodyBytes:          gateway.MaxBody,
		PropagateRequestCancellation: true,
	}
	h.stateful = sdk.NewStreamableHTTPHandler(get, &opts)
	opts.Stateless = true
	h.stateless = sdk.NewStreamableHTTPHandler(get, &opts)
	return h
}

type handler struct {
	ctx                 context.Context
	router              gateway.Router
	sessions            *gateway.Sessions
	options             Options
	origins             *origins
	stateful, stateless http.Handler

	mu     sync.Mutex
	fronts map[string]*server // by caller and context
}

// front is the server as the caller of r may see it, in the context that it
// chose. There are as many as the operator listed.
func (h *handler) front(r *http.Request) *server {
	c := gateway.CredentialOf(r.Context())
	key := string(c.Name) + "\x00" + r.URL.Query().Get("context")
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.fronts[key]
	if s == nil {
		s = newServer(gateway.CredentialView(h.router, c), h.sessions, h.options, h.origins)
		s.common = newCommons(h.router)
		s.follow(h.ctx) // ends with ctx, and holds nothing that must be waited for
		context.AfterFunc(h.ctx, s.end)
		h.fronts[key] = s
	}
	return s
}

// foreign says whether a session of MCP is another caller's, or of another
// context. The SDK knows no callers.
func (h *handler) foreign(mine *server, id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.fronts {
		if s != mine && s.has(id) {
			return true
		}
	}
	return false
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	front := h.front(r)
	if id := r.Header.Get("Mcp-Session-Id"); id != "" && h.foreign(front, id) {
		http.Error(w, "session not found", http.StatusNotFound) // as the SDK says of one that is not there
		return
	}
	if r.Method != http.MethodPost {
		h.mode(r.Header.Get("Mcp-Protocol-Version") >= stateless).ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, gateway.MaxBody))
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusRequestEntityTooLarge)
		return
	}
	msgs, batch, f := parse(body)
	version := r.Header.Get("Mcp-Protocol-Version")
	if f == nil {
		f = unserved(front.listing(), msgs, batch)
	}
	if f == nil {
		f = h.agree(gateway.CallerOf(r.Context()), r.Header, msgs, batch)
	}
	if f != nil {
		refuse(w, f, version)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	from := &origin{ctx: r.Context(), caller: gateway.CallerOf(r.Context()), named: r.Header.Get(gateway.SessionHeader)}
	events := newEventStream(w, r)
	if !batch {
		if from.msg = msgs[0]; from.msg.method == "tools/call" {
			from.answer = &streamed{to: events, id: from.msg.id}
		}
	}
	header := h.origins.begin(from)
	defer h.origins.end(header)
	r.Header.Set(exchangeHeader, header)
	h.mode(version >= stateless || msgs[0].version >= stateless).ServeHTTP(events, r)
	if events.end() {
		panic(http.ErrAbortHandler)
	}
}

// mode picks the SDK's way of serving: from 2026-07-28 on there are no MCP
// sessions, before there were, and neither of its handlers does both.
func (h *handler) mode(new bool) http.Handler {
	if new {
		return h.stateless
	}
	return h.stateful
}

// agree refuses headers that say other than the body: what stands between a
// client and us may have decided on the headers.
func (h *handler) agree(caller gateway.Caller, head http.Header, msgs []*message, batch bool) *fault {
	version := head.Get("Mcp-Protocol-Version")
	for name, values := range head {
		if ours := strings.HasPrefix(name, "Mcp-") || name == gateway.SessionHeader; ours && len(values) > 1 {
			return mismatch(nil, name+" is there twice")
		}
		if strings.HasPrefix(name, "Mcp-Param-") && version < stateless {
			return mismatch(nil, name+" means nothing before version "+stateless)
		}
	}
	m := msgs[0]
	if batch {
		if version != "" && !batches(version) {
			return invalid(nil, "batches ended with protocol version 2025-03-26")
		}
		if head.Get("Mcp-Method") != "" || head.Get("Mcp-Name") != "" {
			return mismatch(nil, "a batch has no Mcp-Method and no Mcp-Name")
		}
		for _, m := range msgs {
			if m.version != "" || m.method == "initialize" {
				return invalid(m.id, "it cannot be part of a batch")
			}
		}
	} else if method := head.Get("Mcp-Method"); method != "" && method != m.method {
		return mismatch(m.id, "Mcp-Method is not the method of the body")
	} else if name := head.Get("Mcp-Name"); name != "" && name != m.name {
		return mismatch(m.id, "Mcp-Name is not the name in the body")
	}
	if v := m.version; v != "" && version != v {
		return mismatch(m.id, "Mcp-Protocol-Version is not the version in the body")
	}
	switch {
	case m.method == "initialize":
		if version != "" && m.wants != "" && version != m.wants {
			return mismatch(m.id, "Mcp-Protocol-Version is not the version in the body")
		}
		if h.full(caller) {
			return &fault{code: codeBusy, why: "Busy: too many MCP sessions; end some with DELETE", id: m.id}
		}
	case version < stateless && m.version == "" && head.Get("Mcp-Session-Id") == "" && m.method != "server/discover":
		return invalid(m.id, "before version %s a request needs the Mcp-Session-Id that initialize gave", stateless)
	}
	return nil
}

func mismatch(id []byte, why string) *fault {
	return &fault{code: sdk.CodeHeaderMismatch, why: "Header mismatch: " + why, id: id}
}

// full says whether one more session of a caller is too many.
func (h *handler) full(of gateway.Caller) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	all, own := 0, 0
	for key, s := range h.fronts {
		caller, _, _ := strings.Cut(key, "\x00")
		for range s.sdk.Sessions() {
			all++
			if caller == string(of) {
				own++
			}
		}
	}
	return all >= maxSessions || own >= maxOfOne
}

// refuse answers with the status that the protocol version asks for.
func refuse(w http.ResponseWriter, f *fault, version string) {
	status := http.StatusBadRequest
	switch f.code {
	case codeBusy:
		status = http.StatusServiceUnavailable
	case jsonrpc.CodeMethodNotFound:
		status = http.StatusOK
		if version >= stateless {
			status = http.StatusNotFound
		}
	}
	if f.nothing && f.code == jsonrpc.CodeMethodNotFound {
		w.WriteHeader(http.StatusAccepted) // a notification that means nothing here
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(f.answer())
}
