package wrap

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
)

// A State says what an entry of a client's configuration is to wrap.
type State string

// The states.
const (
	Plain   State = "plain"   // a program of this machine: what wrap is for
	Wrapped State = "wrapped" // casemate starts it already
	Remote  State = "remote"  // it is reached by a URL, and runs elsewhere
	Alone   State = "alone"   // it cannot be wrapped; Why says why
)

// A Server is one entry of a client's configuration.
type Server struct {
	Key   string   // as the client calls it
	Where string   // the table that it stands in, as in projects./home/me/x.mcpServers
	State State    //
	Argv  []string // what the client starts, without casemate
	Name  string   // of a wrapped one: the name after --name
	Env   []string // names of the variables that the entry sets or passes on; sorted
	Base  string   // the folder that relative paths begin at; "" where the client chooses it
	Why   string   // of one that is left alone

	values  map[string]string // of the variables
	command *node             // the program, or the whole argv where args is nil
	args    *node             // nil: there is none, or command is a list
	owner   *node             // the table that holds command
	key     string            // the name of command in owner
	argsKey string            // the name that args has there
}

// ID tells the entries of one file apart.
func (s *Server) ID() string { return s.Where + "\x00" + s.Key }

// A Document is a client's configuration as it was read.
type Document struct {
	Client  string // whose it is, as far as that can be told
	Servers []*Server

	language language
	client   *client // nil: not known
	root     *node
	src      []byte
}

type language byte

const (
	inJSON language = iota
	inTOML
	inYAML
)

// Read finds the servers in src, the content of the file at path, an absolute
// one. What it is is told by the names and the shape of what it holds; of the
// path only its ending counts (.toml, .yaml and .yml are no JSON), and for
// entries of a project the folder. Every mistake is an Error of kind Invalid
// with its line and column, and never quotes a value of the file.
func Read(path string, src []byte) (*Document, error) {
	d := &Document{src: src, client: clientOf(path)}
	if d.client != nil {
		d.Client = d.client.name
	}
	reader := readJSON
	switch strings.ToLower(filepath.Ext(path)) {
	case ".toml":
		d.language, reader = inTOML, readTOML
	case ".yaml", ".yml":
		d.language, reader = inYAML, readYAML
	}
	err := notText(src)
	var root *node
	if err == nil {
		root, err = reader(src)
	}
	if err != nil {
		at := ""
		if m, ok := errors.AsType[*mistake](err); ok {
			at = position(src, m.at) + ": "
		}
		return nil, invalid(path, at+err.Error(), "correct the file, with the client closed")
	}
	d.root = root
	all, err := catalogue()
	if err != nil {
		return nil, err
	}
	if !d.find(path, root, all) {
		return nil, invalid(path, "is not the configuration of an MCP client that casemate knows",
			"it needs one of "+strings.Join(knownKeys(), ", ")+"; casemate wrap without a file lists those of this machine")
	}
	return d, nil
}

// invalid is an error about the file at path.
func invalid(path, why, fix string) error {
	return &casemate.Error{Op: "wrap", Kind: casemate.Invalid, Err: errors.New(path + ": " + why), Fix: fix}
}

// find collects the servers of every table of them.
func (d *Document) find(path string, root *node, all map[string]*known) bool {
	found := false
	for _, c := range containers {
		if c.language != d.language {
			continue
		}
		for _, t := range c.tables(root) {
			found = true
			if d.Client == "" {
				d.Client = c.client
			}
			for _, m := range t.node.members {
				s := c.server(m.key, m.value)
				if s.Where = t.where; s.Base == "" {
					s.Base = t.base
				}
				if s.Base == "" {
					s.Base = projectOf(path)
				}
				if s.State == Plain {
					if k := understand(s.Argv, all).known; k != nil && k.Remote {
						s.leave("it is " + k.Purpose)
					}
				}
				d.Servers = append(d.Servers, s)
			}
		}
	}
	return found
}

// A container is a place where a client keeps its servers.
type container struct {
	client   string
	language language
	path     []string // of keys; "*" is every key
	is       func(entry *node) bool
}

type found struct {
	node  *node
	where string
	base  string // of a project: its folder
}

// containers are the places, in the order in which they are looked at.
var containers = []container{
	{"", inJSON, []string{"mcpServers"}, anyEntry},
	{"Claude Code", inJSON, []string{"projects", "*", "mcpServers"}, anyEntry},
	{"VS Code", inJSON, []string{"servers"}, startsOrReaches},
	{"VS Code", inJSON, []string{"mcp", "servers"}, startsOrReaches},
	{"Zed", inJSON, []string{"context_servers"}, anyEntry},
	{"opencode", inJSON, []string{"mcp"}, typed},
	{"Codex", inTOML, []string{"mcp_servers"}, anyEntry},
	{"Goose", inYAML, []string{"extensions"}, typed},
}

func anyEntry(*node) bool { return true }

// startsOrReaches is for a key that other programs use for other things.
func startsOrReaches(n *node) bool { return n.get("command") != nil || n.get("url") != nil }

func typed(n *node) bool { return n.get("type").isText() }

func knownKeys() []string {
	var out []string
	for _, c := range containers {
		if k := strings.Join(c.path, "."); !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// tables returns the tables of servers that root holds at the place.
func (c *container) tables(root *node) []found {
	at := []found{{node: root}}
	for _, k := range c.path {
		var next []found
		for _, f := range at {
			if !f.node.isTable() {
				continue
			}
			for _, m := range f.node.members {
				if k != "*" && m.key != k {
					continue
				}
				g := found{node: m.value, where: strings.TrimPrefix(f.where+"."+m.key, "."), base: f.base}
				if k == "*" && filepath.IsAbs(m.key) {
					g.base = filepath.Clean(m.key)
				}
				next = append(next, g)
			}
		}
		at = next
	}
	return slices.DeleteFunc(at, func(f found) bool {
		return !f.node.isTable() || slices.ContainsFunc(f.node.members, func(m member) bool { return !m.value.isTable() || !c.is(m.value) })
	})
}

// projectOf is the folder of the project whose configuration lies at path,
// or "" where it is the user's own.
func projectOf(path string) string {
	dir, name := filepath.Split(filepath.Clean(path))
	dir = filepath.Clean(dir)
	switch in := filepath.Base(dir); {
	case name == ".mcp.json" || name == "opencode.json" || name == "opencode.jsonc":
		return dir
	case in == ".vscode" || in == ".cursor" || in == ".zed" || in == ".gemini" || in == ".codex" || in == ".github":
		return filepath.Dir(dir)
	}
	return ""
}

// server reads one entry.
func (c *container) server(key string, n *node) *Server {
	s := &Server{Key: key, owner: n, key: "command", argsKey: "args", values: map[string]string{}}
	if c.client == "Goose" {
		s.key = "cmd"
	}
	for _, k := range []string{"env", "envs", "environment"} {
		if t := n.get(k); t.isTable() {
			for _, m := range t.members {
				s.variable(m.key, m.value)
			}
		}
	}
	for _, k := range []string{"env_vars", "env_keys"} { // names alone
		names, _ := n.get(k).texts()
		for _, name := range names {
			s.variable(name, nil)
		}
	}
	if dir := n.get("cwd"); dir.isText() && filepath.IsAbs(dir.text) {
		s.Base = filepath.Clean(dir.text)
	}
	if sub := n.get("command"); sub.isTable() { // Zed, until 2025
		s.owner, s.key = sub, "path"
		if t := sub.get("env"); t.isTable() {
			for _, m := range t.members {
				s.variable(m.key, m.value)
			}
		}
	}
	slices.Sort(s.Env)
	s.Env = slices.Compact(s.Env)
	s.command, s.args = s.owner.get(s.key), s.owner.get(s.argsKey)
	s.judge(n)
	return s
}

func (s *Server) variable(name string, value *node) {
	s.Env = append(s.Env, name)
	if value.isText() {
		s.values[name] = value.text
	}
}

// judge says what the entry is.
func (s *Server) judge(n *node) {
	if s.command == nil {
		for _, k := range []string{"url", "httpUrl", "serverUrl", "uri"} {
			if u := n.get(k); u != nil {
				s.State, s.Why = Remote, "it is reached by a URL and runs elsewhere"
				return
			}
		}
		s.leave("it names no program to start")
		if t := n.get("type"); t.isText() {
			s.leave("it is of the type " + quote(t.text) + ", which starts no program of its own")
		}
		return
	}
	if s.command.isList() { // opencode
		s.args = nil
		argv, ok := s.command.texts()
		if s.Argv = argv; !ok || len(argv) == 0 {
			s.leave("its command is no list of words on lines of their own")
			return
		}
	} else {
		if !s.command.isText() {
			s.leave("its command is not written as a word that casemate can replace")
			return
		}
		args, ok := s.args.texts()
		if s.args != nil && !ok {
			s.leave("its args are no list of words that casemate can add to")
			return
		}
		s.Argv = append([]string{s.command.text}, args...)
	}
	switch {
	case s.Argv[0] == "":
		s.leave("its command is empty")
	case filepath.Base(s.Argv[0]) == program:
		if len(s.Argv) < 6 || s.Argv[1] != "run" || s.Argv[2] != "--name" || !ValidName(s.Argv[3]) || s.Argv[4] != "--" {
			s.leave("it is Casemate itself")
			return
		}
		s.State, s.Name, s.Argv = Wrapped, s.Argv[3], s.Argv[5:]
	default:
		s.State = Plain
		if why := cannotWrap(s.Argv); why != "" {
			s.leave(why)
		}
	}
}

func (s *Server) leave(why string) { s.State, s.Why = Alone, why }
