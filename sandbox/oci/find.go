package oci

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/owned"
)

// The runtimes, the one that is asked first in front, with the oldest version
// that was tried.
var runtimes = [...]struct {
	name   string
	oldest [2]int
}{{"runc", [2]int{1, 1}}, {"crun", [2]int{1, 8}}}

// Fix is how a runtime is had.
const Fix = "install runc 1.1 or newer (Debian, Ubuntu: apt install runc; Fedora: dnf install runc), or crun 1.8 or newer, on PATH"

// A Program may be a runtime: which version it is only it can say.
type Program struct {
	Name string // runc or crun
	Path string // absolute, without a link

	oldest [2]int
}

// Look returns the programs that may be runtimes, the first choice in front. It
// runs none of them. An error is of kind Unsupported.
//
// One that others could change, or a tool, for it lies in one of grants, the paths
// that tools may write, is passed over.
//
// They are looked for on PATH, and beside each folder "bin" of it in that called
// "sbin", where distributions put them and a user's PATH often does not lead.
func Look(getenv func(string) string, grants []string) ([]Program, error) {
	var found []Program
	why := errors.New("there is no runc and no crun")
	for _, want := range runtimes {
		path, err := look(want.name, getenv("PATH"), grants)
		if err != nil {
			why = err
		}
		if path != "" {
			found = append(found, Program{want.name, path, want.oldest})
		}
	}
	if len(found) == 0 {
		return nil, refuse(why)
	}
	return found, nil
}

func refuse(err error) error {
	return &casemate.Error{Op: "find runtime", Kind: casemate.Unsupported, Err: err, Fix: Fix}
}

// Runtime makes a runtime of a program that says so when it is asked for its
// --version, in a sandbox: whoever could put it there could have written it. Whether
// it works on this host only a container shows. An error is of kind Unsupported.
func (p Program) Runtime(said string) (Runtime, error) {
	version, at := versionOf(p.Name, said)
	switch {
	case version == "":
		return Runtime{}, refuse(fmt.Errorf("%s does not say which version of %s it is", p.Path, p.Name))
	case at[0] < p.oldest[0] || at[0] == p.oldest[0] && at[1] < p.oldest[1]:
		return Runtime{}, refuse(fmt.Errorf("%s is %s %s, and %d.%d is the oldest that serves", p.Path, p.Name, version, p.oldest[0], p.oldest[1]))
	}
	return Runtime{Path: p.Path, Version: p.Name + " " + version}, nil
}

// look returns the real path of a program, or "", and why the last that it passed
// over may not be run.
func look(name, path string, grants []string) (_ string, why error) {
	for dir := range strings.SplitSeq(path, ":") {
		if !filepath.IsAbs(dir) { // the working folder is anybody's
			continue
		}
		folders := []string{dir}
		if above, last := filepath.Split(filepath.Clean(dir)); last == "bin" {
			folders = append(folders, above+"sbin")
		}
		for _, dir := range folders {
			real, err := filepath.EvalSymlinks(filepath.Join(dir, name))
			if err != nil {
				continue
			}
			if _, err := exec.LookPath(real); err != nil {
				continue
			}
			if err := owned.Program(filepath.Join(dir, name), grants); err != nil {
				why = err
				continue
			}
			return real, why
		}
	}
	return "", why
}

// versionOf reads the first line of what runc and crun say, "runc version 1.1.5+ds1"
// and "crun version 1.8.1": the version without what a distribution added.
func versionOf(name, said string) (version string, at [2]int) {
	line, _, _ := strings.Cut(said, "\n")
	rest, ok := strings.CutPrefix(line, name+" version ")
	if !ok {
		return "", at
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(rest)
	}
	parts := strings.Split(rest[:end], ".")
	if len(parts) < 2 || end > 32 {
		return "", at
	}
	for i := range at {
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return "", at
		}
		at[i] = n
	}
	return strings.TrimRight(rest[:end], "."), at
}
