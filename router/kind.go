package router

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/upstream"
)

// maxShape bounds what of a handshake is a key of parked servers, in bytes.
const maxShape = 4 << 10

// kind says how sandboxes that serve t are made; key is its guest, or a variant
// of it, and o, of an MCP server, how it is spoken to.
//
// What waits in a sandbox of any other tool is our own runner, which takes
// nothing but its pipe, and so stands still by itself. An MCP server is a
// stranger's program: it is parked when it has been initialised and has listed
// its tools, and is frozen until it is claimed.
func (r *Router) kind(t *tool, key casemate.Digest, o upstream.Options) *pool.Kind {
	k := &pool.Kind{
		Key: pool.Key{Guest: key, Backend: t.backend.Name()}, Name: t.Name, Min: t.Pool.Min, Max: t.Pool.Max,
		Bytes: min(footprint(t.Run), t.profile.Memory), Early: t.Run.MCP == nil,
		NoPark: key == t.guest && len(t.Security.Pass) > 0, // its variables come with a session, as a variant
		Start: func(ctx context.Context) (casemate.Sandbox, error) {
			if key == t.guest && !r.serves(t) {
				return nil, &casemate.Error{Op: "start", Tool: t.Name, Kind: casemate.Gone, Err: errors.New("the tool was changed before it could start"), Fix: "call it again, after another look at the list of tools"}
			}
			return start(ctx, t, casemate.Grant{Tool: key}) // the whole profile
		},
	}
	if m := t.Run.MCP; m != nil {
		k.Name = casemate.ToolName(m.Server)
		k.Key.Shape = upstream.Shape(o)
		k.NoPark = k.NoPark || len(k.Key.Shape) > maxShape
		o.Clients, o.State = nil, upstream.State{} // of the session that learned the shape
		if to := r.cfg.ServerLog; to != nil {
			o.Log = func(line string) { to(casemate.ToolName(m.Server), "", line) }
		}
		k.Park = func(ctx context.Context, sb casemate.Sandbox) (casemate.Sandbox, error) {
			return r.parkServer(ctx, t, sb, o)
		}
	}
	return k
}

// shared is the kind of a place that two tools with one guest share: it keeps
// the most that one of them asks for.
func shared(a, b *pool.Kind) *pool.Kind {
	both := *a
	both.Min = max(a.Min, b.Min)
	if both.Max = max(a.Max, b.Max); a.Max == 0 || b.Max == 0 {
		both.Max = 0
	}
	return &both
}

// footprint estimates what a parked guest holds, in bytes, by what runs in it:
// interpreters as measured without anything preloaded, and servers by what
// those of Node hold.
func footprint(run casemate.Run) int64 {
	switch {
	case run.MCP != nil:
		return 64 << 20
	case run.Node != nil:
		return 48 << 20
	case run.Python != nil && run.Python.NoFork:
		return 12 << 20
	case run.Python != nil:
		return 3 << 20
	}
	return 2 << 20
}

// serves says whether the guest of t still serves a tool.
func (r *Router) serves(t *tool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.guests[t.guest]
}

// options are how an MCP server is spoken to whose client has not come.
func (r *Router) options(t *tool) upstream.Options {
	return upstream.Options{Run: t.Run.MCP, Mounts: t.profile.Filesystem, Output: t.profile.Output, About: r.cfg.Version}
}

// A waiting is an MCP server that is parked: it was spoken to, and frozen.
type waiting struct {
	casemate.Sandbox
	frozen casemate.Freezer
	server *upstream.Server
	in     *bufio.Reader
}

// Pid is the sandbox's first process, where its backend knows it.
func (w *waiting) Pid() int {
	if p, ok := w.Sandbox.(interface{ Pid() int }); ok {
		return p.Pid()
	}
	return 0
}

// Close ends the sandbox, and what speaks to it.
func (w *waiting) Close() error {
	err := w.Sandbox.Close()
	w.server.Close()
	return err
}

// parkServer shakes hands with the server in sb, compares what it lists with
// what was approved, and freezes it. Where it cannot be frozen it is not parked.
func (r *Router) parkServer(ctx context.Context, t *tool, sb casemate.Sandbox, o upstream.Options) (_ casemate.Sandbox, err error) {
	w := &waiting{Sandbox: sb, in: bufio.NewReaderSize(sb.Guest(), 4<<10)}
	fail := func(err error) (casemate.Sandbox, error) {
		if w.server != nil {
			w.Close()
		} else {
			sb.Close()
		}
		if _, typed := errors.AsType[*casemate.Error](err); !typed {
			err = &casemate.Error{Op: "park", Tool: casemate.ToolName(o.Run.Server), Kind: casemate.ToolFailed, Err: err, Fix: "see what the server printed: its log has its standard error"}
		}
		return nil, err
	}
	var ok bool
	if w.frozen, ok = sb.(casemate.Freezer); !ok {
		return fail(fmt.Errorf("%w: its backend cannot freeze it", pool.ErrNoPark))
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	o.Parked = true
	if w.server, err = upstream.Open(ctx, sb.Guest(), w.in, o); err != nil {
		return fail(err)
	}
	r.mu.Lock()
	approved := map[string][]byte{}
	for _, other := range r.tools {
		if other.guest == t.guest && !other.base() {
			approved[other.Run.MCP.Tool] = other.Run.MCP.Listed
		}
	}
	r.mu.Unlock()
	if err := w.server.Prepare(ctx, approved); err != nil {
		return fail(err)
	}
	if err := w.frozen.Freeze(ctx); err != nil {
		if casemate.KindOf(err) == casemate.Unsupported {
			err = fmt.Errorf("%w: %w", pool.ErrNoPark, err)
		}
		return fail(err)
	}
	return w, nil
}

// wake has a server that was parked serve a session, which o is of.
func (g *live) wake(ctx context.Context, o upstream.Options) error {
	if g.frozen == nil {
		return nil
	}
	if err := g.frozen.Thaw(ctx); err != nil {
		return fmt.Errorf("%w: it does not thaw: %w", upstream.ErrGone, err)
	}
	return g.server.Adopt(ctx, o)
}
