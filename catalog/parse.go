package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// Parse checks src, the content of the file of that name, which should be its
// real path: relative grants are relative to its folder. Everything wrong
// with src is in one Error of kind Invalid, a mistake a line, each as
//
//	casemate.yaml:LINE:COLUMN: KEY.PATH: what; did you mean "X"?
//
// Parse never panics, whatever src holds.
func Parse(name string, src []byte, opt Options) (*Config, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return nil, &casemate.Error{Op: "load", Kind: casemate.Invalid, Err: err}
	}
	c := &Config{File: name, Dir: filepath.Dir(name), Source: bytes.Clone(src), source: digest(src),
		state: opt.State, operator: opt.Operator, resolved: opt.ResolveMounts, pins: map[casemate.ToolName]casemate.Digest{}, Profiles: map[string]NamedProfile{}}
	b := &builder{problems: &problems{file: baseName(name)}, opt: opt, config: c,
		profiles: map[string]*profile{}, written: map[string]*yaml.Node{}, named: map[casemate.ToolName]*yaml.Node{}, contents: map[string]casemate.Digest{}}
	if root := read(b.problems, src); root != nil {
		if table := configuration(); table.takes(root) {
			b.table(table, root)
		} else {
			table.check(b.problems, root, "")
		}
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	c.Digest = b.digest()
	c.adopt(Lock{})
	return c, nil
}

// A builder turns a checked tree into a Config.
type builder struct {
	*problems
	opt      Options
	config   *Config
	states   []string // folders of Casemate's state, resolved
	profiles map[string]*profile
	written  map[string]*yaml.Node            // profiles, as they are written
	named    map[casemate.ToolName]*yaml.Node // tools, and where each stands
	contents map[string]casemate.Digest       // of the files of Dir that tools run
	grants   []grant                          // every write grant, to find interpreters in
	programs []program
	files    int // entries with builtin: files
}

// A program is an interpreter of the host and where the file names it.
type program struct {
	at   *yaml.Node
	path string // key
	file string
}

type grant struct {
	real string
	line int
}

func (b *builder) table(table *shape, root *yaml.Node) {
	before := b.count()
	table.check(b.problems, root, "")
	if b.count() > before { // what follows relies on the shape
		return
	}
	if !b.opt.Operator {
		for _, key := range []string{"host", "secrets"} {
			if get(root, key) != nil {
				b.add(getKey(root, key), key, "belongs to the operator: it is read only from the user's own file, or from one named by --config or CASEMATE_CONFIG")
			}
		}
	}
	if get(root, "secrets") != nil {
		b.unsupported("", "secrets", "remove secrets:")
	}
	b.host(get(root, "host"))
	b.state()
	if ps := get(root, "profiles"); ps != nil {
		for i := 0; i < len(ps.Content); i += 2 {
			k := ps.Content[i].Value
			b.profiles[k], b.written[k] = b.profile(ps.Content[i+1], join("profiles", k)), ps.Content[i+1]
			b.config.Profiles[k] = b.namedProfile(k)
		}
	}
	for _, n := range get(root, "tools").Content {
		if str(get(n, "run"), "builtin") == "files" {
			b.files++
		}
	}
	for i, n := range get(root, "tools").Content {
		b.tool(n, fmt.Sprintf("tools[%d]", i))
	}
	b.kept()
	for _, p := range b.programs {
		for _, g := range b.grants {
			if within(g.real, p.file) {
				b.add(p.at, p.path, "%s lies in the write grant of line %d: a tool could replace its interpreter", shown(p.at.Value), g.line)
			}
		}
	}
}

func (b *builder) host(n *yaml.Node) {
	h := &b.config.Host
	if n == nil {
		return
	}
	if s := get(n, "state"); s != nil {
		h.State = b.path(s, "host.state")
	}
	h.AllowDegraded = texts(get(n, "allow_degraded"))
	if h.Client = str(n, "client"); h.Client != "" {
		b.warn("host.client has no effect in this version")
	}
	if p := get(n, "pool"); p != nil {
		h.Pool.Max = integerOf(get(p, "max"))
		h.Pool.Memory = b.size(get(p, "memory"), "host.pool.memory")
	}
	if p := get(n, "concurrency"); p != nil {
		h.Concurrency = Concurrency{integerOf(get(p, "total")), integerOf(get(p, "per_tool"))}
	}
	b.callers(get(n, "callers"))
	if get(n, "egress") != nil {
		b.unsupported("", "host.egress", "remove host.egress")
	}
}

// unsupported records what this version cannot enforce; fix is what to do.
func (b *builder) unsupported(tool casemate.ToolName, what, fix string) {
	b.config.beyond = append(b.config.beyond, &casemate.Error{Op: "load", Tool: tool, Kind: casemate.Unsupported,
		Err: errors.New("this version of Casemate cannot enforce " + what), Fix: fix})
}

func (b *builder) warn(format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	if !slices.Contains(b.config.Warnings, w) {
		b.config.Warnings = append(b.config.Warnings, w)
	}
}

// digest is over everything that trust is given to.
func (b *builder) digest() casemate.Digest {
	c := b.config
	if !b.opt.ResolveMounts {
		return c.source
	}
	h := sha256.New()
	fmt.Fprintf(h, "casemate configuration 1\n%s\n", c.source)
	for _, g := range c.trusts {
		fmt.Fprintf(h, "%s\n", g)
	}
	for _, f := range c.refs {
		fmt.Fprintf(h, "file %q %s\n", f, b.contents[f])
	}
	return casemate.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
}

func digest(b []byte) casemate.Digest {
	sum := sha256.Sum256(b)
	return casemate.Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// Pinned lists the files that no write grant may change, whatever it holds:
// the configuration, its lock, and every file in its folder that a tool runs.
func (c *Config) Pinned() []string {
	return append([]string{c.File, c.LockFile()}, c.refs...)
}
