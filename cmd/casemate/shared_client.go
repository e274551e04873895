package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"github.com/casemate/casemate"
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
	served, err := s.welcome(ctx, c)
	if err != nil {
		s.note("a shim: %v", err)
		c.SetWriteDeadline(time.Now().Add(time.Second))
		writeFrame(c, shimAnswer{Error: casemate.JSON(err)}) // it may be gone
		c.Close()
		return
	}
	defer s.leave(served)
	wait, err := s.hand(c, served)
	if err == nil {
		err = wait.wait(ctx, nil)
	}
	if err != nil && ctx.Err() == nil {
		s.note("server %s: %v", escapeLine(served.name), err)
	}
}

// hand gives the router the connection of a shim, which only that has then.
func (s *shared) hand(c *net.UnixConn, e enrolled) (*pending, error) {
	defer c.Close()
	f, err := c.File()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock() // what renew tells of this session comes after
	return s.host.ctl.hand(opShim, f, shimBody{e.name, e.session.id, e.service.variants})
}

// introductionTime is how long a shim has for each thing that it says.
const introductionTime = 10 * time.Second

// welcome hears whom a shim wants, and tells it when it is served.
func (s *shared) welcome(ctx context.Context, c *net.UnixConn) (enrolled, error) {
	pid, uid, err := peerOf(c)
	if err != nil || uid != os.Geteuid() {
		return enrolled{}, &casemate.Error{Op: "run", Kind: casemate.Denied, Err: fmt.Errorf("this is the shared router of user %d", os.Geteuid())}
	}
	client, err := clientOf(pid)
	if err != nil {
		client = clientProcess{} // of another namespace of processes: its shims share nothing
	}
	c.SetDeadline(time.Now().Add(introductionTime))
	b, err := readFrame(c, maxHello)
	if err != nil {
		return enrolled{}, err
	}
	h, err := decodeHello(b)
	if err != nil {
		return enrolled{}, err
	}
	c.SetDeadline(time.Time{})
	env, err := s.prepare(ctx, c, h)
	if err != nil {
		return enrolled{}, err
	}
	e, err := s.enroll(client, h.Name, env)
	if err != nil {
		return enrolled{}, err
	}
	c.SetDeadline(time.Now().Add(introductionTime))
	defer c.SetDeadline(time.Time{})
	if err := writeFrame(c, shimAnswer{Ready: true}); err != nil {
		s.leave(e)
		return enrolled{}, err
	}
	return e, nil
}

// prepare makes sure that the server of h is served as the configuration has
// it now, and that this command may be it; it returns the values that the shim
// passes on.
func (s *shared) prepare(ctx context.Context, c *net.UnixConn, h hello) (map[string]string, error) {
	l, err := s.loadOwn()
	if err != nil {
		return nil, err
	}
	if h.File != l.File { // what XDG_CONFIG_HOME of one client names serves no other
		return nil, &casemate.Error{Op: "run", Kind: casemate.Busy, Err: fmt.Errorf("the shared router that runs has another configuration, %s", l.File),
			Fix: "close the clients that use it, and see who set their XDG_CONFIG_HOME or HOME; it ends with the last"}
	}
	if err := l.may(h.Name, h.Argv); err != nil {
		return nil, err
	}
	if l.unlisted(h.Name) {
		if l, err = s.list(ctx, c, h); err != nil {
			return nil, err
		}
	}
	if err := s.refresh(ctx, l, h.Name); err != nil {
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
func (s *shared) list(ctx context.Context, c *net.UnixConn, h hello) (*loaded, error) {
	if err := writeFrame(c, shimAnswer{Progress: "asking the server " + h.Name + " what it offers, once"}); err != nil {
		return nil, err
	}
	defer s.listing.lock(h.Name)()
	l, err := s.loadOwn()
	if err != nil || !l.unlisted(h.Name) { // another shim did meanwhile
		return l, err
	}
	t := *l.Server(h.Name)
	env, err := askValues(c, t.Security.Pass)
	if err != nil {
		return nil, err
	}
	// Once, and for itself: its variables are as if the profile stated them.
	values := maps.Clone(t.Security.Env)
	if values == nil {
		values = map[string]string{}
	}
	maps.Copy(values, env)
	t.Security.Env, t.Security.Pass = values, nil
	found, failed, err := s.app.list(ctx, l, []*casemate.Tool{&t})
	if err != nil {
		return nil, err
	}
	if e := failed[h.Name]; e != nil {
		return nil, e
	}
	return l, s.record(l, found)
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

// refresh serves what changed with l; a server that was refused is tried
// again.
func (s *shared) refresh(ctx context.Context, l *loaded, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// enrolled is one shim's place.
type enrolled struct {
	session *clientSession
	service *service
	name    string
}

// enroll counts one more shim of a client, and makes the guests of its server
// with these values.
func (s *shared) enroll(client clientProcess, name string, env map[string]string) (enrolled, error) {
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
	if c.services[name] == nil {
		c.services[name] = &service{env: env}
	}
	e := enrolled{c, c.services[name], name}
	e.service.shims++
	if e.service.shims > 1 {
		return e, nil
	}
	var guests []plan.Guest
	e.service.variants, guests = s.loaded.variants(s.host.plan.Guests, name, env, nil)
	if err := s.host.vary(guests, nil); err != nil {
		s.unlist(e)
		return enrolled{}, err
	}
	return e, nil
}

// leave counts one shim less.
func (s *shared) leave(e enrolled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlist(e)
}

// unlist is leave; s.mu is held. With the last of a server its variants go.
func (s *shared) unlist(e enrolled) {
	if e.service.shims--; e.service.shims > 0 {
		return
	}
	delete(e.session.services, e.name)
	if err := s.host.vary(nil, e.service.variants); err != nil {
		s.note("the spawner keeps what nobody uses: %v", err)
	}
	if len(e.session.services) == 0 {
		s.sessions = slices.DeleteFunc(s.sessions, func(o *clientSession) bool { return o == e.session })
	}
}

// renew makes the variants of guests that are new, and ends those of guests
// that are no more; s.mu is held.
func (s *shared) renew(ctx context.Context) error {
	for _, c := range s.sessions {
		change, gone := map[casemate.Digest]casemate.Digest{}, map[casemate.Digest]casemate.Digest{}
		for name, v := range c.services {
			next, guests := s.loaded.variants(s.host.plan.Guests, name, v.env, v.variants)
			if err := s.host.vary(guests, nil); err != nil {
				return err
			}
			for base, variant := range v.variants {
				if next[base] == "" {
					change[base], gone[base] = "", variant
				}
			}
			maps.Copy(change, next)
			v.variants = next
		}
		if len(change) == 0 {
			continue
		}
		if err := s.host.ctl.do(ctx, opVariants, variantsBody{c.id, change}, nil); err != nil {
			return err
		}
		if err := s.host.vary(nil, gone); err != nil {
			return err
		}
	}
	return nil
}
