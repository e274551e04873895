package mcp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clients returns the folder of the real clients that make needs prepares by
// internal/matrix/testdata/clients.sh. Only a person's own machine may lack them.
func clients(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("CASEMATE_CLIENTS")
	if dir == "" {
		dir = filepath.Join("..", "..", ".cache", "clients")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"inspector", "mcp1", "mcp2"} {
		if _, err := os.Stat(filepath.Join(dir, name, ".version")); err != nil {
			const how = "real MCP clients are not prepared: make needs prepares them"
			if os.Getenv("CI") == "true" || os.Getenv("CASEMATE_CLIENTS") != "" {
				t.Fatalf("%v: %s", err, how)
			}
			t.Skip(how)
		}
	}
	return dir
}

// oneTool is a configuration with one tool.
const oneTool = `version: 1
host: {allow_degraded: [memory, cpu, processes]}
tools:
  - name: echo
    description: Echo a text.
    parameters: {type: object, properties: {text: {type: string}}, required: [text], additionalProperties: false}
    run: {exec: {command: [/bin/echo, --, "{text}"]}}
    security: {network: none}
`

// buildCasemate builds both programs, writes a configuration, and returns the
// command and its environment.
func buildCasemate(t *testing.T, configuration string) (casemate string, env []string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"casemate-init", "casemate"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), "github.com/casemate/casemate/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	config := filepath.Join(dir, "casemate.yaml")
	err := os.WriteFile(config, []byte(configuration), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"run", "state", "config", "home"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "casemate"), append(os.Environ(),
		"CASEMATE_CONFIG="+config, "CASEMATE_TOKEN="+token, "HOME="+filepath.Join(dir, "home"),
		"XDG_RUNTIME_DIR="+filepath.Join(dir, "run"), "XDG_STATE_HOME="+filepath.Join(dir, "state"), "XDG_CONFIG_HOME="+filepath.Join(dir, "config"))
}

// serveCasemate starts casemate serve on a free port and returns the URL.
func serveCasemate(t *testing.T, casemate string, env []string) string {
	t.Helper()
	cmd := exec.Command(casemate, "serve", "--listen", "127.0.0.1:0")
	cmd.Env = env
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := make(chan string, 1)
	said := make(chan struct{})
	go func() {
		defer close(said)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			t.Log(sc.Text())
			if _, rest, ok := strings.Cut(sc.Text(), "http://"); ok {
				addr, _, _ := strings.Cut(rest, "/")
				url <- "http://" + addr + "/mcp"
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		<-said
		if err := cmd.Wait(); err != nil {
			t.Errorf("casemate serve: %v", err)
		}
	})
	select {
	case u := <-url:
		return u
	case <-said:
		t.Fatal("casemate serve ended")
	case <-time.After(30 * time.Second):
		t.Fatal("casemate serve does not say where it listens")
	}
	return ""
}

// TestRealClients: clients that others wrote list and call, on stdio and over
// HTTP, in every version that they speak.
func TestRealClients(t *testing.T) {
	dir := clients(t)
	casemate, env := buildCasemate(t, oneTool)
	url := serveCasemate(t, casemate, env)
	run := func(t *testing.T, name string, args ...string) []byte {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(env, "PATH="+filepath.Join(dir, "inspector", "node_modules", ".bin")+":"+os.Getenv("PATH"))
		var diag bytes.Buffer
		cmd.Stderr = &diag
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, out, diag.Bytes())
		}
		return out
	}
	for _, transport := range []string{"stdio", "http"} {
		target := []string{casemate, "serve"}
		if transport == "http" {
			target = []string{url, token}
		}
		for _, c := range []struct{ venv, mode, version string }{
			{"mcp1", "legacy", "2025-11-25"}, {"mcp2", "legacy", "2025-11-25"}, {"mcp2", "auto", "2026-07-28"}, {"mcp2", "2026-07-28", "2026-07-28"},
		} {
			t.Run(transport+"/"+c.venv+"-"+c.mode, func(t *testing.T) {
				got := run(t, filepath.Join(dir, c.venv, "bin", "python"), append([]string{filepath.Join("testdata", "client.py"), c.mode}, target...)...)
				want := fmt.Sprintf(`{"version": %q, "tools": ["echo"], "said": ["-- word 0\n", "-- word 1\n", "-- word 2\n"], "bad": true, "unknown": -32602}`, c.version)
				if strings.TrimSpace(string(got)) != want {
					t.Errorf("%s\nwant %s", got, want)
				}
			})
		}
		t.Run(transport+"/inspector", func(t *testing.T) {
			ask := func(args ...string) map[string]any {
				base := []string{"--cli"}
				if transport == "http" {
					base = append(base, "--server-url", url, "--transport", "http", "--header", "Authorization: Bearer "+token)
				} else {
					for _, v := range env { // it hands on no other
						if strings.HasPrefix(v, "CASEMATE_") || strings.HasPrefix(v, "XDG_") {
							base = append(base, "-e", v)
						}
					}
					base = append(base, target...)
				}
				out := run(t, filepath.Join(dir, "inspector", "node_modules", ".bin", "mcp-inspector"), append(base, args...)...)
				var m map[string]any
				if err := json.Unmarshal(out, &m); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				return m
			}
			if got := fmt.Sprint(ask("--method", "tools/list")); !strings.Contains(got, "name:echo") {
				t.Errorf("tools/list: %s", got)
			}
			if got := fmt.Sprint(ask("--method", "tools/call", "--tool-name", "echo", "--tool-arg", "text=hello")); !strings.Contains(got, "text:-- hello") {
				t.Errorf("tools/call: %s", got)
			}
		})
	}
}
