package router

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/pool"
)

// A Why is what would be decided about a call, and enforced.
type Why struct {
	Tool     casemate.ToolName   `json:"tool"`
	Digest   casemate.Digest     `json:"digest,omitempty"`
	Guest    casemate.Digest     `json:"guest,omitempty"` // the key of its pool
	Decision *casemate.Decision  `json:"decision"`
	Error    *casemate.ErrorJSON `json:"error,omitempty"` // that the call would end with
	Backend  string              `json:"backend,omitempty"`
	Security *casemate.Profile   `json:"security,omitempty"` // with every default filled in
	Choice   *Choice             `json:"choice,omitempty"`   // of the backend, and what the others lack
	Controls []casemate.Control  `json:"controls,omitempty"` // of the backend, on this host
}

// Why decides about a call without running it, and books nothing. Without
// arguments it is asked about the tool alone. The first time it blocks for
// the probe of a backend, some tens of milliseconds.
func (r *Router) Why(_ context.Context, c casemate.Call) *Why {
	w := &Why{Tool: casemate.ToolName(cut(string(c.Tool), 128))}
	no := func(err error) *Why {
		w.Error = casemate.JSON(err)
		if w.Decision == nil {
			w.Decision = &casemate.Decision{Effect: "deny", Reasons: []string{err.Error()}}
		}
		return w
	}
	t, err := r.lookup(c.Tool, c.Method != "")
	if err != nil {
		return no(err)
	}
	w.Digest, w.Guest, w.Security, w.Choice = t.digest, t.guest, &t.profile, t.choice
	if t.backend != nil {
		w.Backend = t.backend.Name()
		if caps, err := t.backend.capabilities(); err == nil {
			w.Controls = caps.Controls
			for _, c := range caps.Controls {
				if c.State == "missing" {
					return no(&casemate.Error{Op: "start", Tool: t.Name, Kind: casemate.Unsupported, Err: fmt.Errorf("%s cannot be enforced here: %s", c.Name, c.Why), Fix: c.Fix})
				}
			}
		}
	}
	var pairs []guest.Pair
	if t.refused == nil && c.Arguments != nil {
		if pairs, err = t.prepare(c); err != nil {
			return no(err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.room(len(c.Arguments), c.Session != "" && r.sessions[c.Session] != nil && r.sessions[c.Session].busy == 0); e != nil {
		return no(e)
	}
	var s *session
	if c.Session != "" {
		if s = r.sessions[c.Session]; s == nil {
			return no(gone(c.Session))
		}
	}
	var e *casemate.Error
	if w.Decision, e = r.decide(t, s, pairs); e != nil {
		return no(e)
	}
	return w
}

// A Status is what is running and waiting.
type Status struct {
	Pools    []PoolStatus `json:"pools"`
	Calls    []CallStatus `json:"calls"`    // in flight, oldest first
	Tallies  []Tally      `json:"tallies"`  // of the calls that ended
	Sessions int          `json:"sessions"` // live ones
}

// A PoolStatus is the sandboxes of one guest, and of the tools that it serves.
type PoolStatus struct {
	Key        casemate.Digest   `json:"key"`  // of the guest
	Tool       casemate.ToolName `json:"tool"` // of them, the first by its name; of MCP, its server
	Backend    string            `json:"backend,omitempty"`
	Parked     int               `json:"parked"`
	Busy       int               `json:"busy"`        // that serve a call or a session
	Wanted     int               `json:"wanted"`      // parked ones, as the demand is
	Starting   int               `json:"starting"`    // starts in progress
	Waiting    int               `json:"waiting"`     // claims that wait for a start
	Bytes      int64             `json:"bytes"`       // that the parked ones hold
	ParkedPids []int             `json:"parked_pids"` // where the backend knows them
	Error      string            `json:"error,omitempty"`
	pool.Totals
}

// add counts a place of the guest's.
func (ps *PoolStatus) add(p pool.Place) {
	ps.Parked += len(p.Parked)
	ps.Wanted += p.Wanted
	ps.Starting += p.Starting
	ps.Waiting += p.Waiting
	ps.Bytes += p.Bytes
	for _, sb := range p.Parked {
		if p, ok := sb.(interface{ Pid() int }); ok {
			ps.ParkedPids = append(ps.ParkedPids, p.Pid())
		}
	}
	if p.Err != nil {
		ps.Error = p.Err.Error()
	}
	ps.Totals.Add(p.Totals)
}

// A CallStatus is one call in flight.
type CallStatus struct {
	Call    casemate.CallID    `json:"call"`
	Tool    casemate.ToolName  `json:"tool"`
	Session casemate.SessionID `json:"session,omitempty"`
	Since   time.Time          `json:"since"`
}

// Status says what runs and what waits. A sandbox that has a method
// Pid() int shows its first process.
func (r *Router) Status() Status {
	st := Status{Pools: []PoolStatus{}, Calls: []CallStatus{}}
	places := map[casemate.Digest][]pool.Place{}
	for _, p := range r.pool.Places() {
		places[p.Key.Guest] = append(places[p.Key.Guest], p)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	busy := map[casemate.Digest]int{}
	shown := map[casemate.Digest]*tool{}
	show := func(d casemate.Digest, t *tool) {
		if o := shown[d]; o == nil || t.Name < o.Name {
			shown[d] = t
		}
	}
	for _, t := range r.tools {
		show(t.guest, t)
	}
	for g := range r.live {
		busy[g.key]++
		show(g.key, g.tool) // of before a reload, too
	}
	for d, t := range shown {
		ps := PoolStatus{Key: d, Tool: t.Name, Busy: busy[d], ParkedPids: []int{}}
		if t.Run.MCP != nil {
			ps.Tool = casemate.ToolName(t.Run.MCP.Server)
		}
		if t.backend != nil {
			ps.Backend = t.backend.Name()
		}
		for _, p := range places[d] {
			ps.add(p)
		}
		if t.refused != nil {
			ps.Error = t.refused.Error()
		}
		st.Pools = append(st.Pools, ps)
	}
	slices.SortFunc(st.Pools, func(a, b PoolStatus) int {
		return slices.Compare([]string{string(a.Tool), string(a.Key)}, []string{string(b.Tool), string(b.Key)})
	})
	for _, c := range r.inflight {
		st.Calls = append(st.Calls, CallStatus{c.ID, c.Tool, c.Session, c.since})
	}
	st.Tallies, st.Sessions = r.tallies(), len(r.sessions)
	slices.SortFunc(st.Calls, func(a, b CallStatus) int { return a.Since.Compare(b.Since) })
	return st
}
