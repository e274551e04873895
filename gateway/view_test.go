package gateway_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/gatewaytest"
)

// withServers are the tools of gatewaytest and two servers with two tools each.
func withServers() []*casemate.Tool {
	tools := gatewaytest.Tools()
	for _, server := range []string{"a", "b"} {
		for _, own := range []string{"", "z", "y"} {
			name := casemate.ToolName(server)
			if own != "" {
				name += casemate.ToolName("_" + own)
			}
			m := &casemate.MCP{Server: server, Command: []string{"/bin/false"}, Tool: own, Listed: json.RawMessage(`{"name":"` + own + `"}`)}
			tools = append(tools, &casemate.Tool{Name: name, Parameters: json.RawMessage(`{"type":"object"}`), Run: casemate.Run{MCP: m}, Security: casemate.Profile{Scope: casemate.ScopeSession}})
		}
	}
	return tools
}

func names(tools []*casemate.Tool) (out []string) {
	for _, t := range tools {
		out = append(out, string(t.Name))
	}
	return out
}

func TestView(t *testing.T) {
	r, _ := gatewaytest.New(t)
	if err := r.Reload(withServers(), nil); err != nil {
		t.Fatal(err)
	}
	only := func(tools ...string) gateway.Router {
		return gateway.CredentialView(r, gateway.Credential{Name: "x", Tools: tools})
	}
	for _, c := range []struct {
		name           string
		view           gateway.Router
		tools, servers string
	}{
		{"everything", gateway.CredentialView(r, gateway.Credential{Name: "x"}), "[a_y a_z b_y b_z data kept run]", "[a b]"},
		{"nothing", only(), "[a_y a_z b_y b_z data kept run]", "[a b]"}, // nil is all
		{"an empty list", gateway.CredentialView(r, gateway.Credential{Name: "x", Tools: []string{}}), "[]", "[]"},
		{"one tool of a server", only("a_y"), "[a_y]", "[]"},
		{"all tools of a server", only("a_*"), "[a_y a_z]", "[a]"},
		{"all of one, by name", only("a_y", "a_z", "run"), "[a_y a_z run]", "[a]"},
		{"a server by its name", only("b"), "[]", "[b]"},
		{"a shim's", gateway.ServerView(r, "a"), "[y z]", "[a]"},
		{"no server's", gateway.ServerView(r, "c"), "[]", "[]"},
		{"a view of a view", gateway.ToolView(gateway.ServerView(r, "a"), func(n casemate.ToolName) bool { return n == "y" }), "[y]", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprint(names(c.view.Tools())); got != c.tools {
				t.Errorf("tools %s, want %s", got, c.tools)
			}
			if got := fmt.Sprint(names(c.view.Servers())); got != c.servers {
				t.Errorf("servers %s, want %s", got, c.servers)
			}
			shown := names(c.view.Tools())
			for _, name := range []string{"a_y", "a_z", "y", "run", "a", "nope"} {
				o := c.view.Call(t.Context(), casemate.Call{Tool: casemate.ToolName(name), Arguments: json.RawMessage(`{"code":"print x"}`)})
				hidden := o.Error != nil && o.Error.Kind == casemate.Invalid && strings.Contains(o.Error.Message, "no tool is called")
				if hidden == slices.Contains(shown, name) {
					t.Errorf("%s is shown %v, and its call: %v", name, !hidden, o.Error)
				}
				if o.Tool != casemate.ToolName(name) {
					t.Errorf("asked for %s, answered for %s", name, o.Tool)
				}
			}
			for _, name := range []string{"a", "b"} {
				o := c.view.Call(t.Context(), casemate.Call{Tool: casemate.ToolName(name), Method: "prompts/list", Arguments: json.RawMessage(`{}`)})
				hidden := o.Error != nil && o.Error.Kind == casemate.Invalid
				if hidden == slices.Contains(names(c.view.Servers()), name) {
					t.Errorf("the server %s is shown %v: %v", name, !hidden, o.Error)
				}
			}
		})
	}
}
