package mcp

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// exchangeHeader carries from a transport to the handler of a request which
// request it is. The SDK hands a handler the headers of its request but not
// its context, which alone tells that the client hung up, and not its text.
const exchangeHeader = "Casemate-Internal-Exchange"

// An origin is where a request came from.
type origin struct {
	ctx     context.Context // its end cancels the call
	caller  gateway.Caller
	session casemate.SessionID // of the transport; "" where it has none
	named   string             // by the transport; "" where it named none
	msg     *message           // nil where it was one of a batch over HTTP
	answer  *streamed          // nil where the answer cannot be sent in parts
}

// origins finds requests that are being served.
type origins struct {
	ctx context.Context

	mu   sync.Mutex
	next uint64
	m    map[string]*origin
}

func newOrigins(ctx context.Context) *origins { return &origins{ctx: ctx, m: map[string]*origin{}} }

// begin makes o findable by the header, until end.
func (x *origins) begin(o *origin) (header string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next++
	header = strconv.FormatUint(x.next, 10)
	x.m[header] = o
	return header
}

func (x *origins) end(header string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.m, header)
}

// of finds the origin of a request. Where there is none any more the client
// has hung up.
func (x *origins) of(req sdk.Request) *origin {
	x.mu.Lock()
	defer x.mu.Unlock()
	if extra := req.GetExtra(); extra != nil {
		if from := x.m[extra.Header.Get(exchangeHeader)]; from != nil {
			return from
		}
	}
	over, cancel := context.WithCancel(x.ctx)
	cancel()
	return &origin{ctx: over}
}

// commons are the common sessions of one caller: a server is spoken to as its
// client speaks, so that clients before 2026-07-28 and after share none.
type commons struct{ old, modern common }

func newCommons(r gateway.Router) *commons {
	return &commons{common{router: r, idle: gateway.DefaultIdle}, common{router: r, idle: gateway.DefaultIdle}}
}

func (c *commons) of(modern bool) *common {
	if modern {
		return &c.modern
	}
	return &c.old
}

func (c *commons) forget(id casemate.SessionID) {
	c.old.forget(id)
	c.modern.forget(id)
}

// A common is the session in which a caller over HTTP uses MCP servers where
// it names none: clients make one MCP session, or none, for each call, and a
// server is not to be started anew for it. It ends when it was idle.
type common struct {
	router gateway.Router
	idle   time.Duration

	mu    sync.Mutex
	id    casemate.SessionID
	users int
	timer *time.Timer
}

// use returns the session for one request, and what must be called after it.
func (c *common) use() (casemate.SessionID, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == "" {
		c.id = c.router.NewSession()
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.users++
	id := c.id
	return id, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.users--
		if c.users == 0 {
			c.timer = time.AfterFunc(c.idle, func() { c.end(false) })
		}
	}
}

// forget lets the next use begin another session: id is no more.
func (c *common) forget(id casemate.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == id {
		c.id = ""
	}
}

// end ends the session, where nobody uses it or always is true.
func (c *common) end(always bool) {
	c.mu.Lock()
	id := c.id
	if c.users > 0 && !always || id == "" {
		c.mu.Unlock()
		return
	}
	c.id = ""
	c.mu.Unlock()
	c.router.EndSession(id)
}
