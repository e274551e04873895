package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/router"
)

// toolRow is one tool of casemate tools --json.
type toolRow struct {
	*router.Why
	Name        casemate.ToolName `json:"name"`
	Server      string            `json:"server,omitempty"` // of MCP, whose tool it is
	Description string            `json:"description,omitempty"`
	Parameters  any               `json:"parameters,omitempty"`
	Pools       []poolRow         `json:"pools,omitempty"` // of the servers that run it
}

func (a *app) toolsCommand() *cobra.Command {
	var live bool
	c := &cobra.Command{
		Use:   "tools",
		Short: "List the tools, their backend and what is enforced for each",
		Args:  noArgs,
		RunE: runs(func(c *cobra.Command, _ []string) error {
			var rows []toolRow
			var err error
			if live {
				rows, err = liveTools(c.Context())
			} else {
				rows, err = a.tools(c.Context())
			}
			if err != nil {
				return err
			}
			if a.console.json {
				if rows == nil {
					rows = []toolRow{}
				}
				return a.object(struct {
					Tools []toolRow `json:"tools"`
				}{rows})
			}
			for _, r := range rows {
				if err := a.row(r); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	c.AddCommand(a.approveCommand())
	c.Flags().BoolVar(&live, "live", false, "of the servers that are running, not of the configuration")
	return c
}

// liveTools asks every server of the user.
func liveTools(ctx context.Context) (rows []toolRow, err error) {
	_, err = ask(ctx, opTools, struct{}{}, func(pid int, ws []*router.Why) {
		for _, w := range ws {
			rows = append(rows, toolRow{Why: w, Name: w.Tool, Pools: []poolRow{{Server: pid}}})
		}
	})
	if err != nil {
		return nil, err
	}
	v, err := lookAtPools(ctx)
	for i := range rows {
		rows[i].Pools = v.of(rows[i].Guest, rows[i].Pools[0].Server)
	}
	return rows, err
}

// of are the pools of a guest, of one server or, where that is 0, of all.
func (v poolView) of(guest casemate.Digest, server int) (out []poolRow) {
	for _, p := range v.pools {
		if p.Key == guest && guest != "" && (server == 0 || p.Server == server) {
			out = append(out, p)
		}
	}
	return out
}

// tools asks a router of the configuration; the function that decides about
// calls says what each tool gets.
func (a *app) tools(ctx context.Context) ([]toolRow, error) {
	l, err := a.loadListed(ctx)
	if err != nil {
		return nil, err
	}
	var rows []toolRow
	if len(l.Tools) > 0 {
		defer a.progress("the host is probed")()
		h, err := a.start(ctx, l, startOptions{pool: pool.Limits{Max: -1}})
		if err != nil {
			return nil, err
		}
		defer h.kill()
		var ws []*router.Why
		if err := h.ctl.do(ctx, opTools, struct{}{}, &ws); err != nil {
			return nil, err
		}
		see, err := a.seer(ctx, l)
		if err != nil {
			return nil, err
		}
		running, _ := lookAtPools(ctx) // an error means that no server can be asked: then none is shown
		for _, w := range ws {
			r := toolRow{Why: w, Name: w.Tool, Pools: running.of(w.Guest, 0)}
			if t, err := l.tool(string(w.Tool)); err == nil {
				see.show(w, t)
				r.Description, r.Parameters = t.Description, t.Parameters
				if t.Run.MCP != nil {
					r.Server = t.Run.MCP.Server
				}
			}
			rows = append(rows, r)
		}
	}
	for _, e := range l.Unsupported {
		rows = append(rows, toolRow{Name: e.Tool, Why: &router.Why{Tool: e.Tool, Error: casemate.JSON(e)}})
	}
	return rows, nil
}

func (a *app) row(r toolRow) error {
	head := escapeLine(string(r.Name))
	if r.Backend != "" {
		head += "  (" + r.Backend + ")"
	}
	if r.Server != "" {
		head += "  of the server " + r.Server
	}
	lines := []string{head}
	if r.Description != "" {
		lines = append(lines, "  "+escapeLine(r.Description))
	}
	if c := r.Choice; c != nil {
		of := alternatives(c)
		if c.Reason != "" { // none of a tool that is refused
			of = append([]string{c.Reason}, of...)
		}
		lines = append(lines, "  "+escapeLine(strings.Join(of, "; ")))
	}
	for _, s := range describe(r.Security) {
		lines = append(lines, "  "+escapeLine(s))
	}
	if s := controls(r.Controls); s != "" {
		lines = append(lines, "  enforced: "+s)
	}
	for _, p := range r.Pools {
		lines = append(lines, "  pool of the server "+p.String())
	}
	if r.Error != nil && r.Error.Kind != casemate.Invalid { // without arguments few tools may be called
		lines = append(lines, "  not to be had here: "+escapeLine(r.Error.Message))
		if r.Error.Fix != "" {
			lines = append(lines, "  fix: "+escapeLine(r.Error.Fix))
		}
	}
	return a.line("%s", strings.Join(lines, "\n"))
}

// controls names the controls that are on, and then those that are not.
func controls(cs []casemate.Control) string {
	var on, off []string
	for _, c := range cs {
		if c.State == "on" {
			on = append(on, c.Name)
		} else {
			off = append(off, c.Name+" ("+c.State+")")
		}
	}
	s := strings.Join(on, ", ")
	if len(off) > 0 {
		s += "; not: " + strings.Join(off, ", ")
	}
	return s
}

// enforced says what was really on, one line each.
func enforced(backend string, e *casemate.Enforced) []string {
	out := []string{fmt.Sprintf("backend %s, namespaces %s", backend, strings.Join(e.Namespaces, ", "))}
	walls := []string{}
	if e.Seccomp != "" {
		walls = append(walls, "seccomp "+string(e.Seccomp))
	}
	if e.Landlock > 0 {
		walls = append(walls, fmt.Sprintf("Landlock ABI %d", e.Landlock))
	}
	if e.NoNewPrivs {
		walls = append(walls, "no_new_privs")
	}
	out = append(out, strings.Join(walls, ", "))
	for _, l := range []struct {
		name string
		*casemate.Limit
	}{{"memory", e.Memory}, {"processes", e.Processes}, {"cpu (thousandths)", e.CPU}, {"disk", e.Disk}, {"timeout (ms)", e.Timeout}, {"output", e.Output}} {
		if l.Limit != nil {
			out = append(out, fmt.Sprintf("%s %d by %s", l.name, l.Limit.Limit, l.By))
		}
	}
	if len(e.Without) > 0 {
		out = append(out, "without "+escapeLine(strings.Join(e.Without, ", ")))
	}
	if len(e.Degraded) > 0 {
		out = append(out, "without "+strings.Join(e.Degraded, ", ")+", as host.allow_degraded permits")
	}
	return out
}
