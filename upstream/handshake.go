package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/casemate/casemate"
)

const (
	discover           = "server/discover"
	unsupportedVersion = -32022 // of JSON-RPC errors, since 2026-07-28
)

// spoken are the versions that a server may choose by initialize.
var spoken = [...]string{Stateful, "2025-06-18", "2025-03-26", "2024-11-05"}

// shake makes the handshake.
func (s *Server) shake(ctx context.Context) error {
	tried := s.o.Version >= Stateless
	if tried {
		first, cancel := context.WithTimeout(ctx, discoverTime)
		err := s.discover(first)
		cancel()
		if err == nil || errors.Is(err, ErrGone) || ctx.Err() != nil {
			return s.failed(ctx, err)
		}
	}
	err := s.initialize(ctx)
	if _, refused := errors.AsType[*RPCError](err); refused && s.discover(ctx) == nil {
		return s.failed(ctx, nil)
	}
	return s.failed(ctx, err)
}

// failed says what went wrong with a handshake; where nothing did, the server
// is told what it has to be told again.
func (s *Server) failed(ctx context.Context, err error) error {
	if err == nil {
		err = s.resume(ctx)
	}
	fail := func(kind casemate.Kind, format string, a ...any) error {
		return &casemate.Error{Op: "start", Kind: kind, Err: fmt.Errorf(format, a...), Fix: "see what the server printed: its log has its standard error"}
	}
	_, typed := errors.AsType[*casemate.Error](err)
	switch {
	case err == nil || typed || errors.Is(err, ErrGone):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fail(casemate.Timeout, "the server did not shake hands within %s", openTime)
	case ctx.Err() != nil:
		return err
	}
	return fail(casemate.ToolFailed, "the server did not shake hands: %w", err)
}

// about is what the server is told of us.
func (s *Server) about() json.RawMessage {
	version := s.o.About
	if version == "" {
		version = "devel"
	}
	return object([]member{{"name", quoted("casemate")}, {"version", quoted(version)}})
}

// capabilities are those of a client's that the server may use; where it is
// nil, of all clients'.
func (s *Server) capabilities(c casemate.Client) json.RawMessage {
	all := s.o.Capabilities
	if c != nil {
		all = c.Capabilities()
	}
	var ms []member
	add := func(name string, may bool) {
		if v := field(all, name); may && len(v) > 0 && v[0] == '{' {
			ms = append(ms, member{name, v})
		}
	}
	add("roots", true)
	add("sampling", s.o.Run.Sampling)
	add("elicitation", s.o.Run.Elicitation)
	for i := range ms {
		switch ms[i].key {
		case "sampling":
			ms[i].value = with(ms[i].value, "context", nil)
		case "elicitation":
			ms[i].value = with(ms[i].value, "url", nil)
		}
	}
	return object(ms)
}

// initialize begins as every version before 2026-07-28 does.
func (s *Server) initialize(ctx context.Context) error {
	result, err := s.ask(ctx, Request{Method: "initialize"}, object([]member{
		{"protocolVersion", quoted(Stateful)}, {"capabilities", s.capabilities(nil)}, {"clientInfo", s.about()}}))
	if err != nil {
		return err
	}
	version := str(result, "protocolVersion")
	if !slices.Contains(spoken[:], version) {
		return fmt.Errorf("it speaks the version %.40q of MCP, which is none of %s", version, strings.Join(spoken[:], ", "))
	}
	if c := field(result, "capabilities"); len(c) == 0 || c[0] != '{' {
		return errors.New("it says nothing of its capabilities")
	}
	s.mu.Lock()
	s.init, s.version = result, version
	s.mu.Unlock()
	return s.notify(ctx, "notifications/initialized", nil)
}

// discover begins as 2026-07-28 does.
func (s *Server) discover(ctx context.Context) error {
	result, err := s.ask(ctx, Request{Method: discover}, nil)
	if err != nil {
		return err
	}
	versions, err := elements(field(result, "supportedVersions"), 100)
	if err != nil {
		return fmt.Errorf("supportedVersions: %w", err)
	}
	if !slices.ContainsFunc(versions, func(v json.RawMessage) bool { t, _ := text(v); return t == Stateless }) {
		return &RPCError{Raw: json.RawMessage(`{"code":-32022,"message":"unsupported protocol version"}`), Code: unsupportedVersion, Message: "unsupported protocol version"}
	}
	caps := field(result, "capabilities")
	if len(caps) == 0 || caps[0] != '{' {
		return errors.New("it says nothing of its capabilities")
	}
	ms := []member{{"protocolVersion", quoted(Stateless)}, {"capabilities", caps}}
	info := field(field(result, "_meta"), reserved+"serverInfo")
	if info == nil {
		info = field(result, "serverInfo")
	}
	if info == nil {
		info = object([]member{{"name", quoted(s.o.Run.Server)}, {"version", quoted("")}})
	}
	ms = append(ms, member{"serverInfo", info})
	if i := field(result, "instructions"); i != nil {
		ms = append(ms, member{"instructions", i})
	}
	s.mu.Lock()
	s.init, s.version, s.stateless = object(ms), Stateless, true
	s.mu.Unlock()
	s.listenToLists(caps)
	return nil
}

// isStateless says whether the server speaks 2026-07-28.
func (s *Server) isStateless() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stateless
}

// listenToLists asks a stateless server to say when its lists change.
func (s *Server) listenToLists(caps json.RawMessage) {
	var ms []member
	for _, l := range [...][2]string{{"tools", "toolsListChanged"}, {"prompts", "promptsListChanged"}, {"resources", "resourcesListChanged"}} {
		if string(field(field(caps, l[0]), "listChanged")) == "true" {
			ms = append(ms, member{l[1], json.RawMessage("true")})
		}
	}
	if len(ms) > 0 {
		s.listen("", object(ms))
	}
}

// listen opens a stream of notifications, in the background, until unlisten, or
// until the server ends it.
func (s *Server) listen(uri string, what json.RawMessage) {
	ctx, cancel := context.WithCancel(s.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil || s.listens[uri] != nil { // nil: the reader has ended, and Close waits for nobody else
		cancel()
		return
	}
	s.listens[uri] = cancel
	s.owned.Go(func() {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if ctx.Err() == nil { // unlisten has not taken it away
				delete(s.listens, uri)
			}
			cancel()
		}()
		_, err := s.ask(ctx, Request{Method: "subscriptions/listen"}, object([]member{{"notifications", what}}))
		if err != nil && ctx.Err() == nil {
			s.log.line([]byte("[casemate] subscriptions/listen: " + err.Error()))
		}
	})
}

func (s *Server) unlisten(uri string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.listens[uri]; cancel != nil {
		cancel()
	}
	delete(s.listens, uri)
}

// level sets the level of what the server logs for its client.
func (s *Server) level(ctx context.Context, r Request) (json.RawMessage, error) {
	level := str(r.Params, "level")
	if len(level) > 20 || level == "" {
		return nil, &casemate.Error{Op: "call", Kind: casemate.Invalid, Err: errors.New("params: level is not a level of logging"), Fix: "pass one of debug, info, notice, warning, error, critical, alert, emergency"}
	}
	result := json.RawMessage("{}")
	if !s.isStateless() {
		var err error
		if result, err = s.ask(ctx, r, r.Params); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	s.state.Level = level
	s.mu.Unlock()
	return result, nil
}

// subscribe begins or ends a subscription to a resource.
func (s *Server) subscribe(ctx context.Context, r Request) (json.RawMessage, error) {
	uri, on := str(r.Params, "uri"), r.Method == "resources/subscribe"
	if uri == "" || len(uri) > maxURI {
		return nil, &casemate.Error{Op: "call", Kind: casemate.Invalid, Err: fmt.Errorf("params: uri is missing, or longer than %d bytes", maxURI), Fix: "pass the uri of a resource of the server"}
	}
	s.mu.Lock()
	full, stateless := len(s.state.Subscriptions) >= maxSubs, s.stateless
	s.mu.Unlock()
	if on && full {
		return nil, &casemate.Error{Op: "call", Kind: casemate.Busy, Err: fmt.Errorf("%d subscriptions are the limit", maxSubs), Fix: "end some of them"}
	}
	result := json.RawMessage("{}")
	switch {
	case !stateless:
		var err error
		if result, err = s.ask(ctx, r, r.Params); err != nil {
			return nil, err
		}
	case on:
		s.listen(uri, object([]member{{"resourceSubscriptions", json.RawMessage("[" + string(quoted(uri)) + "]")}}))
	default:
		s.unlisten(uri)
	}
	s.mu.Lock()
	s.state.Subscriptions = slices.DeleteFunc(s.state.Subscriptions, func(o string) bool { return o == uri })
	if on {
		s.state.Subscriptions = append(s.state.Subscriptions, uri)
	}
	s.mu.Unlock()
	return result, nil
}

// resume tells a server what an earlier one was told. What it refuses it does
// without; the client learns that from its silence, as from any server's.
func (s *Server) resume(ctx context.Context) error {
	told := func(method, key, v string) error {
		r := Request{Method: method, Params: object([]member{{key, quoted(v)}})}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := s.Call(ctx, r)
		if err != nil && !errors.Is(err, ErrGone) {
			s.log.line([]byte("[casemate] " + method + ": " + err.Error()))
			return nil
		}
		return err
	}
	if l := s.o.State.Level; l != "" {
		if err := told("logging/setLevel", "level", l); err != nil {
			return err
		}
	}
	for _, uri := range s.o.State.Subscriptions {
		if err := told("resources/subscribe", "uri", uri); err != nil {
			return err
		}
	}
	return nil
}
