package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
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
		Use:   "bench [--quick] [--only SUBJECT]… [--svg FILE] [--markdown]",
		Short: "Measure what a call costs here, and with the other sandboxes of this machine",
		Long: `Measure what a call costs, each in a sandbox of its own, beside the other
sandboxes that are on PATH (bwrap, unshare, runc, crun, runsc, sandlock, srt, nono,
landrun, firejail, nsjail, docker, podman), all in one run, in turns, with the same
payloads and under settings that deny network and files. The backends oci, gvisor
and wasm stand beside process where this host has them. Only the ratios compare
between machines; they are to bwrap. One that is there and fails is listed with
its error. Nothing is installed, pulled or kept.

Also measured: calls a second on all cores, the memory of guests that wait, the
time until an ended guest is gone, how a call slows down with more tools and
sessions, and the system calls of one (with strace). docs/performance.md is what
--markdown prints.`,
		Args: noArgs,
		RunE: runs(func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
			return a.bench(ctx, o)
		}),
	}
	f := c.Flags()
	f.BoolVar(&o.quick, "quick", false, "fewer repetitions: done within a minute")
	f.BoolVar(&o.markdown, "markdown", false, "print the page docs/performance.md instead of the table")
	f.StringVar(&o.svg, "svg", "", "draw the distributions into `FILE`")
	f.StringArrayVar(&o.only, "only", nil, "measure what begins with `SUBJECT` alone, and bwrap for the ratios; may be given again")
	return c
}

// A benchRun is one run.
type benchRun struct {
	benchOptions
	*app
	place   *benchPlace
	ours    *benchOurs
	peers   *benchPeers
	servers *benchServers // nil where no subject needs them
	report  *bench.Report
	closes  []func()
	began   time.Time
}

func (a *app) bench(ctx context.Context, o benchOptions) (err error) {
	b := &benchRun{benchOptions: o, app: a, report: &bench.Report{Machine: bench.ThisMachine(), Quick: o.quick, Floor: bench.FloorSource()}}
	b.began = time.Now()
	if o.markdown && a.console.json {
		return invalid("bench", "leave one of them out", "--markdown and --json are two ways to print one run")
	}
	for _, x := range o.only {
		if !o.known(x) {
			return invalid("bench", "see casemate bench --json, or leave --only out", "--only %q: there is no subject and no part of that name", x)
		}
	}
	var drawing *os.File
	if o.svg != "" { // before minutes of work that would have no place
		if drawing, err = os.OpenFile(o.svg, os.O_WRONLY|os.O_CREATE, 0o644); err != nil {
			return invalid("bench", "name a file that you may write", "--svg: %w", err)
		}
		defer drawing.Close()
	}
	if b.place, err = newBenchPlace(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.place.remove()) }()
	err = b.measure(ctx)
	for i := len(b.closes) - 1; i >= 0; i-- {
		b.closes[i]()
	}
	if ctx.Err() != nil {
		return &casemate.Error{Op: "bench", Kind: casemate.Cancelled, Err: errors.New("it was ended before it had measured everything")}
	}
	if err != nil {
		return err
	}
	b.report.Took = time.Since(b.began).Seconds()
	b.report.Judge()
	if o.svg != "" {
		b.report.Drawing = filepath.Base(o.svg)
		err := drawing.Truncate(0)
		if err == nil {
			_, err = drawing.WriteString(b.report.SVG())
		}
		if err != nil {
			return &casemate.Error{Op: "bench", Kind: casemate.Internal, Err: err, Fix: "name a file that you may write"}
		}
	}
	switch {
	case a.console.json:
		return a.object(b.report)
	case o.markdown:
		return a.text(b.report.Markdown())
	}
	return a.text(b.report.Table())
}

// measure fills the report. What fails is in it; an error is of the bench
// itself.
func (b *benchRun) measure(ctx context.Context) (err error) {
	r := b.report
	done := b.progress("starting")
	if b.ours, err = newBenchOurs(ctx, b.app, b.place); err != nil {
		return err
	}
	b.closes = append(b.closes, b.ours.close)
	python := b.ours.guests[toolPython]
	var prefixes []string
	for _, m := range python.Mounts {
		prefixes = append(prefixes, m.Source)
	}
	if b.peers, err = newBenchPeers(b.place, python.Interpreter, prefixes); err != nil {
		return err
	}
	b.closes = append(b.closes, b.peers.close)
	r.Machine.Degraded = b.place.lacks
	if b.peers.python != "" {
		r.Machine.Python, _ = b.peers.said(b.peers.python, "-V")
	}
	done()
	if b.wants("memory") {
		done = b.progress("memory of guests that wait")
		r.Memory = b.memories(ctx)
		done()
	}
	done = b.progress("starting servers and peers")
	subjects := b.subjects(ctx)
	done()
	if err := b.latencies(ctx, subjects); err != nil {
		return err
	}
	for _, part := range []struct {
		name, say string
		run       func()
	}{
		{"throughput", "calls a second on all cores", func() { r.Rates = keep(r, b.rates)(ctx) }},
		{"growth", "more tools and sessions", func() { r.Growth = keep(r, b.growth)(ctx) }},
		{"system calls", "counting system calls", func() { r.Calls = keep(r, b.calls)(ctx) }},
	} {
		if !b.wants(part.name) || ctx.Err() != nil {
			continue
		}
		if b.quick && time.Since(b.began) > 40*time.Second {
			r.Failed = append(r.Failed, bench.Failure{Subject: part.name, Why: "left out: the machine is so slow that a minute has no room for it; leave --quick out"})
			continue
		}
		done := b.progress(part.say)
		part.run()
		done()
	}
	return nil
}

// keep puts what a part could not measure into the report.
func keep[T any](r *bench.Report, f func(context.Context) ([]T, []bench.Failure)) func(context.Context) []T {
	return func(ctx context.Context) []T {
		out, failed := f(ctx)
		r.Failed = append(r.Failed, failed...)
		return out
	}
}

func (b *benchRun) memories(ctx context.Context) []bench.Memory {
	guests := 12
	if b.quick {
		guests = 6
	}
	return keep(b.report, func(ctx context.Context) ([]bench.Memory, []bench.Failure) { return b.ours.memory(ctx, guests) })(ctx)
}

// subjects are those that take turns.
func (b *benchRun) subjects(ctx context.Context) []bench.Subject {
	r := b.report
	all, absent, failed := b.peers.subjects(b.wants)
	r.Absent, r.Failed = append(r.Absent, absent...), append(r.Failed, failed...)
	if b.wants("floor") || b.wants("sandlock/forked") {
		floors, failed := b.peers.floors()
		all, r.Failed = append(all, floors...), append(r.Failed, failed...)
	}
	if b.wants("sandlock/mcp") {
		own, absent, failed := b.peers.sandlockMCP(ctx)
		all, r.Absent, r.Failed = append(all, own...), append(r.Absent, absent...), append(r.Failed, failed...)
	}
	all = append(append(all, b.ours.subjects()...), b.ours.killing())
	walls, ends, failed := b.ours.walls(b.wants)
	all, b.closes, r.Failed = append(all, walls...), append(b.closes, ends...), append(r.Failed, failed...)
	if router, end, err := benchRouter(); err != nil {
		r.Failed = append(r.Failed, bench.Failure{Subject: "router", Why: err.Error()})
	} else {
		b.closes = append(b.closes, end)
		all = append(all, router)
	}
	if b.wants("mcp") || b.wants("throughput") {
		servers, err := newBenchServers(ctx, b.place)
		if err != nil {
			r.Failed = append(r.Failed, bench.Failure{Subject: "mcp", Why: err.Error()})
		} else {
			b.servers = servers
			b.closes = append(b.closes, servers.close)
			all = append(all, servers.subjects()...)
		}
	}
	var out []bench.Subject
	for _, s := range all {
		if b.wants(s.Name) || s.Name == bench.Base && s.Payload == payloadTrue {
			out = append(out, s)
		}
	}
	return out
}

func (b *benchRun) latencies(ctx context.Context, subjects []bench.Subject) error {
	s := bench.Schedule{Rounds: 400, Least: 10, Warm: 5, Budget: 3 * time.Minute}
	if b.quick {
		s = bench.Schedule{Rounds: 100, Least: 5, Warm: 3, Budget: 14 * time.Second}
	}
	began := time.Now()
	s.Say = func(done, of int) {
		if b.errTTY {
			fmt.Fprintf(b.err, "\r\x1b[Kcasemate: round %d of %d of %s, %d s (Ctrl-C ends it)", done+1, of, plural(len(subjects), "subject"), int(time.Since(began).Seconds()))
		}
	}
	b.report.Add(bench.Run(ctx, subjects, s))
	if b.errTTY {
		fmt.Fprint(b.err, "\r\x1b[K")
	}
	return ctx.Err()
}

// known says whether anything begins with x.
func (o benchOptions) known(x string) bool {
	names := []string{"posix_spawn", "memory", "throughput", "growth", "system calls", "router", "process/cold", "process/pooled", "process/forked", "process/kill",
		"oci/cold", "oci/pooled", "oci/routed", "gvisor/cold", "gvisor/pooled", "gvisor/routed", "wasm/cold", "wasm/pooled", "wasm/routed",
		"mcp/direct", "mcp/stdio", "mcp/http", "sandlock/forked", "sandlock/mcp", bench.FloorAll, bench.FloorShared, bench.FloorSwitch, bench.FloorFork, bench.FloorWarm}
	for _, p := range (&benchPeers{}).peers() {
		names = append(names, p.name)
	}
	return x != "" && slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, x) })
}

// wants says whether --only names a subject, or a part.
func (o benchOptions) wants(name string) bool {
	for _, x := range o.only {
		if strings.HasPrefix(name, x) || strings.HasPrefix(x, name+"/") {
			return true
		}
	}
	return len(o.only) == 0
}
