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
	"github.com/casemate/casemate/wrap"
)

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
		if folder == "" || r.private(folder) || overlapping(r.writable, folder) != "" {
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
		for f := filepath.Dir(script); !r.private(f); f = filepath.Dir(f) {
			if _, err := os.Lstat(filepath.Join(f, name)); err == nil {
				return f
			}
		}
	}
	return ""
}

// private says whether what wrap never grants lies in the folder of a script,
// such as settings and keys: the script is granted alone.
func (r *interpreters) private(folder string) bool {
	home, err := filepath.EvalSymlinks(r.finder.home)
	if err != nil {
		return r.wide(folder)
	}
	h := wrap.Host{Home: home, Never: r.own}
	return r.wide(folder) || h.Withholds(folder) != ""
}

// wide says whether a folder holds more than a program: a home, a part of the
// system, or files of Casemate's own.
func (r *interpreters) wide(folder string) bool {
	if strings.Count(folder, "/") < 2 || overlapping(r.own, folder) != "" {
		return true
	}
	for _, h := range r.homes() {
		if within([]string{folder}, h) {
			return true
		}
	}
	return false
}
