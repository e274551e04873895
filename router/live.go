package router

import (
	"bufio"
	"io"
	"sync"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/upstream"
)

// A live is one guest and its sandbox, from claim to end.
type live struct {
	r     *Router // where it is counted; nil while it is parked
	tool  *tool
	key   casemate.Digest // tool.guest, or a variant of it
	sb    casemate.Sandbox
	pipe  io.ReadWriteCloser
	in    *bufio.Reader
	label casemate.Label // of all that it received
	once  sync.Once

	server *upstream.Server // of a tool of MCP, else nil
	frozen casemate.Freezer // of a server that was parked, else nil
	users  int              // calls that it serves; who has its seat guards it
	commit sync.Mutex       // one at a time

	writing sync.Mutex // of the pipe, where there is no server
}

func (r *Router) own(t *tool, key casemate.Digest, sb casemate.Sandbox) *live {
	g := &live{r: r, tool: t, key: key, sb: sb, pipe: sb.Guest()}
	if w, ok := sb.(*waiting); ok {
		g.sb, g.in, g.server, g.frozen = w.Sandbox, w.in, w.server, w.frozen
	} else {
		g.in = bufio.NewReaderSize(g.pipe, 4<<10)
	}
	r.mu.Lock()
	r.live[g] = struct{}{}
	r.mu.Unlock()
	return g
}

// close ends the sandbox and returns when nothing of it is left.
func (g *live) close() {
	g.once.Do(func() {
		g.sb.Close()
		g.pipe.Close()
		if g.server != nil {
			g.server.Close()
		}
		g.r.mu.Lock()
		delete(g.r.live, g)
		g.r.mu.Unlock()
	})
}
