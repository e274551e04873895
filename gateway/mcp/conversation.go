package mcp

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// A conversation is one session of MCP that began with initialize. The MCP
// servers of the Casemate sessions that it uses may speak to its client.
type conversation struct {
	router  gateway.Router
	shows   func(server string) bool
	session *sdk.ServerSession
	caller  gateway.Caller
	version string
	caps    json.RawMessage
	out     *outbox

	mu       sync.Mutex
	ready    bool // the client has said notifications/initialized
	over     bool
	attached map[casemate.SessionID]func() // detaches; nil until ready
	called   map[string]bool               // servers that were asked for something
	requests []*peer                       // that run, oldest first
}

// maxAttached is how many Casemate sessions may speak to one client.
const maxAttached = 64

// use notes that a request uses a session of Casemate.
func (c *conversation) use(id casemate.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.attached[id]; ok || c.over || len(c.attached) >= maxAttached {
		return
	}
	c.attached[id] = nil
	if c.ready {
		c.attached[id] = c.router.Attach(id, c)
	}
}

// leave ends what use began: the session is no more.
func (c *conversation) leave(id casemate.SessionID) {
	c.mu.Lock()
	detach := c.attached[id]
	delete(c.attached, id)
	c.mu.Unlock()
	if detach != nil {
		detach()
	}
}

// begin lets servers speak to the client.
func (c *conversation) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready || c.over {
		return
	}
	c.ready = true
	for id := range c.attached {
		c.attached[id] = c.router.Attach(id, c)
	}
}

// end is called once, when the client is gone.
func (c *conversation) end() {
	c.mu.Lock()
	c.over = true
	all := c.attached
	c.attached = nil
	c.mu.Unlock()
	for _, detach := range all {
		if detach != nil {
			detach()
		}
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	c.out.flush(done)
}

// request notes that a request runs, until the function that it returns.
func (c *conversation) request(p *peer) (over func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.called[p.server] = true
	c.requests = append(c.requests, p)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests = slices.DeleteFunc(slices.Clone(c.requests), func(o *peer) bool { return o == p })
	}
}

// way is how what belongs to no request goes: over HTTP the stream of a request
// that runs is open for certain, and the one of the session may not be.
func (c *conversation) way() (route, *outbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.requests); n > 0 {
		p := c.requests[n-1]
		to, _, _ := p.current()
		return to, p.out
	}
	return route{session: c.session}, c.out
}

// Capabilities are those that the client declared.
func (c *conversation) Capabilities() json.RawMessage { return c.caps }

// Version is that of the protocol which the client speaks.
func (c *conversation) Version() string { return c.version }

// Hears says whether the client hears that server outside of requests: one of
// several shims of a program hears its own.
func (c *conversation) Hears(server string) bool { return c.shows(server) }

// Ask asks the client outside of a request.
func (c *conversation) Ask(ctx context.Context, _, method string, params json.RawMessage) (json.RawMessage, error) {
	to, _ := c.way()
	return to.ask(ctx, method, params)
}

// Notify tells the client.
func (c *conversation) Notify(_, method string, params json.RawMessage) {
	to, out := route{session: c.session}, c.out
	if method == "notifications/message" {
		to, out = c.way()
	}
	out.put(note{to, method, params})
}

// converse begins the conversation of an initialize.
func (s *server) converse(req sdk.Request, version string) {
	ss, ok := req.GetSession().(*sdk.ServerSession)
	if !ok {
		return
	}
	from := s.origins.of(req)
	c := &conversation{router: s.router, shows: s.shows, session: ss, caller: from.caller, version: version, out: newOutbox(context.Background()),
		attached: map[casemate.SessionID]func(){}, called: map[string]bool{}}
	if from.msg != nil {
		c.caps = field(from.msg.params, "capabilities")
	}
	if from.session != "" {
		c.use(from.session)
	}
	s.mu.Lock()
	s.convs[ss] = c
	s.mu.Unlock()
	go func() {
		ss.Wait() // an error is one of the connection
		s.mu.Lock()
		delete(s.convs, ss)
		s.mu.Unlock()
		c.end()
	}()
}

// conversation is that of a request, nil where its client has none.
func (s *server) conversation(req sdk.Request) *conversation {
	ss, _ := req.GetSession().(*sdk.ServerSession)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.convs[ss]
}

// has says whether a session of MCP over HTTP is one of this server.
func (s *server) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ss := range s.convs {
		if ss.ID() == id {
			return true
		}
	}
	return false
}
