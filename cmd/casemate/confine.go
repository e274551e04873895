package main

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/linux"
)

// confine takes from the router everything that it does not need, for good
// and for all its threads, by the code that confines guests: it opens no
// file, starts nothing, makes no socket, holds no capability, and nobody
// reads its memory. What it has are the descriptors that it was started
// with. As root it was started as a user of its own already.
func confine() error {
	syscall.Umask(0o077)
	// The parent may have died before the kernel was told to watch it; then
	// its end of the control connection is closed too, but that is read later.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if err := linux.NoNewPrivs(); errors.Is(err, syscall.ENOTSUP) {
		return errors.New("this casemate was built with cgo and cannot confine its threads: build it by make build, or with CGO_ENABLED=0")
	} else if err != nil {
		return err
	}
	if err := linux.NotDumpable(); err != nil {
		return err
	}
	if _, err := linux.Landlock(nil, linux.LandlockNet{}); err != nil {
		return err
	}
	if err := linux.DropCapabilities(); err != nil {
		return err
	}
	return linux.RouterFilter().Install() // last: it takes away what the others need
}
