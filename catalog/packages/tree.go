package packages

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/nearest"
)

// Bounds of what is read of a tree, in bytes.
const (
	maxManifest = 1 << 20
	maxReport   = 64 << 20
)

func refused(format string, args ...any) error {
	return &casemate.Error{Op: "prepare", Kind: casemate.Denied, Err: fmt.Errorf(format, args...), Fix: "the package is broken or hostile: name another version of it, or none"}
}

// A Package is what was prepared, as the lock has it.
type Package struct {
	Digest    casemate.Digest `json:"digest"`              // of the tree
	Version   string          `json:"version"`             // of the first package asked for
	Integrity string          `json:"integrity,omitempty"` // of it, as the registry has it
	Prepared  string          `json:"prepared"`            // when, RFC 3339
}

// read returns a regular file of at most limit bytes.
func read(tree fs.FS, name string, limit int64) ([]byte, error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > limit {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", name, limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// programs of a package of npm: the names and paths of "bin".
func npmPrograms(tree fs.FS, pkg string) (map[string]string, error) {
	name := "node_modules/" + pkg + "/package.json"
	b, err := read(tree, name, maxManifest)
	if err != nil {
		return nil, refused("%s: %w", pkg, err)
	}
	var m struct {
		Bin json.RawMessage `json:"bin"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, refused("%s of %s is no JSON: %w", path.Base(name), pkg, err)
	}
	out := map[string]string{}
	if len(m.Bin) == 0 || string(m.Bin) == "null" {
		return out, nil
	}
	var one string
	if json.Unmarshal(m.Bin, &one) == nil {
		out[path.Base(pkg)] = one
	} else if err := json.Unmarshal(m.Bin, &out); err != nil {
		return nil, refused("bin of %s is neither a path nor a table of paths", pkg)
	}
	for n, p := range out {
		p = strings.TrimPrefix(p, "./")
		if !filepath.IsLocal(p) || strings.Contains(p, "\\") {
			return nil, refused("bin of %s leads out of it: %.200q", pkg, p)
		}
		out[n] = path.Join("node_modules", pkg, p)
	}
	return out, nil
}

// npmProgram finds the program as npx does: of a package that is named alone
// its only one, or the one of its own name.
func (r *Request) npmProgram(tree fs.FS) (string, error) {
	var all []string
	for _, s := range r.Specs {
		pkg := s.Installed().Name
		programs, err := npmPrograms(tree, pkg)
		if err != nil {
			return "", err
		}
		name := r.Program
		if name == "" {
			name = path.Base(s.Name)
			if len(programs) == 1 {
				for name = range programs {
				}
			}
		}
		if p, ok := programs[name]; ok {
			return p, nil
		}
		for n := range programs {
			all = append(all, n)
		}
	}
	return "", r.missing(all)
}

func (r *Request) missing(all []string) error {
	name := r.Program
	if name == "" {
		name = path.Base(r.Specs[0].Name)
	}
	slices.Sort(all)
	fix := "it has no program: see what it says of how to start it"
	if n := nearest.To(name, all); n != "" {
		fix = "did you mean " + n + "?"
	} else if len(all) > 0 {
		fix = fmt.Sprintf("it has %.300s", strings.Join(all, ", "))
	}
	if len(all) > 0 {
		if r.Registry == NPM {
			fix += " (npx -p PACKAGE PROGRAM)"
		} else {
			fix += " (uvx --from PACKAGE PROGRAM)"
		}
	}
	return invalid(fix, "%s has no program %.100q", r.Key(), name)
}

// pythonProgram finds the script that the installer made in bin.
func (r *Request) pythonProgram(tree fs.FS) (string, error) {
	p := "bin/" + r.Program
	if fi, err := fs.Stat(tree, p); err == nil && fi.Mode().IsRegular() {
		return p, nil
	}
	var all []string
	entries, _ := fs.ReadDir(tree, "bin")
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return "", r.missing(all)
}

// Find returns the path, beneath the installed tree, of the program that r
// asks for: a regular file. It is "" where that is the interpreter itself.
func (r *Request) Find(tree fs.FS) (string, error) {
	find := r.npmProgram
	if r.Registry == PyPI {
		if r.Program == "python" || r.Program == "python3" {
			return "", nil
		}
		find = r.pythonProgram
	}
	p, err := find(tree)
	if err != nil {
		return "", err
	}
	if fi, err := fs.Stat(tree, p); err != nil || !fi.Mode().IsRegular() {
		return "", refused("%s is no file of %s", p, r.Key())
	}
	return p, nil
}

// Received reads what the installer wrote down of the first package: of npm
// package-lock.json, of pip its report. Both are hostile.
func (r *Request) Received(tree fs.FS, report string) (version, integrity string, err error) {
	b, err := read(tree, report, maxReport)
	if err != nil {
		return "", "", refused("no report of what was installed: %w", err)
	}
	if r.Registry == NPM {
		version, integrity, err = npmReceived(b, r.Specs[0].Installed().Name)
	} else {
		version, integrity, err = pipReceived(b, r.Specs[0].Name)
	}
	if err == nil && (version == "" || len(version) > 100 || len(integrity) > 300 || !printable(version+integrity)) {
		err = errors.New("it has no version")
	}
	if err != nil {
		return "", "", refused("the report of what was installed makes no sense: %w", err)
	}
	return version, integrity, nil
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
}

func npmReceived(b []byte, name string) (version, integrity string, err error) {
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		return "", "", err
	}
	p, ok := lock.Packages["node_modules/"+name]
	if !ok {
		return "", "", fmt.Errorf("it does not have %s", name)
	}
	return p.Version, p.Integrity, nil
}

// https://pip.pypa.io/en/stable/reference/installation-report/
func pipReceived(b []byte, name string) (version, integrity string, err error) {
	var report struct {
		Install []struct {
			Metadata struct{ Name, Version string }
			Download struct {
				Archive struct{ Hashes map[string]string } `json:"archive_info"`
			} `json:"download_info"`
		}
	}
	if err := json.Unmarshal(b, &report); err != nil {
		return "", "", err
	}
	for _, i := range report.Install {
		if strings.ToLower(separators.ReplaceAllString(i.Metadata.Name, "-")) == name {
			sum := i.Download.Archive.Hashes["sha256"]
			if sum != "" {
				sum = "sha256:" + sum
			}
			return i.Metadata.Version, sum, nil
		}
	}
	return "", "", fmt.Errorf("it does not have %s", name)
}
