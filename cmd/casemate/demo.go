package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/sandbox/process"
)

// withoutVariable names walls that the demo takes away. The demo alone reads
// it, and hands it to its own servers.
const withoutVariable = "CASEMATE_TEST_WITHOUT"

// removable are the walls that can be taken away, each by itself without
// keeping a sandbox from starting.
var removable = []string{"seccomp", "landlock", "capabilities", "keyring", "limits", "memory"}

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show on this host what an honest and a hijacked planner can do",
		Long: `Show on this host what an honest and a hijacked planner can do: two MCP
clients, each with a casemate serve of its own, drive real tools. The
hijacked one attacks victims that the demo makes in a temporary folder; each
row says what was tried, which wall holds it and what was seen on the
victim's side. Where npx and Python are there and their registries can be
reached, it also wraps the configuration of a client that uses a server of
npm and one of PyPI. The honest planner has a tool behind each backend that
this host has. It takes about a minute and leaves nothing behind.

The exit status is 0 when every attack was held and the honest work
succeeded, and 1 otherwise. CASEMATE_TEST_WITHOUT=WALL takes a wall away
(` + strings.Join(removable, ", ") + `): the rows that it
holds alone must turn, or the demo would prove nothing.`,
		Args: noArgs,
		RunE: runs(func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			context.AfterFunc(ctx, stop) // a second one ends everything at once
			return a.demo(ctx)
		}),
	}
}

// A demo is one run.
type demo struct {
	app      *app
	place    *demoPlace
	without  []string // walls taken away
	degraded []string // controls that the host does not give
	refused  *casemate.ErrorJSON
	python   bool
	unshown  string
	honest   *demoPlanner
	hijacked *demoPlanner
}

// demoHost is the host as the report has it.
type demoHost struct {
	Kernel   string              `json:"kernel"`
	Arch     string              `json:"arch"`
	Uid      int                 `json:"uid"`
	Python   bool                `json:"python"`
	Controls []casemate.Control  `json:"controls"`
	Refused  *casemate.ErrorJSON `json:"refused,omitempty"`  // what the host refused at first
	Degraded []string            `json:"degraded,omitempty"` // and was then done without
	Without  []string            `json:"without,omitempty"`  // taken away on purpose
	Unshown  string              `json:"unshown,omitempty"`  // why no server of others was wrapped
	Seconds  float64             `json:"seconds"`
}

// demoReport is what --json prints.
type demoReport struct {
	Attacks []attackRow `json:"attacks"`
	Honest  []honestRow `json:"honest"`
	Host    demoHost    `json:"host"`
}

func (a *app) demo(ctx context.Context) (err error) {
	began := time.Now()
	d := &demo{app: a, without: slices.Clone(a.without)}
	for w := range strings.SplitSeq(os.Getenv(withoutVariable), ",") {
		if w = strings.TrimSpace(w); w != "" && !slices.Contains(d.without, w) {
			d.without = append(d.without, w)
		}
	}
	for _, w := range d.without {
		if !slices.Contains(removable, w) {
			return invalid("demo", "choose of "+strings.Join(removable, ", "), "%s: there is no wall %q that can be taken away", withoutVariable, w)
		}
	}
	if len(d.without) > 0 {
		a.note("this is a test: the sandboxes are made WITHOUT %s; attacks must get through", strings.Join(d.without, ", "))
	}
	init, err := initPath()
	if err != nil {
		return err
	}
	caps, err := process.Probe(ctx, init)
	if err != nil {
		return err
	}
	if d.place, err = newDemoPlace(d.without); err != nil {
		return &casemate.Error{Op: "demo", Kind: casemate.Internal, Err: err, Fix: "let TMPDIR name a folder that you may write"}
	}
	defer func() { err = errors.Join(err, d.place.remove()) }()
	if err := d.settle(ctx); err != nil {
		return err
	}
	report, err := d.run(ctx)
	if err != nil {
		return err
	}
	report.Host = demoHost{Kernel: kernelRelease(), Arch: runtime.GOARCH, Uid: os.Geteuid(), Python: d.python, Controls: caps.Controls,
		Refused: d.refused, Degraded: d.degraded, Without: d.without, Unshown: d.unshown, Seconds: time.Since(began).Round(time.Millisecond).Seconds()}
	if a.console.json {
		err = a.object(report)
	} else {
		err = a.showDemo(report)
	}
	if err == nil && !report.good() {
		err = status(1)
	}
	return err
}

// good says whether everything was held and done.
func (r *demoReport) good() bool {
	return !slices.ContainsFunc(r.Attacks, func(x attackRow) bool { return x.Verdict == verdictBroken || x.fault }) &&
		!slices.ContainsFunc(r.Honest, func(x honestRow) bool { return x.Verdict == verdictFailed })
}

// withheld are the controls that an ordinary user may be denied by the host,
// and without which the demo still has something to show.
var withheld = []string{"memory", "cpu"}

// settle writes the configuration that this host can enforce. What it refuses
// is shown before anything is done without it.
func (d *demo) settle(ctx context.Context) error {
	var first *casemate.ErrorJSON
	for _, degraded := range [][]string{nil, withheld} {
		if err := d.place.configure(degraded); err != nil {
			return &casemate.Error{Op: "demo", Kind: casemate.Internal, Err: err}
		}
		e, err := d.try(ctx)
		if err != nil {
			return err
		}
		if e == nil {
			if d.degraded, d.refused = degraded, first; first != nil {
				d.app.note("the demo goes on WITHOUT a limit of %s: host: {allow_degraded: [%s]}", strings.Join(degraded, " and "), strings.Join(degraded, ", "))
			}
			return nil
		}
		if first != nil || e.Kind != casemate.Unsupported {
			return &casemate.Error{Op: "demo", Kind: e.Kind, Err: errors.New(e.Message), Fix: e.Fix}
		}
		first = e
		d.app.note("this host refuses (exit status %d): %s", e.Kind.ExitStatus(), e.Message)
		if e.Fix != "" {
			d.app.note("  fix: %s", e.Fix)
		}
	}
	return nil
}

// try makes one call by casemate call; the first result is why it failed.
func (d *demo) try(ctx context.Context) (*casemate.ErrorJSON, error) {
	cmd := d.place.command(ctx, "call", "--json", "shell", "command=true")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err == nil {
		return nil, nil
	} else if ctx.Err() != nil {
		return nil, &casemate.Error{Op: "demo", Kind: casemate.Internal, Err: ctx.Err()}
	}
	e := errorOf(out.Bytes())
	if e == nil {
		return nil, &casemate.Error{Op: "demo", Kind: casemate.Internal, Err: fmt.Errorf("casemate call said %s", strings.TrimSpace(said.String()))}
	}
	return e, nil
}

// run lets both planners do what they do.
func (d *demo) run(ctx context.Context) (*demoReport, error) {
	broken := func(err error) error { return &casemate.Error{Op: "demo", Kind: casemate.Internal, Err: err} }
	var err error
	if d.honest, err = d.place.planner(ctx, "honest-planner"); err != nil {
		return nil, broken(err)
	}
	defer d.honest.close()
	if d.hijacked, err = d.place.planner(ctx, "hijacked-planner"); err != nil {
		return nil, broken(err)
	}
	defer d.hijacked.close()
	a, err := d.honest.call(ctx, "python", map[string]any{"code": "print('here')"})
	d.python = err == nil && !a.failed && strings.Contains(a.text, "here")

	r := &demoReport{Attacks: []attackRow{}, Honest: []honestRow{}}
	attacks := slices.Concat(fileAttacks, reachAttacks, bombAttacks, otherAttacks)
	tasks := d.honestTasks()
	for i, t := range tasks {
		d.app.step(i+1, len(tasks)+len(demoWalls)+len(attacks), "honest: "+t.name)
		row := honestRow{Task: t.name, Did: t.did, Verdict: verdictDone}
		if row.Evidence, err = t.run(ctx); err != nil {
			row.Verdict, row.Evidence = verdictFailed, err.Error()
		}
		r.Honest = append(r.Honest, row)
	}
	for i, w := range demoWalls {
		d.app.step(len(tasks)+i+1, len(tasks)+len(demoWalls)+len(attacks), "honest: "+w.task)
		r.Honest = append(r.Honest, d.behind(ctx, w))
	}
	for i, t := range attacks {
		if err := ctx.Err(); err != nil {
			return nil, broken(errors.New("it was interrupted"))
		}
		d.app.step(len(tasks)+len(demoWalls)+i+1, len(tasks)+len(demoWalls)+len(attacks), "hijacked: "+t.name)
		row := attackRow{Attack: t.name, HeldBy: t.heldBy}
		t.run(d, ctx, &row)
		r.Attacks = append(r.Attacks, row)
	}
	d.wrapped(ctx, r)
	d.app.step(0, 0, "")
	return r, nil
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return "Linux " + unix.ByteSliceToString(u.Release[:])
}
