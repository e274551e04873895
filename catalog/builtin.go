package catalog

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// A function is one of builtin: files as the planner sees it.
type function struct {
	name   casemate.Function
	writes bool
	doc    string
	args   []arg
}

type arg struct {
	name, doc string
	role      casemate.Role
	kind      string // of JSON
	optional  bool
}

// functions are the capability functions of builtin: files. Package
// builtin/files implements them, and says their bounds.
func functions() []function {
	path := func(role casemate.Role) arg {
		return arg{"path", "Absolute path, in a granted folder.", role, "string", false}
	}
	content := func(name, doc string) arg { return arg{name, doc, casemate.RoleContent, "string", false} }
	more := func(name, doc, kind string) arg { return arg{name, doc, casemate.RoleSelector, kind, true} }
	return []function{
		{casemate.ReadFile, false, "Read a text file.", []arg{path(casemate.RoleSelector),
			more("offset", "The first line to return, counted from 1.", "integer"), more("limit", "How many lines to return at most.", "integer")}},
		{casemate.WriteFile, true, "Write a text file; it and its folders are made if they do not exist, and it is replaced if it does.",
			[]arg{path(casemate.RoleTarget), content("content", "The whole new content.")}},
		{casemate.EditFile, true, "Replace one text in a file by another. The old text must stand in it exactly once.",
			[]arg{path(casemate.RoleTarget), content("old", "The text to replace."), content("new", "What replaces it.")}},
		{casemate.ListFolder, false, "List the names, types and sizes in a folder.", []arg{path(casemate.RoleSelector)}},
		{casemate.SearchFiles, false, "Find files below a folder by a pattern of their names, and lines in them that hold a text.", []arg{path(casemate.RoleSelector),
			more("pattern", "Of names, such as *.md; with a slash, of paths. Left out is every file.", "string"), more("text", "The text that lines must hold.", "string")}},
	}
}

// builtin makes the tools of a built-in entry t: the one that it names, or
// for files each function that the grants allow. The functions that read
// get the grants for reading only.
func (b *builder) builtin(t *casemate.Tool, n *yaml.Node, key string, p *profile) []*casemate.Tool {
	write := slices.ContainsFunc(p.Filesystem, func(m casemate.Mount) bool { return m.Access == casemate.Write })
	if len(p.Filesystem) == 0 {
		b.add(n, key, "%s without a grant could touch nothing; add security: {filesystem: [{path: …, at: …, access: read}]}", n.Value)
		return nil
	}
	var out []*casemate.Tool
	for _, f := range functions() {
		all := n.Value == "files"
		switch {
		case !all && string(f.name) != n.Value || all && f.writes && !write:
			continue
		case f.writes && !write:
			b.add(n, key, "%s needs a grant with access: write", n.Value)
			return nil
		}
		u := &casemate.Tool{Name: t.Name, Run: casemate.Run{Builtin: f.name}, Security: t.Security, Pool: t.Pool}
		if all {
			u.Name = casemate.ToolName(f.name)
			if b.files > 1 {
				u.Name = t.Name + "_" + u.Name
			}
			if len(u.Name) > 64 {
				b.add(n, key, "the name %s is longer than 64; give the entry a shorter one", shown(string(u.Name)))
				return nil
			}
		}
		u.Security.Filesystem = slices.Clone(t.Security.Filesystem)
		if !f.writes {
			for i := range u.Security.Filesystem {
				m := &u.Security.Filesystem[i]
				m.Access, m.Names = casemate.Read, nil
			}
		}
		u.Description = describe(f, t.Description, t.Security.Filesystem)
		u.Parameters, u.Roles = f.schema()
		out = append(out, u)
	}
	return out
}

// describe tells the planner what a function does, and where.
func describe(f function, more string, mounts []casemate.Mount) string {
	var at []string
	for _, m := range mounts {
		if !f.writes || m.Access == casemate.Write {
			at = append(at, m.At)
		}
	}
	s := f.doc + " Granted: " + strings.Join(at, ", ") + "."
	if more != "" {
		s += " " + more
	}
	return s
}

// schema is the JSON Schema of f's arguments, and their roles.
func (f function) schema() (json.RawMessage, map[string]casemate.Role) {
	type property struct {
		Description string `json:"description"`
		Type        string `json:"type"`
	}
	s := struct {
		Additional bool                `json:"additionalProperties"`
		Properties map[string]property `json:"properties"`
		Required   []string            `json:"required"`
		Type       string              `json:"type"`
	}{Properties: map[string]property{}, Type: "object"}
	roles := map[string]casemate.Role{}
	for _, a := range f.args {
		s.Properties[a.name] = property{a.doc, a.kind}
		if !a.optional {
			s.Required = append(s.Required, a.name)
		}
		roles[a.name] = a.role
	}
	j, err := json.Marshal(s)
	if err != nil { // plain structs always marshal
		panic("catalog: bug: " + err.Error())
	}
	return j, roles
}
