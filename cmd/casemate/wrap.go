package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/wrap"
)

func (a *app) wrapCommand() *cobra.Command {
	undo, prepare := false, true
	c := &cobra.Command{
		Use:   "wrap [FILE]",
		Short: "Put every server of an MCP client's configuration in a sandbox of its own, in place",
		Long: `Put casemate in front of every MCP server that FILE, the configuration of a
client, starts on this machine. The client's names, variables and approvals go
on working; every other byte of FILE stays as it is. What each server may touch
is written into your own casemate.yaml, for you to read and change: the files
and folders that its arguments name, and no network.

Without FILE it lists the configurations that are on this machine. Close the
client first: many write their configuration when they end.`,
		Args: cobra.MaximumNArgs(1),
		RunE: runs(func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && undo:
				return invalid("wrap", "casemate wrap --undo FILE", "no file is named")
			case len(args) == 0:
				return a.listClients()
			case undo:
				return a.unwrap(args[0])
			}
			return a.wrap(c.Context(), args[0], prepare)
		}),
	}
	c.Flags().BoolVar(&prepare, "prepare", true, "install the packages of servers that npx, uvx and the like start now, and not when they first start")
	c.Flags().BoolVar(&undo, "undo", false, "give FILE back as it was before it was wrapped, to the byte")
	return c
}

// wrapUser says whose clients are wrapped.
func (a *app) wrapUser() (*wrap.User, error) {
	state, err := stateFolder("")
	if err != nil {
		return nil, err
	}
	config, err := os.UserConfigDir()
	if err != nil {
		return nil, invalid("wrap", "set HOME or XDG_CONFIG_HOME", "there is no folder of your configuration: %w", err)
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return nil, invalid("wrap", "set HOME to your home folder", "there is no home folder, and so no telling what must not be granted")
	}
	if real, err := filepath.EvalSymlinks(home); err == nil {
		home = real
	}
	u := &wrap.User{
		Host:     wrap.Host{Home: home, Never: []string{state, filepath.Join(config, "casemate")}, Passes: passes},
		State:    filepath.Join(state, "wrap"),
		Manifest: filepath.Join(config, "casemate", configName),
	}
	u.Check = func(src []byte) error {
		opt := a.options(state, true)
		opt.Pass, opt.Getenv = true, nil
		_, err := catalog.Parse(u.Manifest, src, opt)
		return err
	}
	return u, nil
}

// passes says why a configuration does not pass on the variable of that name.
func passes(name string) string {
	src := fmt.Sprintf("version: 1\ntools:\n  - {name: x, mcp: {command: [x]}, security: {env: [%q]}}\n", name)
	_, err := catalog.Parse(configName, []byte(src), catalog.Options{Pass: true, Operator: true})
	if err == nil {
		return ""
	}
	why := err.Error()
	if _, after, ok := strings.Cut(why, "passed on: "); ok {
		why = after
	}
	return why
}

// shimFor is how the client of the file is to start this program: by its name
// where the client has the PATH of a shell, or the file goes to other
// machines; else by the path at which PATH has it, which lasts when it is
// replaced by another version.
func shimFor(file string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", &casemate.Error{Op: "wrap", Kind: casemate.Internal, Err: err}
	}
	found, err := exec.LookPath("casemate")
	if err == nil {
		found, err = filepath.Abs(found)
	}
	onPath := err == nil && sameFile(found, self)
	switch {
	case onPath && (wrap.Shared(file) || !wrap.Window(file)):
		return "casemate", nil
	case onPath:
		return found, nil
	case filepath.Base(self) != "casemate":
		return "", invalid("wrap", "call it casemate again", "this program is called %s, and a client would not be told from its own server", filepath.Base(self))
	}
	return self, nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func (a *app) wrap(ctx context.Context, file string, prepare bool) error {
	u, err := a.wrapUser()
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return invalid("wrap", "change to a folder that exists", "%w", err)
	}
	if u.Shim, err = shimFor(abs); err != nil {
		return err
	}
	p, err := u.Wrap(file)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Grant(); err != nil {
		return err
	}
	if err := a.recordWrapped(p); err != nil {
		return err
	}
	if err := keepSettings(); err != nil {
		return &casemate.Error{Op: "wrap", Kind: casemate.Internal, Err: err, Fix: "make room in, and writable, the state folder"}
	}
	if err := p.Apply(); err != nil {
		return err
	}
	p.Close()
	if a.console.json {
		err = a.object(wrapBody{p.File, p.Client, p.Changes, u.Manifest, p.Results})
	} else {
		err = a.tellWrapped(u, p)
	}
	if err != nil || !prepare {
		return err
	}
	return a.prepareWrapped(ctx, p)
}

// prepareWrapped makes the servers that were wrapped just now ready, in this
// terminal, with the registries that it knows: a client waits for the first
// start of a server no more than seconds. What fails is said, and tried again
// when the server first starts.
func (a *app) prepareWrapped(ctx context.Context, p *wrap.Plan) error {
	var names []string
	for _, r := range p.Results {
		if r.New && !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	l, err := a.loadOwn()
	if err != nil {
		return err
	}
	init, err := initPath()
	if err != nil {
		return err
	}
	for _, name := range names {
		t := l.Server(name)
		if t == nil {
			continue // not to be had by this version: casemate tools says why
		}
		c, err := a.compiled(ctx, l, init, []*casemate.Tool{t})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if e := c.serves.Refused[t.Name]; e != nil {
			a.note("%s is not ready: %s", name, e.Message)
			if e.Fix != "" {
				a.note("  fix: %s", e.Fix)
			}
		}
	}
	return nil
}

// recordWrapped has the lock say which command each name stands for, with the
// files that it names as they are now, and that these tools are as the user
// wants them.
func (a *app) recordWrapped(p *wrap.Plan) error {
	if len(p.Recorded) == 0 && len(p.Removed) == 0 {
		return nil
	}
	l, err := a.loadOwnUnlocked()
	if err != nil {
		return err
	}
	return l.UpdateLock(func(lock *catalog.Lock) error {
		for _, name := range p.Removed {
			delete(lock.Wrapped, name)
			delete(lock.Servers, name)
			delete(lock.Tools, casemate.ToolName(name))
		}
		for _, r := range p.Recorded {
			if _, ok := lock.Wrapped[r.Name]; ok && r.Keep {
				continue
			}
			w, err := catalog.WrapOf(r.Argv, r.Dir, r.Writable)
			if err != nil {
				return err
			}
			if lock.Wrapped == nil {
				lock.Wrapped = map[string]catalog.Wrapped{}
			}
			lock.Wrapped[r.Name] = w
			if name := casemate.ToolName(r.Name); lock.Tools != nil {
				lock.Tools[name] = l.Lock().Tools[name]
			}
		}
		return nil
	})
}

// loadOwnUnlocked loads the user's configuration, whose lock is about to be
// changed.
func (a *app) loadOwnUnlocked() (*catalog.Config, error) {
	state, err := stateFolder("")
	if err != nil {
		return nil, err
	}
	config, err := os.UserConfigDir()
	if err != nil {
		return nil, err
	}
	opt := a.options(state, true)
	opt.Pass, opt.Getenv = true, nil
	return catalog.Load(filepath.Join(config, "casemate", configName), opt)
}

func (a *app) unwrap(file string) error {
	u, err := a.wrapUser()
	if err != nil {
		return err
	}
	p, err := u.Undo(file)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Apply(); err != nil {
		return err
	}
	if err := p.Grant(); err != nil {
		return err
	}
	if err := a.recordWrapped(p); err != nil {
		return err
	}
	for _, n := range p.Notes {
		a.note("%s", n)
	}
	if a.console.json {
		return a.object(wrapBody{p.File, p.Client, p.Changes, u.Manifest, p.Results})
	}
	for _, r := range p.Results {
		if r.New {
			if err := a.line("%s: started by the client itself again", r.Key); err != nil {
				return err
			}
		}
	}
	if p.Edited {
		return a.line("%s was changed after it was wrapped: your changes stay, and casemate is taken out of its servers", p.File)
	}
	return a.line("%s is as it was before it was wrapped, to the byte", p.File)
}

// wrapBody is what wrap prints with --json.
type wrapBody struct {
	File     string        `json:"file"`
	Client   string        `json:"client,omitempty"`
	Changed  bool          `json:"changed"`
	Manifest string        `json:"manifest"`
	Servers  []wrap.Result `json:"servers"`
}

func (a *app) tellWrapped(u *wrap.User, p *wrap.Plan) error {
	for _, r := range p.Results {
		lines := []string{}
		switch {
		case r.State == wrap.Wrapped && r.New:
			lines = append(lines, fmt.Sprintf("%s: wrapped as %s", r.Key, r.Name))
		case r.State == wrap.Wrapped:
			lines = append(lines, fmt.Sprintf("%s: is wrapped already, as %s", r.Key, r.Name))
		default:
			lines = append(lines, fmt.Sprintf("%s: left alone: %s", r.Key, r.Why))
		}
		if r.State == wrap.Wrapped {
			lines = append(lines, "  runs: "+strings.Join(r.Command, " "))
			for _, x := range []struct {
				what string
				list []string
			}{{"reads", r.Read}, {"reads and writes", r.Write}, {"gets the variables", r.Env}} {
				if len(x.list) > 0 {
					lines = append(lines, "  "+x.what+": "+strings.Join(x.list, ", "))
				}
			}
		}
		for _, n := range r.Notes {
			lines = append(lines, "  note: "+n)
		}
		for _, l := range lines {
			if err := a.line("%s", l); err != nil {
				return err
			}
		}
	}
	if !p.Changes {
		return a.line("%s: nothing to change", p.File)
	}
	a.note("read what each server may touch in %s; start the client again", u.Manifest)
	return a.line("%s is wrapped; casemate wrap --undo gives it back as it was", p.File)
}

// listClients says which configurations of known clients there are.
func (a *app) listClients() error {
	home, _ := os.UserHomeDir()
	config, _ := os.UserConfigDir()
	cwd, _ := os.Getwd()
	type found struct {
		Client  string `json:"client"`
		File    string `json:"file"`
		Servers int    `json:"servers"` // that could be wrapped
		Wrapped int    `json:"wrapped"`
		Remote  int    `json:"remote"` // and others that are left alone
		Error   string `json:"error,omitempty"`
		Command string `json:"command"`
	}
	all := []found{}
	for _, c := range wrap.Configurations(home, config, cwd) {
		f := found{Client: c.Client, File: c.Path, Command: "casemate wrap " + shellPath(c.Path)}
		d, err := c.Read()
		if err != nil {
			f.Error = err.Error()
		} else {
			for _, s := range d.Servers {
				switch s.State {
				case wrap.Plain:
					f.Servers++
				case wrap.Wrapped:
					f.Wrapped++
				default:
					f.Remote++
				}
			}
		}
		all = append(all, f)
	}
	if a.console.json {
		return a.object(struct {
			Configurations []found `json:"configurations"`
		}{all})
	}
	if len(all) == 0 {
		return a.line("no configuration of a client that casemate knows is in %s, %s or this folder; name it: casemate wrap FILE", home, config)
	}
	for _, f := range all {
		what := fmt.Sprintf("%d to wrap, %d wrapped, %d left alone", f.Servers, f.Wrapped, f.Remote)
		if f.Error != "" {
			what = f.Error
		}
		if err := a.line("%s: %s", f.Client, what); err != nil {
			return err
		}
		if err := a.line("  %s", f.Command); err != nil {
			return err
		}
	}
	return nil
}

// shellPath is a path as a person types it on a command line.
func shellPath(path string) string {
	if !strings.ContainsAny(path, " \t\n'\"\\$`&|;<>()*?[]{}!#~") {
		return path
	}
	return shellWord(path)
}
