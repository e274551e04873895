package mcp

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// feature answers what is no tool: by the one server that has it, or by all
// of them. The client's params and the server's result are handed on as they
// are, but for the prefix of a prompt's name.
func (s *server) feature(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
	l := s.listing()
	all := l.with(method)
	if len(all) == 0 {
		return nil, methodNotFound(method)
	}
	params := s.origins.of(req).params()
	if params == nil && metaOf(req) != nil {
		params = encode(req.GetParams())
	}
	switch method {
	case "prompts/list", "resources/list", "resources/templates/list":
		return s.lists(ctx, req, all, method, params)
	case "logging/setLevel":
		return s.setLevel(ctx, req, all, params)
	}
	u, params, err := s.target(ctx, req, l, all, method, params)
	if err != nil {
		return nil, err
	}
	return s.one(ctx, req, u, method, params)
}

// one asks one server.
func (s *server) one(ctx context.Context, req sdk.Request, u *upstream, method string, params json.RawMessage) (sdk.Result, error) {
	o, more, err := s.ask(ctx, req, u, method, params)
	if err != nil {
		return nil, err
	}
	if more != nil {
		return more, nil
	}
	modern := s.versionOf(req) >= stateless
	raw := o.Result.Raw
	if modern && (strings.HasSuffix(method, "/list") || method == "resources/read") {
		raw = cacheable(raw)
	}
	return answered(o, raw, modern), nil
}

// cacheable says of a result of a server that does not say it how long it may
// be kept: not at all.
func cacheable(raw json.RawMessage) json.RawMessage {
	ms, err := members(raw)
	if err != nil {
		return raw
	}
	if get(ms, "ttlMs") == nil {
		ms = with(ms, "ttlMs", json.RawMessage("0"))
	}
	if get(ms, "cacheScope") == nil {
		ms = with(ms, "cacheScope", json.RawMessage(`"private"`))
	}
	return compose(ms)
}

// target finds the server that a request is for, and the params as that
// server is to have them.
func (s *server) target(ctx context.Context, req sdk.Request, l *listing, all []*upstream, method string, params json.RawMessage) (*upstream, json.RawMessage, error) {
	ms, err := members(params)
	if err != nil {
		return nil, nil, invalidParams("params: %v", err)
	}
	switch method {
	case "prompts/get":
		u, name, err := promptOf(all, text(get(ms, "name")))
		return u, compose(with(ms, "name", encode(name))), err
	case "completion/complete":
		ref, err := members(get(ms, "ref"))
		if err != nil {
			return nil, nil, invalidParams("ref: %v", err)
		}
		if uri := text(get(ref, "uri")); uri != "" {
			u, err := s.ownerOf(ctx, req, all, uri)
			return u, params, err
		}
		u, name, err := promptOf(all, text(get(ref, "name")))
		return u, compose(with(ms, "ref", compose(with(ref, "name", encode(name))))), err
	}
	u, err := s.ownerOf(ctx, req, all, text(get(ms, "uri")))
	return u, params, err
}

// promptOf finds the server of a prompt, and its name there: of the servers
// whose prefix fits the one with the longest.
func promptOf(all []*upstream, name string) (found *upstream, own string, _ error) {
	for _, u := range all {
		if rest, ok := strings.CutPrefix(name, u.prefix); ok && (found == nil || len(u.prefix) > len(found.prefix)) {
			found, own = u, rest
		}
	}
	if found == nil {
		return nil, "", invalidParams("unknown prompt %.128q", name)
	}
	return found, own, nil
}

// lists answers a list: of a lone server as it is, of several page by page,
// one server after another.
func (s *server) lists(ctx context.Context, req sdk.Request, all []*upstream, method string, params json.RawMessage) (sdk.Result, error) {
	ms, err := members(params)
	if err != nil {
		ms = nil
	}
	if len(all) == 1 {
		o, more, err := s.ask(ctx, req, all[0], method, params)
		if err != nil {
			return nil, err
		}
		if more != nil {
			return more, nil
		}
		raw := s.took(all[0], method, o.Result.Raw)
		modern := s.versionOf(req) >= stateless
		if modern {
			raw = cacheable(raw)
		}
		return answered(o, raw, modern), nil
	}
	server, inner, err := splitCursor(text(get(ms, "cursor")))
	if err != nil {
		return nil, err
	}
	missing := map[string]string{}
	var failed error
	for i, u := range all {
		if server != "" && u.name() != server {
			continue
		}
		server = ""
		ask := without(ms, func(k string) bool { return k == "cursor" })
		if inner != "" {
			ask = append(ask, member{"cursor", encode(inner)})
			inner = ""
		}
		o, _, err := s.ask(ctx, req, u, method, compose(ask))
		if ctx.Err() != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err != nil {
			failed = err
			missing[u.name()] = err.Error()
			raw = json.RawMessage("{}")
		} else {
			raw = s.took(u, method, o.Result.Raw)
		}
		page, err := members(raw)
		if err != nil {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "a server's list is no object"}
		}
		next := text(get(page, "nextCursor"))
		switch {
		case next != "":
			next = joinCursor(u.name(), next)
		case i+1 < len(all):
			next = joinCursor(all[i+1].name(), "")
		}
		key := listKey[method]
		items := get(page, key)
		if next != "" && (items == nil || string(items) == "[]") {
			server, inner, _ = splitCursor(next)
			continue
		}
		if items == nil {
			if len(missing) == len(all) {
				return nil, failed
			}
			items = json.RawMessage("[]")
		}
		out := []member{{key, items}}
		if next != "" {
			out = append(out, member{"nextCursor", encode(next)})
		}
		modern := s.versionOf(req) >= stateless
		raw = compose(out)
		if modern {
			raw = cacheable(raw)
		}
		r := &rawResult{raw: raw, modern: modern}
		if len(missing) > 0 {
			r.Meta = sdk.Meta{"casemate/missing": missing}
		}
		return r, nil
	}
	return nil, badCursor()
}

// listKey is where the items of a list stand in its result.
var listKey = map[string]string{"prompts/list": "prompts", "resources/list": "resources", "resources/templates/list": "resourceTemplates"}

func joinCursor(server, inner string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(server + "\x00" + inner))
}

func splitCursor(cursor string) (server, inner string, _ error) {
	if cursor == "" {
		return "", "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	server, inner, ok := strings.Cut(string(b), "\x00")
	if err != nil || !ok || server == "" {
		return "", "", badCursor()
	}
	return server, inner, nil
}

// setLevel tells all servers, at once, which logging the client wants. It is
// an error where it is one for all of them.
func (s *server) setLevel(ctx context.Context, req sdk.Request, all []*upstream, params json.RawMessage) (sdk.Result, error) {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, u := range all {
		wg.Go(func() { _, _, errs[i] = s.ask(ctx, req, u, "logging/setLevel", params) })
	}
	wg.Wait()
	for _, err := range errs {
		if err == nil {
			return &rawResult{raw: json.RawMessage("{}")}, nil
		}
	}
	return nil, errs[0]
}
