package router

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/casemate/casemate"
)

// checkLimits says whether a call may take those limits from its tool: none is
// more than the profile's, and none concerns a sandbox that other calls share.
func (t *tool) checkLimits(c casemate.Call) error {
	l, p := &c.Limits, t.profile
	refuse := func(fix, field, format string, a ...any) error {
		return &casemate.Error{Op: "call", Tool: t.Name, Kind: casemate.Invalid, Err: fmt.Errorf("limits."+field+": "+format, a...), Fix: fix}
	}
	const less = "ask for less, or raise it in the manifest"
	switch {
	case l.Zero():
		return nil
	case l.Memory > p.Memory:
		return refuse(less, "memory", "%s is more than the %s of its tool", size(l.Memory), size(p.Memory))
	case l.Disk > p.Disk:
		return refuse(less, "disk", "%s is more than the %s of its tool", size(l.Disk), size(p.Disk))
	case l.Output > p.Output:
		return refuse(less, "output", "%s is more than the %s of its tool", size(l.Output), size(p.Output))
	case l.CPU > p.CPU:
		return refuse(less, "cpu", "%g is more than the %g of its tool", l.CPU, p.CPU)
	case l.Processes > p.Processes:
		return refuse(less, "processes", "%d is more than the %d of its tool", l.Processes, p.Processes)
	case l.Timeout > p.Timeout:
		return refuse(less, "timeout", "%s is more than the %s of its tool", l.Timeout, p.Timeout)
	case l.Memory < 0 || l.Disk < 0 || l.Output < 0 || !(l.CPU >= 0) || l.Processes < 0 || l.Timeout < 0:
		return refuse("leave it out", "memory, disk, output, cpu, processes, timeout", "none is negative")
	}
	for _, at := range l.Without {
		if !slices.ContainsFunc(p.Filesystem, func(m casemate.Mount) bool { return m.At == at }) {
			return refuse("name one of "+places(p.Filesystem), "without", "its tool has no mount at %s", quote(at))
		}
	}
	field := ""
	for _, f := range []struct {
		name string
		set  bool
	}{{"memory", l.Memory > 0}, {"disk", l.Disk > 0}, {"cpu", l.CPU > 0}, {"processes", l.Processes > 0}, {"without", len(l.Without) > 0}, {"output", l.Output > 0 && t.Run.MCP != nil}} {
		if f.set && field == "" {
			field = f.name
		}
	}
	switch {
	case field == "":
	case t.Run.MCP != nil:
		return refuse("limit the server in the manifest; timeout may be limited for one call", field, "an MCP server serves many calls")
	case c.Session != "" && p.Scope == casemate.ScopeSession:
		return refuse("call it without a session; timeout and output may be limited for one call", field, "its sandbox serves a session")
	}
	return nil
}

func places(ms []casemate.Mount) string {
	var at []string
	for _, m := range ms {
		at = append(at, m.At)
	}
	if at == nil {
		return "none: it has no mount"
	}
	return strings.Join(at, ", ")
}

// grant is what of the call's limits concerns its sandbox.
func (k *call) grant() casemate.Grant {
	l := &k.Limits
	return casemate.Grant{Memory: l.Memory, Disk: l.Disk, CPU: l.CPU, Processes: l.Processes, Without: l.Without}
}

// output is how many bytes the call may give.
func (k *call) output() int64 {
	if k.Limits.Output > 0 {
		return min(k.Limits.Output, k.tool.profile.Output)
	}
	return k.tool.profile.Output
}

// narrowed takes from a guest that was claimed for the call alone what the
// call's limits take. Where that cannot be taken late, the guest is ended, and
// one is started that never had it; there is no wider way.
func (k *call) narrowed(ctx context.Context, g *live, warm bool) (*live, bool, error) {
	grant := k.grant()
	if grant.Memory == 0 && grant.Disk == 0 && grant.CPU == 0 && grant.Processes == 0 && len(grant.Without) == 0 {
		return g, warm, nil
	}
	if n, ok := g.sb.(casemate.Narrower); ok && n.Narrow(ctx, grant) == nil {
		return g, warm, nil
	}
	g.close()
	if ctx.Err() != nil {
		return nil, false, cancelled(ctx, k.Tool)
	}
	key := g.key
	grant.Tool = key
	sb, err := start(ctx, k.tool, grant)
	if err != nil {
		return nil, false, err
	}
	return k.r.own(k.tool, key, sb), false, nil
}

// enforced is what was on in the call: in its sandbox, and of its own limits.
func (k *call) enforced(g *live) *casemate.Enforced {
	e := g.sb.Enforced()
	if l := &k.Limits; !l.Zero() {
		e.Timeout = &casemate.Limit{Limit: k.time().Milliseconds(), By: "router"}
		e.Output = &casemate.Limit{Limit: k.output(), By: "router"}
		e.Without = l.Without
	}
	return &e
}

// time is how long the call may take: the profile's timeout, or its own where
// that is shorter.
func (k *call) time() time.Duration {
	t := k.tool.profile.Timeout
	for _, own := range []time.Duration{k.Timeout, k.Limits.Timeout} {
		if own > 0 {
			t = min(t, own)
		}
	}
	return t
}
