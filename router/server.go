package router

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/upstream"
)

// methods are what may be asked of an MCP server itself by Call.Method: those
// of MCP that change nothing of the handshake, and one of our own, by which an
// operator gets what the server lists, {initialize, tools}, as it is.
var methods = [...]string{
	"prompts/list", "prompts/get",
	"resources/list", "resources/templates/list", "resources/read", "resources/subscribe", "resources/unsubscribe",
	"completion/complete", "logging/setLevel", "ping", "notifications/roots/list_changed",
	listing,
}

const listing = "casemate/listing"

const maxAttached = 256 // clients of a session, such as the shims of one program

// An attached is a client of a session.
type attached struct{ casemate.Client }

// Attach says whom the MCP servers of a session talk to outside of calls,
// until detach is called. A session has at most 256 such clients; more, and
// those of a session that was ended, are not attached.
func (r *Router) Attach(id casemate.SessionID, c casemate.Client) (detach func()) {
	a := &attached{c}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sessions[id]
	if s == nil || len(s.clients) >= maxAttached || c == nil {
		return func() {}
	}
	s.clients = append(slices.Clip(s.clients), a)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.clients = slices.DeleteFunc(slices.Clone(s.clients), func(o *attached) bool { return o == a })
	}
}

// clients are those that are attached to a session and hear that server: all
// but those who say that they do not.
func (r *Router) clients(s *session, server string) []casemate.Client {
	if s == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []casemate.Client
	for _, a := range s.clients {
		if h, ok := a.Client.(interface{ Hears(server string) bool }); !ok || h.Hears(server) {
			out = append(out, a.Client)
		}
	}
	return out
}

// Variant says that a session gets another sandbox instead of the one of that
// digest (Tool.Guest): the same, compiled by the operator with the values of
// this session; "" is the base again. A guest that the session has already is
// lost at its next call.
func (r *Router) Variant(id casemate.SessionID, base, variant casemate.Digest) {
	var before []casemate.Digest
	r.mu.Lock()
	if s := r.sessions[id]; s != nil {
		if v, ok := s.variants[base]; ok && v != variant {
			before = append(before, v)
		}
		if s.variants[base] = variant; variant == "" {
			delete(s.variants, base)
		}
	}
	r.mu.Unlock()
	r.forget(before...)
}

// key is the digest of the sandbox that serves the call.
func (k *call) key() casemate.Digest {
	if k.session == nil {
		return k.tool.guest
	}
	k.r.mu.Lock()
	defer k.r.mu.Unlock()
	if v, ok := k.session.variants[k.tool.guest]; ok {
		return v
	}
	return k.tool.guest
}

// subscribed says whether somebody waits for what the server says.
func (g *live) subscribed() bool {
	return g.server != nil && len(g.server.State().Subscriptions) > 0
}

// ask serves a call of an MCP server. The guest serves others at once, and
// outlives the call where it is a session's.
func (k *call) ask(ctx context.Context) error {
	begin := time.Now()
	g, note, err := k.join(ctx)
	if err != nil {
		return k.named(err)
	}
	k.out.Enforced = k.enforced(g)

	run, cancel := k.limited(ctx)
	defer cancel()
	usage := casemate.Usage{Claim: time.Since(begin)}
	heard := g.server.Heard()
	raw, err := k.request(run, g)
	hung := errors.Is(err, context.DeadlineExceeded) && g.server.Heard() == heard
	if err != nil && run.Err() != nil {
		err = cancelled(run, k.Tool)
	}
	answered := err == nil
	if e, ok := errors.AsType[*upstream.RPCError](err); ok {
		k.out.ServerError, answered = e.Raw, true
	}
	err = k.understand(g, err)
	if answered && k.tool.writes {
		g.commit.Lock()
		cerr := k.commit(ctx, g)
		g.commit.Unlock()
		if cerr != nil {
			err = cerr
		}
	}
	label := k.part(g, hung)
	usage.Wall = time.Since(begin)
	if k.seat == nil {
		if e, werr := g.exit(); werr == nil {
			usage.CPU, usage.Memory = e.Usage.CPU, e.Usage.Memory
		}
	}
	res, failed := k.answered(raw, note, err)
	if err == nil && failed != nil {
		err = failed
	}
	res.IsError = err != nil
	label = label.Join(casemate.Label{Writers: []string{"tool:" + string(k.Tool)}})
	k.out.Result, k.out.Usage, k.out.Label = res, usage.JSON(), &label
	return k.named(err)
}

// request asks the server what the call asks.
func (k *call) request(ctx context.Context, g *live) (json.RawMessage, error) {
	m := k.tool.Run.MCP
	if err := k.recorded(); err != nil {
		return nil, err
	}
	r := upstream.Request{Method: k.Method, Params: k.Arguments, Client: k.Client}
	if !k.tool.base() {
		if err := g.server.Check(ctx, m.Tool, m.Listed); err != nil {
			return nil, err
		}
		params := map[string]json.RawMessage{"arguments": k.Arguments}
		params["name"], _ = encode(m.Tool)
		if k.Meta != nil {
			params["_meta"] = k.Meta
		}
		b, err := encode(params)
		if err != nil {
			return nil, &casemate.Error{Op: "call", Kind: casemate.Invalid, Err: errors.New("_meta: not JSON"), Fix: "pass one JSON object"}
		}
		r.Method, r.Params = "tools/call", b
		if k.Stream != nil && k.Key == "" {
			r.Part = k.pass
		}
	}
	if k.Method == listing {
		return g.server.Listing(ctx)
	}
	if len(r.Params) == 0 {
		r.Params = json.RawMessage("{}")
	}
	return g.server.Call(ctx, r)
}

// pass passes a part of a long result on. What has passed cannot be taken back:
// the outcome is recorded behind it, and says what became of the call.
func (k *call) pass(b []byte) error {
	if k.passed == nil {
		k.passed = sha256.New()
	}
	k.passed.Write(b)
	if _, err := k.Stream.Write(b); err != nil {
		return fmt.Errorf("%w: %w", errCaller, err)
	}
	return nil
}

// join gets the server that serves the call: the one in its seat, or one that
// is started. A server that is gone is started again, and note says why.
func (k *call) join(ctx context.Context) (g *live, note string, err error) {
	if k.seat == nil {
		g, err = k.launch(ctx, upstream.State{})
		k.unstarted = err != nil
		return g, "", err
	}
	t := k.seat
	if err := await(ctx, t.many, k.Tool, "its server, which serves 16 calls of a session at a time"); err != nil {
		return nil, "", err
	}
	if err := await(ctx, t.turn, k.Tool, "its server, which is being started"); err != nil {
		<-t.many
		return nil, "", err
	}
	k.r.seize(t)
	defer k.r.release(t)
	defer func() {
		if err != nil {
			<-t.many
		}
	}()
	if ctx.Err() != nil { // its session may have been ended while it waited
		return nil, "", cancelled(ctx, k.Tool)
	}
	if g := t.guest; g != nil {
		select {
		case <-g.server.Gone():
			k.r.empty(t, died(g, g.server.Err()))
		default:
			if g.key != k.key() {
				k.r.empty(t, "the client came with other values for it")
			}
		}
	}
	if t.guest == nil {
		if err := k.r.place(k.tool); err != nil {
			return nil, "", err
		}
		if g, err = k.launch(ctx, t.state); err != nil {
			k.unstarted = true
			k.r.mu.Lock()
			k.r.seated--
			k.r.mu.Unlock()
			return nil, "", err
		}
		t.guest, note, t.lost = g, t.lost, ""
	}
	t.guest.users++
	t.guest.label = t.guest.label.Join(k.Label)
	return t.guest, note, nil
}

// part leaves the server, which ends where it is the call's own, or dead, or
// hung and nobody else's, and returns the label of all that it received.
func (k *call) part(g *live, hung bool) casemate.Label {
	t := k.seat
	if t == nil {
		g.close()
		return g.label
	}
	t.turn <- struct{}{} // for as long as another takes to start the server
	k.r.seize(t)
	g.users--
	label := g.label
	if t.guest == g {
		select {
		case <-g.server.Gone():
			k.r.empty(t, died(g, g.server.Err()))
		default:
			if hung && g.users == 0 {
				k.r.empty(t, "it did not answer")
			}
		}
	}
	k.r.release(t)
	<-t.many
	return label
}

// launch starts the server and shakes hands with it. One that ends when it is
// asked for the stateless version is started again, and not asked for it.
func (k *call) launch(ctx context.Context, st upstream.State) (*live, error) {
	if err := k.recorded(); err != nil {
		return nil, err
	}
	m := k.tool.Run.MCP
	all := k.r.clients(k.session, m.Server)
	if k.Client != nil {
		all = append(all, k.Client)
	}
	o := upstream.Options{Run: m, Mounts: k.tool.profile.Filesystem, Output: k.tool.profile.Output, About: k.r.cfg.Version,
		Version: version(all), Capabilities: capabilities(all), State: st}
	if s := k.session; s != nil {
		o.Clients = func() []casemate.Client { return k.r.clients(s, m.Server) }
	}
	if to := k.r.cfg.ServerLog; to != nil {
		server, session := casemate.ToolName(m.Server), k.Session
		o.Log = func(line string) { to(server, session, line) }
	}
	for {
		g, warm, err := k.r.claim(ctx, k.Session, k.tool, k.r.kind(k.tool, k.key(), o))
		if err != nil {
			return nil, err
		}
		g.label = g.label.Join(k.Label)
		if g.server != nil {
			err = g.wake(ctx, o)
		} else {
			g.server, err = upstream.Open(ctx, g.pipe, g.in, o)
		}
		if err == nil {
			return g, nil
		}
		gone := errors.Is(err, upstream.ErrGone)
		if ctx.Err() != nil {
			err = cancelled(ctx, k.Tool)
		}
		err = k.understand(g, err)
		g.close()
		switch {
		case !gone || ctx.Err() != nil:
			return nil, err
		case warm: // it may have died while it was parked
		case o.Version >= upstream.Stateless:
			o.Version = ""
		default:
			return nil, err
		}
	}
}

// version is the newest that one of the clients speaks, "" where none says.
func version(all []casemate.Client) (newest string) {
	for _, c := range all {
		if v, ok := c.(interface{ Version() string }); ok {
			newest = max(newest, v.Version())
		}
	}
	return newest
}

// capabilities are those that one of the clients has.
func capabilities(all []casemate.Client) json.RawMessage {
	union := map[string]json.RawMessage{}
	for _, c := range all {
		var has map[string]json.RawMessage
		if json.Unmarshal(c.Capabilities(), &has) != nil {
			continue
		}
		for name, v := range has {
			if union[name] == nil {
				union[name] = v
			}
		}
	}
	b, err := encode(union)
	if err != nil {
		return nil
	}
	return b
}

// understand says what a request ended with, as an error of the call.
func (k *call) understand(g *live, err error) error {
	fail := func(kind casemate.Kind, fix, format string, a ...any) error {
		return &casemate.Error{Op: "call", Kind: kind, Err: fmt.Errorf(format, a...), Fix: fix}
	}
	if e, ok := errors.AsType[*upstream.RPCError](err); ok {
		return fail(casemate.ToolFailed, "", "the server answered error %d: %s", e.Code, quote(e.Message))
	}
	if _, typed := errors.AsType[*casemate.Error](err); err == nil || typed {
		return err
	}
	switch {
	case errors.Is(err, errCaller):
		return fail(casemate.Cancelled, "see why the caller's end failed", "%s", quote(err.Error()))
	case errors.Is(err, upstream.ErrOutput):
		return fail(casemate.Killed, "ask for less in one call, or raise output in the manifest", "its result was over the output limit of %s", size(k.tool.profile.Output))
	case errors.Is(err, guest.ErrProtocol):
		return fail(casemate.ToolFailed, "the server misbehaves: look at what it runs, and at its log", "the server %s was ended: %s", k.tool.Run.MCP.Server, quote(err.Error()))
	case errors.Is(err, upstream.ErrGone):
		kind, fix := casemate.ToolFailed, "its log has what it printed; the next call starts it afresh"
		if e, werr := g.exit(); werr == nil && e.Limit != "" {
			kind, fix = casemate.Killed, "raise "+e.Limit+" in the manifest; the next call starts it afresh"
		}
		return fail(kind, fix, "the server %s ended before it answered: %s", k.tool.Run.MCP.Server, died(g, err))
	}
	return fail(casemate.ToolFailed, "", "the server %s: %s", k.tool.Run.MCP.Server, quote(err.Error()))
}

// died says how a server that is gone ended; err is what upstream says.
func died(g *live, err error) string {
	if e, err := g.exit(); err == nil && (e.Limit != "" || e.Signal != 0) {
		return ended(e)
	}
	if e, ok := errors.AsType[upstream.Exited](err); ok {
		return fmt.Sprintf("its process ended with status %d", int32(e))
	}
	if errors.Is(err, guest.ErrProtocol) {
		return "it misbehaved"
	}
	return "it closed its pipe"
}
