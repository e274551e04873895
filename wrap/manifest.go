package wrap

import (
	"bytes"
	"reflect"
	"slices"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// header begins a configuration that wrap makes.
const header = `# Written by casemate wrap: what each MCP server that it has put in a sandbox
# may touch, beside its own program: of a script that python or node runs that
# is the folder of its project too. Nothing else is granted. Read it, and change
# what you like: casemate wrap leaves every entry alone that you have changed.
# The keys are in docs/manifest.md of Casemate.
version: 1
tools: []
`

// A Manifest is the user's casemate.yaml as text that entries are added to.
type Manifest struct {
	Path string
	Src  []byte
	root *node
}

// An entry is what a manifest says of one tool, as far as wrap needs it.
type entry struct {
	server  bool
	command []string
	env     []string // sorted
	named   bool     // its profile is one of profiles:, and env is not known
}

// ReadManifest reads the file at path; empty src is a new one.
func ReadManifest(path string, src []byte) (*Manifest, error) {
	if len(src) == 0 {
		src = []byte(header)
	}
	m := &Manifest{Path: path, Src: src}
	if err := notText(src); err != nil {
		return nil, m.wrong(err)
	}
	root, err := readYAML(src)
	if err != nil {
		return nil, m.wrong(err)
	}
	m.root = root
	if t := root.get("tools"); !t.isList() {
		return nil, invalid(path, "has no list of tools that casemate can add to", "write tools: [] on a line of its own")
	}
	return m, nil
}

func (m *Manifest) wrong(err error) error {
	at := ""
	if k, ok := err.(*mistake); ok {
		at = position(m.Src, k.at) + ": "
	}
	return invalid(m.Path, at+err.Error(), "correct it; casemate tools says what is wrong with it")
}

// entries are the tools by their names.
func (m *Manifest) entries() (map[string]entry, error) {
	var f struct {
		Tools []struct {
			Name string `yaml:"name"`
			MCP  *struct {
				Command []string `yaml:"command"`
			} `yaml:"mcp"`
			Run struct {
				MCP *struct {
					Command []string `yaml:"command"`
				} `yaml:"mcp"`
			} `yaml:"run"`
			Security yaml.Node `yaml:"security"`
		} `yaml:"tools"`
	}
	if err := yaml.Unmarshal(m.Src, &f); err != nil {
		return nil, invalid(m.Path, "is not as casemate reads it", "casemate tools says what is wrong with it")
	}
	out := map[string]entry{}
	for _, t := range f.Tools {
		e := entry{named: t.Security.Kind == yaml.ScalarNode}
		switch {
		case t.MCP != nil:
			e.server, e.command = true, t.MCP.Command
		case t.Run.MCP != nil:
			e.server, e.command = true, t.Run.MCP.Command
		}
		var s struct {
			Env yaml.Node `yaml:"env"`
		}
		if t.Security.Kind == yaml.MappingNode && t.Security.Decode(&s) == nil {
			for i, n := range s.Env.Content {
				if s.Env.Kind == yaml.SequenceNode || i%2 == 0 {
					e.env = append(e.env, n.Value)
				}
			}
		}
		sort.Strings(e.env)
		out[t.Name] = e
	}
	return out, nil
}

// layout says how an entry is written into this file.
func (m *Manifest) layout() (indent, newline string, brackets bool) {
	newline = "\n"
	if bytes.Contains(m.Src, []byte("\r\n")) {
		newline = "\r\n"
	}
	t := m.root.get("tools")
	if t.form == list {
		return "  ", newline, len(t.items) > 0
	}
	line := t.start
	for line > 0 && m.Src[line-1] != '\n' {
		line--
	}
	return string(m.Src[line:t.start]), newline, false
}

// change returns the manifest with the text changed, if that changes its tools
// as expect does and nothing else.
func (m *Manifest) change(src []byte, expect func(tools []any) []any) (*Manifest, error) {
	unsure := func() (*Manifest, error) {
		return nil, invalid(m.Path, "is written in a way that casemate cannot add to without doubt", "write its tools as a list with a dash before each")
	}
	if len(src) > 1<<20 {
		return nil, invalid(m.Path, "would be larger than 1 MiB", "take out servers that are not used")
	}
	var before, after map[string]any
	if yaml.Unmarshal(m.Src, &before) != nil || yaml.Unmarshal(src, &after) != nil {
		return unsure()
	}
	tools := func(v map[string]any) []any { t, _ := v["tools"].([]any); return slices.Clone(t) }
	was, is := expect(tools(before)), tools(after)
	delete(before, "tools")
	delete(after, "tools")
	if !reflect.DeepEqual(before, after) || len(was) != len(is) || len(is) > 0 && !reflect.DeepEqual(was, is) {
		return unsure()
	}
	next, err := ReadManifest(m.Path, src)
	if err != nil {
		return unsure()
	}
	return next, nil
}

// item is the tool that an entry's text says.
func item(text string) any {
	var l []any
	if !strings.HasPrefix(text, "{") {
		yaml.Unmarshal([]byte(text), &l)
	} else {
		yaml.Unmarshal([]byte("["+text+"]"), &l)
	}
	if len(l) != 1 {
		return nil
	}
	return l[0]
}

// add appends an entry.
func (m *Manifest) add(text string) (*Manifest, error) {
	t := m.root.get("tools")
	_, newline, brackets := m.layout()
	last := func(tools []any) []any { return append(tools, item(text)) }
	if brackets {
		first := t.items[0].start
		return m.change(apply(m.Src, []edit{{span{first, first}, text}}), func(tools []any) []any { return append([]any{item(text)}, tools...) })
	}
	if t.form == list { // empty brackets: what else is on the line stays there
		end := t.start + 1 + bytes.IndexByte(m.Src[t.start:], ']')
		line, with := len(m.Src), newline+text
		if i := bytes.IndexByte(m.Src[end:], '\n'); i >= 0 {
			line, with = end+i, text
		}
		next := min(line+1, len(m.Src))
		return m.change(apply(m.Src, []edit{{span{m.colon(), end}, ""}, {span{next, next}, with}}), last)
	}
	end := len(m.Src)
	for _, k := range m.root.members {
		if k.whole > t.start && k.whole < end {
			end = k.whole
		}
	}
	at := m.trailing(end)
	for _, i := range []int{at, end} {
		with := text
		if i > 0 && m.Src[i-1] != '\n' {
			with = newline + with
		}
		if next, err := m.change(apply(m.Src, []edit{{span{i, i}, with}}), last); err == nil || i == end {
			return next, err
		}
	}
	return nil, nil // never reached
}

// trailing is where the lines before end begin that are empty, or comments
// at the margin: they belong to what follows.
func (m *Manifest) trailing(end int) int {
	for end > 0 {
		start := bytes.LastIndexByte(m.Src[:end-1], '\n') + 1
		line := strings.TrimRight(string(m.Src[start:end]), "\r\n")
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "#") || end == len(m.Src) && m.Src[end-1] != '\n' {
			return end
		}
		end = start
	}
	return end
}

// replace puts an entry, or "" for none, in the place of one that wrap wrote.
// unchanged is false where that is not there any more as it was written.
func (m *Manifest) replace(old, text string) (next *Manifest, unchanged bool) {
	at := bytes.Index(m.Src, []byte(old))
	if old == "" || at < 0 || bytes.Count(m.Src, []byte(old)) > 1 {
		return m, false
	}
	edits := []edit{{span{at, at + len(old)}, text}}
	if text == "" && len(m.root.get("tools").items) == 1 && !strings.HasPrefix(old, "{") {
		edits = append(edits, edit{span{m.colon(), m.colon()}, " []"})
	}
	was := item(old)
	next, err := m.change(apply(m.Src, edits), func(tools []any) []any {
		i := slices.IndexFunc(tools, func(t any) bool { return reflect.DeepEqual(t, was) })
		if i < 0 {
			return append(tools, nil) // it goes on after the text: no edit makes that
		}
		if text == "" {
			return slices.Delete(tools, i, i+1)
		}
		tools[i] = item(text)
		return tools
	})
	if err != nil {
		return m, false
	}
	return next, true
}

// colon is where the colon after the name tools ends.
func (m *Manifest) colon() int {
	i := m.root.member("tools").name.end
	return i + 1 + bytes.IndexByte(m.Src[i:], ':')
}
