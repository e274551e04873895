// The runtime is not to keep files of the cgroup open for the number of
// processors: the router holds no descriptor that is not its own.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Casemate gives every tool that an AI agent may call a sandbox of its own.
//
// The command line is the operator's authority: it loads and trusts the
// configuration, compiles it to the spawner's plan, and starts two processes
// that have less power than itself: the spawner (casemate-init), which makes
// sandboxes of that plan alone, and the router, which reads what planners
// and tools send and is confined before it does. What a tool returns reaches
// this process only as one bounded JSON object.
//
// Results go to standard output, everything else to standard error. The exit
// status is 0 when it is done, 1 when the tool failed or something broke, 2
// for a wrong request or configuration, 3 when it is denied or not trusted,
// and 4 when the host cannot enforce what is asked.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/nearest"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// app is what every command shares.
type app struct {
	config  string   // --config
	json    bool     // --json
	without []string // walls taken away on purpose: for the demo, which shows that it notices
	*console
}

func run(args []string) int {
	a := &app{}
	root := a.commands()
	root.SetArgs(args)
	a.console = newConsole(wantsJSON(args))
	return a.report(usage(root.Execute()))
}

// wantsJSON says whether --json is among args, for errors that come before
// flags are parsed.
func wantsJSON(args []string) bool {
	for _, a := range args {
		if a == "--" {
			break
		}
		if a == "--json" || a == "--json=true" {
			return true
		}
	}
	return false
}

func (a *app) commands() *cobra.Command {
	show := false // the version
	root := &cobra.Command{
		Use:           "casemate",
		Short:         "Every tool of an AI agent in a sandbox of its own",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          a.unknown,
		RunE: func(c *cobra.Command, args []string) error {
			if show {
				v := a.versionCommand()
				return v.RunE(v, args)
			}
			return c.Help()
		},
		PersistentPreRun: func(*cobra.Command, []string) {
			a.console.json = a.json
			if len(a.without) > 0 {
				a.note("sandboxes are made WITHOUT %s: this is a test", strings.Join(a.without, ", "))
			}
		},
	}
	root.Flags().BoolVar(&show, "version", false, "print the version")
	root.SetOut(os.Stdout)
	root.SetErr(os.Stderr)
	root.PersistentFlags().StringVar(&a.config, "config", "", "configuration `FILE` (default: $CASEMATE_CONFIG, ./casemate.yaml, then the user's)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.PersistentFlags().StringSliceVar(&a.without, "test-without", nil, "take walls away, to see that the demo notices")
	root.PersistentFlags().MarkHidden("test-without")
	root.AddCommand(
		a.initCommand(), a.trustCommand(), a.serveCommand(), a.callCommand(), a.execCommand(), a.toolsCommand(), a.whyCommand(),
		a.stopCommand(), a.poolCommand(), a.doctorCommand(), a.logCommand(), a.diffCommand(), a.undoCommand(), a.wrapCommand(),
		a.schemaCommand(), a.versionCommand(), a.routerCommand(), a.runCommand(), a.sharedCommand(), a.demoCommand(), a.attackerCommand(), a.probeCommand(),
		a.benchCommand(), a.benchServerCommand(), a.benchOnceCommand(), a.imageCommand(), a.unpackCommand(),
	)
	return root
}

// unknown refuses what is no command and names the nearest that is.
func (a *app) unknown(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	fix := "see casemate --help"
	if n := nearest.To(args[0], names); n != "" {
		fix = "did you mean casemate " + n + "?"
	}
	return invalid("", fix, "unknown command %q", args[0])
}

// noArgs refuses every argument of a command that takes none.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return invalid("", "leave it out; see "+c.CommandPath()+" --help", "%s takes no argument, and was given %q", c.CommandPath(), args[0])
}

// usage makes an error of the command line's own parser one of kind Invalid.
func usage(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*casemate.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[status](err); ok {
		return err
	}
	if _, ok := errors.AsType[failure](err); ok {
		return err
	}
	return invalid("", "see casemate COMMAND --help", "%w", err)
}

// failure is an error that is not one of usage, though it has no kind of its
// own: of the host, say. run wraps what a command returns in it.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// runs adapts a command's function: its errors are not taken for usage.
func runs(f func(c *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := f(c, args); err != nil {
			return failure{err}
		}
		return nil
	}
}

// bug is for states that no outsider can cause.
func bug(what string) { panic(fmt.Sprint("casemate: bug: ", what)) }
