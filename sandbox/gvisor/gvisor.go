// Package gvisor finds runsc, gVisor's runtime, and says what of it does not
// belong to any one guest: which version serves, and how it is started. The
// sandboxes themselves are made as those of every backend are, by the
// spawner: an outer sandbox of namespaces and cgroups, in which runsc runs the
// guest on a kernel of its own, the Sentry.
//
// Runsc is looked for in this order: the file that CASEMATE_RUNSC names, the
// user's cache, where "make runsc" puts it, and PATH. The first that is named
// or there must serve: one that is too old is refused and no other taken in
// its place.
//
// # What the guest has
//
//   - The platform is systrap, which needs no device. KVM is not used: a
//     guest's uid has no way to /dev/kvm, and on a virtual machine without
//     nested hardware virtualisation the device opens and nothing starts.
//   - The network is a stack of the Sentry's own without an interface, or where
//     the profile asks for it with loopback: a listener there cannot be reached
//     from outside the Sentry, nor one outside from there. The host's network is
//     not to be had.
//   - Descriptors come only with the start (--pass-fd): the Sentry takes none
//     through a socket of the host. So nothing is donated to a guest that runs.
//   - Landlock, mounts and keyrings of the host are not in the Sentry; grants
//     are overlays of the outer sandbox, which the Sentry reaches as files.
//     System calls are filtered twice, by our list in the Sentry and by the
//     Sentry's own list towards the host.
//
// # Starting and restoring
//
// A guest is started, never restored from a checkpoint. A restored interpreter
// with many modules answers two to three times sooner than a started one, a static
// runner does not; but every guest of one checkpoint would wake with the
// same random state, restore takes no descriptors but the three standard ones,
// and a parked guest has either behind it. BenchmarkRestore measures it.
package gvisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/owned"
)

// Pinned is the version that "make runsc" builds, and Oldest its day: nothing
// older was tried with the flags that a sandbox starts it with.
const (
	Pinned = "v0.0.0-20260905035102-160fafc42237"
	Oldest = "20260905"
)

// Env names the variable that names runsc.
const Env = "CASEMATE_RUNSC"

// Fix is how runsc is had.
const Fix = "run make runsc in Casemate's source, which builds it into the cache, or name a runsc of " + Oldest + " or newer by " + Env

// A Runsc is one that serves.
type Runsc struct {
	Path    string // real, absolute
	Version string // such as "release-20260914.0", or that of the Go module, as make runsc puts it in
}

// Look returns the real path of the program that the environment means, and does
// not run it. One that others could change, or a tool, for it lies in one of
// grants, the paths that tools may write, is refused. Errors are of kind
// Unsupported.
func Look(getenv func(string) string, grants []string) (string, error) {
	path, err := candidate(getenv)
	if err != nil {
		return "", refuse(err, Fix)
	}
	if err := owned.Program(path, grants); err != nil {
		return "", refuse(err, "install it where only you or root can write, and no tool")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", refuse(err, Fix)
	}
	return path, nil
}

// Read makes a Runsc of the program at path, which said that when it was asked
// for its --version, in a sandbox: whoever could put it there could have written
// it. Errors are of kind Unsupported.
func Read(path, said string) (Runsc, error) {
	m := versionLine.FindStringSubmatch(said)
	if m == nil {
		return Runsc{}, refuse(fmt.Errorf("%s: what it says of its version is not what runsc says", path), Fix)
	}
	if err := recent(m[1]); err != nil {
		return Runsc{}, refuse(fmt.Errorf("%s: %w", path, err), Fix)
	}
	return Runsc{Path: path, Version: m[1]}, nil
}

func refuse(err error, fix string) error {
	return &casemate.Error{Op: "gvisor", Kind: casemate.Unsupported, Err: err, Fix: fix}
}

// candidate returns the first path that is named, or at which there is a
// program.
func candidate(getenv func(string) string) (string, error) {
	if p := getenv(Env); p != "" {
		if !filepath.IsAbs(p) {
			return "", fmt.Errorf("%s: %q is not an absolute path", Env, p)
		}
		if !program(p) {
			return "", fmt.Errorf("%s: %q is not a program", Env, p)
		}
		return p, nil
	}
	if c := cache(getenv); c != "" {
		if p := filepath.Join(c, "casemate", "runsc-"+Pinned, "runsc"); program(p) {
			return p, nil
		}
	}
	for _, d := range filepath.SplitList(getenv("PATH")) {
		if p := filepath.Join(d, "runsc"); filepath.IsAbs(d) && program(p) {
			return p, nil
		}
	}
	return "", errors.New("there is no runsc in the cache or on PATH")
}

// cache is the user's, or "" where the environment has none.
func cache(getenv func(string) string) string {
	if c := getenv("XDG_CACHE_HOME"); filepath.IsAbs(c) {
		return c
	}
	if h := getenv("HOME"); filepath.IsAbs(h) {
		return filepath.Join(h, ".cache")
	}
	return ""
}

func program(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

var versionLine = regexp.MustCompile(`(?m)^runsc version ([0-9A-Za-z._+-]{1,80})$`)

var day = regexp.MustCompile(`(?:^release-|-(?:0\.)?)(20[0-9]{6})(?:[0-9]{6}-[0-9a-f]{12}|\.[0-9]+.*)$`)

// recent says why a version does not serve.
func recent(version string) error {
	m := day.FindStringSubmatch(version)
	switch {
	case m == nil:
		return fmt.Errorf("version %q names no day, so it cannot be told how old it is", version)
	case strings.Compare(m[1], Oldest) < 0:
		return fmt.Errorf("version %q is too old: Casemate needs %s or newer", version, Oldest)
	}
	return nil
}
