package mcp

import (
	"context"
	"encoding/json"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// Resources keep their URIs, whatever server they are of. Which one that is is
// known by the lists: a URI that two servers list is neither's, for one of them
// may have taken it from the other.

// The bounds of what is remembered of resources.
const (
	maxOwners = 1 << 16 // URIs
	maxOwned  = 4 << 20 // bytes of those of one server
	maxPages  = 100     // of one list, where it is read to find a resource
)

// An owner is who lists a resource or a template.
type owner struct {
	server   string
	several  bool
	template bool
}

// took notes who owns what a list of u says, and returns the list as the client
// is to have it.
func (s *server) took(u *upstream, method string, raw json.RawMessage) json.RawMessage {
	ms, err := members(raw)
	if err != nil {
		return raw
	}
	items := elements(get(ms, listKey[method]))
	switch method {
	case "prompts/list":
		if u.prefix == "" {
			return raw
		}
		for i, item := range items {
			if p, err := members(item); err == nil {
				items[i] = compose(with(p, "name", encode(u.prefix+text(get(p, "name")))))
			}
		}
		return compose(with(ms, "prompts", array(items)))
	case "resources/list":
		s.own(u, items, "uri", false)
	case "resources/templates/list":
		s.own(u, items, "uriTemplate", true)
	}
	return raw
}

func (s *server) own(u *upstream, items []json.RawMessage, key string, template bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range items {
		uri := text(field(item, key))
		if uri == "" || len(uri) > maxURI {
			continue
		}
		switch o := s.owners[uri]; {
		case o == nil && len(s.owners) < maxOwners && s.owned[u.name()]+len(uri) <= maxOwned:
			s.owned[u.name()] += len(uri)
			s.owners[uri] = &owner{server: u.name(), template: template}
		case o != nil && o.server != u.name():
			o.several = true
		}
	}
}

// ownerOf finds the server of a URI, or of a template.
func (s *server) ownerOf(ctx context.Context, req sdk.Request, all []*upstream, uri string) (*upstream, error) {
	if len(all) == 1 {
		return all[0], nil
	}
	if o := s.owner(uri); o != nil {
		return pick(all, o, uri)
	}
	for _, u := range all {
		if err := s.learn(ctx, req, u); err != nil && ctx.Err() != nil {
			return nil, err
		}
	}
	return pick(all, s.owner(uri), uri)
}

// owner is who lists a URI, or a template that it is of; nil is nobody yet.
func (s *server) owner(uri string) *owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.owners[uri]; o != nil {
		return o
	}
	var found *owner
	for t, o := range s.owners {
		switch {
		case !o.template || !fits(t, uri):
		case found == nil:
			found = o
		case found.server != o.server:
			return &owner{several: true}
		}
	}
	return found
}

func pick(all []*upstream, o *owner, uri string) (*upstream, error) {
	switch {
	case o == nil:
		return nil, invalidParams("no server lists the resource %.200q", uri)
	case o.several:
		return nil, invalidParams("several servers list the resource %.200q: whose is meant is not certain", uri)
	}
	for _, u := range all {
		if u.name() == o.server {
			return u, nil
		}
	}
	return nil, invalidParams("no server lists the resource %.200q", uri)
}

// learn reads the lists of a server.
func (s *server) learn(ctx context.Context, req sdk.Request, u *upstream) error {
	for _, method := range []string{"resources/list", "resources/templates/list"} {
		params := json.RawMessage("{}")
		for range maxPages {
			o, _, err := s.ask(ctx, req, u, method, params)
			if err != nil {
				return err
			}
			s.took(u, method, o.Result.Raw)
			next := text(field(o.Result.Raw, "nextCursor"))
			if next == "" {
				break
			}
			params = compose([]member{{"cursor", encode(next)}})
		}
	}
	return nil
}

// fits says whether a URI may be of a template (RFC 6570): it has the literal
// parts of it, in their order, the first at its beginning and the last at its
// end. That is more than the template means: it only finds the server, which
// decides.
func fits(template, uri string) bool {
	literals := literalsOf(template)
	first, last := literals[0], literals[len(literals)-1]
	rest, ok := strings.CutPrefix(uri, first)
	if len(literals) == 1 {
		return ok && rest == ""
	}
	if !ok {
		return false
	}
	if rest, ok = strings.CutSuffix(rest, last); !ok {
		return false
	}
	for _, l := range literals[1 : len(literals)-1] {
		i := strings.Index(rest, l)
		if i < 0 {
			return false
		}
		rest = rest[i+len(l):]
	}
	return true
}

// literalsOf are the parts of a template around its expressions.
func literalsOf(template string) (out []string) {
	for {
		i := strings.IndexByte(template, '{')
		if i < 0 {
			return append(out, template)
		}
		j := strings.IndexByte(template[i:], '}')
		if j < 0 {
			return append(out, template)
		}
		out = append(out, template[:i])
		template = template[i+j+1:]
	}
}

// elements splits an array; what is none is empty.
func elements(raw json.RawMessage) (out []json.RawMessage) {
	if json.Unmarshal(raw, &out) != nil {
		return nil
	}
	return out
}
