// Package router is the one path that a call takes.
package router

import (
	"context"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
)

// Config is what a router is made of.
type Config struct {
	Tools       []*casemate.Tool
	Refused     map[casemate.ToolName]*casemate.Error // tools that cannot be enforced here: listed, but a call of one fails with its error
	Backends    []casemate.Backend                    // cheapest first
	Recorder    casemate.Recorder
	Pool        pool.Limits
	Concurrency int              // calls that run at once, in all; 0 is 64
	PerTool     int              // and of one tool; 0 is 16
	Now         func() time.Time // nil is time.Now
}

// A Why is what would be decided about a call, and enforced.
type Why struct {
	Tool     casemate.ToolName   `json:"tool"`
	Digest   casemate.Digest     `json:"digest,omitempty"`
	Decision *casemate.Decision  `json:"decision"`
	Error    *casemate.ErrorJSON `json:"error,omitempty"` // that the call would end with
	Backend  string              `json:"backend,omitempty"`
	Security *casemate.Profile   `json:"security,omitempty"` // with every default filled in
	Controls []casemate.Control  `json:"controls,omitempty"` // of the backend on this host
}

// A Status is what is running and waiting.
type Status struct {
	Pools []PoolStatus `json:"pools"`
	Calls []CallStatus `json:"calls"` // in flight, oldest first
}

// A PoolStatus is the sandboxes of one tool.
type PoolStatus struct {
	Key        casemate.Digest   `json:"key"`
	Tool       casemate.ToolName `json:"tool"`
	Backend    string            `json:"backend,omitempty"`
	Parked     int               `json:"parked"`
	Busy       int               `json:"busy"` // that serve a call or a session
	ParkedPids []int             `json:"parked_pids"`
	Error      string            `json:"error,omitempty"` // why none could be parked
}

// A CallStatus is one call in flight.
type CallStatus struct {
	Call    casemate.CallID    `json:"call"`
	Tool    casemate.ToolName  `json:"tool"`
	Session casemate.SessionID `json:"session,omitempty"`
	Since   time.Time          `json:"since"`
}

// A Router takes calls. Its methods may be used from any goroutine.
type Router struct{ cfg Config }

// New compiles the schemas of the tools, and starts parking guests.
func New(c Config) (*Router, error) { return &Router{cfg: c}, nil }

// Tools returns the tools, refused ones too, sorted by name.
func (r *Router) Tools() []*casemate.Tool { return r.cfg.Tools }

// Call runs one call and blocks until it is over. Cancelling ctx kills its
// sandbox. It never returns nil.
func (r *Router) Call(ctx context.Context, c casemate.Call) *casemate.Outcome { return nil }

// Why decides about a call without running it.
func (r *Router) Why(ctx context.Context, c casemate.Call) *Why { return nil }

// NewSession makes a session.
func (r *Router) NewSession() casemate.SessionID { return "" }

// EndSession ends a session for good: its calls are cancelled, its guests
// killed, and its id answers Gone from then on.
func (r *Router) EndSession(id casemate.SessionID) {}

// Stop ends the running calls of a session as cancelled, and returns how
// many there were.
func (r *Router) Stop(id casemate.SessionID) int { return 0 }

// StopAll ends every running call as cancelled, and returns how many there
// were.
func (r *Router) StopAll() int { return 0 }

// Reload replaces the tools. Calls in flight finish with the tool that they
// began with. On an error nothing is changed.
func (r *Router) Reload(tools []*casemate.Tool, refused map[casemate.ToolName]*casemate.Error) error {
	return nil
}

// Changed returns a channel that is closed at the next reload.
func (r *Router) Changed() <-chan struct{} { return nil }

// Status says what runs and what waits.
func (r *Router) Status() Status { return Status{} }

// Shutdown refuses new calls, and returns when nothing is left: calls in
// flight finish, or are killed when ctx is done.
func (r *Router) Shutdown(ctx context.Context) error { return nil }
