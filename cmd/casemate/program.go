package main

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/casemate/casemate"
)

// interpreterNames are the programs that are found by the rules of
// interpreters, versions included.
var interpreterNames = map[string]*regexp.Regexp{
	"python": regexp.MustCompile(`^python(3(\.[0-9]{1,3})?)?$`),
	"node":   regexp.MustCompile(`^node(js)?$`),
}

// server gives an MCP server's command what it needs of this host: the program
// as it is found, and folders of its own beyond the system's. A program outside
// them that no grant gives is granted by being named, read-only.
func (r *interpreters) server(ctx context.Context, t *casemate.Tool) (folders []string, err error) {
	mcp := *t.Run.MCP
	mcp.Command = slices.Clone(mcp.Command)
	t.Run.MCP = &mcp
	name := mcp.Command[0]
	for language, form := range interpreterNames {
		if !form.MatchString(filepath.Base(name)) || strings.Contains(name, "/") && r.granted(t, name) {
			continue
		}
		configured := ""
		if strings.Contains(name, "/") {
			configured = name
		}
		i, err := r.resolve(ctx, language, configured)
		if err != nil {
			return nil, err
		}
		mcp.Command[0] = i.Path
		return i.Folders, nil
	}
	if strings.Contains(name, "/") && r.granted(t, name) {
		return nil, nil // of the sandbox
	}
	fail := func(err error) error {
		return &casemate.Error{Op: "start", Kind: casemate.Unsupported, Err: err, Fix: "install it, or name it by its path in mcp.command"}
	}
	path := name
	if !strings.Contains(name, "/") {
		if path, err = r.finder.find(name); err != nil {
			return nil, fail(err)
		}
	} else if !filepath.IsAbs(path) || !executable(path) {
		return nil, fail(errors.New(path + " is not a program, of the host or of a grant"))
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fail(err)
	}
	if w := overlapping(r.writable, real); w != "" {
		return nil, fail(errors.New("the program " + real + " lies in the write grant " + w + ": a tool could change what runs"))
	}
	mcp.Command[0] = path
	if within(systemFolders, path) && within(systemFolders, real) {
		return nil, nil
	}
	mcp.Command[0] = real
	if !within(systemFolders, real) {
		t.Security.Filesystem = append(slices.Clone(t.Security.Filesystem), casemate.Mount{Path: real, At: real, Access: casemate.Read, Execute: true})
	}
	return nil, nil
}

// granted says whether a path in the sandbox lies in a grant of t.
func (r *interpreters) granted(t *casemate.Tool, path string) bool {
	if !filepath.IsAbs(path) {
		path = filepath.Join(t.Security.WithDefaults().Cwd, path)
	}
	return slices.ContainsFunc(t.Security.Filesystem, func(m casemate.Mount) bool { return within([]string{m.At}, filepath.Clean(path)) })
}
