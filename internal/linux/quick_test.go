package linux_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/linux"
)

func quickPipe(t *testing.T) (r, w *linux.Quick) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	var ends [2]*linux.Quick
	for i, fd := range fds {
		q, err := linux.NewQuick(os.NewFile(uintptr(fd), "end"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { q.Close() })
		ends[i] = q
	}
	return ends[0], ends[1]
}

// More than a pipe holds goes through whole, both ends wait, and the end is
// the end.
func TestQuick(t *testing.T) {
	r, w := quickPipe(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	wrote := make(chan error, 1)
	go func() {
		n, err := w.Write(want)
		if err == nil && n != len(want) {
			err = io.ErrShortWrite
		}
		wrote <- errors.Join(err, w.Close())
	}()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

func TestQuickEnds(t *testing.T) {
	r, w := quickPipe(t)
	over := make(chan error, 1)
	go func() {
		_, err := r.Read(make([]byte, 1))
		over <- err
	}()
	r.SetReadDeadline(time.Now())
	if err := <-over; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline gives %v", err)
	}
	r.Close()
	if _, err := w.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("a write nobody reads gives %v", err)
	}
	w.Close()
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a closed end is written")
	}

	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		if _, err := linux.NewQuick(f); !errors.Is(err, linux.ErrBlocks) {
			t.Errorf("a file that blocks gives %v", err)
		}
		f.Close()
	}
}
