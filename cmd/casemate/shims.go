package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A finder finds an interpreter as the user's shell would, without running
// anything: a shim is a program that chooses another by rules, and following
// it means to apply its rules, not to execute it. Rules that read the working
// folder (.python-version, .tool-versions) are left out: a repository does
// not choose what runs.
type finder struct {
	env  func(string) string // os.Getenv
	home string
}

// find returns the path of the first of names on PATH, shims followed; the
// folder that holds it has no link in its path, the file may be one.
func (f finder) find(names ...string) (string, error) {
	var why []string
	for _, name := range names {
		for _, dir := range filepath.SplitList(f.env("PATH")) {
			if !filepath.IsAbs(dir) {
				continue // the working folder is not the operator's word
			}
			p := filepath.Join(dir, name)
			if !executable(p) {
				continue
			}
			real, err := f.follow(p, name)
			if errors.Is(err, errNext) {
				continue
			}
			if err != nil {
				why = append(why, err.Error())
				continue
			}
			return real, nil
		}
	}
	if len(why) > 0 {
		return "", fmt.Errorf("%s is not found: %s", names[0], strings.Join(why, "; "))
	}
	return "", fmt.Errorf("%s is not found on PATH", names[0])
}

// errNext says that a shim stands for what comes later on PATH.
var errNext = errors.New("the shim names the system's own")

// locate is find for a program of any kind, which may be a script too.
func (f finder) locate(name string) (string, error) {
	var why []string
	for _, dir := range filepath.SplitList(f.env("PATH")) {
		p := filepath.Join(dir, name)
		if !filepath.IsAbs(dir) || !executable(p) {
			continue
		}
		real, err := f.stand(p, name)
		if err == nil {
			return real, nil
		}
		if !errors.Is(err, errNext) {
			why = append(why, err.Error())
		}
	}
	if len(why) > 0 {
		return "", fmt.Errorf("%s: %s: %w", name, strings.Join(why, "; "), os.ErrNotExist)
	}
	return "", fmt.Errorf("%s is not found on PATH: %w", name, os.ErrNotExist)
}

// follow returns the program that the file p on PATH stands for.
func (f finder) follow(p, name string) (string, error) {
	p, err := f.stand(p, name)
	if err != nil {
		return "", err
	}
	b, err := head(p, 4)
	if err != nil {
		return "", err
	}
	if string(b) != "\x7fELF" {
		return "", fmt.Errorf("%s is a script or a wrapper of a kind that is not known", p)
	}
	return p, nil
}

// stand returns the file that the file p on PATH stands for: itself, or what
// a shim chooses. The folder that holds it has no link in its path.
func (f finder) stand(p, name string) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(p))
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(p)
	if err != nil {
		return "", err
	}
	if filepath.Base(dir) == "shims" {
		if filepath.Base(real) == "mise" {
			return f.asdf(filepath.Dir(dir), name, "MISE", nil)
		}
		script, err := head(real, 16<<10)
		if err != nil {
			return "", err
		}
		switch {
		case !bytes.HasPrefix(script, []byte("#!")):
		case bytes.Contains(script, []byte("asdf")):
			return f.asdf(filepath.Dir(dir), name, "ASDF", script)
		case bytes.Contains(script, []byte("pyenv")):
			return f.pyenv(dir, name, "PYENV")
		case bytes.Contains(script, []byte("nodenv")):
			return f.pyenv(dir, name, "NODENV")
		}
	}
	return filepath.Join(dir, filepath.Base(p)), nil
}

// pyenv applies the rules of pyenv and nodenv, but for files of the working
// folder: the version of $PYENV_VERSION, else of ROOT/version, else the
// system's; of several the first that has the program.
func (f finder) pyenv(shims, name, prefix string) (string, error) {
	root := f.env(prefix + "_ROOT")
	if !filepath.IsAbs(root) {
		root = filepath.Dir(shims)
	}
	versions := strings.FieldsFunc(f.env(prefix+"_VERSION"), func(r rune) bool { return r == ':' })
	if len(versions) == 0 {
		b, err := head(filepath.Join(root, "version"), 4<<10)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		versions = strings.Fields(string(b))
	}
	if len(versions) == 0 {
		return "", errNext
	}
	for _, v := range versions {
		if v == "system" {
			return "", errNext
		}
		v = strings.TrimPrefix(strings.TrimPrefix(v, "python-"), "node-")
		if p, ok := installed(filepath.Join(root, "versions"), v, name); ok {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s has no %s in %s", strings.ToLower(prefix), name, strings.Join(versions, ", "))
}

// asdf applies the rules of asdf and mise, but for files of the working
// folder: $ASDF_PYTHON_VERSION, else the user's own .tool-versions or mise
// configuration, else the versions that the shim names or that are installed.
func (f finder) asdf(root, name, prefix string, shim []byte) (string, error) {
	plugins := []string{"python", "nodejs", "node"}
	switch {
	case strings.HasPrefix(name, "python"):
		plugins = plugins[:1]
	case strings.HasPrefix(name, "node"):
		plugins = plugins[1:]
	}
	for _, plugin := range plugins {
		installs := filepath.Join(root, "installs", plugin)
		versions := strings.Fields(f.env(prefix + "_" + strings.ToUpper(plugin) + "_VERSION"))
		if len(versions) == 0 {
			versions = f.toolVersions(plugin, prefix == "MISE")
		}
		if len(versions) == 0 {
			for line := range strings.Lines(string(shim)) { // "# asdf-plugin: python 3.11.4"
				w := strings.Fields(strings.TrimPrefix(line, "#"))
				if len(w) == 3 && w[0] == "asdf-plugin:" && w[1] == plugin {
					versions = append(versions, w[2])
				}
			}
		}
		if len(versions) == 0 {
			versions = []string{"latest"}
		}
		for _, v := range versions {
			if v == "system" {
				return "", errNext
			}
			if p, ok := installed(installs, v, name); ok {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("%s has no %s installed of the versions it names", strings.ToLower(prefix), name)
}

// toolVersions reads what the user's own files say of a plugin.
func (f finder) toolVersions(plugin string, mise bool) []string {
	if mise {
		config := f.env("XDG_CONFIG_HOME")
		if !filepath.IsAbs(config) {
			config = filepath.Join(f.home, ".config")
		}
		b, _ := head(filepath.Join(config, "mise", "config.toml"), 64<<10)
		in := false
		for line := range strings.Lines(string(b)) { // [tools] / python = "3.11" or ["3.11", …]
			line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
			if strings.HasPrefix(line, "[") {
				in = strings.TrimSpace(line) == "[tools]"
				continue
			}
			k, v, ok := strings.Cut(line, "=")
			if in && ok && strings.Trim(strings.TrimSpace(k), `"`) == plugin {
				return strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune(`[]", '`, r) })
			}
		}
	}
	b, _ := head(filepath.Join(f.home, ".tool-versions"), 64<<10)
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if w := strings.Fields(line); len(w) > 1 && w[0] == plugin {
			return w[1:]
		}
	}
	return nil
}

// installed returns VERSIONS/v/bin/name with no link in its folder's path;
// where v is not there, of the newest version that begins with "v." (all,
// for latest).
func installed(versions, v, name string) (string, bool) {
	if v == "" || strings.ContainsRune(v, '/') || strings.HasPrefix(v, ".") {
		return "", false
	}
	try := func(v string) (string, bool) {
		dir, err := filepath.EvalSymlinks(filepath.Join(versions, v, "bin"))
		if err != nil {
			return "", false
		}
		p := filepath.Join(dir, name)
		return p, executable(p)
	}
	if p, ok := try(v); ok {
		return p, true
	}
	entries, _ := os.ReadDir(versions)
	var like []string
	for _, e := range entries {
		if v == "latest" || strings.HasPrefix(e.Name(), v+".") {
			like = append(like, e.Name())
		}
	}
	slices.SortFunc(like, func(a, b string) int { return byVersion(b, a) })
	for _, v := range like {
		if p, ok := try(v); ok {
			return p, true
		}
	}
	return "", false
}

// byVersion compares 3.9.1 and 3.11.0 by their numbers.
func byVersion(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(as) && i < len(bs); i++ {
		x, err1 := strconv.Atoi(as[i])
		y, err2 := strconv.Atoi(bs[i])
		switch {
		case err1 != nil && err2 != nil:
			if c := strings.Compare(as[i], bs[i]); c != 0 {
				return c
			}
		case err1 != nil:
			return -1 // a name is older than a number
		case err2 != nil:
			return 1
		case x != y:
			return x - y
		}
	}
	return len(as) - len(bs)
}

func executable(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0
}

// head returns the first n bytes of a regular file.
func head(p string, n int64) ([]byte, error) {
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", p)
	}
	return io.ReadAll(bufio.NewReader(io.LimitReader(f, n)))
}
