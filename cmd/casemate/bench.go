package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate/internal/bench"
)

type benchOptions struct {
	quick    bool
	markdown bool
	svg      string
	only     []string
}

func (a *app) benchCommand() *cobra.Command {
	var o benchOptions
	c := &cobra.Command{
		Use:   "bench [--quick] [--only SUBJECT …] [--svg FILE] [--markdown]",
		Short: "Measure what a call costs here, and with the other sandboxes of this machine",
		Args:  noArgs,
		RunE:  runs(func(c *cobra.Command, _ []string) error { return a.bench(c.Context(), o) }),
	}
	f := c.Flags()
	f.BoolVar(&o.quick, "quick", false, "fewer repetitions: done within a minute")
	f.BoolVar(&o.markdown, "markdown", false, "print the page docs/performance.md instead of the table")
	f.StringVar(&o.svg, "svg", "", "draw the distributions into `FILE`")
	f.StringSliceVar(&o.only, "only", nil, "measure the `SUBJECT` and what begins with it alone (and bwrap, for the ratio)")
	return c
}

func (a *app) bench(ctx context.Context, o benchOptions) (err error) {
	began := time.Now()
	p, err := newBenchPlace(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	r := &bench.Report{Machine: bench.ThisMachine(), Quick: o.quick}
	ours, err := newBenchOurs(ctx, a, p)
	if err != nil {
		return err
	}
	defer ours.close()
	python := ours.guests[toolPython]
	var prefixes []string
	for _, m := range python.Mounts {
		prefixes = append(prefixes, m.Source)
	}
	others, err := newBenchPeers(p, python.Interpreter, prefixes)
	if err != nil {
		return err
	}
	defer others.close()
	subjects, absent, failed := others.subjects()
	r.Absent, r.Failed = absent, failed
	subjects = o.chosen(append(subjects, ours.subjects()...))
	s := bench.Schedule{Rounds: 400, Least: 10, Warm: 5, Budget: 3 * time.Minute}
	if o.quick {
		s = bench.Schedule{Rounds: 60, Least: 5, Warm: 2, Budget: 25 * time.Second}
	}
	r.Add(bench.Run(ctx, subjects, s))
	if err := ctx.Err(); err != nil {
		return err
	}
	r.Took = time.Since(began).Seconds()
	return a.object(r)
}

// chosen are the subjects that --only names.
func (o benchOptions) chosen(all []bench.Subject) (out []bench.Subject) {
	for _, s := range all {
		if o.wants(s.Name) || s.Name == bench.Base && s.Payload == payloadTrue {
			out = append(out, s)
		}
	}
	return out
}

func (o benchOptions) wants(name string) bool {
	for _, x := range o.only {
		if strings.HasPrefix(name, x) {
			return true
		}
	}
	return len(o.only) == 0
}
