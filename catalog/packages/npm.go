package packages

import (
	"regexp"
	"runtime"
	"strings"
)

// npx reads the arguments of npx, or of npm exec, whose own flags end at "--"
// only.
func npx(args []string, exec bool) (*Request, error) {
	f := flags{
		runner: "npx",
		alone:  []string{"-y", "--yes", "-q", "--quiet", "--silent", "--prefer-offline", "--prefer-online", "--ignore-scripts"},
		value:  map[string]string{"-p": "package", "--package": "package"},
		fix: map[string]string{
			"-c": "name the program: npx -p PACKAGE PROGRAM", "--call": "name the program: npx -p PACKAGE PROGRAM",
			"--registry": "set npm_config_registry, or registry= in .npmrc",
			"--no":       "leave it out: a package is prepared once, and never installed when it runs", "--no-install": "leave it out: a package is prepared once, and never installed when it runs",
		},
	}
	if exec {
		f.runner = "npm exec"
	}
	values, rest, err := f.parse(args)
	if err != nil {
		return nil, err
	}
	r := &Request{Registry: NPM}
	for _, v := range values["package"] {
		s, err := npmSpec(v)
		if err != nil {
			return nil, err
		}
		r.Specs = append(r.Specs, s)
	}
	if len(rest) == 0 {
		return nil, invalid("npx -y PACKAGE", "%s: %w", f.runner, errEmpty)
	}
	if len(r.Specs) == 0 {
		s, err := npmSpec(rest[0])
		if err != nil {
			return nil, err
		}
		r.Specs = []Spec{s}
	} else if r.Program = rest[0]; !programName.MatchString(r.Program) {
		return nil, invalid("name one of the package's programs", "%s: %.100q is no program's name", f.runner, r.Program)
	}
	r.Args = rest[1:]
	if exec && len(r.Args) > 0 {
		switch {
		case r.Args[0] == "--":
			r.Args = r.Args[1:]
		case strings.HasPrefix(r.Args[0], "-") && !contains(args[:len(args)-len(rest)], "--"):
			return nil, invalid("put -- before it", "npm exec takes %s for itself", r.Args[0])
		}
	}
	return r, nil
}

func contains(args []string, arg string) bool {
	for _, a := range args {
		if a == arg {
			return true
		}
	}
	return false
}

var (
	// https://docs.npmjs.com/cli/v11/configuring-npm/package-json#name
	npmName     = regexp.MustCompile(`^(@[a-z0-9~][a-z0-9._~-]*/)?[A-Za-z0-9~][A-Za-z0-9._~-]*$`)
	npmVersion  = regexp.MustCompile(`^[A-Za-z0-9.^~<>=|*+ -]+$`)
	programName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
)

const maxName = 214 // of npm; PyPI has no bound

func npmSpec(s string) (Spec, error) {
	name, version := s, ""
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		name, version = s[:i], s[i+1:]
		if version == "" || len(version) > 100 || !npmVersion.MatchString(version) {
			return Spec{}, invalid("name it as PACKAGE@VERSION", "%.300q is no package of npm with a version, a range or a tag", s)
		}
	}
	if len(name) > maxName || !npmName.MatchString(name) {
		return Spec{}, invalid("name it as PACKAGE@VERSION; no URL, folder or repository is prepared", "%.300q is no name of a package of npm", s)
	}
	return Spec{Name: name, Version: version}, nil
}

// Installed is the package that holds what s asks for when no script is run.
// The package "node" downloads its program by a script; the one of the
// platform has it.
func (s Spec) Installed() Spec {
	if s.Name == "node" {
		arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
		if arch != "" {
			s.Name = "node-linux-" + arch
		}
	}
	return s
}

// Node says where in the tree the interpreter is that the request names as a
// package of its own, as npx -p node@22 does; "" where it names none.
func (r *Request) Node() string {
	if r.Registry == NPM {
		for _, s := range r.Specs {
			if s.Name == "node" || strings.HasPrefix(s.Name, "node-linux-") {
				return "node_modules/" + s.Installed().Name + "/bin/node"
			}
		}
	}
	return ""
}
