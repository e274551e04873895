package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog/packages"
	"github.com/casemate/casemate/internal/plan"
)

// resolved is a command of the host's, as it runs in a sandbox.
type resolved struct {
	Argv   []string
	Mounts []plan.Mount      // what it stands on, read-only
	Path   []string          // folders that go before PATH
	Env    map[string]string // what it needs beside its profile's
}

// command returns what runs in the sandbox where the operator wrote argv: the
// program that their shell would start, its interpreter, and the least of the
// host that both need. Programs of the system's folders need nothing; of
// others
//
//   - an interpreter (python, node) brings its prefix, as for python: {};
//   - a script with #! its interpreter and itself; of a virtual environment
//     that is the environment, under its own path, so that its packages are
//     found; one of a node_modules that folder;
//   - any other program its own file, and no library that lies beside it;
//   - a command that runs a package of a registry is prepared (prepare.go).
//
// The file that an interpreter is given as its program brings its folder: of
// node the nearest that holds node_modules, or package.json.
//
// Nothing is run outside a sandbox. What lies in a write grant is refused: a
// tool could change what runs. A relative path is taken from dir; where that
// is "", it is the sandbox's business. A program that is not there, or may not be run, is an
// Error that is errNowhere. It blocks while an interpreter is asked, or a package
// prepared, until ctx is done.
func (r *interpreters) command(ctx context.Context, argv []string, dir string) (resolved, error) {
	if len(argv) == 0 || argv[0] == "" {
		return resolved{}, invalid("command", "name a program and its arguments", "the command is empty")
	}
	key := strings.Join(append([]string{dir}, argv...), "\x00")
	if got, ok := r.known[key]; ok {
		return got.resolved, got.err
	}
	out, err := r.find(ctx, argv, dir)
	if r.known == nil {
		r.known = map[string]answered{}
	}
	r.known[key] = answered{out, err}
	return out, err
}

// answered is what command once returned: a package that cannot be had is not
// asked for again by each tool of a server.
type answered struct {
	resolved
	err error
}

func (r *interpreters) find(ctx context.Context, argv []string, dir string) (resolved, error) {
	request, err := packages.Parse(argv)
	if err != nil {
		return resolved{}, err
	}
	if request != nil {
		return r.packaged(ctx, request, dir)
	}
	out, err := r.program(ctx, argv[0], dir, 0)
	if err != nil {
		return resolved{}, err
	}
	args := slices.Clone(argv[1:])
	if len(out.Argv) == 1 { // no script's
		if err := r.given(&out, language(out.Argv[0]), args, dir); err != nil {
			return resolved{}, err
		}
	}
	out.Argv = append(out.Argv, args...)
	return out, nil
}

// started returns what runs for a tool that has a command of the host's: an
// MCP server, or the command of casemate exec. Of the latter a program in one
// of the profile's own grants is the sandbox's business, and so is one that is
// nowhere, or is none.
func (r *interpreters) started(ctx context.Context, t *casemate.Tool) (resolved, error) {
	if t.Run.MCP != nil {
		argv := t.Run.MCP.Command
		if len(argv) > 0 && r.elsewhere(t, argv[0]) {
			return resolved{Argv: argv}, nil
		}
		if len(argv) > 0 && strings.Contains(argv[0], "/") && t.Security.Cwd != "" { // as the lock pins it
			argv = slices.Clone(argv)
			argv[0] = r.inside(t, argv[0])
		}
		return r.command(ctx, argv, r.dir)
	}
	var argv []string
	for _, el := range t.Run.Exec.Command {
		_, text := casemate.Element(el)
		argv = append(argv, text)
	}
	if len(argv) == 0 || strings.Contains(argv[0], "/") && within(grants(t), r.inside(t, argv[0])) {
		return resolved{}, nil
	}
	out, err := r.command(ctx, argv, "")
	if errors.Is(err, errNowhere) {
		return resolved{}, nil
	}
	out.Argv = slices.Clone(out.Argv)
	for i, text := range out.Argv {
		out.Argv[i] = literal(text)
	}
	return out, err
}

// inside is the path of the sandbox that a program's is.
func (r *interpreters) inside(t *casemate.Tool, path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(t.Security.WithDefaults().Cwd, path)
	}
	return filepath.Clean(path)
}

func grants(t *casemate.Tool) (at []string) {
	for _, m := range t.Security.Filesystem {
		at = append(at, m.At)
	}
	return at
}

// elsewhere says whether a path lies in a grant that shows it another file
// than the host has there.
func (r *interpreters) elsewhere(t *casemate.Tool, path string) bool {
	if !strings.Contains(path, "/") {
		return false
	}
	path = r.inside(t, path)
	return slices.ContainsFunc(t.Security.Filesystem, func(m casemate.Mount) bool { return m.At != m.Path && within([]string{m.At}, path) })
}

var errNowhere = errors.New("there is no such program here")

// maxScripts is how many scripts may have a script as interpreter; Linux has
// four (exec_binprm in fs/exec.c).
const maxScripts = 4

// program resolves one program, without arguments.
func (r *interpreters) program(ctx context.Context, name, dir string, depth int) (resolved, error) {
	fail := func(kind casemate.Kind, err error, fix string) (resolved, error) {
		return resolved{}, &casemate.Error{Op: "command", Kind: kind, Err: err, Fix: fix}
	}
	p, err := r.locate(name, dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return fail(casemate.Unsupported, fmt.Errorf("%w: %w", errNowhere, err), "install it, or name it by its whole path")
	}
	if err != nil {
		return fail(casemate.Unsupported, err, "name another program")
	}
	real, err := filepath.EvalSymlinks(p)
	if err != nil {
		return fail(casemate.Unsupported, err, "name another program")
	}
	for _, f := range []string{p, real} {
		if w := holding(r.writable, f); w != "" {
			return fail(casemate.Unsupported, fmt.Errorf("%s lies in the write grant %s: a tool could change what runs", f, w), "move it to a folder of its own, outside every write grant")
		}
	}
	b, err := head(real, 1<<10)
	if err != nil {
		return fail(casemate.Unsupported, err, "make it readable: it is looked at before it runs")
	}
	switch {
	case bytes.HasPrefix(b, []byte("#!")):
		if depth == maxScripts {
			return fail(casemate.Unsupported, fmt.Errorf("%s: its interpreter is a script of a script", p), "name its interpreter and it")
		}
		return r.scripted(ctx, real, b, depth)
	case !bytes.HasPrefix(b, []byte("\x7fELF")):
		return fail(casemate.Unsupported, fmt.Errorf("%s is neither a program of this system nor a script with an interpreter", p), "name its interpreter and it")
	case within(systemFolders, p) && within(systemFolders, real):
		return resolved{Argv: []string{p}}, nil
	}
	if lang := language(p); lang != "" {
		i, err := r.resolve(ctx, lang, p)
		if err != nil {
			return resolved{}, err
		}
		out := resolved{Argv: []string{i.Path}, Path: []string{filepath.Dir(i.Path)}}
		for _, f := range i.Folders {
			out.mount(f)
		}
		return out, nil
	}
	out := resolved{Argv: []string{p}}
	out.Mounts = append(out.Mounts, plan.Mount{Source: real, At: p, Execute: true, Prefix: true})
	return out, nil
}

// locate returns the file that a name or path stands for; its folder has no
// link in its path.
func (r *interpreters) locate(name, dir string) (string, error) {
	if !strings.Contains(name, "/") {
		return r.finder.locate(name)
	}
	if !filepath.IsAbs(name) {
		if dir == "" {
			return "", fmt.Errorf("%s is a relative path: %w", name, os.ErrNotExist)
		}
		name = filepath.Join(dir, name)
	}
	if !executable(name) {
		if _, err := os.Stat(name); err != nil {
			return "", err
		}
		return "", fmt.Errorf("%s may not be run: %w", name, os.ErrPermission)
	}
	p, err := r.finder.stand(name, filepath.Base(name))
	if errors.Is(err, errNext) {
		return r.finder.locate(filepath.Base(name))
	}
	return p, err
}
