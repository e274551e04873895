package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate/internal/bench"
)

// benchOnceCommand runs one subject of ours a number of times, in the place of
// the bench that counts its system calls.
func (a *app) benchOnceCommand() *cobra.Command {
	return &cobra.Command{Use: "bench-once DIR SUBJECT PAYLOAD TIMES", Hidden: true, Args: cobra.ExactArgs(4),
		RunE: runs(func(c *cobra.Command, args []string) error {
			times, err := strconv.Atoi(args[3])
			if err != nil {
				return invalid("bench", "give a number", "%q is no number", args[3])
			}
			p := &benchPlace{dir: args[0]}
			if p.init, err = initPath(); err != nil {
				return err
			}
			o, err := openBenchOurs(c.Context(), a, p)
			if err != nil {
				return err
			}
			defer o.close()
			for _, s := range append(o.subjects(), o.parking()) {
				if s.Name != args[1] || s.Payload != args[2] {
					continue
				}
				for range times {
					if _, err := s.Run(c.Context()); err != nil {
						return err
					}
				}
				return nil
			}
			return invalid("bench", "see casemate bench", "there is no subject %q with %q", args[1], args[2])
		})}
}

// counted is how often ours run while their system calls are counted: what one
// run needs is the difference to a single one.
const counted = 10

// calls counts the system calls of one run of subjects, by strace; why says
// that it could not.
func (b *benchRun) calls(ctx context.Context) (out []bench.Calls, failed []bench.Failure) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil, []bench.Failure{{Subject: "system calls", Why: "strace is not on PATH: they are not counted"}}
	}
	trace := func(argv []string) (map[string]float64, error) {
		file := b.place.path("strace")
		if _, err := b.peers.said(append([]string{strace, "-f", "-c", "-o", file, "--"}, argv...)...); err != nil {
			return nil, err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		return bench.ParseCounts(string(text))
	}
	add := func(subject, payload string, counts map[string]float64, err error) {
		if err != nil {
			failed = append(failed, bench.Failure{Subject: "system calls of " + subject, Payload: payload, Why: err.Error()})
			return
		}
		out = append(out, bench.NewCalls(subject, payload, counts))
	}
	for _, p := range b.peers.payloads() {
		if p.name != payloadTrue {
			continue
		}
		for _, name := range []string{bench.Base, "unshare"} {
			if argv, err := b.peers.found(name, p); err == nil {
				counts, err := trace(argv)
				add(name, p.name, counts, err)
			}
		}
	}
	each := func(subject, payload string) (map[string]float64, error) {
		once, err := trace([]string{b.place.self, "bench-once", b.place.dir, subject, payload, "1"})
		if err != nil {
			return nil, err
		}
		more, err := trace([]string{b.place.self, "bench-once", b.place.dir, subject, payload, fmt.Sprint(1 + counted)})
		return bench.Less(more, once, counted), err
	}
	if b.wants("process/cold") {
		counts, err := each("process/cold", payloadTrue)
		add("process/cold", payloadTrue, counts, err)
	}
	if b.wants("process/pooled") {
		parked, err := each(parkedSubject, payloadTrue)
		add(parkedSubject, payloadTrue, parked, err)
		both, err := each("process/pooled", payloadTrue)
		add("process/pooled", payloadTrue, bench.Less(both, parked, 1), err)
	}
	if b.wants("process/forked") {
		counts, err := each("process/forked", payloadPython)
		add("process/forked", payloadPython, counts, err)
	}
	return out, failed
}

// parkedSubject is a guest that is made, parked and ended.
const parkedSubject = "process/parked"

func (o *benchOurs) parking() bench.Subject {
	return bench.Subject{Name: parkedSubject, Payload: payloadTrue, Run: func(ctx context.Context) (time.Duration, error) {
		sb, err := o.start(ctx, toolTrue)
		if err != nil {
			return 0, err
		}
		return 0, sb.Close()
	}}
}
