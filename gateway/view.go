package gateway

import (
	"context"
	"fmt"
	"slices"

	"github.com/casemate/casemate"
)

// A View is a Router that shows some of the tools of another, and may show
// them by other names. What it does not show cannot be called through it, and
// the error of such a call is that of a tool that does not exist.
//
// An MCP server itself (its prompts, resources and completion) is one of the
// Servers of a view that shows all of its tools, or its own name: who may call
// one tool of a server gets not what else it has.
type View struct {
	Router
	server string                       // whose tools are shown, by its own names for them; "" is all
	may    func(casemate.ToolName) bool // nil is all
}

// ServerView shows the tools of one MCP server, by the names that the server
// itself has for them.
func ServerView(r Router, server string) *View { return &View{Router: r, server: server} }

// ToolView shows the tools that may reports true for.
func ToolView(r Router, may func(casemate.ToolName) bool) *View { return &View{Router: r, may: may} }

// CredentialView shows what a credential may call.
func CredentialView(r Router, c Credential) Router {
	if c.All() {
		return r
	}
	return ToolView(r, c.May)
}

// Server is the server whose tools alone are shown, "" where that is not so.
func (v *View) Server() string { return v.server }

func (v *View) shows(t *casemate.Tool) bool {
	if v.server != "" && (t.Run.MCP == nil || t.Run.MCP.Server != v.server) {
		return false
	}
	return v.may == nil || v.may(t.Name)
}

// shown is the name of t in the view.
func (v *View) shown(t *casemate.Tool) casemate.ToolName {
	if v.server != "" && t.Run.MCP.Tool != "" {
		return casemate.ToolName(t.Run.MCP.Tool)
	}
	return t.Name
}

// Tools returns the tools that are shown, sorted by name.
func (v *View) Tools() []*casemate.Tool {
	var out []*casemate.Tool
	for _, t := range v.Router.Tools() {
		if !v.shows(t) {
			continue
		}
		if name := v.shown(t); name != t.Name {
			c := *t
			c.Name = name
			t = &c
		}
		out = append(out, t)
	}
	if v.server != "" {
		slices.SortFunc(out, byName)
	}
	return out
}

func byName(a, b *casemate.Tool) int {
	switch {
	case a.Name < b.Name:
		return -1
	case a.Name > b.Name:
		return 1
	}
	return 0
}

// Servers returns the MCP servers themselves that are shown, sorted by name.
func (v *View) Servers() []*casemate.Tool {
	var out []*casemate.Tool
	var tools []*casemate.Tool
	for _, s := range v.Router.Servers() {
		if v.server != "" && s.Run.MCP.Server != v.server {
			continue
		}
		if v.may != nil && !v.may(s.Name) {
			if tools == nil {
				tools = v.Router.Tools()
			}
			if !v.showsAll(tools, s.Run.MCP.Server) {
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// showsAll says whether a server has tools, and all of them are shown.
func (v *View) showsAll(tools []*casemate.Tool, server string) bool {
	n := 0
	for _, t := range tools {
		if m := t.Run.MCP; m != nil && m.Server == server {
			if !v.shows(t) {
				return false
			}
			n++
		}
	}
	return n > 0
}

// Call runs one call of a tool or a server that is shown.
func (v *View) Call(ctx context.Context, c casemate.Call) *casemate.Outcome {
	asked := c.Tool
	var ok bool
	if c.Tool, ok = v.real(c); !ok {
		e := &casemate.Error{Op: "call", Kind: casemate.Invalid, Err: fmt.Errorf("no tool is called %.128q", asked), Fix: "choose one of the list of tools"}
		return &casemate.Outcome{Tool: asked, Error: casemate.JSON(e)}
	}
	o := v.Router.Call(ctx, c)
	if o.Tool != asked {
		renamed := *o
		renamed.Tool = asked
		o = &renamed
	}
	return o
}

// real is the name that the router knows what c calls by.
func (v *View) real(c casemate.Call) (casemate.ToolName, bool) {
	if c.Method != "" {
		for _, s := range v.Servers() {
			if s.Name == c.Tool {
				return s.Name, true
			}
		}
		return "", false
	}
	for _, t := range v.Router.Tools() {
		if v.shows(t) && v.shown(t) == c.Tool {
			return t.Name, true
		}
	}
	return "", false
}
