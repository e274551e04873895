package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A wrappedServer is one that others wrote, in the configuration of a client.
type wrappedServer struct {
	name, registry string
	command        string
	args           []string
	ask            step // of the honest planner
	steal          step // of the hijacked one, where it has a tool for that: an answer that holds the canary is a breach
}

// wrapTime bounds how long a server may take to be prepared and to greet.
const wrapTime = 4 * time.Minute

// wrapped wraps a client's configuration with real servers and calls them as
// that client would, by the command that wrap wrote.
func (d *demo) wrapped(ctx context.Context, r *demoReport) {
	if d.unshown = d.unwrappable(ctx); d.unshown != "" {
		return
	}
	key := d.place.path("home/.ssh/id_ed25519")
	servers := []wrappedServer{
		// The server itself would read everything; wrap grants no "/".
		{"files", "npm", "npx", []string{"-y", "@modelcontextprotocol/server-filesystem", d.place.path("project"), "/"},
			step{"read_text_file", map[string]any{"path": d.place.path("project/numbers.txt")}, "3\n1\n2"},
			step{"read_text_file", map[string]any{"path": key}, ""}},
		{"time", "PyPI", "uvx", []string{"mcp-server-time", "--local-timezone", "UTC"},
			step{"convert_time", map[string]any{"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}, "21:00"},
			step{}},
	}
	entries := map[string]any{}
	for _, s := range servers {
		entries[s.name] = map[string]any{"command": s.command, "args": s.args}
	}
	commands, err := d.wrap(ctx, map[string]any{"mcpServers": entries})
	for _, s := range servers {
		d.app.step(1, 1, "wrapped: "+s.name+" of "+s.registry)
		honest := honestRow{Task: "an MCP server of " + s.registry, Did: "wrap put it behind Casemate; its client called " + s.ask.tool, Verdict: verdictDone}
		attack := attackRow{Attack: "read a private key by a wrapped server", Tried: s.steal.tool + " of " + s.args[1], HeldBy: "the server's own sandbox: it is granted its folder alone, though its arguments say /", Verdict: verdictHeld}
		got, stolen, err := "", "", err
		if err == nil {
			got, stolen, err = d.useWrapped(ctx, s, commands[s.name])
		}
		switch {
		case err != nil:
			honest.Verdict, honest.Evidence = verdictFailed, err.Error()
			attack.fault, attack.Verdict, attack.Evidence = true, "n/a", notMade+err.Error()
		default:
			honest.Evidence, attack.Evidence = "the client got "+short(got), "the client got "+short(stolen)
			if strings.Contains(stolen, canary) {
				attack.Verdict = verdictBroken
			}
		}
		if r.Honest = append(r.Honest, honest); s.steal.tool != "" {
			r.Attacks = append(r.Attacks, attack)
		}
	}
}

// unwrappable says why servers of npm and PyPI cannot be had here.
func (d *demo) unwrappable(ctx context.Context) string {
	if len(d.without) > 0 {
		return "it is a test without a wall"
	}
	for _, p := range []string{"npx", "npm", "python3"} {
		if _, err := exec.LookPath(p); err != nil {
			return p + " is not there"
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ping := exec.CommandContext(ctx, "npm", "ping", "--fetch-retries=0", "--fetch-timeout=10000")
	ping.Env = append(os.Environ(), "npm_config_cache="+d.place.path("npm"))
	if ping.Run() != nil {
		return "npm ping does not reach its registry"
	}
	return ""
}

// wrap writes and wraps a client's configuration, and returns what it then
// starts for each server.
func (d *demo) wrap(ctx context.Context, config any) (map[string][]string, error) {
	b, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	file := d.place.path("claude_desktop_config.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return nil, err
	}
	if len(d.degraded) > 0 { // what the user's own configuration has to say then
		own := d.place.path("config/casemate")
		host := fmt.Sprintf("version: 1\nhost: {allow_degraded: [%s]}\ntools: []\n", strings.Join(d.degraded, ", "))
		if err := errors.Join(os.MkdirAll(own, 0o700), os.WriteFile(filepath.Join(own, configName), []byte(host), 0o600)); err != nil {
			return nil, err
		}
	}
	if out, err := d.place.command(ctx, "wrap", file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("casemate wrap: %w: %s", err, short(string(out)))
	}
	var c struct {
		McpServers map[string]struct {
			Command string
			Args    []string
		}
	}
	if b, err = os.ReadFile(file); err == nil {
		err = json.Unmarshal(b, &c)
	}
	out := map[string][]string{}
	for name, s := range c.McpServers {
		out[name] = s.Args
	}
	return out, err
}

// useWrapped is the client: it starts what its configuration says, and calls.
func (d *demo) useWrapped(ctx context.Context, s wrappedServer, args []string) (got, stolen string, err error) {
	if len(args) == 0 {
		return "", "", errors.New("wrap left it out")
	}
	l, err := d.place.greet(ctx, "client", wrapTime, d.place.shim(context.WithoutCancel(ctx), args))
	if err != nil {
		return "", "", err
	}
	defer l.close()
	a, err := l.call(ctx, s.ask.tool, s.ask.args)
	if err != nil {
		return "", "", err
	}
	if a.failed || !strings.Contains(a.text, s.ask.want) {
		return "", "", fmt.Errorf("%s answered %q", s.ask.tool, short(a.text))
	}
	if s.steal.tool == "" {
		return a.text, "", nil
	}
	b, err := l.call(ctx, s.steal.tool, s.steal.args)
	return a.text, b.text, err
}

// shim is the command that wrap wrote, in the place.
func (p *demoPlace) shim(ctx context.Context, args []string) *exec.Cmd {
	cmd := p.command(ctx)
	cmd.Args = append([]string{p.self}, args...) // the flags that take walls away have no place in it
	return cmd
}
