// Package router is the one path that a call takes. It handles what the
// planner and the guests send, both hostile, and holds no privilege: it asks a
// backend for sandboxes, and a recorder for records.
//
// # The way of a call
//
//	look up the tool            unknown: Invalid, with the nearest name
//	decode the arguments once   strictly: one reading for all that follows
//	check them                  against the tool's JSON Schema 2020-12
//	decide                      the same function for Call and Why
//	record the intent           no record, no run
//	wait for a slot             of the tool, and of all
//	claim a sandbox             parked, or started cold for the same profile
//	send the call, collect      under the profile's timeout and output limit
//	commit its write grants     only where the guest ended by itself
//	end the sandbox             or keep it for its session
//	label and record            and hand out the outcome
//
// An outcome is handed to the recorder before it is handed out, and not waited
// for: the next call does not run before it is appended. A sandbox that served
// one call ends behind its answer, 32 at once, and the outcome, which says what
// it used, is recorded then; with Call.Settle the answer waits for both.
//
// A call with a key passes this way once for its session: the same key again
// gets the same outcome, or joins the call while it runs. A key of which no
// outcome is kept any more answers Unknown, and never runs again. A call of
// which no intent was recorded did not run, and leaves its key free.
//
// # Scopes
//
// A tool of scope call gets a sandbox of its own for each call, which is ended
// when the guest says that it is done; what it sends later is not read. A tool
// of scope session has one guest for a session; its calls run one after
// another. A guest remembers: the label of each of its results is the join of
// all that it ever received. When such a guest is lost (by a limit, a breach,
// idleness), a call says so and fails before a fresh one serves the session. A
// call without a session gets a guest for itself.
//
// # MCP servers
//
// The tools of an MCP server, and the server itself (prompts, resources, …, by
// Call.Method), share one guest in a session, which serves 16 calls at once,
// and is spoken to by package upstream. A tool runs only as it was approved.
// Where the server ended, its calls in flight fail; the next call starts it
// again, and runs, and its result says so in a last part of its content (of a
// method: in _meta, "casemate/note"). Subscriptions and the level of logging are told
// to the new one. A server that said nothing for the whole time of a call, and
// serves no other, is ended. Cancelling a call tells the server, and kills
// nothing that is not the call's own. What a server writes to its grants is
// carried out when a call is answered, with whatever other calls wrote by then.
//
// # Streams and files
//
// A command (exec, shell) may be given standard input, signals and a terminal
// while it runs, and prints to its caller as it goes; its exit status is then
// its result, and no failure. What such a caller reads and writes must end
// with the call: a Read that blocks is left alone, an Output that blocks holds
// up the guest, and the end of the call. Files are those of the guest of a
// session; errors begin with a word of package guest, such as file_not_found.
//
// # Sessions
//
// Ids are made here, at random, and are never made again. So an id that is not
// of a live session was ended, or is of an earlier run, or was invented: it
// answers Gone in any case, for ever, without a list of the dead.
//
// # Limits
//
// Arguments: 8 MiB, 64 levels, 1,024 names at the top, 64 digits and an
// exponent of 400 for a number, one second of checking. Calls: Config says how
// many run at once; as many again wait (of one tool, three times as many), a
// minute at most, 8 for one guest of a session; their arguments are at most
// 256 MiB in all. More answer Busy. Keys: 512 bytes; 10,000 outcomes and 64 MiB
// of them are kept, of calls that were asked for last. Sessions: 10,000, then the one that is
// idle for longest ends. Guests of sessions: 64, ended after 30 idle minutes,
// or earlier where others need the place. Rates are counted in memory, from what
// Config.Recent says on; they survive a reload.
package router

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
)

// Config is what a router is made of.
type Config struct {
	Tools       []*casemate.Tool
	Refused     map[casemate.ToolName]*casemate.Error // tools that cannot be enforced here: listed, but a call of one fails with its error
	Backends    []casemate.Backend                    // cheapest first; none refuses every call
	Choose      func(*casemate.Tool) Choice           // of a tool's backend, by whoever compiled it for that; nil: the first of Backends that gives what is asked
	Recorder    casemate.Recorder                     // required
	Pool        pool.Limits
	Concurrency int              // calls that run at once, in all; 0 is 64
	PerTool     int              // and of one tool; 0 is 16
	Now         func() time.Time // nil is time.Now
	// Recent is when calls before this router's were allowed, oldest first; they
	// count for the rates of a minute and of a day.
	Recent map[casemate.ToolName][]time.Time

	// ServerLog gets what an MCP server prints on its standard error, and what of
	// its output was skipped and why: bounded, and as hostile as the server. It
	// must not block. Nil discards.
	ServerLog func(server casemate.ToolName, session casemate.SessionID, line string)
	Version   string // of Casemate, as MCP servers are told it
}

// A Router takes calls. Its methods may be used from any goroutine.
type Router struct {
	cfg      Config
	backends []*backend
	pool     *pool.Pool
	epoch    time.Time
	idle     time.Duration  // after which a guest of a session is ended
	slots    *gate          // one for each call that runs
	graves   chan struct{}  // one for each guest that ends behind its call's answer
	calls    sync.WaitGroup // calls in flight
	owned    sync.WaitGroup // every other goroutine, and every timer that is set

	reload sync.Mutex // one Reload at a time

	mu        sync.Mutex
	closed    bool
	tools     map[casemate.ToolName]*tool
	listed    []*casemate.Tool
	servers   []*casemate.Tool
	guests    map[casemate.Digest]bool // those that serve a tool
	counts    map[casemate.ToolName]*counts
	strangers Tally // of calls of what is no tool
	changed   chan struct{}
	inflight  map[casemate.CallID]*call
	bytes     int64 // of the arguments in flight
	sessions  map[casemate.SessionID]*session
	seated    int // guests of sessions
	live      map[*live]struct{}
	outcomes  uint64     // handed to the recorder, and not waited for
	owed      []*posted  // of them, those that are not known to be appended, oldest first
	settling  sync.Mutex // before mu

	order      *list.List // of *keyed whose outcome is kept, used last first
	keyedBytes int64      // of them
	remembered int        // keys of all sessions
}

// New compiles the schemas of the tools, and starts parking guests. A router
// must be shut down.
func New(c Config) (*Router, error) {
	if c.Recorder == nil {
		return nil, &casemate.Error{Op: "start", Kind: casemate.Invalid, Err: errors.New("no recorder: a router that keeps no record runs nothing")}
	}
	c.Concurrency = cmp.Or(max(c.Concurrency, 0), 64)
	c.PerTool = cmp.Or(max(c.PerTool, 0), 16)
	if c.Now == nil {
		c.Now = time.Now
	}
	r := &Router{
		cfg:      c,
		epoch:    c.Now(),
		idle:     maxIdle,
		slots:    newGate(c.Concurrency),
		graves:   make(chan struct{}, maxEnding),
		counts:   map[casemate.ToolName]*counts{},
		changed:  make(chan struct{}),
		inflight: map[casemate.CallID]*call{},
		sessions: map[casemate.SessionID]*session{},
		live:     map[*live]struct{}{},
		order:    list.New(),
	}
	for _, b := range c.Backends {
		r.backends = append(r.backends, newBackend(b))
	}
	r.pool = pool.New(c.Pool)
	if err := r.Reload(c.Tools, c.Refused); err != nil {
		r.pool.Close()
		return nil, err
	}
	return r, nil
}

// Tools returns the tools, refused ones too, sorted by name.
func (r *Router) Tools() []*casemate.Tool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.listed)
}

// Servers returns the MCP servers themselves, sorted by name; no planner calls
// them. They are asked by Call.Method.
func (r *Router) Servers() []*casemate.Tool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.servers)
}

// Changed returns a channel that is closed at the next reload.
func (r *Router) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Reload replaces the tools. Calls in flight finish with the tool that they
// began with; a guest of a session whose tool is not the same any more is
// lost. On an error nothing is changed.
func (r *Router) Reload(tools []*casemate.Tool, refused map[casemate.ToolName]*casemate.Error) error {
	r.reload.Lock()
	defer r.reload.Unlock()
	r.mu.Lock()
	old := r.tools
	r.mu.Unlock()

	next := map[casemate.ToolName]*tool{}
	guests := map[casemate.Digest]bool{} // those that serve a tool
	var kinds []*pool.Kind
	places := map[pool.Key]int{} // of kinds
	for _, t := range tools {
		if t == nil {
			return &casemate.Error{Op: "load", Kind: casemate.Invalid, Err: errors.New("a tool is nil")}
		}
		name := t.Name
		if t.Run.MCP != nil && t.Run.MCP.Tool == "" {
			name = serverName(name)
		}
		if next[name] != nil {
			return &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Invalid, Err: errors.New("two tools have this name"), Fix: "rename one of them"}
		}
		n, err := r.compile(t, old[name])
		if err != nil {
			return err
		}
		if e := refused[t.Name]; e != nil {
			n.refused = e
		}
		if n.refused == nil {
			if i, ok := places[n.kind.Key]; ok {
				kinds[i] = shared(kinds[i], n.kind)
			} else {
				places[n.kind.Key] = len(kinds)
				kinds = append(kinds, n.kind)
			}
		}
		next[name] = n
		guests[n.guest] = guests[n.guest] || n.refused == nil
	}

	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return closedError()
	}
	for name := range r.counts {
		if next[name] == nil && r.counts[name].inside == 0 {
			delete(r.counts, name)
		}
	}
	for name, t := range next {
		if r.counts[name] == nil {
			r.counts[name] = newCounts(r.cfg.PerTool)
			r.counts[name].seed(r.cfg.Recent[name], r.epoch)
		}
		t.counts = r.counts[name]
	}
	r.tools, r.guests = next, guests
	r.listed, r.servers = sorted(next, false), sorted(next, true)
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()

	r.pool.Want(kinds)
	r.unseat(func(s *session, g *live) string {
		t := next[g.tool.Name]
		if g.tool.Run.MCP != nil && !guests[g.tool.guest] || g.tool.Run.MCP == nil && (t == nil || t.digest != g.tool.digest || t.refused != nil) {
			return "the tool was changed"
		}
		return ""
	})
	return nil
}

// serverName is the name under which an MCP server itself is kept: no tool of
// a planner's has it.
func serverName(name casemate.ToolName) casemate.ToolName { return "mcp:" + name }

// sorted returns the tools, or the MCP servers, by their names.
func sorted(in map[casemate.ToolName]*tool, servers bool) []*casemate.Tool {
	var out []*casemate.Tool
	for _, t := range in {
		if t.base() == servers {
			out = append(out, t.Tool)
		}
	}
	slices.SortFunc(out, func(a, b *casemate.Tool) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Stop ends the running calls of a session as cancelled and its idle guests,
// and returns how many of both there were. The session goes on.
func (r *Router) Stop(id casemate.SessionID) int {
	calls, idle := r.stop(func(s casemate.SessionID) bool { return s == id }, stopped())
	return calls + idle
}

// StopAll ends every running call as cancelled and every guest of a session,
// and returns how many of both there were.
func (r *Router) StopAll() int {
	calls, idle := r.stop(func(casemate.SessionID) bool { return true }, stopped())
	return calls + idle
}

func stopped() *casemate.Error {
	return &casemate.Error{Op: "call", Kind: casemate.Cancelled, Err: errors.New("stopped by the operator")}
}

func (r *Router) stop(whose func(casemate.SessionID) bool, cause *casemate.Error) (calls, idle int) {
	r.mu.Lock()
	for _, c := range r.inflight {
		if whose(c.Session) {
			c.cancel(cause)
			calls++
		}
	}
	r.mu.Unlock()
	idle = r.unseat(func(s *session, _ *live) string {
		if whose(s.id) {
			return cause.Err.Error()
		}
		return ""
	})
	return calls, idle
}

// Shutdown refuses new calls, and returns when nothing is left: calls in
// flight finish, or are killed when ctx is done, which is then the error.
func (r *Router) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	over := make(chan struct{})
	go func() { r.calls.Wait(); close(over) }()
	var err error
	select {
	case <-over:
	case <-ctx.Done():
		if n, _ := r.stop(func(casemate.SessionID) bool { return true }, shutDown()); n > 0 {
			err = fmt.Errorf("%d calls were killed: %w", n, ctx.Err())
		}
		<-over
	}
	r.mu.Lock()
	ids := slices.Collect(maps.Keys(r.sessions))
	r.mu.Unlock()
	for _, id := range ids {
		r.EndSession(id)
	}
	r.pool.Close()
	r.owned.Wait()
	return errors.Join(err, r.settle(math.MaxUint64))
}

func shutDown() *casemate.Error {
	return &casemate.Error{Op: "call", Kind: casemate.Cancelled, Err: errors.New("the server shuts down")}
}

func closedError() *casemate.Error {
	return &casemate.Error{Op: "call", Kind: casemate.Busy, Err: errors.New("the server shuts down"), Fix: "start it again"}
}
