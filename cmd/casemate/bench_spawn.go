package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A benchSpawn starts programs for all peers alike, and cheaply: their standard
// streams are files that are open already, and nothing is copied or watched
// while they run. Each of its users has one of its own.
type benchSpawn struct {
	null *os.File
	said *os.File // without a name
	env  []string
}

func newBenchSpawn(env []string) (*benchSpawn, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	said, err := unnamed("casemate-bench")
	if err != nil {
		null.Close()
		return nil, err
	}
	return &benchSpawn{null: null, said: said, env: env}, nil
}

func (s *benchSpawn) close() { s.null.Close(); s.said.Close() }

// patience is how long one run of a peer may take.
const patience = 30 * time.Second

// run starts a program, waits for it, and says how long both took. It is an
// error where it does not end with 0, or prints something else than want,
// on either stream.
func (s *benchSpawn) run(ctx context.Context, argv []string, want string) (time.Duration, error) {
	if err := s.said.Truncate(0); err != nil {
		return 0, err
	}
	if _, err := s.said.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	attr := &os.ProcAttr{Env: s.env, Dir: "/", Files: []*os.File{s.null, s.said, s.said}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	began := time.Now()
	proc, err := os.StartProcess(argv[0], argv, attr)
	if err != nil {
		return 0, err
	}
	var late sync.WaitGroup
	late.Add(1)
	kill := time.AfterFunc(patience, func() { defer late.Done(); syscall.Kill(-proc.Pid, syscall.SIGKILL) })
	stop := context.AfterFunc(ctx, func() { syscall.Kill(-proc.Pid, syscall.SIGKILL) })
	state, err := proc.Wait()
	took := time.Since(began)
	stop()
	if !kill.Stop() {
		late.Wait()
		err = errors.Join(err, fmt.Errorf("it did not end within %s", patience))
	}
	if err != nil {
		return 0, err
	}
	b := make([]byte, 4<<10)
	n, _ := s.said.ReadAt(b, 0)
	if !state.Success() || string(b[:n]) != want {
		return 0, fmt.Errorf("%s: %s", state, strings.TrimSpace(string(b[:n])))
	}
	return took, nil
}

// unnamed returns an empty file without a name.
func unnamed(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
