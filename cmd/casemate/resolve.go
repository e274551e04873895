package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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
		return fail(casemate.Unsupported, fmt.Errorf("%s is neither a program of this system nor a script that begins with #!", p), "name its interpreter and it")
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

// scripted resolves the script at real, which begins with b.
func (r *interpreters) scripted(ctx context.Context, real string, b []byte, depth int) (resolved, error) {
	interpreter, args, err := shebang(b)
	if err != nil {
		return resolved{}, &casemate.Error{Op: "command", Kind: casemate.Unsupported, Err: fmt.Errorf("%s: %w", real, err), Fix: "name its interpreter and it"}
	}
	out, err := r.program(ctx, interpreter, "", depth+1)
	if err != nil {
		if e, ok := errors.AsType[*casemate.Error](err); ok {
			e.Err = fmt.Errorf("%s, a script: %w", real, e.Err)
		}
		return resolved{}, err
	}
	lang := language(out.Argv[0])
	out.Argv = append(out.Argv, args...)
	out.Argv = append(out.Argv, real)
	if within(systemFolders, real) {
		return out, nil
	}
	if at, _, ok := strings.Cut(real, "/node_modules/"); ok {
		out.mount(at + "/node_modules")
		return out, nil
	}
	if f := r.nodeFolder(real); lang == "node" && f != "" {
		return out, r.grant(&out, f)
	}
	out.mount(real)
	return out, nil
}

// shebang reads the first line of a script: the program that runs it and the
// arguments that come before the script. What env looks up is a name.
func shebang(b []byte) (interpreter string, args []string, err error) {
	line, rest, ok := bytes.Cut(b[2:], []byte("\n"))
	if !ok && len(b) > 512 {
		return "", nil, errors.New("its first line is too long")
	}
	// Where a path is too long for a first line, installers of Python write a
	// program of both sh and Python.
	if second, _, _ := bytes.Cut(rest, []byte("\n")); bytes.HasPrefix(second, []byte("'''exec' ")) {
		p, after, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(string(second), "'''exec' "), `"`), ` "$0" "$@"`)
		if !ok || after != "" {
			return "", nil, errors.New("its first lines are not understood")
		}
		return strings.TrimSuffix(p, `"`), nil, nil
	}
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return "", nil, errors.New("its first line names no program")
	}
	if filepath.Base(words[0]) != "env" {
		if len(words) > 1 { // the kernel splits once
			_, arg, _ := strings.Cut(strings.TrimSpace(string(line)), words[0])
			args = []string{strings.TrimSpace(arg)}
		}
		return words[0], args, nil
	}
	words = words[1:]
	if len(words) > 0 && words[0] == "-S" {
		words = words[1:]
	}
	if len(words) == 0 || strings.HasPrefix(words[0], "-") || strings.Contains(words[0], "=") {
		return "", nil, errors.New("what its first line asks of env is not understood")
	}
	return words[0], words[1:], nil
}

// pythonName are the names that an interpreter of Python is installed by.
var pythonName = regexp.MustCompile(`^python(3(\.[0-9]+)?)?$`)

// language says which interpreter a program is, by its name; "" is none.
func language(p string) string {
	switch base := filepath.Base(p); {
	case pythonName.MatchString(base):
		return "python"
	case base == "node" || base == "nodejs":
		return "node"
	}
	return ""
}

// plain are the flags of an interpreter that have no value of their own.
var plain = map[string]*regexp.Regexp{
	"python": regexp.MustCompile(`^-[bBdEhiIOPqRsSuvx]+$`),
	"node":   regexp.MustCompile(`^--(no-)?[a-z-]+(=.*)?$`),
}

// valued are those of node that take the next argument.
var valued = []string{"--require", "--import", "--loader", "--experimental-loader", "--eval", "--print", "--conditions", "--env-file", "--input-type"}

// given adds what the file needs that an interpreter is told to run, where it
// is one of the host's; a path that begins in dir becomes a whole one.
func (r *interpreters) given(out *resolved, lang string, args []string, dir string) error {
	if lang == "" {
		return nil
	}
	for i, arg := range args {
		if strings.HasPrefix(arg, "-") {
			if !plain[lang].MatchString(arg) || slices.Contains(valued, arg) {
				return nil
			}
			continue
		}
		p := arg
		if !filepath.IsAbs(p) {
			if dir == "" {
				return nil
			}
			p = filepath.Join(dir, p)
		}
		fi, err := os.Stat(p)
		if err != nil || !fi.Mode().IsRegular() || within(systemFolders, p) {
			return nil // the sandbox may have it
		}
		// The folder of Python's program is the first on its path; node finds
		// packages from where the file really is.
		if p, err = filepath.EvalSymlinks(p); err != nil {
			return err
		}
		args[i] = p
		if holding(r.writable, p) != "" {
			return nil // the profile grants it
		}
		if at, _, ok := strings.Cut(p, "/node_modules/"); ok && lang == "node" {
			out.mount(at + "/node_modules")
			return nil
		}
		folder := filepath.Dir(p)
		if lang == "node" {
			folder = r.nodeFolder(p)
		}
		if folder == "" || r.wide(folder) || overlapping(r.writable, folder) != "" {
			out.mount(p)
			return nil
		}
		return r.grant(out, folder)
	}
	return nil
}

// nodeFolder is the nearest folder above a script that holds node_modules, or
// else package.json; "" where there is none but a user's home.
func (r *interpreters) nodeFolder(script string) string {
	for _, name := range []string{"node_modules", "package.json"} {
		for f := filepath.Dir(script); !r.wide(f); f = filepath.Dir(f) {
			if _, err := os.Lstat(filepath.Join(f, name)); err == nil {
				return f
			}
		}
	}
	return ""
}

// wide says whether a folder holds more than a program: a home, or a part of
// the system.
func (r *interpreters) wide(folder string) bool {
	if strings.Count(folder, "/") < 2 {
		return true
	}
	for _, h := range r.homes() {
		if within([]string{folder}, h) {
			return true
		}
	}
	return false
}

// grant adds a folder of programs.
func (r *interpreters) grant(out *resolved, folder string) error {
	if w := overlapping(r.writable, folder); w != "" {
		return &casemate.Error{Op: "command", Kind: casemate.Unsupported, Err: fmt.Errorf("%s overlaps the write grant %s: a tool could change what runs", folder, w), Fix: "move it to a folder of its own, outside every write grant"}
	}
	out.mount(folder)
	return nil
}

// mount adds a file or folder under its own path, unless what is there holds
// it. Of a single file nothing is run by itself: its interpreter reads it.
func (out *resolved) mount(p string) {
	if within(systemFolders, p) {
		return
	}
	for _, m := range out.Mounts {
		if m.Source == m.At && within([]string{m.At}, p) {
			return
		}
	}
	fi, err := os.Stat(p)
	out.Mounts = append(out.Mounts, plan.Mount{Source: p, At: p, Execute: err == nil && fi.IsDir(), Prefix: true})
}

// beside returns the mounts of out that those of a profile leave to add: what
// the profile grants at a path is what is there, but for folders of programs,
// which run only from what is granted for it.
func (out resolved) beside(own []casemate.Mount) []plan.Mount {
	return slices.DeleteFunc(slices.Clone(out.Mounts), func(m plan.Mount) bool {
		return slices.ContainsFunc(own, func(o casemate.Mount) bool {
			if !within([]string{o.At}, m.At) {
				return false
			}
			same := filepath.Join(o.Path, strings.TrimPrefix(m.At, o.At)) == m.Source
			return !same || o.Execute || !m.Execute
		})
	})
}

// environ returns the guest's variables with those that out needs.
func (out resolved) environ(env []string) []string {
	vars := map[string]string{}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		vars[k] = v
	}
	for k, v := range out.Env {
		if old := vars[k]; old != "" && k == "PYTHONPATH" {
			v += ":" + old
		} else if old != "" {
			continue
		}
		vars[k] = v
	}
	if len(out.Path) > 0 {
		vars["PATH"] = strings.Join(append(slices.Clone(out.Path), vars["PATH"]), ":")
	}
	env = nil
	for k, v := range vars {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return env
}

// holding returns the first of grants that holds p.
func holding(grants []string, p string) string {
	for _, g := range grants {
		if within([]string{g}, p) {
			return g
		}
	}
	return ""
}
