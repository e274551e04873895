package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/upstream"
)

// A tool is a casemate.Tool, compiled. It does not change once it is made.
type tool struct {
	*casemate.Tool
	digest  casemate.Digest
	guest   casemate.Digest  // of the sandbox that serves it
	profile casemate.Profile // with every default filled in
	schema  *schema
	backend *backend
	choice  *Choice         // of backend; nil where the router made it
	refused *casemate.Error // it cannot run here
	writes  bool            // it has a write grant
	counts  *counts
	kind    *pool.Kind // of its guest; of an MCP server, as it is told nothing of its client
}

// base says whether t is an MCP server itself, which no planner calls.
func (t *tool) base() bool { return t.Run.MCP != nil && t.Run.MCP.Tool == "" }

// compile makes a tool; where old is the same tool, its schema is taken over.
// A tool that no backend can confine is refused, and not an error; nor is one
// of an MCP server whose schema is none, for which its operator can do nothing.
func (r *Router) compile(t *casemate.Tool, old *tool) (*tool, error) {
	invalid := func(err error) (*tool, error) {
		return nil, &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Invalid,
			Err: fmt.Errorf("parameters: %w", err), Fix: "write the parameters as one JSON Schema 2020-12 of an object, without references to other documents"}
	}
	if m := t.Run.MCP; m != nil {
		t = listedTool(t)
	}
	if !json.Valid(t.Parameters) { // which has no digest
		return invalid(errors.New("not JSON"))
	}
	n := &tool{Tool: t, digest: t.Digest(), profile: t.Security.WithDefaults()}
	if n.guest = n.digest; t.Run.MCP != nil {
		n.guest = t.Guest()
	}
	n.writes = slices.ContainsFunc(n.profile.Filesystem, func(m casemate.Mount) bool { return m.Access == casemate.Write })
	if old != nil && old.digest == n.digest && (old.schema != nil || n.base()) {
		n.Tool, n.schema = old.Tool, old.schema // one pointer for what is parked, too
	} else if !n.base() {
		s, err := compile(t.Parameters)
		switch {
		case err != nil && t.Run.MCP == nil:
			return invalid(err)
		case err != nil:
			n.refused = &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Unsupported, Err: fmt.Errorf("its server's schema of its arguments cannot be used: %w", err), Fix: "ask the server's maker; its other tools work"}
			return n, nil
		}
		n.schema = s
	}
	var err *casemate.Error
	if n.backend, n.choice, err = r.backendOf(t, n.profile); err != nil {
		n.refused = err
		return n, nil
	}
	var o upstream.Options
	if n.Run.MCP != nil {
		o = r.options(n)
	}
	n.kind = r.kind(n, n.guest, o)
	return n, nil
}

// A backend is a casemate.Backend and what it can enforce, asked once: that
// is of the host, and costs tens of milliseconds.
type backend struct {
	casemate.Backend
	capabilities func() (casemate.Capabilities, error)
}

func newBackend(b casemate.Backend) *backend {
	return &backend{b, sync.OnceValues(func() (casemate.Capabilities, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return b.Probe(ctx)
	})}
}

var assurances = []casemate.Assurance{casemate.Weak, casemate.Moderate, casemate.Strong, casemate.VeryStrong}

// backendOf is the backend that was chosen for t, or that the router chooses.
func (r *Router) backendOf(t *casemate.Tool, p casemate.Profile) (*backend, *Choice, *casemate.Error) {
	if r.cfg.Choose == nil {
		b, err := r.choose(t.Name, p)
		return b, nil, err
	}
	c := r.cfg.Choose(t)
	for _, b := range r.backends {
		if b.Name() == c.Backend {
			return b, &c, nil
		}
	}
	if c.Refused == nil {
		c.Refused = &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Unsupported, Err: errors.New("no backend was chosen for it"), Fix: "run casemate doctor for what this host can enforce, and what it needs"}
	}
	return nil, &c, c.Refused
}

// choose returns the cheapest backend for a profile. Where only one can be
// meant and it is asked for no more than weak assurance, it is not probed
// first: its Start refuses what it cannot enforce.
func (r *Router) choose(name casemate.ToolName, p casemate.Profile) (*backend, *casemate.Error) {
	refuse := func(format string, a ...any) *casemate.Error {
		return &casemate.Error{Op: "load", Tool: name, Kind: casemate.Unsupported, Err: fmt.Errorf(format, a...), Fix: "run casemate doctor for what this host can enforce, and what it needs"}
	}
	asked := slices.Index(assurances, p.Assurance)
	if asked < 0 {
		return nil, refuse("no assurance is called %s", quote(string(p.Assurance)))
	}
	var meant []*backend
	for _, b := range r.backends {
		if p.Isolation == "auto" || p.Isolation == b.Name() {
			meant = append(meant, b)
		}
	}
	if len(meant) == 1 && asked == 0 {
		return meant[0], nil
	}
	var why []string
	for _, b := range meant {
		c, err := b.capabilities()
		switch {
		case err != nil:
			why = append(why, b.Name()+": "+err.Error())
		case !c.Available:
			why = append(why, b.Name()+" is not available here")
		case slices.Index(assurances, c.Assurance) < asked:
			why = append(why, fmt.Sprintf("%s gives %s assurance", b.Name(), c.Assurance))
		default:
			return b, nil
		}
	}
	if len(meant) == 0 {
		return nil, refuse("isolation: no backend %s is there", quote(p.Isolation))
	}
	return nil, refuse("no backend gives %s assurance: %s", p.Assurance, strings.Join(why, "; "))
}

// listedTool is t with everything that has to be JSON for it to have a digest.
func listedTool(t *casemate.Tool) *casemate.Tool {
	n, m := *t, *t.Run.MCP
	if m.Listed != nil && !json.Valid(m.Listed) {
		m.Listed = nil // never approved
	}
	if m.Tool == "" || !json.Valid(n.Parameters) {
		n.Parameters = json.RawMessage(`{"type":"object"}`)
		if m.Tool != "" {
			n.Parameters = json.RawMessage(`null`) // which no schema is
		}
	}
	n.Run.MCP = &m
	return &n
}
