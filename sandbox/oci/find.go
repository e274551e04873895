package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

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

// Find returns the runtimes that are there and new enough, the first choice in
// front. Whether one works on this host only a container shows. It runs each, to
// ask its version, and gives it 5 s to answer. An error is of kind Unsupported.
//
// One that others could change, or a tool, for it lies in one of grants, the paths
// that tools may write, is not run and passed over.
//
// They are looked for on PATH, and beside each folder "bin" of it in that called
// "sbin", where distributions put them and a user's PATH often does not lead.
func Find(ctx context.Context, getenv func(string) string, grants []string) ([]Runtime, error) {
	var found []Runtime
	why := "there is no runc and no crun"
	for _, want := range runtimes {
		path, err := look(want.name, getenv("PATH"), grants)
		if err != nil {
			why = err.Error()
		}
		if path == "" {
			continue
		}
		rt, err := ask(ctx, want.name, path, want.oldest)
		if err != nil {
			why = err.Error()
			continue
		}
		found = append(found, rt)
	}
	if len(found) == 0 {
		return nil, &casemate.Error{Op: "find runtime", Kind: casemate.Unsupported, Err: errors.New(why), Fix: Fix}
	}
	return found, nil
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

// ask has a program say its version.
func ask(ctx context.Context, name, path string, oldest [2]int) (Runtime, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	out := &limited{}
	cmd.Stdout = out
	err := cmd.Run()
	if errors.Is(err, fs.ErrPermission) {
		return Runtime{}, fmt.Errorf("%s may not be run", path)
	}
	if err != nil {
		return Runtime{}, fmt.Errorf("%s does not say its version: %w", path, err)
	}
	version, at := versionOf(name, string(out.b))
	switch {
	case version == "":
		return Runtime{}, fmt.Errorf("%s does not say which version of %s it is", path, name)
	case at[0] < oldest[0] || at[0] == oldest[0] && at[1] < oldest[1]:
		return Runtime{}, fmt.Errorf("%s is %s %s, and %d.%d is the oldest that serves", path, name, version, oldest[0], oldest[1])
	}
	return Runtime{Path: path, Version: name + " " + version}, nil
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

// limited keeps the first 4 KiB of what is written.
type limited struct{ b []byte }

func (l *limited) Write(b []byte) (int, error) {
	l.b = append(l.b, b[:min(len(b), 4096-len(l.b))]...)
	return len(b), nil
}
