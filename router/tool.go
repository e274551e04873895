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
)

// A tool is a casemate.Tool, compiled. It does not change once it is made.
type tool struct {
	*casemate.Tool
	digest  casemate.Digest
	profile casemate.Profile // with every default filled in
	schema  *schema
	backend *backend
	refused *casemate.Error // it cannot run here
	writes  bool            // it has a write grant
	counts  *counts
}

// compile makes a tool; where old is the same tool, its schema is taken over.
// A tool that no backend can confine is refused, and not an error.
func (r *Router) compile(t *casemate.Tool, old *tool) (*tool, error) {
	invalid := func(err error) (*tool, error) {
		return nil, &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Invalid,
			Err: fmt.Errorf("parameters: %w", err), Fix: "write the parameters as one JSON Schema 2020-12 of an object, without references to other documents"}
	}
	if !json.Valid(t.Parameters) { // which has no digest
		return invalid(errors.New("not JSON"))
	}
	n := &tool{Tool: t, digest: t.Digest(), profile: t.Security.WithDefaults()}
	n.writes = slices.ContainsFunc(n.profile.Filesystem, func(m casemate.Mount) bool { return m.Access == casemate.Write })
	if old != nil && old.digest == n.digest {
		n.Tool, n.schema = old.Tool, old.schema // one pointer for what is parked, too
	} else {
		s, err := compile(t.Parameters)
		if err != nil {
			return invalid(err)
		}
		n.schema = s
	}
	var err *casemate.Error
	if n.backend, err = r.choose(t.Name, n.profile); err != nil {
		n.refused = err
	}
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

// spec asks for a sandbox with the whole profile of t.
func spec(t *tool) casemate.Spec {
	return casemate.Spec{Tool: t.Tool, Grant: casemate.Grant{Tool: t.digest}}
}

// park is the pool's start function; see start.
func (r *Router) park(ctx context.Context, want *casemate.Tool) (casemate.Sandbox, error) {
	r.mu.Lock()
	t := r.tools[want.Name]
	r.mu.Unlock()
	if t == nil || t.Tool != want {
		return nil, &casemate.Error{Op: "park", Tool: want.Name, Kind: casemate.Gone, Err: errors.New("the tool was changed before it could start"), Fix: "call it again, after another look at the list of tools"}
	}
	return start(ctx, t)
}
