package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog/packages"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/store"
)

// A package of a registry is installed once, by a sandbox that holds the
// installer, the operator's registry settings and an empty folder, with no
// script of the package run and no source built. What came is hashed, locked
// and kept in the store (package store), and from then on it runs offline and
// read-only. This one step has the network of the host.

// packageFolder is where a package lies in the sandbox that runs it.
const packageFolder = "/opt/package"

// A preparation is one package that has to be in the store.
type preparation struct {
	key     string // in the lock
	request *packages.Request
	runtime resolved // that installs it, without arguments: npm, or an interpreter of Python
}

// packaged resolves a command that runs a package: it is in the store, as the
// lock has it, when this returns.
func (r *interpreters) packaged(ctx context.Context, q *packages.Request, dir string) (resolved, error) {
	if r.prepare == nil {
		return resolved{}, invalid("command", "name the program itself", "%s is not prepared by this command", q.Key())
	}
	p := preparation{request: q}
	var runs resolved // node, or python
	var err error
	if q.Registry == packages.NPM {
		runs, p.runtime, err = r.forNPM(ctx)
		p.key = fmt.Sprintf("%s %s/%s", q.Key(), runtime.GOOS, runtime.GOARCH)
	} else {
		runs, err = r.forPython(ctx, q.Python)
		p.runtime = runs
		if err == nil {
			p.key = fmt.Sprintf("%s %s/%s %s", q.Key(), runtime.GOOS, runtime.GOARCH, abi(runs.Argv[0]))
		}
	}
	if err != nil {
		return resolved{}, err
	}
	tree, err := r.prepare(ctx, p)
	if err != nil {
		return resolved{}, err
	}
	return r.fromTree(ctx, q, tree, runs, dir)
}

// forNPM finds node and npm.
func (r *interpreters) forNPM(ctx context.Context) (node, npm resolved, err error) {
	if node, err = r.program(ctx, "node", "", 0); err == nil {
		npm, err = r.program(ctx, "npm", "", 0)
	}
	return node, npm, needs(err, "install Node.js with npm (https://nodejs.org, or apt install nodejs npm), and make sure that both are on PATH")
}

// forPython finds the interpreter that --python names, or the first on PATH.
func (r *interpreters) forPython(ctx context.Context, python string) (out resolved, err error) {
	names := names["python"]
	switch {
	case python == "":
	case strings.Contains(python, "/"):
		names = []string{python}
	case pythonName.MatchString(python):
		names = []string{python}
	case pythonName.MatchString("python" + python):
		names = []string{"python" + python}
	default:
		return resolved{}, invalid("command", "a version such as 3.12, or a path", "--python %.100q is not understood", python)
	}
	for _, n := range names {
		if out, err = r.program(ctx, n, "", 0); err == nil || !errors.Is(err, errNowhere) {
			break
		}
	}
	if err == nil && language(out.Argv[0]) != "python" {
		err = invalid("command", "a version such as 3.12, or a path", "%s is no interpreter of Python", out.Argv[0])
	}
	return out, needs(err, "install Python 3 with pip (apt install python3-pip python3-venv), and make sure that it is on PATH")
}

// needs says how to get what is not there.
func needs(err error, fix string) error {
	if errors.Is(err, errNowhere) {
		return &casemate.Error{Op: "prepare", Kind: casemate.Unsupported, Err: errors.New(err.Error()), Fix: fix}
	}
	return err
}

// abi names the version of Python for which packages are installed: that of
// the file's own name, or else the file.
func abi(python string) string {
	real, err := filepath.EvalSymlinks(python)
	if err == nil && strings.HasPrefix(filepath.Base(real), "python3.") {
		return filepath.Base(real)
	}
	return python
}

// fromTree says how the program of a prepared package is run.
func (r *interpreters) fromTree(ctx context.Context, q *packages.Request, tree string, runs resolved, dir string) (resolved, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return resolved{}, &casemate.Error{Op: "prepare", Kind: casemate.Internal, Err: err}
	}
	defer root.Close()
	at, err := q.Find(root.FS())
	if err != nil {
		return resolved{}, err
	}
	out := resolved{Argv: slices.Clone(runs.Argv), Mounts: slices.Clone(runs.Mounts), Path: append([]string{packageFolder + "/bin"}, runs.Path...),
		Env: map[string]string{"PYTHONPATH": packageFolder}}
	lang := "python"
	if q.Registry == packages.NPM {
		lang = "node"
		out.Env, out.Path[0] = nil, packageFolder+"/node_modules/.bin"
		if own := q.Node(); own != "" {
			out = resolved{Argv: []string{path.Join(packageFolder, own)}, Path: []string{path.Join(packageFolder, path.Dir(own)), out.Path[0]}}
		}
	}
	out.Mounts = append(out.Mounts, plan.Mount{Source: tree, At: packageFolder, Execute: true, Prefix: true})
	args := slices.Clone(q.Args)
	if at == "" { // the interpreter itself
		if err := r.given(&out, lang, args, dir); err != nil {
			return resolved{}, err
		}
		out.Argv = append(out.Argv, args...)
		return out, nil
	}
	b, err := store.Head(tree, at, 1<<10)
	if err != nil {
		return resolved{}, &casemate.Error{Op: "prepare", Kind: casemate.Denied, Err: err, Fix: "name another version of " + q.Key()}
	}
	in := path.Join(packageFolder, at)
	switch interpreter, flags, err := interpreterOf(b); {
	case bytes.HasPrefix(b, []byte("\x7fELF")):
		out.Argv = []string{in}
	case lang == "node" && (err != nil || language(interpreter) == "node"):
		out.Argv = append(append(out.Argv, flags...), in)
	case err == nil && language(interpreter) == "python":
		if lang != "python" {
			return resolved{}, invalid("command", "install it, and name its program", "%s of %s is a program of Python", at, q.Key())
		}
		out.Argv = append(append(out.Argv, flags...), in)
	case err == nil && within(systemFolders, interpreter):
		out.Argv = append(append([]string{interpreter}, flags...), in)
	default:
		return resolved{}, invalid("command", "name another program of it", "%s of %s is no program", at, q.Key())
	}
	out.Argv = append(out.Argv, args...)
	return out, nil
}

func interpreterOf(b []byte) (string, []string, error) {
	if !bytes.HasPrefix(b, []byte("#!")) {
		return "", nil, errors.New("its first line names no interpreter")
	}
	return shebang(b)
}
