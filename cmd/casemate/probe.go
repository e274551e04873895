package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
)

// probed are the backends in the order of the matrix.
var probed = []string{"process", "oci", "gvisor", "wasm"}

// A probeRow is one attack and how it is made on each backend.
type probeRow struct {
	name  string
	tried string
	run   func(*probeSite, context.Context, *attackRow) // by a program of the host's processor
	wasm  func(*probeSite, context.Context, *attackRow) // by a module; beside wasmAttacks
	na    map[string]string                             // why a backend cannot be subject to it
}

// A probeVerdict is a cell of the matrix.
type probeVerdict struct {
	Verdict string `json:"verdict"`
	Why     string `json:"why"`
}

// A probeLine is a row of the matrix.
type probeLine struct {
	Name     string                  `json:"name"`
	Tried    string                  `json:"tried"`
	Verdicts map[string]probeVerdict `json:"verdicts"`
}

// A probeReport is what --json prints.
type probeReport struct {
	Rows []probeLine `json:"rows"`
	Host probeHost   `json:"host"`
}

// probeHost is where the matrix was made.
type probeHost struct {
	Kernel   string                        `json:"kernel"`
	Arch     string                        `json:"arch"`
	Uid      int                           `json:"uid"`
	Version  string                        `json:"version"`
	Backends map[string]*casemate.Enforced `json:"backends"`           // what an honest call had
	Absent   map[string]string             `json:"absent,omitempty"`   // and why there are no others
	Degraded []string                      `json:"degraded,omitempty"` // what the host does not limit
	Without  []string                      `json:"without,omitempty"`  // taken away on purpose
	Seconds  float64                       `json:"seconds"`
	faults   bool
}

type probeOptions struct {
	backends []string
	rows     []string
	markdown bool
	inside   bool
}

func (a *app) probeCommand() *cobra.Command {
	var o probeOptions
	c := &cobra.Command{
		Use:   "probe",
		Short: "Attack every backend of this host from the inside",
		Long: `Attack every backend of this host from the inside and print what held: a
row for each attack, a verdict for each backend: held, n/a with the reason, or
BROKEN. The attacker is this very program, as the guest of tools that it has a
casemate serve run; every victim is one that the probe makes, in a temporary
folder, among processes of its own, and in a network namespace of its own, so
that what a broken wall lets out leaves this machine nowhere. It takes about a
minute for each backend and leaves nothing behind.

The exit status is 0 when nothing is broken and every attack was made, on some
backend and on each that --backend names, and 1 otherwise. --test-without=WALL takes a wall of process away: the rows that it
holds alone must turn, or the probe would prove nothing.`,
		Args: noArgs,
		RunE: runs(func(c *cobra.Command, _ []string) error {
			for _, b := range o.backends {
				if !slices.Contains(probed, b) {
					return invalid("probe", "choose of "+strings.Join(probed, ", "), "there is no backend %q to attack", b)
				}
			}
			for _, r := range o.rows {
				if !slices.ContainsFunc(probeRows(), func(x probeRow) bool { return x.name == r }) {
					return invalid("probe", "casemate probe without --row names them all", "there is no row %q", r)
				}
			}
			if !o.inside {
				if code, err := probeApart(append(slices.Clone(os.Args[1:]), insideFlag)); err == nil {
					if code != 0 {
						return status(code)
					}
					return nil
				} else {
					a.note("the probe has no network namespace of its own, so that nothing is sent but to its own listeners on loopback: %v", err)
				}
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			context.AfterFunc(ctx, stop) // a second one ends everything at once
			return a.probe(ctx, o)
		}),
	}
	f := c.Flags()
	f.StringSliceVar(&o.backends, "backend", nil, "attack this `BACKEND` alone (default: all)")
	f.StringSliceVar(&o.rows, "row", nil, "make the attack of this `ROW` alone (default: all)")
	f.BoolVar(&o.markdown, "markdown", false, "print the matrix as Markdown")
	f.BoolVar(&o.inside, insideFlag[2:], false, "the network is one made for the probe")
	f.MarkHidden(insideFlag[2:])
	return c
}

// probeRows are all attacks, in the order of the matrix.
func probeRows() []probeRow {
	return slices.Concat(probeFileRows, probeSightRows, probeKernelRows, probeNetworkRows, probeBombRows, probeScopeRows, probeWasmRows)
}

func (a *app) probe(ctx context.Context, o probeOptions) error {
	began := time.Now()
	var network *probeNet
	if o.inside {
		var err error
		if network, err = newProbeNet(); err != nil {
			return &casemate.Error{Op: "probe", Kind: casemate.Internal, Err: err}
		}
	}
	report := &probeReport{Host: probeHost{Kernel: kernelRelease(), Arch: runtime.GOARCH, Uid: os.Geteuid(), Version: version(), Without: a.without,
		Backends: map[string]*casemate.Enforced{}, Absent: map[string]string{}}}
	for _, r := range probeRows() {
		if len(o.rows) == 0 || slices.Contains(o.rows, r.name) {
			report.Rows = append(report.Rows, probeLine{Name: r.name, Tried: r.tried, Verdicts: map[string]probeVerdict{}})
		}
	}
	for _, backend := range probed {
		if len(o.backends) > 0 && !slices.Contains(o.backends, backend) {
			continue
		}
		if err := a.attackBackend(ctx, backend, network, report); err != nil {
			return err
		}
	}
	a.step(0, 0, "")
	report.Host.Seconds = time.Since(began).Round(time.Millisecond).Seconds()
	var err error
	switch {
	case a.console.json:
		err = a.object(report)
	case o.markdown:
		err = a.text(report.markdown())
	default:
		err = a.showProbe(report)
	}
	attacked := len(report.Host.Backends) > 0
	for _, b := range o.backends { // whoever names one wants to know what holds there
		attacked = attacked && report.Host.Absent[b] == ""
	}
	if err == nil && (report.broken() > 0 || report.Host.faults || !attacked) {
		err = status(1)
	}
	return err
}

// attackBackend fills one column.
func (a *app) attackBackend(ctx context.Context, backend string, network *probeNet, report *probeReport) (err error) {
	a.step(1, len(report.Rows), backend)
	s, err := a.openSite(ctx, backend, a.without, network)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if s.absent != "" {
		report.Host.Absent[backend] = s.absent
	} else {
		report.Host.Backends[backend] = s.enforced
		report.Host.Degraded = s.degraded
	}
	rows := probeRows()
	for i, line := range report.Rows {
		if ctx.Err() != nil {
			return &casemate.Error{Op: "probe", Kind: casemate.Internal, Err: errors.New("it was interrupted")}
		}
		a.step(i+1, len(report.Rows), backend+": "+line.Name)
		row := rows[slices.IndexFunc(rows, func(r probeRow) bool { return r.name == line.Name })]
		cell := row.attack(ctx, s)
		report.Host.faults = report.Host.faults || cell.fault
		line.Verdicts[backend] = probeVerdict{cell.Verdict, cell.Evidence}
	}
	return nil
}

// attack makes one attack on one backend.
func (row probeRow) attack(ctx context.Context, s *probeSite) *attackRow {
	cell := &attackRow{Attack: row.name}
	run := row.run
	if s.backend == "wasm" {
		if run = row.wasm; run == nil {
			run = wasmAttacks()[row.name]
		}
	}
	switch why := row.na[s.backend]; {
	case s.absent != "":
		cell.na("%s is not available here: %s", s.backend, s.absent)
	case why != "":
		cell.na("%s", why)
	case run == nil:
		cell.na("a module is given the calls of WASI and no other: no system call, process, device, mode of a file or address; what its worker has, wasm-worker and own-uid look at")
		if s.backend != "wasm" {
			cell.na("it is an attack by a module, which runs on wasm alone")
		}
	default:
		run(s, ctx, cell)
	}
	return cell
}

// broken counts the cells that are.
func (r *probeReport) broken() (n int) {
	for _, l := range r.Rows {
		for _, v := range l.Verdicts {
			if v.Verdict == verdictBroken {
				n++
			}
		}
	}
	return n
}
