package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate/internal/testenv"
)

// The suite of those who write the protocol, and the node that it needs.
const (
	suiteVersion = "0.2.0-alpha.12"
	nodeVersion  = "22.23.3"
)

// TestConformance: behind casemate serve, the SDK's own conformance server
// fails no check that it does not fail alone. Checks that fail are counted,
// and never those that pass, which a suite may skip.
func TestConformance(t *testing.T) {
	node, suite := conformance(t)
	server := buildConformanceServer(t)
	config := fmt.Sprintf(`version: 1
host: {allow_degraded: [memory, cpu, processes]}
tools:
  - name: everything
    mcp: {command: [/srv/%s], sampling: true, elicitation: true}
    security: {filesystem: [{path: %s, at: /srv, execute: true}]}
`, filepath.Base(server), filepath.Dir(server))
	casemate, env := buildCasemate(t, config)
	behind := withToken(t, serveCasemate(t, casemate, env))
	for _, x := range []struct {
		version   string
		stateless bool
	}{{"2025-11-25", false}, {"2026-07-28", true}} {
		t.Run(x.version, func(t *testing.T) {
			alone, _ := conform(t, node, suite, x.version, serveAlone(t, server, x.stateless))
			failed, ran := conform(t, node, suite, x.version, behind)
			for check, why := range failed {
				if _, ok := alone[check]; !ok {
					t.Errorf("%s: %s", check, why)
				}
			}
			if len(ran) < 25 || !ran["dns-rebinding-protection"] {
				t.Errorf("the suite ran %v", ran)
			}
			for check := range failed {
				if strings.HasPrefix(check, "dns-rebinding-protection/") {
					t.Errorf("%s", check)
				}
			}
		})
	}
}

// conformance returns node and the suite, which it installs where they are not
// there.
func conformance(t *testing.T) (node, suite string) {
	t.Helper()
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "casemate", "conformance-"+suiteVersion+"-"+nodeVersion)
	node = filepath.Join(dir, "node_modules", "node-linux-"+arch, "bin", "node")
	suite = filepath.Join(dir, "node_modules", "@modelcontextprotocol", "conformance", "dist", "index.js")
	if _, err := os.Stat(suite); err == nil {
		return node, suite
	}
	unsupported := func(why string, fix string) {
		testenv.Require(t, "conformance", &testenv.Unsupported{What: "@modelcontextprotocol/conformance", Why: why, Fix: fix})
	}
	if arch == "" {
		unsupported("there is no node for "+runtime.GOARCH, "")
	}
	if _, err := exec.LookPath("npm"); err != nil {
		unsupported(err.Error(), "apt install npm")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "npm", "install", "--prefix", fresh, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error",
		"node-linux-"+arch+"@"+nodeVersion, "@modelcontextprotocol/conformance@"+suiteVersion).CombinedOutput()
	if err != nil {
		unsupported(fmt.Sprintf("npm install: %v: %.500s", err, out), "let npm reach its registry")
	}
	if err := os.Rename(fresh, dir); err != nil {
		if _, there := os.Stat(suite); there != nil { // another run was faster
			t.Fatal(err)
		}
	}
	return node, suite
}

// buildConformanceServer returns the server that the SDK is tested by, static,
// alone in a folder.
func buildConformanceServer(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "everything-server")
	cmd := exec.Command("go", "build", "-o", out, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

// serveAlone serves the server by HTTP as it does itself.
func serveAlone(t *testing.T, server string, stateless bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // it takes an address and no listener
	cmd := exec.Command(server, "-http", addr, fmt.Sprintf("-stateless=%v", stateless))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return "http://" + addr + "/"
		}
		if time.Now().After(deadline) {
			t.Fatal("the conformance server does not listen")
		}
	}
}

// withToken stands before a server that wants a token, for a suite that knows
// none. What it is called by is the server's; any other name is left as it is,
// so that the server alone judges it.
func withToken(t *testing.T, target string) string {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mine := l.Addr().String()
	_, port, _ := net.SplitHostPort(mine)
	theirs := func(name string) string {
		for _, host := range []string{mine, "localhost:" + port} {
			name = strings.Replace(name, host, to.Host, 1)
		}
		return name
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
		r.Out.Host = theirs(r.In.Host)
		if o := r.In.Header.Get("Origin"); o != "" {
			r.Out.Header.Set("Origin", theirs(o))
		}
		r.Out.Header.Set("Authorization", "Bearer "+token)
	}}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// All of it first: an answer that begins before the proxy has seen the end of
		// the body closes that, and with it the connection that the answer comes by.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return "http://" + mine + to.Path
}

// conform runs what a version requires against the server at url, and returns
// the checks that failed, as SCENARIO/ID, and the scenarios that ran.
func conform(t *testing.T, node, suite, version, url string) (failed map[string]string, ran map[string]bool) {
	t.Helper()
	out := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, suite, "server", "--url", url, "--requirements", version, "-o", out)
	cmd.Dir = out
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run() // fails where a check does
	failed, ran = map[string]string{}, map[string]bool{}
	folders, _ := filepath.Glob(filepath.Join(out, "server-*"))
	name := regexp.MustCompile(`^server-(.*?)-\d{4}-\d\d-\d\dT`)
	for _, dir := range folders {
		m := name.FindStringSubmatch(filepath.Base(dir))
		b, err := os.ReadFile(filepath.Join(dir, "checks.json"))
		var checks []struct {
			ID, Status   string
			ErrorMessage string
		}
		if m == nil || err != nil || json.Unmarshal(b, &checks) != nil {
			t.Fatalf("%s: %v\n%s", dir, err, b)
		}
		ran[m[1]] = true
		for _, c := range checks {
			if c.Status == "FAILURE" {
				failed[m[1]+"/"+c.ID] = c.ErrorMessage
			}
		}
	}
	if len(folders) == 0 {
		t.Fatalf("the suite did not run: %v\n%s", err, said.Bytes())
	}
	t.Logf("%s: %d scenarios, %d checks failed", url, len(ran), len(failed))
	return failed, ran
}
