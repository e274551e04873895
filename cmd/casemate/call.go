package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
)

func (a *app) callCommand() *cobra.Command {
	var file, folder string
	var limits, without, inputs []string
	var explain bool
	c := &cobra.Command{
		Use:   "call TOOL [NAME=VALUE …]",
		Short: "Run one call of a tool in a sandbox of its own",
		Long: `Run one call of a tool in a sandbox of its own.

The text of the result goes to standard output as the tool wrote it; on a
terminal control characters are shown as \xNN. Where the schema of the tool
says string, VALUE is taken as it stands; elsewhere it is JSON.

--limit and --without take from this call some of what the manifest gives its
tool. More than that is refused. The tool reads FILE of --input as /in/NAME.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeTools,
		RunE: runs(func(c *cobra.Command, args []string) error {
			l, err := limitsOf(limits, without)
			if err != nil {
				return err
			}
			in, err := inputsOf(inputs)
			if err != nil {
				return err
			}
			out, err := a.callOnce(c.Context(), args[0], args[1:], file, l, in)
			if err != nil {
				return err
			}
			return a.outcomeOf(out, folder, explain)
		}),
	}
	c.Flags().StringVar(&file, "args", "", "take the arguments, a JSON object, from `FILE` (- is standard input)")
	c.Flags().StringArrayVar(&limits, "limit", nil, "hold the call to less, as in `memory=64MiB`; also disk, output, cpu, processes, timeout")
	c.Flags().StringArrayVar(&inputs, "input", nil, "give the call a file, as in `NAME=FILE`")
	c.Flags().StringArrayVar(&without, "without", nil, "leave out the mount at `PLACE` of the sandbox")
	c.Flags().StringVar(&folder, "out", "", "write images and files of the result into the folder `DIR`")
	c.Flags().BoolVar(&explain, "explain", false, "say on standard error what was decided, enforced and used")
	return c
}

// callOnce starts a spawner and a router for one tool, runs one call and ends
// them. Ctrl-C cancels the call; a second one kills everything.
func (a *app) callOnce(ctx context.Context, name string, pairs []string, file string, limits casemate.Limits, inputs []casemate.Input) (*casemate.Outcome, error) {
	l, err := a.load()
	if err != nil {
		return nil, err
	}
	t, err := a.toolOf(ctx, l, name)
	if err != nil {
		return nil, err
	}
	args, err := arguments(t, pairs, file, os.Stdin)
	if err != nil {
		return nil, err
	}
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer restore()
	context.AfterFunc(ctx, restore)
	defer a.progress(name + " runs")()

	h, err := a.start(ctx, l, startOptions{only: t.Name, pool: pool.Limits{Max: -1}})
	if err != nil {
		return nil, err
	}
	defer h.kill()
	var out casemate.Outcome
	if err := h.ctl.do(ctx, opCall, callBody{t.Name, args, limits, inputs}, &out); err != nil {
		return nil, err
	}
	// The answer is there; the router ends in order, so that nothing is left
	// of the sandbox when this process is gone.
	h.stop()
	return &out, nil
}

// limitsOf are the limits of a call as the command line has them.
func limitsOf(limits, without []string) (l casemate.Limits, err error) {
	for _, one := range limits {
		name, value, _ := strings.Cut(one, "=")
		if err = l.Set(name, value); err != nil {
			break
		}
	}
	if err == nil {
		err = l.Leave(without...)
	}
	if err != nil {
		err = invalid("call", "write it as --limit memory=64MiB --without /docs", "%w", err)
	}
	return l, err
}

// maxInputs bounds what the files of --input hold, in bytes; as the router does.
const maxInputs = 64 << 20

// inputsOf reads the files of --input.
func inputsOf(pairs []string) (out []casemate.Input, err error) {
	left := int64(maxInputs)
	for _, p := range pairs {
		name, path, ok := strings.Cut(p, "=")
		if !ok {
			return nil, invalid("call", "write it as --input NAME=FILE", "--input: %q names no file", p)
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, invalid("call", "name a file that can be read", "--input: %w", err)
		}
		b, err := io.ReadAll(io.LimitReader(f, left+1))
		f.Close()
		if left -= int64(len(b)); err == nil && left < 0 {
			err = errors.New("the files have more than 64 MiB")
		}
		if err != nil {
			return nil, invalid("call", "pass less; a tool can read files that it is granted", "--input: %w", err)
		}
		out = append(out, casemate.Input{Name: name, Data: b})
	}
	return out, nil
}

// outcomeOf prints what came of a call; the error it returns carries the exit
// status.
func (a *app) outcomeOf(o *casemate.Outcome, folder string, explain bool) error {
	var err error
	switch {
	case a.console.json:
		err = a.object(o)
	case o.Result != nil:
		err = a.result(o.Result, folder)
	}
	if a.console.json && folder != "" && o.Result != nil {
		err = errors.Join(err, a.files(o.Result, folder))
	}
	if explain {
		a.explain(o)
	}
	if err != nil {
		return err
	}
	if o.Error != nil {
		a.complain(o.Error)
		return status(o.Error.Kind.ExitStatus())
	}
	if o.Result != nil && o.Result.IsError {
		return status(casemate.ToolFailed.ExitStatus())
	}
	return nil
}

// explain says on standard error what was decided, enforced and used.
func (a *app) explain(o *casemate.Outcome) {
	if o.Decision != nil {
		a.note("call %s: %s", o.Call, o.Decision.Effect)
		for _, r := range o.Decision.Reasons {
			a.note("  because %s", escapeLine(r))
		}
	}
	if o.Enforced != nil {
		for _, s := range enforced(o.Backend, o.Enforced) {
			a.note("  %s", s)
		}
	}
	for _, c := range o.Changes {
		a.note("  %s %s %s", c.Did, escapeLine(c.Path), escapeLine(c.Why))
	}
	if u := o.Usage; u != nil {
		a.note("  used %.1f ms, %.1f ms of it to claim, %.1f ms of CPU, %s", u.WallMS, u.ClaimMS, u.CPUMS, size(u.Memory))
	}
}
