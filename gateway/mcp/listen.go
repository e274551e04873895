package mcp

import (
	"context"
	"encoding/json"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// subscriptionKey is where a notification says which subscriptions/listen it
// is of.
const subscriptionKey = "io.modelcontextprotocol/subscriptionId"

// A listener is the client of one subscriptions/listen. Servers tell it of
// changes, and can ask it nothing.
type listener struct {
	shows  func(server string) bool
	to     route
	id     json.RawMessage
	wants  sdk.NotificationSubscriptions
	uris   map[string]bool
	out    *outbox
	spoken string // version
}

var _ casemate.Client = (*listener)(nil)

func (l *listener) Capabilities() json.RawMessage { return nil }

// Version is that of the protocol which the client speaks.
func (l *listener) Version() string { return l.spoken }

// Hears says whether the client hears that server.
func (l *listener) Hears(server string) bool { return l.shows(server) }

func (l *listener) Ask(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
	return nil, errClientAway
}

// Notify tells the client what it wants to hear of.
func (l *listener) Notify(_, method string, params json.RawMessage) {
	switch method {
	case "notifications/tools/list_changed":
		if !l.wants.ToolsListChanged {
			return
		}
	case "notifications/prompts/list_changed":
		if !l.wants.PromptsListChanged {
			return
		}
	case "notifications/resources/list_changed":
		if !l.wants.ResourcesListChanged {
			return
		}
	case "notifications/resources/updated":
		if len(l.uris) == 0 {
			return
		}
	default:
		return
	}
	l.out.put(note{l.to, method, l.stamp(params)})
}

// stamp says in params which subscription they are of.
func (l *listener) stamp(params json.RawMessage) json.RawMessage {
	ms, err := members(params)
	if err != nil {
		ms = nil
	}
	meta, err := members(get(ms, "_meta"))
	if err != nil {
		meta = nil
	}
	return compose(with(ms, "_meta", compose(with(meta, subscriptionKey, l.id))))
}

// listen serves subscriptions/listen, until the client ends it.
func (s *server) listen(ctx context.Context, req sdk.Request, p *sdk.SubscriptionsListenParams) (sdk.Result, error) {
	from := s.origins.of(req)
	if p == nil || p.Notifications == nil || from.msg == nil {
		return nil, invalidParams("missing required 'notifications' field")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(from.ctx, cancel)()
	ss, _ := req.GetSession().(*sdk.ServerSession)
	all := s.listing()
	l := &listener{shows: s.shows, to: route{ss, ctx}, id: from.msg.id, wants: agreed(all.caps, *p.Notifications), uris: map[string]bool{}, out: newOutbox(ctx), spoken: s.versionOf(req)}
	defer l.out.flush(ctx)
	id, release, err := s.session(from, metaOf(req), true, true)
	if err != nil {
		return nil, refusal(casemate.JSON(err), "")
	}
	defer release()

	for _, uri := range l.wants.ResourceSubscriptions {
		if l.uris[uri] {
			continue
		}
		u, err := s.ownerOf(ctx, req, all.with("resources/subscribe"), uri)
		if err == nil {
			err = s.subscribe(ctx, u, id, uri, l)
		}
		if err != nil {
			return nil, err
		}
		l.uris[uri] = true
		defer s.unsubscribe(context.WithoutCancel(ctx), u, id, uri)
	}
	defer s.router.Attach(id, l)()
	s.mu.Lock()
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	ack := l.stamp(compose([]member{{"notifications", encode(l.wants)}}))
	if err := l.to.tell(ctx, "notifications/subscriptions/acknowledged", ack); err != nil {
		return nil, err
	}
	if w := l.wants; w.ToolsListChanged || w.PromptsListChanged || w.ResourcesListChanged || len(l.uris) > 0 {
		<-ctx.Done()
	}
	return &rawResult{raw: l.stamp(nil), modern: true}, nil
}

// agreed is what of the client's wishes c can serve.
func agreed(c *sdk.ServerCapabilities, want sdk.NotificationSubscriptions) sdk.NotificationSubscriptions {
	got := sdk.NotificationSubscriptions{
		ToolsListChanged:     want.ToolsListChanged,
		PromptsListChanged:   want.PromptsListChanged && c.Prompts != nil && c.Prompts.ListChanged,
		ResourcesListChanged: want.ResourcesListChanged && c.Resources != nil && c.Resources.ListChanged,
	}
	if c.Resources != nil && c.Resources.Subscribe {
		got.ResourceSubscriptions = want.ResourceSubscriptions
	}
	return got
}

// A subscription is one that listeners of a session share.
type subscription struct {
	session casemate.SessionID
	server  casemate.ToolName
	uri     string
}

// subscribe lets a server tell a session of a resource.
func (s *server) subscribe(ctx context.Context, u *upstream, id casemate.SessionID, uri string, l *listener) error {
	o := s.router.Call(ctx, casemate.Call{Session: id, Tool: u.Name, Method: "resources/subscribe", Arguments: compose([]member{{"uri", encode(uri)}}), Client: l})
	switch {
	case o.ServerError != nil:
		return serverError(o.ServerError)
	case o.Error != nil:
		return refusal(gateway.PlannerError(o.Error), o.Call)
	}
	s.mu.Lock()
	s.subscribed[subscription{id, u.Name, uri}]++
	s.mu.Unlock()
	return nil
}

// unsubscribe ends what subscribe began, with the last listener.
func (s *server) unsubscribe(ctx context.Context, u *upstream, id casemate.SessionID, uri string) {
	x := subscription{id, u.Name, uri}
	s.mu.Lock()
	s.subscribed[x]--
	last := s.subscribed[x] == 0
	if last {
		delete(s.subscribed, x)
	}
	s.mu.Unlock()
	if last {
		s.router.Call(ctx, casemate.Call{Session: id, Tool: u.Name, Method: "resources/unsubscribe", Arguments: compose([]member{{"uri", encode(uri)}})})
	}
}
