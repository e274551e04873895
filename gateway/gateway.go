// Package gateway is the front of the router: what an agent talks to. This
// package holds what every protocol shares, and the HTTP door that stands
// before all of them; gateway/mcp and gateway/api hold the protocols.
//
// # The HTTP door
//
// A request passes these checks in this order, so that whoever fails one
// learns nothing that a later one would tell:
//
//  1. Host: a loopback name or the address that the connection came in by,
//     with its port, or a configured name (421). This is what stops DNS
//     rebinding: a page that made its own name resolve to this machine still
//     sends its own name.
//  2. Origin: absent, or the same host and port as Host (403), and no
//     Sec-Fetch-Site that says another site asks.
//  3. The method: OPTIONS, TRACE and CONNECT are refused (405). There is no
//     CORS here, so no preflight ever succeeds.
//  4. The bearer token of one of the callers, on loopback too (401); on a unix
//     socket that only its user reaches, none. GET /healthz alone needs none,
//     and says "ok" and nothing else. Then the context that the query asks for:
//     one that the operator did not list for the caller is refused (403), and
//     so is a query that cannot be read (400).
//  5. Bounds on requests at once (503), on the body (413) and on how long it
//     may take to arrive (408). The body is read before the route is called.
//
// # JSON
//
// Check is the one strict reading of a message. Everything that a later
// reader could take in two ways is refused there, before anything is decided
// on it: keys that are equal, or equal but for case, in one object; invalid
// UTF-8; half a surrogate pair; deep nesting.
//
// # Sessions
//
// A session of Casemate is never one of a transport. It is named by the
// caller, and private to the caller's credential; see Sessions.
//
// # Limits
//
// The door speaks HTTP/1.1 without TLS; put a proxy before it where it leaves
// the machine, and name the proxy's host in Config.Hosts. Failed tokens are
// not rate-limited: a token is generated with 256 bits.
package gateway

import (
	"context"

	"github.com/casemate/casemate"
)

// A Router is what the gateway needs of the router.
type Router interface {
	// Tools returns the tools, sorted by name.
	Tools() []*casemate.Tool

	// Servers returns the MCP servers themselves, sorted by name: what is no
	// tool is asked of them, by Call.Method.
	Servers() []*casemate.Tool

	// Attach lets the MCP servers of a session speak to a client outside of
	// calls, until detach.
	Attach(casemate.SessionID, casemate.Client) (detach func())

	// Call runs one call and blocks until it is over. Cancelling ctx kills its
	// sandbox. It never returns nil.
	Call(context.Context, casemate.Call) *casemate.Outcome

	NewSession() casemate.SessionID
	EndSession(casemate.SessionID)

	// Changed returns a channel that is closed at the next change of Tools or
	// Servers.
	Changed() <-chan struct{}
}

// A Caller is the name of one credential.
type Caller string

// PlannerError is what a planner may know of the error of a call. Of a
// denial, and of a fault of ours, that is constant: a hijacked planner must
// not learn rules or the host by asking. The record of the call has the rest.
func PlannerError(e *casemate.ErrorJSON) *casemate.ErrorJSON {
	if e == nil {
		return nil
	}
	switch e.Kind {
	case casemate.Denied:
		return &casemate.ErrorJSON{Kind: e.Kind, Message: "the call was denied"}
	case casemate.Internal:
		return &casemate.ErrorJSON{Kind: e.Kind, Message: "the call failed inside Casemate",
			Fix: "the operator finds the reason with: casemate log"}
	}
	return e
}
