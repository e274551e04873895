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

// initDigest and wasmDigest are the hexadecimal SHA-256 of the casemate-init
// and the casemate-wasm of the same build, set by the linker; empty in a build
// that was not made by make.
var initDigest, wasmDigest string

// initPath returns the path of casemate-init.
func initPath() (string, error) { return beside("casemate-init", initDigest) }

// wasmPath returns the path of casemate-wasm, which runs WebAssembly modules.
func wasmPath() (string, error) { return beside("casemate-wasm", wasmDigest) }

// beside returns the path of another program of the same build, by its digest,
// which lies beside this binary, in a place where only root or the caller writes.
func beside(name, digest string) (string, error) {
	fail := func(err error) (string, error) {
		return "", &casemate.Error{Op: name, Kind: casemate.Internal, Err: err, Fix: "install casemate and " + name + " of one build (make build) in one folder that only root or you may write"}
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return fail(err)
	}
	path := filepath.Join(filepath.Dir(self), name)
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
	if digest == "" {
		return path, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fail(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != digest {
		return fail(fmt.Errorf("%s is not of this build: its SHA-256 is %s", path, got))
	}
	return path, nil
}
