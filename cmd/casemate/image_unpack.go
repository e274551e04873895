package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/image"
	"github.com/casemate/casemate/internal/linux"
)

// fdTree is the folder beneath which the process that unpacks an image works.
// It reads the layers from its standard input, and writes one JSON object.
const fdTree = 3

// Bounds of that process. Its heap is what zstd's window and its tables need;
// the address space that a Go program reserves does not count.
const (
	unpackMemory = 1 << 30
	unpackFiles  = 512
	unpackSaid   = 64 << 10 // bytes of what it says
)

// unpackCommand is that process: casemate starts itself as this one, and it
// cannot be used otherwise.
func (a *app) unpackCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "unpack-image",
		Short:  "The process that unpacks an image; casemate image pull starts it",
		Hidden: true,
		Args:   noArgs,
		RunE: runs(func(*cobra.Command, []string) error {
			root := os.NewFile(fdTree, "tree")
			if fi, err := root.Stat(); err != nil || !fi.IsDir() {
				return invalid("unpack", "use casemate image pull", "this command is started by casemate alone")
			}
			var r image.Result
			if err := confineUnpack(); err != nil {
				r.Error = casemate.JSON(&casemate.Error{Op: "confine unpacking", Kind: casemate.Unsupported, Err: err, Fix: "casemate doctor says what this host lacks"})
			} else {
				r = image.Unpack(root, os.Stdin)
			}
			b, err := json.Marshal(r)
			if err != nil {
				return err
			}
			_, err = os.Stdout.Write(b)
			return err
		}),
	}
}

// confineUnpack takes from this process all that unpacking does not need, as
// confine does for the router: it reaches the tree, of what lies in its folder,
// and nothing else of the host. Nothing of an image is read before.
func confineUnpack() error {
	syscall.Umask(0)
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
	for _, l := range []struct {
		resource int
		max      uint64
	}{{unix.RLIMIT_NOFILE, unpackFiles}, {unix.RLIMIT_DATA, unpackMemory}, {unix.RLIMIT_CORE, 0}} {
		if err := syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: l.max, Max: l.max}); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	if _, err := linux.Landlock([]linux.LandlockRule{{FD: fdTree, Access: linux.LandlockReadWrite}}, linux.LandlockNet{}); err != nil {
		return err
	}
	if err := linux.DropCapabilities(); err != nil {
		return err
	}
	return linux.UnpackFilter().Install() // last: it takes away what the others need
}

// unpackApart runs that process.
func unpackApart(ctx context.Context, root, stream *os.File) (image.Result, error) {
	// Pdeathsig follows the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var said, why bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Env, cmd.Dir = []string{"casemate", "unpack-image"}, []string{}, "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = stream, &firstBytes{&said, unpackSaid}, &firstBytes{&why, unpackSaid}, []*os.File{root}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var r image.Result
	if err == nil {
		err = json.Unmarshal(said.Bytes(), &r)
	}
	if err != nil {
		return r, fmt.Errorf("the process that unpacks the image broke off: %w: %.500q", err, why.String())
	}
	return r, nil
}

// firstBytes keeps the first bytes that are written.
type firstBytes struct {
	to   io.Writer
	left int
}

func (b *firstBytes) Write(p []byte) (int, error) {
	n := min(b.left, len(p))
	b.left -= n
	if _, err := b.to.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
