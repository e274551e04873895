package catalog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/casemate/casemate"
)

// Unlisted are the servers whose tools are not known: nothing of them was
// approved yet, or their command is another now. One that cannot be started
// here is not among them.
func (c *Config) Unlisted() []*casemate.Tool {
	var out []*casemate.Tool
	for _, s := range c.servers {
		if _, ok := c.approved(s); !ok && s.refused == nil && c.failed[string(s.base.Name)] == nil {
			out = append(out, s.base)
		}
	}
	return out
}

func (c *Config) approved(s *server) (Listing, bool) {
	l, ok := c.lock.Servers[string(s.base.Name)]
	return l, ok && l.Command == commandDigest(s.base.Run.MCP.Command)
}

// Recorded returns the listing that was approved last for the server of that
// name, perhaps of another command.
func (c *Config) Recorded(name string) (Listing, bool) {
	l, ok := c.lock.Servers[name]
	return l, ok
}

// Server returns the server of that name, without what it lists; nil if there
// is none.
func (c *Config) Server(name string) *casemate.Tool {
	for _, s := range c.servers {
		if string(s.base.Name) == name {
			return s.base
		}
	}
	return nil
}

// Approve records listings, by the names of their servers, in the lock; their
// tools are in c.Tools then. With first alone, a listing that another Casemate
// approved meanwhile stays.
func (c *Config) Approve(listings map[string]Listing, first bool) error {
	return c.UpdateLock(func(l *Lock) error {
		for name, n := range listings {
			if old, ok := l.Servers[name]; ok && first && old.Command == n.Command {
				continue
			}
			if l.Servers == nil {
				l.Servers = map[string]Listing{}
			}
			l.Servers[name] = n
		}
		return nil
	})
}

// Refuse says that the server of that name cannot be listed, and why. Its
// tools are not to be had.
func (c *Config) Refuse(name string, err *casemate.Error) {
	if c.failed == nil {
		c.failed = map[string]*casemate.Error{}
	}
	e := *err
	e.Tool = casemate.ToolName(name)
	c.failed[name] = &e
	c.expand()
}

// adopt takes a lock as it was read, and makes the tools that it lists.
func (c *Config) adopt(l Lock) {
	c.lock = l
	c.expand()
}

// expand makes Tools, Servers and Unsupported of what the file says and what
// the lock lists. A name that two tools would have is neither's where both are
// servers', and the file's own where one is of the file: no call reaches what
// it does not mean.
func (c *Config) expand() {
	c.Tools, c.Unsupported, c.Servers = slices.Clone(c.own), slices.Clone(c.beyond), nil
	owner := map[casemate.ToolName]string{} // of each name: the server whose it is; "" is the file itself
	for _, t := range c.own {
		owner[t.Name] = ""
	}
	for _, e := range c.beyond {
		owner[e.Tool] = ""
	}
	refuse := func(name casemate.ToolName, why, fix string) {
		c.Unsupported = append(c.Unsupported, &casemate.Error{Op: "load", Tool: name, Kind: casemate.Unsupported, Err: errors.New(why), Fix: fix})
	}
	for _, s := range c.servers {
		base := *s.base
		mcp := *base.Run.MCP
		base.Run.MCP = &mcp
		c.Servers = append(c.Servers, &base)
		name := string(base.Name)
		l, ok := c.approved(s)
		switch {
		case s.refused != nil:
			c.Unsupported = append(c.Unsupported, s.refused)
			continue
		case !ok && c.failed[name] != nil:
			c.Unsupported = append(c.Unsupported, c.failed[name])
			continue
		case !ok:
			continue
		}
		mcp.Listed = l.Initialize
		prefix := ""
		if s.prefix != nil {
			prefix = *s.prefix
		} else if len(c.servers) > 1 {
			prefix = name + "_"
		}
		for i, raw := range l.Tools {
			x, err := readListed(raw)
			full := casemate.ToolName(prefix + x.name)
			other, taken := owner[full]
			switch {
			case err != nil:
				refuse(casemate.ToolName(fmt.Sprintf("%s#%d", name, i)), fmt.Sprintf("a tool of the server %s is not taken: %s", name, visible(err.Error())), "ask the server's maker")
				continue
			case !serverTool.MatchString(string(full)):
				refuse(full, fmt.Sprintf("with the prefix %q the name of the tool %s of the server %s is longer than 128", prefix, x.name, name), "give its entry a shorter prefix: mcp: {prefix: …}")
				continue
			case taken && other == name:
				refuse(full, fmt.Sprintf("the server %s lists two tools of that name", name), "ask the server's maker")
			case taken && other == "":
				refuse(full, fmt.Sprintf("the tool %s of the server %s would shadow the tool of that name", x.name, name), fixPrefix(name))
				continue
			case taken:
				refuse(full, fmt.Sprintf("the tool %s of the server %s and a tool of the server %s would have one name", x.name, name, other), fixPrefix(name))
			}
			if taken {
				c.drop(full)
				continue
			}
			owner[full] = name
			t := base
			m := *base.Run.MCP
			m.Tool, m.Listed = x.name, raw
			t.Name, t.Description, t.Parameters, t.Run.MCP, t.Security = full, x.description, x.schema, &m, s.of(x.name).Profile
			c.Tools = append(c.Tools, &t)
		}
	}
}

// drop takes the tools of that name away.
func (c *Config) drop(name casemate.ToolName) {
	c.Tools = slices.DeleteFunc(c.Tools, func(t *casemate.Tool) bool { return t.Name == name })
}

func fixPrefix(server string) string {
	return fmt.Sprintf("give the server's tools names of their own: prefix: %s_ in mcp of the entry %s", server, server)
}
