package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/internal/nearest"
	"github.com/casemate/casemate/internal/plan"
)

// A clientSession is that of one client process: all its shims share it.
type clientSession struct {
	id       string
	client   clientProcess
	services map[string]*service // by name of the server
}

// A service is one server for one client.
type service struct {
	env      map[string]string
	variants map[casemate.Digest]casemate.Digest
	shims    int
}

// shim serves one connection until it is over.
func (s *shared) shim(ctx context.Context, c *net.UnixConn) {
	f, body, leave, err := s.welcome(ctx, c)
	if err != nil {
		s.note("a shim: %v", err)
		c.SetWriteDeadline(time.Now().Add(time.Second))
		writeFrame(c, shimAnswer{Error: casemate.JSON(err)}) // it may be gone
		c.Close()
		return
	}
	defer leave()
	if err := s.host.ctl.hand(ctx, opShim, f, body); err != nil && ctx.Err() == nil {
		s.note("server %s: %v", escapeLine(body.Server), err)
	}
}

// introductionTime is how long a shim has for each thing that it says.
const introductionTime = 10 * time.Second

// welcome hears whom a shim wants, and returns its connection, which the
// router is to have, and what is to be done at its end.
func (s *shared) welcome(ctx context.Context, c *net.UnixConn) (*os.File, shimBody, func(), error) {
	fail := func(err error) (*os.File, shimBody, func(), error) { return nil, shimBody{}, nil, err }
	pid, uid, err := peerOf(c)
	if err != nil || uid != os.Geteuid() {
		return fail(&casemate.Error{Op: "run", Kind: casemate.Denied, Err: fmt.Errorf("this is the shared router of user %d, not of %d", os.Geteuid(), uid)})
	}
	client, _, err := parentOf(pid)
	if err != nil {
		client = clientProcess{} // of another namespace of processes: its shims share nothing
	}
	c.SetDeadline(time.Now().Add(introductionTime))
	b, err := readFrame(c, maxHello)
	if err != nil {
		return fail(err)
	}
	h, err := decodeHello(b)
	if err != nil {
		return fail(err)
	}
	c.SetDeadline(time.Time{})
	env, err := s.prepare(ctx, c, h)
	if err != nil {
		return fail(err)
	}
	body, leave, err := s.enroll(client, h.Name, env)
	if err != nil {
		return fail(err)
	}
	c.SetDeadline(time.Now().Add(introductionTime))
	err = writeFrame(c, shimAnswer{Ready: true})
	c.SetDeadline(time.Time{})
	var f *os.File
	if err == nil {
		f, err = c.File()
	}
	if err != nil {
		leave()
		return fail(err)
	}
	c.Close() // only the router has it then
	return f, body, leave, nil
}

// prepare makes sure that the server of h is served as the configuration has
// it now, and that this command may be it; it returns the values that the shim
// passes on.
func (s *shared) prepare(ctx context.Context, c *net.UnixConn, h hello) (map[string]string, error) {
	l, err := s.loadOwn()
	if err != nil {
		return nil, err
	}
	if err := l.may(h.Name, h.Argv); err != nil {
		return nil, err
	}
	if l.unlisted(h.Name) {
		if err := s.list(ctx, c, h); err != nil {
			return nil, err
		}
	}
	if err := s.refresh(ctx, h.Name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	refused, names := s.host.serves.Refused[casemate.ToolName(h.Name)], s.loaded.passed(h.Name)
	s.mu.Unlock()
	if refused != nil {
		return nil, remote(refused)
	}
	return askValues(c, names)
}

// list asks the server what it lists, for the first time that it is used.
func (s *shared) list(ctx context.Context, c *net.UnixConn, h hello) error {
	if err := writeFrame(c, shimAnswer{Progress: "asking the server " + h.Name + " what it offers, once"}); err != nil {
		return err
	}
	defer s.listing.lock(h.Name)()
	l, err := s.loadOwn()
	if err != nil || !l.unlisted(h.Name) { // another shim did meanwhile
		return err
	}
	t := *l.Server(h.Name)
	env, err := askValues(c, t.Security.Pass)
	if err != nil {
		return err
	}
	// Once, and for itself: its variables are as if the profile stated them.
	t.Security.Env = maps.Clone(t.Security.Env)
	if t.Security.Env == nil {
		t.Security.Env = map[string]string{}
	}
	maps.Copy(t.Security.Env, env)
	t.Security.Pass = nil
	found, failed, err := s.app.list(ctx, l, []*casemate.Tool{&t})
	if err != nil {
		return err
	}
	if e := failed[h.Name]; e != nil {
		return e
	}
	return s.record(l, found)
}

// askValues has the shim say those of its variables.
func askValues(c *net.UnixConn, names []string) (map[string]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	c.SetDeadline(time.Now().Add(introductionTime))
	defer c.SetDeadline(time.Time{})
	if err := writeFrame(c, shimAnswer{Pass: &names}); err != nil {
		return nil, err
	}
	b, err := readFrame(c, maxValues)
	if err != nil {
		return nil, err
	}
	var v values
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, invalid("run", "", "the shim's values are none")
	}
	v, err = pick(names, func(k string) (string, bool) { x, ok := v.Env[k]; return x, ok })
	return v.Env, err
}

// refresh loads the configuration again and serves what changed; a server that
// was refused is tried again.
func (s *shared) refresh(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.loadOwn()
	if err != nil {
		return err
	}
	if l.same(s.loaded) && s.host.serves.Refused[casemate.ToolName(name)] == nil {
		return nil
	}
	if err := s.restart(ctx, l.servers(), s.host); err != nil {
		return err
	}
	s.loaded = l
	s.note("the configuration was loaded again: %s", plural(len(l.Servers), "server"))
	return s.renew(ctx)
}

// enroll counts one more shim of a client, and makes the guests of its server
// with these values.
func (s *shared) enroll(client clientProcess, name string, env map[string]string) (shimBody, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.sessions, func(c *clientSession) bool {
		// The same server with other values is another, which this client's
		// session cannot have too.
		v := c.services[name]
		return client != clientProcess{} && c.client == client && (v == nil || maps.Equal(v.env, env))
	})
	if i < 0 {
		i = len(s.sessions)
		s.sessions = append(s.sessions, &clientSession{id: rand.Text(), client: client, services: map[string]*service{}})
	}
	c := s.sessions[i]
	v := c.services[name]
	if v == nil {
		v = &service{env: env}
		c.services[name] = v
	}
	v.shims++
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.leave(c, name)
	}
	if v.shims == 1 {
		var guests []plan.Guest
		v.variants, guests = s.loaded.variants(s.host.plan.Guests, name, env)
		if err := s.host.vary(guests, nil); err != nil {
			s.leave(c, name)
			return shimBody{}, nil, err
		}
	}
	return shimBody{Server: name, Session: c.id, Variants: v.variants}, leave, nil
}

// leave counts one shim less; s.mu is held. With the last of a server its
// variants go.
func (s *shared) leave(c *clientSession, name string) {
	v := c.services[name]
	if v.shims--; v.shims > 0 {
		return
	}
	delete(c.services, name)
	if err := s.host.vary(nil, v.variants); err != nil {
		s.note("the spawner keeps what nobody uses: %v", err)
	}
	if len(c.services) == 0 {
		s.sessions = slices.DeleteFunc(s.sessions, func(o *clientSession) bool { return o == c })
	}
}

// renew makes every variant again, of the guests that there are now; s.mu is
// held.
func (s *shared) renew(ctx context.Context) error {
	for _, c := range s.sessions {
		change := map[casemate.Digest]casemate.Digest{}
		for name, v := range c.services {
			next, guests := s.loaded.variants(s.host.plan.Guests, name, v.env)
			if err := s.host.vary(guests, nil); err != nil {
				return err
			}
			for base := range v.variants {
				change[base] = ""
			}
			maps.Copy(change, next)
			if err := s.host.ctl.do(ctx, opVariants, variantsBody{c.id, change}, nil); err != nil {
				return err
			}
			if err := s.host.vary(nil, v.variants); err != nil {
				return err
			}
			v.variants = next
		}
	}
	return nil
}

// loadOwn loads the user's own configuration, and no other: the shared router
// serves clients in whatever folder they are.
func (a *app) loadOwn() (*loaded, error) {
	state, err := stateFolder("")
	if err != nil {
		return nil, err
	}
	user, err := os.UserConfigDir()
	if err != nil {
		return nil, invalid("load", "set HOME or XDG_CONFIG_HOME", "there is no folder of your configuration: %w", err)
	}
	path := filepath.Join(user, "casemate", "casemate.yaml")
	if _, err := os.Lstat(path); missing(err) {
		return nil, invalid("load", "casemate wrap FILE, of the client's configuration, writes it", "you have no configuration: %s is not there", path)
	}
	opt := a.options(state, true)
	opt.Pass, opt.Getenv = true, nil
	c, err := catalog.Load(path, opt)
	if err != nil {
		return nil, err
	}
	if err := c.CheckLock(); err != nil {
		return nil, err
	}
	l := &loaded{Config: c, state: state}
	if c.Host.State != "" {
		if l.state, err = stateFolder(c.Host.State); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// may says whether argv is the command of the server of that name.
func (l *loaded) may(name string, argv []string) error {
	if l.Server(name) == nil {
		var names []string
		for _, t := range l.Servers {
			names = append(names, string(t.Name))
		}
		for _, e := range l.Unsupported {
			if string(e.Tool) == name {
				return e
			}
		}
		fix := "casemate wrap FILE, of the client's configuration"
		if n := nearest.To(name, names); n != "" {
			fix = "did you mean " + n + "? else: " + fix
		}
		return invalid("run", fix, "there is no server %q in %s", name, l.File)
	}
	return l.CheckWrapped(name, argv)
}

// servers is l with MCP servers alone: no other tool is any shim's.
func (l *loaded) servers() *loaded {
	c := *l.Config
	c.Tools = slices.DeleteFunc(slices.Clone(c.Tools), func(t *casemate.Tool) bool { return t.Run.MCP == nil })
	return &loaded{Config: &c, state: l.state}
}

// unlisted says whether nobody knows yet what the server of that name lists.
func (l *loaded) unlisted(name string) bool {
	return slices.ContainsFunc(l.Unlisted(), func(t *casemate.Tool) bool { return string(t.Name) == name })
}

// same says whether l and o serve the same servers.
func (l *loaded) same(o *loaded) bool {
	digests := func(l *loaded) (out []casemate.Digest) {
		for _, t := range slices.Concat(l.Servers, l.Tools) {
			if t.Run.MCP != nil {
				out = append(out, t.Digest())
			}
		}
		return out
	}
	return slices.Equal(digests(l), digests(o))
}

// guests calls f with each tool of a server that has a sandbox of its own.
func (l *loaded) guests(server string, f func(*casemate.Tool)) {
	seen := map[casemate.Digest]bool{}
	for _, t := range slices.Concat(l.Servers, l.Tools) {
		if t.Run.MCP == nil || t.Run.MCP.Server != server || seen[t.Guest()] {
			continue
		}
		seen[t.Guest()] = true
		f(t)
	}
}

// passed are the names of the variables that a server's caller passes on.
func (l *loaded) passed(server string) []string {
	var out []string
	l.guests(server, func(t *casemate.Tool) { out = append(out, t.Security.Pass...) })
	slices.Sort(out)
	return slices.Compact(out)
}

// variants makes, of the guests of a server that its caller's values concern,
// those with these values.
func (l *loaded) variants(all []plan.Guest, server string, env map[string]string) (map[casemate.Digest]casemate.Digest, []plan.Guest) {
	digests := map[casemate.Digest]casemate.Digest{}
	var out []plan.Guest
	l.guests(server, func(t *casemate.Tool) {
		base := t.Guest()
		i := slices.IndexFunc(all, func(g plan.Guest) bool { return g.Digest == string(base) })
		if i < 0 || len(t.Security.Pass) == 0 {
			return
		}
		g := all[i]
		g.Env = withValues(g.Env, t.Security.Pass, env)
		digests[base] = base + casemate.Digest("#"+strings.ToLower(rand.Text()))
		g.Digest = string(digests[base])
		out = append(out, g)
	})
	return digests, out
}

// withValues is env with those of names that have a value.
func withValues(env, names []string, values map[string]string) []string {
	out := slices.Clone(env)
	for _, k := range names {
		v, ok := values[k]
		if !ok {
			continue
		}
		out = slices.DeleteFunc(out, func(kv string) bool { return strings.HasPrefix(kv, k+"=") })
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}
