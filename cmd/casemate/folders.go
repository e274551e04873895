package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/casemate/casemate"
)

// stateFolder returns the folder of records, undo stores, trust and caches,
// and makes it (0700). It must belong to the caller and be closed to others.
func stateFolder(configured string) (string, error) {
	dir := configured
	if dir == "" {
		if x := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(x) {
			dir = filepath.Join(x, "casemate")
		} else {
			home, err := os.UserHomeDir()
			if err != nil || !filepath.IsAbs(home) {
				return "", invalid("state", "set HOME or XDG_STATE_HOME, or host.state in the configuration", "there is no home folder to keep state in")
			}
			dir = filepath.Join(home, ".local", "state", "casemate")
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", &casemate.Error{Op: "state", Kind: casemate.Internal, Err: err, Fix: "make the folder writable, or name another by host.state or XDG_STATE_HOME"}
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", &casemate.Error{Op: "state", Kind: casemate.Internal, Err: err}
	}
	if err := ownFolder(real, true); err != nil {
		return "", &casemate.Error{Op: "state", Kind: casemate.Denied, Err: err, Fix: "chown it to yourself and chmod 700 it, or name another by host.state or XDG_STATE_HOME"}
	}
	return real, nil
}

// runtimeFolder returns the folder of this user's control sockets, and makes
// it (0700). Without one of the user's own there is none: a fixed path in
// /tmp is another user's to plant.
func runtimeFolder() (string, error) {
	refuse := func(err error) (string, error) {
		return "", &casemate.Error{Op: "runtime folder", Kind: casemate.Denied, Err: err,
			Fix: "set XDG_RUNTIME_DIR to a folder of your own with mode 0700 (a login session has /run/user/UID)"}
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	switch {
	case filepath.IsAbs(base):
		if err := ownFolder(base, true); err != nil {
			return refuse(err)
		}
	case os.Geteuid() == 0:
		base = "/run"
	default: // some clients start a server without it; a login session's is at this place
		base = fmt.Sprintf("/run/user/%d", os.Geteuid())
		if err := ownFolder(base, true); err != nil {
			return refuse(fmt.Errorf("XDG_RUNTIME_DIR is not set, and %w", err))
		}
	}
	dir := filepath.Join(base, "casemate")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return refuse(err)
	}
	if err := ownFolder(dir, true); err != nil {
		return refuse(err)
	}
	return dir, nil
}

// ownFolder says why dir is not a folder of the caller's own; closed asks
// that no one else may enter it.
func ownFolder(dir string, closed bool) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !fi.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, not to you (%d)", dir, st.Uid, os.Geteuid())
	case fi.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s may be written by others (mode %#o)", dir, fi.Mode().Perm())
	case closed && fi.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to others (mode %#o, not 0700)", dir, fi.Mode().Perm())
	}
	return nil
}
