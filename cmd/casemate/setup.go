package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
)

const configName = "casemate.yaml"

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Write a starter casemate.yaml into this folder, and trust it",
		Args:  noArgs,
		RunE: runs(func(*cobra.Command, []string) error {
			own, err := stateFolder("")
			if err != nil {
				return err
			}
			here, err := filepath.Abs(configName)
			if err != nil {
				return invalid("init", "change to a folder that exists", "%w", err)
			}
			if err := writeStarter(here); err != nil {
				return err
			}
			c, err := a.trust(own, here)
			if err != nil {
				os.Remove(here) // it was made just now, and is of no use here
				return err
			}
			if a.console.json {
				return a.object(trustedBody{c.File, c.Digest})
			}
			return a.line("wrote %s, and trusted it. Try: casemate call python code='print(6*7)'", configName)
		}),
	}
}

// writeStarter writes the starter, and never over anything.
func writeStarter(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	switch {
	case errors.Is(err, fs.ErrExist):
		return invalid("init", "edit it, or remove it first", "there is a %s already", name)
	case err != nil:
		return &casemate.Error{Op: "init", Kind: casemate.Internal, Err: err, Fix: "change to a folder that you may write"}
	}
	_, err = f.Write(catalog.Starter())
	if err = errors.Join(err, f.Close()); err == nil {
		err = makeGrants(name)
	}
	if err != nil {
		os.Remove(name) // a starter cut short is none
		return &casemate.Error{Op: "init", Kind: casemate.Internal, Err: err}
	}
	return nil
}

// makeGrants makes the folders beside the starter that it grants.
func makeGrants(name string) error {
	c, err := catalog.Parse(name, catalog.Starter(), catalog.Options{})
	if err != nil {
		return err
	}
	for _, t := range c.Tools {
		for _, m := range t.Security.Filesystem {
			if err := os.MkdirAll(m.Path, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// trustedBody is what init and trust print with --json.
type trustedBody struct {
	File   string          `json:"file"`
	Digest casemate.Digest `json:"digest"`
}

func (a *app) trustCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "trust FILE",
		Short: "Trust a configuration that lies in a working folder, as it is now",
		Args:  cobra.ExactArgs(1),
		RunE: runs(func(_ *cobra.Command, args []string) error {
			own, err := stateFolder("")
			if err != nil {
				return err
			}
			c, err := a.trust(own, args[0])
			if err != nil {
				return err
			}
			for _, s := range c.Summary() {
				a.note("  %s", s)
			}
			if a.console.json {
				return a.object(trustedBody{c.File, c.Digest})
			}
			return a.line("%s is trusted as it is now", c.File)
		}),
	}
}

// trust records that the user trusts the configuration of that name, and pins
// its tools.
func (a *app) trust(state, name string) (*catalog.Config, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, invalid("trust", "change to a folder that exists", "%w", err)
	}
	c, err := catalog.Load(path, a.options(state, false))
	if err != nil {
		return nil, err
	}
	if err := c.WriteLock(); err != nil {
		return nil, err
	}
	return c, catalog.Trust{Dir: trustFolder(state)}.Add(c)
}

func trustFolder(state string) string { return filepath.Join(state, "trust") }

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of casemate.yaml, for editors",
		Args:  noArgs,
		RunE: runs(func(*cobra.Command, []string) error {
			_, err := a.out.Write(catalog.Schema())
			return err
		}),
	}
}
