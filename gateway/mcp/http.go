package mcp

import (
	"bytes"
	"context"
	"crypto/rand"
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
	sessionIdle = 10 * time.Minute
)

// exchangeHeader carries from the HTTP request to the handler of a call which
// request it is. The SDK hands a handler the headers of its request but not
// its context, which alone tells that the client hung up.
const exchangeHeader = "Casemate-Internal-Exchange"

// Handler serves streamable HTTP at one path, behind the door of package
// gateway, until ctx is done.
func Handler(ctx context.Context, r gateway.Router, sessions *gateway.Sessions, o Options) http.Handler {
	h := &handler{ctx: ctx, exchanges: map[string]*origin{}}
	h.server = newServer(r, sessions, o, h.origin)
	h.server.follow(ctx) // ends with ctx, and holds nothing that must be waited for
	get := func(*http.Request) *sdk.Server { return h.server.sdk }
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
	server              *server
	stateful, stateless http.Handler

	mu        sync.Mutex
	exchanges map[string]*origin
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
		f = h.agree(r.Header, msgs, batch)
	}
	if f != nil {
		refuse(w, f, version)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	defer h.begin(r)()
	h.mode(version >= stateless || msgs[0].version >= stateless).ServeHTTP(w, r)
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
func (h *handler) agree(head http.Header, msgs []*message, batch bool) *fault {
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
		if h.full() {
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

func (h *handler) full() bool {
	n := 0
	for range h.server.sdk.Sessions() {
		n++
	}
	return n >= maxSessions
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

// begin makes the request findable by the handlers of its calls, until the
// function that it returns is called.
func (h *handler) begin(r *http.Request) (end func()) {
	key := rand.Text()
	from := &origin{ctx: r.Context(), caller: gateway.CallerOf(r.Context()), named: r.Header.Get(gateway.SessionHeader)}
	r.Header.Set(exchangeHeader, key)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.exchanges[key] = from
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.exchanges, key)
	}
}

// origin finds the request of a call. Where there is none any more the client
// has hung up.
func (h *handler) origin(req *sdk.CallToolRequest) *origin {
	h.mu.Lock()
	defer h.mu.Unlock()
	if req.Extra != nil {
		if from := h.exchanges[req.Extra.Header.Get(exchangeHeader)]; from != nil {
			return from
		}
	}
	over, cancel := context.WithCancel(h.ctx)
	cancel()
	return &origin{ctx: over}
}
