package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/casemate/casemate"
)

// initDigest is the hexadecimal SHA-256 of the casemate-init of the same
// build, set by the linker; empty in a build that was not made by make.
var initDigest string

// initPath returns the path of casemate-init, which lies beside this binary:
// the one of the same build, in a place where only root or the caller writes.
func initPath() (string, error) {
	fail := func(err error) (string, error) {
		return "", &casemate.Error{Op: "casemate-init", Kind: casemate.Internal, Err: err, Fix: "install casemate and casemate-init of one build (make build) in one folder that only root or you may write"}
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return fail(err)
	}
	path := filepath.Join(filepath.Dir(self), "casemate-init")
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() || fi.Mode().Perm()&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fail(fmt.Errorf("%s is not a file of root's or your own that only its owner may write", path))
	}
	if initDigest == "" {
		return path, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fail(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != initDigest {
		return fail(fmt.Errorf("%s is not of this build: its SHA-256 is %s", path, got))
	}
	return path, nil
}
