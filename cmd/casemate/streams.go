package main

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// streams are what the router gets of this command's standard input, output
// and error: each itself, or, where it is a terminal, a pipe that this process
// copies. So the router never holds a terminal, which could be read, or
// written past what this process lets through.
type streams struct {
	theirs [3]*os.File
	pipes  []*os.File // of theirs, those that are pipes of our own

	start  []func()
	copied sync.WaitGroup // of the outputs
}

// streams prepares them for a command with or without a terminal of its own.
func (a *app) streams(t *terminal) (*streams, error) {
	s := &streams{}
	fail := func(err error) (*streams, error) {
		s.handed()
		return nil, err
	}
	for i, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		s.theirs[i] = f
		if !term.IsTerminal(int(f.Fd())) {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return fail(err)
		}
		if i == 0 {
			s.theirs[i], s.pipes = r, append(s.pipes, r)
			s.start = append(s.start, func() {
				io.Copy(w, f) // until this process ends: a terminal cannot be interrupted
				w.Close()
			})
			continue
		}
		s.theirs[i], s.pipes = w, append(s.pipes, w)
		s.copied.Add(1)
		s.start = append(s.start, func() {
			defer s.copied.Done()
			defer r.Close()
			if t.own {
				io.Copy(f, r)
				return
			}
			v := &visible{to: f}
			io.Copy(v, r)
			v.close()
		})
	}
	return s, nil
}

// handed closes the pipes' ends that the router has now, so that its end is
// seen.
func (s *streams) handed() {
	for _, f := range s.pipes {
		f.Close()
	}
	s.pipes = nil
}

// relay starts copying.
func (s *streams) relay() {
	for _, f := range s.start {
		go f()
	}
}

// drain waits until all output was copied; the router has ended.
func (s *streams) drain() { s.copied.Wait() }
