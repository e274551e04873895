package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate/internal/bench"
)

// benchServerCommand is the MCP server that the bench calls, directly and in a
// sandbox.
func (a *app) benchServerCommand() *cobra.Command {
	return &cobra.Command{Use: "bench-server", Hidden: true, Args: noArgs,
		RunE: runs(func(*cobra.Command, []string) error { return bench.Serve(os.Stdin, os.Stdout, false) })}
}

// params of tools/call, and a word of the answers.
const (
	callEcho   = `{"name":"echo","arguments":{"text":"hello"}}`
	wantEcho   = `"hello"`
	callTrue   = `{"name":"true","arguments":{}}`
	callPython = `{"name":"python","arguments":{"code":"` + pythonCode + `"}}`
	wantPython = `"42\n"`
)

// benchServers is casemate serve as users have it, over stdio and HTTP, and
// beside it the MCP server directly.
type benchServers struct {
	place  *benchPlace
	direct *benchClient
	stdio  *benchClient
	http   *benchClient
	ends   []func()
}

// serverArgv is the MCP server, as the sandbox that gets only its folder finds it.
func (p *benchPlace) serverArgv() ([]string, error) {
	program := p.path("server/casemate")
	if _, err := os.Stat(program); err == nil {
		return []string{program, "bench-server"}, nil
	}
	from, err := os.Open(p.self)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	to, err := os.OpenFile(program, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(to, from); err != nil {
		to.Close()
		return nil, err
	}
	return []string{program, "bench-server"}, to.Close()
}

// serving writes the configuration of a server with the tools that subjects
// call, the MCP server among them and approved.
func (p *benchPlace) serving(ctx context.Context) (config string, err error) {
	argv, err := p.serverArgv()
	if err != nil {
		return "", err
	}
	isTrue, err := exec.LookPath("true")
	if err != nil {
		return "", err
	}
	config, err = p.configure("serve", "",
		benchPython(toolPython), benchTool(toolTrue, fmt.Sprintf("{exec: {command: [%q]}}", isTrue), "", ""),
		fmt.Sprintf("  - name: small\n    mcp: {command: [%q, %q]}\n    security: {output: 200MiB, timeout: 2m, filesystem: [{path: ./server, at: %q, access: read, execute: true}]}\n", argv[0], argv[1], filepath.Dir(argv[0])))
	if err != nil {
		return "", err
	}
	cmd := p.casemate(ctx, config, "tools", "approve", "--yes", "small")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("approving the server: %w: %.500s", err, out)
	}
	return config, nil
}

// casemate is the casemate of this very binary, in the place.
func (p *benchPlace) casemate(ctx context.Context, config string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.self, args...)
	cmd.Dir, cmd.Env = p.dir, append(p.environ(config), "CASEMATE_TOKEN="+p.token)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the bench, which ends its children
	return cmd
}

func newBenchServers(ctx context.Context, p *benchPlace) (s *benchServers, err error) {
	s = &benchServers{place: p}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	config, err := p.serving(ctx)
	if err != nil {
		return s, err
	}
	argv, err := p.serverArgv()
	if err != nil {
		return s, err
	}
	if s.direct, err = dialStdio(ctx, exec.Command(argv[0], argv[1:]...)); err != nil {
		return s, fmt.Errorf("the server directly: %w", err)
	}
	if s.stdio, err = dialStdio(ctx, p.casemate(context.WithoutCancel(ctx), config, "serve")); err != nil {
		return s, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // the number of a port that is free
	if err != nil {
		return s, err
	}
	at := l.Addr().String()
	l.Close()
	cmd := p.casemate(context.WithoutCancel(ctx), config, "serve", "--listen", at)
	said := &tailBuffer{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return s, err
	}
	s.ends = append(s.ends, func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	if s.http, err = dialHTTP(ctx, "http://"+at+"/mcp", p.token); err != nil {
		err = fmt.Errorf("%w: %s", err, lastLine(said))
	}
	return s, err
}

func (s *benchServers) close() {
	for _, c := range []*benchClient{s.http, s.stdio, s.direct} {
		if c != nil {
			c.close()
		}
	}
	for _, f := range s.ends {
		f()
	}
}

// subjects are the ways to a tool by MCP.
func (s *benchServers) subjects() []bench.Subject {
	return []bench.Subject{
		{Name: "mcp/direct", Payload: payloadEcho, Note: "the server itself, without a sandbox, over stdio", Run: s.direct.timed(callEcho, wantEcho)},
		{Name: "mcp/stdio", Payload: payloadEcho, Note: "the same server in a sandbox, through casemate serve", Run: s.stdio.timed(callEcho, wantEcho)},
		{Name: "mcp/http", Payload: payloadEcho, Note: "the same over HTTP", Run: s.http.timed(callEcho, wantEcho)},
		{Name: "mcp/stdio", Payload: payloadPython, Note: "a fresh sandbox for each call", Run: s.stdio.timed(callPython, wantPython)},
		{Name: "mcp/http", Payload: payloadPython, Note: "a fresh sandbox for each call", Run: s.http.timed(callPython, wantPython)},
		{Name: "mcp/stdio", Payload: payloadTrue, Note: "a fresh sandbox for each call", Run: s.stdio.timed(callTrue, `"result"`)},
	}
}
