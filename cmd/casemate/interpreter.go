package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/casemate/casemate"
)

// An interpreter is what python and node tools run in.
type interpreter struct {
	Path    string   `json:"path"`    // on the host and in the sandbox
	Folders []string `json:"folders"` // its own, outside /usr: granted read-only, to run programs from
	Version string   `json:"version"`
}

// interpreters resolves what `python: {}` and `node: {}` mean on this host.
// Nothing that is found is run outside a sandbox: an interpreter beyond the
// system's folders is asked for its prefix by ask, which sees its own folder
// and nothing else of the host, and what it says can only make the answer
// narrower.
type interpreters struct {
	finder   finder
	writable []string // host paths of every write grant of the configuration
	cache    string   // file
	ask      func(ctx context.Context, language string, i interpreter) (said, error)
	prepare  func(ctx context.Context, p preparation) (tree string, err error)
	module   func(ctx context.Context, t *casemate.Tool) (prepared, error)
	own      []string                  // folders of Casemate's own, which no program brings
	dir      string                    // of the configuration: a server's relative path begins there
	known    map[string]answered       // what command returned
	scripts  map[[2]string]interpreter // what resolve did, by language and path
}

// said is what an interpreter says of itself; hostile until checked.
type said struct {
	Version string   `json:"version"`
	Paths   []string `json:"paths"` // its prefixes and the folder of its standard library
}

// The commands that make an interpreter say it.
var questions = map[string][]string{
	"python": {"-I", "-S", "-c", `import sys, os, json
print(json.dumps({"version": sys.version.split()[0], "paths": [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.dirname(os.__file__)]}))`},
	"node": {"-e", `console.log(JSON.stringify({version: process.version, paths: [process.execPath]}))`},
}

var names = map[string][]string{"python": {"python3", "python"}, "node": {"node", "nodejs"}}

var systemPackages = map[string]string{"python": "python3", "node": "nodejs"}

// systemFolders are in every sandbox, read-only.
var systemFolders = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// resolve returns the interpreter of a language: the one at configured, or
// where that is empty the first on PATH. It blocks until the interpreter has
// answered, or ctx is done.
func (r *interpreters) resolve(ctx context.Context, language, configured string) (interpreter, error) {
	fail := func(err error, fix string) (interpreter, error) {
		return interpreter{}, &casemate.Error{Op: language, Kind: casemate.Unsupported, Err: err, Fix: fix}
	}
	name := fmt.Sprintf("name one by run: {%s: {interpreter: /path}}", language)
	path, err := r.candidate(language, configured)
	if err != nil {
		return fail(err, fmt.Sprintf("apt install %s (or your system's package of it), or %s", systemPackages[language], name))
	}
	i, err := r.place(path)
	if err != nil {
		return fail(err, name+" in a folder of its own, outside every write grant")
	}
	if len(i.Folders) == 0 {
		return i, nil
	}
	key, err := identity(i)
	if err != nil {
		return fail(err, name)
	}
	cached := r.read()
	if c, ok := cached[key]; ok && c.Path == i.Path && slices.Equal(c.Folders, i.Folders) {
		return c, nil
	}
	s, err := r.ask(ctx, language, i)
	if err != nil {
		out := &casemate.Error{Op: language, Kind: casemate.Unsupported, Err: fmt.Errorf("%s was asked for its prefix in a sandbox and did not answer: %w", i.Path, err), Fix: name}
		if e, ok := errors.AsType[*casemate.Error](err); ok && e.Fix != "" { // there was no sandbox, or no record of it
			out.Kind, out.Fix = e.Kind, e.Fix
		}
		return interpreter{}, out
	}
	if err := s.check(i); err != nil {
		return fail(fmt.Errorf("%s: %w", i.Path, err), name+" whose library lies in its own folder")
	}
	i.Version = s.Version
	cached[key] = i
	r.write(cached)
	return i, nil
}

func (r *interpreters) candidate(language, configured string) (string, error) {
	if configured == "" {
		return r.finder.find(names[language]...)
	}
	if !filepath.IsAbs(configured) {
		return "", fmt.Errorf("interpreter %q is not an absolute path", configured)
	}
	if !executable(configured) {
		return "", fmt.Errorf("interpreter %s is not a program", configured)
	}
	p, err := r.finder.follow(configured, filepath.Base(configured))
	if errors.Is(err, errNext) {
		return "", fmt.Errorf("interpreter %s is a shim that stands for the system's own", configured)
	}
	return p, err
}

// place says which folders the program at path needs beyond the system's:
// the one that it was installed to, and for a virtual environment also that
// of the program its link leads to.
func (r *interpreters) place(path string) (interpreter, error) {
	i := interpreter{Path: path}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return i, err
	}
	for _, p := range []string{path, real} {
		if w := overlapping(r.writable, p); w != "" {
			return i, fmt.Errorf("interpreter %s lies in the write grant %s: a tool could change what runs", p, w)
		}
		if within(systemFolders, p) {
			continue
		}
		f, err := r.home(p)
		if err != nil && p != real { // a link that is no virtual environment's is only another name
			if _, no := os.Lstat(filepath.Join(filepath.Dir(filepath.Dir(p)), "pyvenv.cfg")); missing(no) {
				i.Path = real
				continue
			}
		}
		if err != nil {
			return i, err
		}
		if w := overlapping(r.writable, f); w != "" {
			return i, fmt.Errorf("the folder %s of interpreter %s overlaps the write grant %s: a tool could change what runs", f, p, w)
		}
		if !within(i.Folders, f) {
			i.Folders = append(i.Folders, f)
		}
	}
	return i, nil
}

// home returns the folder that the program at p was installed to.
func (r *interpreters) home(p string) (string, error) {
	f := filepath.Dir(p)
	if filepath.Base(f) == "bin" {
		f = filepath.Dir(f)
	}
	if strings.HasPrefix(p, "/nix/store/") {
		f = "/nix/store" // its libraries are store paths of their own, and the store is readable by everyone
	}
	if brew, _, ok := strings.Cut(p, "/Cellar/"); ok {
		f = brew // likewise
	}
	f, err := filepath.EvalSymlinks(f)
	if err != nil {
		return "", err
	}
	if r.wide(f) {
		return "", fmt.Errorf("interpreter %s would need the whole of %s", p, f)
	}
	return f, nil
}

// homes are folders that hold what is not a program's.
func (r *interpreters) homes() []string {
	homes := []string{"/home", "/root", "/etc", "/var", "/tmp", "/run", "/proc", "/sys", "/dev"}
	if h, err := filepath.EvalSymlinks(r.finder.home); err == nil {
		homes = append(homes, h)
	}
	return homes
}

// check says what is wrong with the answer of i.
func (s said) check(i interpreter) error {
	if len(s.Version) == 0 || len(s.Version) > 64 || len(s.Paths) == 0 || len(s.Paths) > 16 {
		return errors.New("its answer makes no sense")
	}
	for _, p := range s.Paths {
		real, err := filepath.EvalSymlinks(p)
		if !filepath.IsAbs(p) || err != nil {
			return fmt.Errorf("it says that it lies in %q, which is no folder here", p)
		}
		if !within(i.Folders, real) && !within(systemFolders, real) {
			return fmt.Errorf("it says that it needs %s, which is not in %s", p, strings.Join(i.Folders, " or "))
		}
	}
	return nil
}

// within says whether p is one of folders or lies beneath it, by component.
func within(folders []string, p string) bool {
	for _, f := range folders {
		if p == f || strings.HasPrefix(p, strings.TrimSuffix(f, "/")+"/") {
			return true
		}
	}
	return false
}

// overlapping returns the first of grants that holds p or lies beneath it.
func overlapping(grants []string, p string) string {
	for _, g := range grants {
		if within([]string{g}, p) || within([]string{p}, g) {
			return g
		}
	}
	return ""
}

// identity names the very file that was asked: one that is changed or
// replaced is asked again.
func identity(i interpreter) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(i.Path, &st); err != nil {
		return "", fmt.Errorf("%s: %w", i.Path, err)
	}
	return fmt.Sprintf("%s %d %d %d %d.%d %d.%d", i.Path, st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec), nil
}

// read returns the answers so far; what cannot be read is asked again.
func (r *interpreters) read() map[string]interpreter {
	m := map[string]interpreter{}
	b, err := head(r.cache, 1<<20)
	if err != nil || json.Unmarshal(b, &m) != nil || len(m) > 64 {
		return map[string]interpreter{}
	}
	return m
}

// write keeps the answers. A failure costs only time, the next time.
func (r *interpreters) write(m map[string]interpreter) {
	b, err := json.Marshal(m)
	if err != nil {
		bug("an interpreter does not marshal")
	}
	replaceFile(r.cache, b)
}

// replaceFile puts b in the place of file, whole or not at all, mode 0600.
func replaceFile(file string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// missing says whether err is that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
