// Package packages knows the command lines that run a package of a registry
// (npx, npm exec, uvx, uv tool run, uv run --with, pipx run), and what an
// installed package offers to run.
//
// Parse reads a command line as data; nothing is run. What it does not
// understand is refused by name: a flag that is passed over could have meant
// another package. Packages are named by name and version alone: no URL, no
// folder, no repository.
//
// Find and Received read an installed tree, which is hostile: every file is
// bounded, and every path that they return is local to the tree.
package packages

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/casemate/casemate"
)

// A Registry is where packages come from.
type Registry string

// The registries.
const (
	NPM  Registry = "npm"
	PyPI Registry = "pypi"
)

// A Request is what a command line asks for: packages, and a program of the
// first of them.
type Request struct {
	Registry Registry
	Specs    []Spec   // the first is the one that the program is looked for first
	Program  string   // its name; "" is the package's own
	Args     []string // of the program
	Python   string   // of --python: a version, a name or a path; "" is the first on PATH
}

// A Spec names one package.
type Spec struct {
	Name    string   // of npm with its scope
	Extras  []string // of PyPI
	Version string   // of npm a version, a range or a tag; of PyPI specifiers; or ""
}

// Key names what is prepared, for the lock: the registry and the packages as
// they were asked for.
func (r *Request) Key() string {
	var specs []string
	for _, s := range r.Specs {
		specs = append(specs, s.String(r.Registry))
	}
	return string(r.Registry) + ":" + strings.Join(specs, " ")
}

// String is s as the installer of the registry takes it.
func (s Spec) String(r Registry) string {
	switch {
	case r == NPM && s.Version != "":
		return s.Name + "@" + s.Version
	case len(s.Extras) > 0:
		return s.Name + "[" + strings.Join(s.Extras, ",") + "]" + s.Version
	}
	return s.Name + s.Version
}

func invalid(fix, format string, args ...any) error {
	return &casemate.Error{Op: "command", Kind: casemate.Invalid, Err: fmt.Errorf(format, args...), Fix: fix}
}

// others are runners that fetch packages too and are not had.
var others = []string{"pnpx", "bunx", "pnpm dlx", "yarn dlx", "bun x"}

// Parse returns what argv asks for, or nil where it is no command that runs a
// package. An Error of kind Invalid names what is not understood.
func Parse(argv []string) (*Request, error) {
	if len(argv) == 0 {
		return nil, nil
	}
	name := path.Base(argv[0])
	second := ""
	if len(argv) > 1 {
		second = argv[1]
	}
	for _, runner := range []string{name, name + " " + second} {
		if slices.Contains(others, runner) {
			return nil, invalid("use npx -y PACKAGE", "%s is not known", runner)
		}
	}
	switch name {
	case "npx":
		return npx(argv[1:], false)
	case "npm":
		if second == "exec" || second == "x" {
			return npx(argv[2:], true)
		}
	case "uvx":
		return uvx("uvx", argv[1:])
	case "uv":
		switch {
		case second == "tool" && len(argv) > 2 && argv[2] == "run":
			return uvx("uv tool run", argv[3:])
		case second == "run":
			return uvRun(argv[2:])
		}
	case "pipx":
		if second == "run" {
			return pipx(argv[2:])
		}
	}
	return nil, nil
}

// flags says what a runner's own flags are.
type flags struct {
	runner string
	alone  []string          // taken, and without a meaning here
	value  map[string]string // with a value: which of the values it is
	fix    map[string]string // refused: what to do instead
}

// parse takes the flags at the beginning of args.
func (f flags) parse(args []string) (values map[string][]string, rest []string, err error) {
	values = map[string][]string{}
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" {
			return values, args[1:], nil
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			return values, args, nil
		}
		name, value, joined := strings.Cut(arg, "=")
		which, ok := f.value[name]
		switch {
		case ok && joined:
			args = args[1:]
		case ok && len(args) > 1:
			value, args = args[1], args[2:]
		case ok:
			return nil, nil, invalid("give it one", "%s %s has no value", f.runner, name)
		case slices.Contains(f.alone, arg):
			args = args[1:]
			continue
		default:
			fix := f.fix[name]
			if fix == "" {
				fix = "leave it out; where it is an argument of the program, put it after the package's name"
			}
			return nil, nil, invalid(fix, "%s %s is not known", f.runner, name)
		}
		values[which] = append(values[which], value)
	}
	return values, nil, nil
}

// last is the value that a flag has which stands once.
func last(runner, flag string, values []string) (string, error) {
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", invalid("leave one", "%s: %s stands twice", runner, flag)
	case values[0] == "":
		return "", invalid("give it one", "%s %s has no value", runner, flag)
	}
	return values[0], nil
}

var errEmpty = errors.New("it names no package")
