package catalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// A server is one MCP server of a configuration. What its tools are is not in
// the file: see Listing.
type server struct {
	base    *casemate.Tool // without Listed
	profile *profile       // of the server itself
	tools   map[string]*profile
	prefix  *string // nil: as the number of servers says
	refused *casemate.Error
}

// profiles are those of the server's sandboxes, its own first.
func (s *server) profiles() []*profile {
	out := []*profile{s.profile}
	for _, name := range slices.Sorted(maps.Keys(s.tools)) {
		out = append(out, s.tools[name])
	}
	return out
}

// of is the profile of the tool that the server calls by that name.
func (s *server) of(tool string) *profile {
	return cmp.Or(s.tools[tool], s.tools["*"], s.profile)
}

// server builds the MCP server at n; before is how many mistakes there were
// before its entry.
func (b *builder) server(n *yaml.Node, key string, t *casemate.Tool, p *profile, before int) {
	r, at := get(n, "mcp"), key+".mcp"
	if r == nil {
		r, at = get(get(n, "run"), "mcp"), key+".run.mcp"
	}
	if params := get(n, "parameters"); params != nil {
		b.add(getKey(n, "parameters"), key+".parameters", "a server lists the parameters of its tools; take these away")
	}
	if f := get(n, "flow"); f != nil && get(f, "args") != nil {
		b.add(getKey(f, "args"), key+".flow.args", "a server has several tools, whose arguments these are not; take them away")
	}
	b.flow(get(n, "flow"), key+".flow", nil)
	for i, e := range get(r, "command").Content {
		if strings.ContainsRune(e.Value, 0) || i == 0 && e.Value == "" {
			b.add(e, fmt.Sprintf("%s.command[%d]", at, i), "is no element of a command")
		}
	}
	if !p.scoped {
		p.Scope = casemate.ScopeSession
	}
	s := &server{base: t, profile: p, tools: map[string]*profile{}}
	t.Parameters = json.RawMessage(`{"type":"object"}`)
	t.Run.MCP = &casemate.MCP{Server: string(t.Name), Command: texts(get(r, "command")), Split: get(r, "split") != nil,
		Sampling: yes(get(r, "sampling")), Elicitation: yes(get(r, "elicitation"))}
	if f := get(r, "prefix"); f != nil {
		s.prefix = &f.Value
	}
	if ts := get(r, "tools"); ts != nil && !t.Run.MCP.Split {
		b.add(getKey(r, "tools"), at+".tools", "a tool has a profile of its own only in a sandbox of its own; add split: per-tool beside it")
	} else if ts != nil && b.count() == before {
		base := b.spelledOut(get(n, "security"))
		for i := 0; i < len(ts.Content); i += 2 {
			name := ts.Content[i].Value
			own := b.security(b.overridden(base, get(ts.Content[i+1], "security")), join(at+".tools", name)+".security")
			if !own.scoped {
				own.Scope = casemate.ScopeSession
			}
			s.tools[name] = own
		}
	}
	b.claim(t.Name, get(n, "name"), key)
	if b.count() > before {
		return
	}
	if b.opt.Pass {
		for _, p := range s.profiles() {
			p.leave()
		}
	}
	t.Security = p.Profile
	pins := map[string]casemate.Digest{}
	names := append([]string{""}, slices.Sorted(maps.Keys(s.tools))...) // "" is the server's own
	for i, p := range s.profiles() {
		if len(p.beyond) > 0 {
			b.unsupported(t.Name, strings.Join(p.beyond, ", "), p.fix)
			return
		}
		u := *t
		u.Security = p.Profile
		refs := b.references(&u)
		pins[names[i]] = b.pin(&u, p, "", refs)
		b.trusted(string(t.Name)+"/"+names[i], p.Profile)
		if i > 0 {
			u.Name += casemate.ToolName(", its tool " + names[i])
		}
		b.config.grants = append(b.config.grants, summary(&u, p))
		if len(p.unset) > 0 && s.refused == nil {
			s.refused = &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Unsupported, Err: errors.New(p.unset[0].why()), Fix: "set it, or give a value"}
		}
	}
	b.config.servers = append(b.config.servers, s)
	b.config.pins[t.Name] = pinServer(pins, s.prefix)
}

func yes(n *yaml.Node) bool { return n != nil && strings.EqualFold(n.Value, "true") }

// spelledOut is the mapping of a profile, or of the one that n names.
func (b *builder) spelledOut(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.ScalarNode {
		return b.written[n.Value]
	}
	return n
}

// overridden is base with every key that own states in the place of base's.
func (b *builder) overridden(base, own *yaml.Node) *yaml.Node {
	if own.Kind == yaml.ScalarNode {
		named := b.spelledOut(own)
		if named == nil {
			return own // security says that there is none of that name
		}
		own = named
	}
	out := &yaml.Node{Kind: yaml.MappingNode, Tag: own.Tag, Line: own.Line, Column: own.Column, Content: slices.Clone(own.Content)}
	if base != nil {
		for i := 0; i < len(base.Content); i += 2 {
			if get(own, base.Content[i].Value) == nil {
				out.Content = append(out.Content, base.Content[i], base.Content[i+1])
			}
		}
	}
	return out
}

// pinServer is the pin of a server: of its own profile and of its tools'.
func pinServer(profiles map[string]casemate.Digest, prefix *string) casemate.Digest {
	j, err := json.Marshal(struct {
		Profiles map[string]casemate.Digest `json:"profiles"`
		Prefix   *string                    `json:"prefix,omitempty"`
	}{profiles, prefix})
	if err != nil { // maps of text always marshal
		panic("catalog: bug: " + err.Error())
	}
	return digest(j)
}
