package main

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/pool"
)

// What a server has to list what it offers: some start a browser or a database
// first.
const (
	listTime   = time.Minute
	listOutput = 16 << 20 // bytes
)

// loadListed is load for commands that need the tools of every MCP server: a
// server that was never listed is started and asked.
func (a *app) loadListed(ctx context.Context) (*loaded, error) {
	l, err := a.load()
	if err != nil {
		return nil, err
	}
	return l, a.discover(ctx, l, l.Unlisted())
}

// toolOf returns the tool of that name. Servers are asked for theirs only
// where nothing that is known has it.
func (a *app) toolOf(ctx context.Context, l *loaded, name string) (*casemate.Tool, error) {
	if t, err := l.tool(name); err == nil || l.refuses(name) {
		return t, err
	}
	if err := a.discover(ctx, l, l.Unlisted()); err != nil {
		return nil, err
	}
	return l.tool(name)
}

// discover asks servers what they list, and records it as approved: it is the
// first time that they are used. One that cannot be asked is refused by name.
// A server whose variables come with each session's caller is left for one who
// brings them.
func (a *app) discover(ctx context.Context, l *loaded, servers []*casemate.Tool) error {
	servers = slices.DeleteFunc(slices.Clone(servers), func(t *casemate.Tool) bool { return len(t.Security.Pass) > 0 })
	if len(servers) == 0 {
		return nil
	}
	found, failed, err := a.list(ctx, l, servers)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		l.Refuse(name, failed[name])
	}
	return a.record(l, found)
}

// record approves what servers list, as what was used first.
func (a *app) record(l *loaded, found map[string]catalog.Listing) error {
	if len(found) == 0 {
		return nil
	}
	if err := l.Approve(found, true); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		a.note("recorded %s of the server %s: another list is refused until casemate tools approve %s", plural(len(found[name].Tools), "tool"), name, name)
	}
	return nil
}

// list starts servers, each in its sandbox, behind a spawner and a router of
// their own, and returns what each lists or why it does not. It blocks for as
// long as the slowest takes, a minute at most or its profile's timeout.
func (a *app) list(ctx context.Context, l *loaded, servers []*casemate.Tool) (map[string]catalog.Listing, map[string]*casemate.Error, error) {
	var names []string
	var ask []*casemate.Tool
	for _, t := range servers {
		names = append(names, string(t.Name))
		u := *t // what was approved says nothing here, and its limits are those of calls
		mcp := *u.Run.MCP
		mcp.Listed = nil
		u.Run.MCP = &mcp
		u.Security.Timeout = max(u.Security.Timeout, listTime)
		u.Security.Output = max(u.Security.Output, listOutput)
		u.Security.Rate = casemate.Rate{}
		ask = append(ask, &u)
	}
	defer a.progress("asking " + strings.Join(names, ", "))()
	failed, found := map[string]*casemate.Error{}, map[string]catalog.Listing{}
	fail := func(name string, err error) {
		e, ok := errors.AsType[*casemate.Error](err)
		if !ok {
			e = &casemate.Error{Op: "list", Kind: casemate.Internal, Err: err}
		}
		why := strings.TrimPrefix(reasonOf(e), name+": ")
		failed[name] = &casemate.Error{Op: "list", Tool: casemate.ToolName(name), Kind: e.Kind, Err: errors.New("what it lists is not to be had: " + why), Fix: e.Fix}
	}
	init, err := initPath()
	if err != nil {
		return nil, nil, err
	}
	c, err := a.compiled(ctx, l, init, ask)
	if err != nil {
		return nil, nil, err
	}
	c.plan.Host.Records = filepath.Join(l.state, "questions.jsonl")
	ask = slices.DeleteFunc(slices.Clone(ask), func(t *casemate.Tool) bool { // the plan has them all
		e := c.serves.Refused[t.Name]
		if e != nil {
			fail(string(t.Name), remote(e))
		}
		return e != nil
	})
	if len(ask) == 0 {
		return found, failed, nil
	}
	h, err := startHost(hostOptions{init: init, compiled: c, console: a.console, settings: settings{Pool: pool.Limits{Max: -1}}})
	if err != nil {
		return nil, nil, err
	}
	defer h.kill()
	var mu sync.Mutex // guards found and failed
	var all sync.WaitGroup
	for _, t := range ask {
		all.Go(func() {
			one, cancel := context.WithTimeout(ctx, t.Security.Timeout+10*time.Second)
			defer cancel()
			listing, err := listOne(one, h, t)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				fail(string(t.Name), err)
				return
			}
			found[string(t.Name)] = listing
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	return found, failed, nil
}

func listOne(ctx context.Context, h *host, t *casemate.Tool) (catalog.Listing, error) {
	var out listedBody
	if err := h.ctl.do(ctx, opListing, listingBody{t.Name}, &out); err != nil {
		return catalog.Listing{}, err
	}
	if out.Outcome == nil {
		return catalog.Listing{}, errors.New("the router answered nothing")
	}
	if out.Outcome.Error != nil {
		return catalog.Listing{}, remote(out.Outcome.Error)
	}
	return catalog.NewListing(t.Run.MCP.Command, out.Listing)
}

// reasonOf is what an error says, without what it is about.
func reasonOf(e *casemate.Error) string {
	if e.Err == nil {
		return string(e.Kind)
	}
	return e.Err.Error()
}
