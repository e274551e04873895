package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/store"
	"github.com/casemate/casemate/internal/testenv"
)

const plainProfile = "\nhost: {allow_degraded: [memory, cpu]}\nprofiles:\n  plain: {network: none}\n"

// preparing is a place with a profile, whose installers ask r.
func preparing(t *testing.T, r *registryServer, tools ...string) *place {
	t.Helper()
	if len(tools) == 0 {
		tools = []string{" []" + plainProfile}
	}
	p := newPlace(t, tools...)
	if r != nil {
		p.env = append(p.env, "npm_config_registry="+r.URL+"/npm/", "PIP_INDEX_URL="+r.URL+"/pypi/", "PIP_RETRIES=0")
	}
	t.Cleanup(func() { store.Remove(filepath.Join(p.dir, "state", "casemate", "store")) })
	return p
}

// exec runs a command of the profile.
func (p *place) exec(argv ...string) (out, said string, status int) {
	p.t.Helper()
	cmd := p.command(append([]string{"exec", "--profile", "plain", "--"}, argv...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		p.t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// trees are the packages in the store.
func (p *place) trees() []string {
	all, err := filepath.Glob(filepath.Join(p.dir, "state", "casemate", "store", "packages", "sha256-*"))
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

// needsProgram skips where a command of the system is not there.
func needsProgram(t *testing.T, what, fix string, argv ...string) {
	t.Helper()
	cmd := exec.Command("/usr/bin/env", append([]string{"-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + t.TempDir()}, argv...)...)
	var err error
	if out, failed := cmd.CombinedOutput(); failed != nil {
		err = &testenv.Unsupported{What: what, Why: failed.Error() + ": " + string(out), Fix: fix}
	}
	testenv.Require(t, what, err)
}

func needsNPM(t *testing.T) {
	needsProgram(t, "npm", "apt install nodejs npm", "npm", "--version")
}

func needsPip(t *testing.T) {
	needsProgram(t, "pip", "apt install python3-pip", "python3", "-m", "pip", "--version")
}

const helloProgram = "#!/usr/bin/env node\nconst fs = require('fs')\nconsole.log('hello', process.argv.slice(2).join(' '), require('t-dep'))\n" +
	"try { fs.writeFileSync(__dirname + '/x', ''); console.log('WROTE') } catch (e) { console.log(e.code) }\n"

// TestPrepareNPM: a package is installed once, without its scripts, and runs
// offline and read-only from then on.
func TestPrepareNPM(t *testing.T) {
	testenv.Binaries(t)
	needsNPM(t)
	t.Run("root", func(t *testing.T) { prepareNPM(t) })
	t.Run("user", func(t *testing.T) { testenv.AsUser(t, prepareNPM) })
}

func prepareNPM(t *testing.T) {
	r := newRegistry(t)
	r.publishNPM(t, "t-dep", `{"main": "i.js", "scripts": {"postinstall": "touch ran"}}`, map[string]string{"i.js": "module.exports = 'dep'"})
	r.publishNPM(t, "@t/hello", `{"bin": "cli.js", "dependencies": {"t-dep": "^1.0.0"}, "scripts": {"preinstall": "touch ran", "install": "touch ran", "postinstall": "touch ran; exit 1"}}`,
		map[string]string{"cli.js": helloProgram, ".npmrc": "x=1", ".vscode/tasks.json": "{}", "link": "-> /etc/passwd", "setuid": "x"})
	p := preparing(t, r)
	out, said, status := p.exec("npx", "-y", "@t/hello@^1", "a b")
	if status != 0 || out != "hello a b dep\nEROFS\n" {
		t.Fatalf("%d %q\n%s", status, out, said)
	}
	if !strings.Contains(said, "has the network of this host") {
		t.Errorf("it does not say that it has the network: %s", said)
	}
	trees := p.trees()
	if len(trees) != 1 {
		t.Fatalf("the store holds %q", trees)
	}
	filepath.WalkDir(trees[0], func(at string, d os.DirEntry, err error) error {
		if d.Name() == "ran" {
			t.Errorf("a script of the package was run: %s", at)
		}
		if fi, err := d.Info(); err == nil && d.Type()&os.ModeSymlink == 0 && fi.Mode()&(os.ModeSetuid|os.ModeSetgid|0o222) != 0 {
			t.Errorf("%s is %v", at, fi.Mode())
		}
		return err
	})
	lock, err := os.ReadFile(filepath.Join(p.dir, "casemate.lock"))
	if err != nil {
		t.Fatal(err)
	}
	var l struct {
		Packages map[string]struct{ Digest, Version, Integrity, Prepared string }
	}
	if err := json.Unmarshal(lock, &l); err != nil {
		t.Fatal(err)
	}
	for key, e := range l.Packages {
		if !strings.HasPrefix(key, "npm:@t/hello@^1 linux/") || e.Version != "1.0.0" || !strings.HasPrefix(e.Integrity, "sha512-") || !strings.HasSuffix(trees[0], strings.TrimPrefix(e.Digest, "sha256:")) {
			t.Errorf("%s: %+v", key, e)
		}
	}

	// The second time nobody is asked.
	asked := r.requests()
	r.Close()
	out, said, status = p.exec("npx", "@t/hello@^1", "again")
	if status != 0 || out != "hello again dep\nEROFS\n" || said != "" || r.requests() != asked {
		t.Fatalf("offline: %d %q %q, %d requests more", status, out, said, r.requests()-asked)
	}

	// A byte that is changed is noticed.
	victim := filepath.Join(trees[0], "node_modules", "@t", "hello", "cli.js")
	if err := errors.Join(os.Chmod(victim, 0o644), os.WriteFile(victim, []byte(strings.ReplaceAll(helloProgram, "hello", "HELLO")), 0o644), os.Chmod(victim, 0o555)); err != nil {
		t.Fatal(err)
	}
	out, said, status = p.exec("npx", "@t/hello@^1")
	if status != 3 || out != "" || !strings.Contains(said, "was changed since it was prepared") || !strings.Contains(said, "fix:") {
		t.Fatalf("a changed package: %d %q %q", status, out, said)
	}
}

// TestPrepareRefused: what a registry may send, and what must not come of it.
func TestPrepareRefused(t *testing.T) {
	testenv.Binaries(t)
	needsNPM(t)
	r := newRegistry(t)
	r.publishNPM(t, "t-bin", `{"bin": {"t-bin": "../../../../../../etc/hosts"}}`, nil)
	r.publishNPM(t, "t-absent", `{"bin": "dist/none.js"}`, nil)
	r.publishNPM(t, "t-many", `{"bin": {"one": "a.js", "two": "a.js"}}`, map[string]string{"a.js": "console.log('many')"})
	r.publishNPM(t, "t-text", `{"bin": "a"}`, map[string]string{"a": "#!/nowhere/else\n"})
	p := preparing(t, r)
	for name, c := range map[string]struct {
		argv   []string
		status int
		said   string
	}{
		"a program outside":     {[]string{"npx", "t-bin"}, 3, "leads out of it"},
		"a program not there":   {[]string{"npx", "t-absent"}, 3, "is no file of"},
		"no program by default": {[]string{"npx", "t-many"}, 2, "it has one, two"},
		"no such program":       {[]string{"npx", "-p", "t-many", "three"}, 2, "has no program"},
		"no program":            {[]string{"npx", "t-text"}, 2, "is no program"},
		"no such package":       {[]string{"npx", "t-none"}, 4, "was not installed"},
		"no such version":       {[]string{"npx", "t-many@9"}, 4, "was not installed"},
		"a flag":                {[]string{"npx", "--registry=http://evil.test", "t-many"}, 2, "--registry is not known"},
		"a folder":              {[]string{"npx", "file:/etc"}, 2, "is no name"},
	} {
		t.Run(name, func(t *testing.T) {
			p := *p
			p.t = t
			before := len(p.trees())
			out, said, status := p.exec(c.argv...)
			if status != c.status || out != "" || !strings.Contains(said, c.said) || !strings.Contains(said, "fix:") {
				t.Errorf("%d %q %q", status, out, said)
			}
			if c.status == 3 && len(p.trees()) != before {
				t.Error("it is in the store")
			}
		})
	}
	if out, said, status := p.exec("npx", "-p", "t-many", "two"); status != 0 || out != "many\n" {
		t.Errorf("%d %q %q", status, out, said)
	}
	if left, _ := filepath.Glob(filepath.Join(p.dir, "state", "casemate", "store", "packages", ".staging-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestPrepareLocked: what is prepared again has to be what is locked.
func TestPrepareLocked(t *testing.T) {
	testenv.Binaries(t)
	needsNPM(t)
	r := newRegistry(t)
	publish := func(say string) {
		r.publishNPM(t, "t-lock", `{"bin": "a.js"}`, map[string]string{"a.js": "console.log('" + say + "')"})
	}
	publish("one")
	p := preparing(t, r)
	run := func() (string, string, int) { return p.exec("npx", "t-lock") }
	if out, said, status := run(); status != 0 || out != "one\n" {
		t.Fatalf("%d %q %q", status, out, said)
	}
	if err := store.Remove(p.trees()[0]); err != nil {
		t.Fatal(err)
	}
	if out, said, status := run(); status != 0 || out != "one\n" || !strings.Contains(said, "preparing") {
		t.Fatalf("the same again: %d %q %q", status, out, said)
	}
	store.Remove(p.trees()[0])
	publish("two")
	out, said, status := run()
	if status != 3 || out != "" || !strings.Contains(said, "is not what is locked") {
		t.Fatalf("another under the same version: %d %q %q", status, out, said)
	}
}

// TestPrepareTogether: of many that need a package at a time one prepares it.
func TestPrepareTogether(t *testing.T) {
	testenv.Binaries(t)
	needsNPM(t)
	r := newRegistry(t)
	r.publishNPM(t, "t-many", `{"bin": "a.js"}`, map[string]string{"a.js": "console.log('many')"})
	p := preparing(t, r)
	var wg sync.WaitGroup
	var mu sync.Mutex
	prepared := 0
	for range 3 {
		wg.Go(func() {
			out, said, status := p.exec("npx", "t-many")
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(said, "prepared npm:t-many") {
				prepared++
			}
			if status != 0 || out != "many\n" {
				t.Errorf("%d %q %q", status, out, said)
			}
		})
	}
	wg.Wait()
	if prepared != 1 || len(p.trees()) != 1 {
		t.Errorf("prepared %d times, %d in the store", prepared, len(p.trees()))
	}
}

// TestPrepareWithoutNPM: what is not there is refused with how to get it.
func TestPrepareWithoutNPM(t *testing.T) {
	p := preparing(t, nil)
	for i, kv := range p.env {
		if strings.HasPrefix(kv, "PATH=") {
			p.env[i] = "PATH=" + p.dir
		}
	}
	for _, c := range [][]string{{"npx", "x"}, {"uvx", "x"}, {"uvx", "--python", "3.99", "x"}} {
		out, said, status := p.exec(c...)
		if status != 4 || out != "" || !strings.Contains(said, "fix: install") {
			t.Errorf("%q: %d %q %q", c, status, out, said)
		}
	}
}

// TestPreparePyPI: only wheels, whose programs run as their scripts say.
func TestPreparePyPI(t *testing.T) {
	testenv.Binaries(t)
	needsPip(t)
	r := newRegistry(t)
	r.publishWheel("t-tool", "import sys, t_tool\ndef main():\n    print('tool', sys.argv[1:], t_tool.__cached__.split('/')[-1][:7], t_tool.__file__)\n")
	r.publishFile("t-src", "t-src-1.0.0.tar.gz", targz("t-src-1.0.0", map[string]string{
		"setup.py": "open('/stage/RAN', 'w')\nfrom setuptools import setup\nsetup(name='t-src', version='1.0.0')\n", "PKG-INFO": "Metadata-Version: 2.1\nName: t-src\nVersion: 1.0.0\n"}))
	p := preparing(t, r)
	for _, argv := range [][]string{{"uvx", "t-tool", "a b"}, {"pipx", "run", "--spec", "T_tool==1.0.0", "t-tool", "a b"}, {"uvx", "--from", "t-tool", "t-tool", "a b"}} {
		out, said, status := p.exec(argv...)
		if status != 0 || out != "tool ['a b'] t_tool. /opt/package/t_tool.py\n" {
			t.Errorf("%q: %d %q\n%s", argv, status, out, said)
		}
	}
	if len(p.trees()) == 0 {
		t.Fatal("the store is empty")
	}
	pyc, err := filepath.Glob(p.trees()[0] + "/__pycache__/t_tool.*.pyc")
	if err != nil || len(pyc) != 1 {
		t.Errorf("nothing is compiled: %q %v", pyc, err)
	}
	if out, said, status := p.exec("uv", "run", "--with", "t-tool", "python", "-c", "import t_tool; t_tool.main()"); status != 0 || !strings.HasPrefix(out, "tool") {
		t.Errorf("uv run: %d %q %q", status, out, said)
	}
	out, said, status := p.exec("uvx", "t-src")
	if status != 4 || out != "" || !strings.Contains(said, "nothing is built from source") {
		t.Errorf("source only: %d %q %q", status, out, said)
	}
}

// reachable lets a test go on if a registry answers the installer of the
// settings in force.
func reachable(t *testing.T, what string, argv ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = t.TempDir()
	var err error
	if out, failed := cmd.CombinedOutput(); failed != nil {
		err = &testenv.Unsupported{What: what, Why: failed.Error() + ": " + string(out), Fix: "let this machine reach the registry"}
	}
	testenv.Require(t, "registry", err)
}

// withSettings adds what this process has of settings of the registries.
func (p *place) withSettings() *place {
	home, _ := os.UserHomeDir()
	p.env = append(p.env, "npm_config_userconfig="+filepath.Join(home, ".npmrc"))
	for _, kv := range os.Environ() {
		k, _, _ := strings.Cut(kv, "=")
		if l := strings.ToLower(k); strings.HasPrefix(l, "npm_config_") || strings.HasPrefix(l, "pip_") || strings.HasPrefix(l, "ssl_cert_") || strings.HasSuffix(l, "_proxy") || k == "NODE_EXTRA_CA_CERTS" || k == "REQUESTS_CA_BUNDLE" {
			p.env = append(p.env, kv)
		}
	}
	return p
}

// TestRealServers: real servers of both registries through casemate serve, as
// their users have them configured.
func TestRealServers(t *testing.T) {
	testenv.Binaries(t)
	needsNPM(t)
	needsPip(t)
	reachable(t, "npm's registry", "npm", "view", "is-number@7.0.0", "version")
	reachable(t, "PyPI", "python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q", "-d", "d", "iniconfig==2.0.0")
	docs := t.TempDir()
	if err := os.WriteFile(docs+"/a.txt", []byte("what is in it\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(docs, 0o755), os.Chmod(filepath.Dir(docs), 0o755)); err != nil {
		t.Fatal(err)
	}
	p := preparing(t, nil, `
  - name: fs
    mcp: {command: [npx, -y, "@modelcontextprotocol/server-filesystem@latest", /docs]}
    security: {filesystem: [{path: `+docs+`, at: /docs, access: read}]}
  - name: time
    mcp: {command: [uvx, "mcp-server-time", --local-timezone, UTC]}
`).withSettings()
	p.run("tools")
	s := p.serve().initialize()
	for _, c := range []struct {
		tool string
		args map[string]any
		want string
		bad  bool
	}{
		{"fs_read_text_file", map[string]any{"path": "/docs/a.txt"}, "what is in it", false},
		{"fs_write_file", map[string]any{"path": "/docs/b.txt", "content": "x"}, "EROFS", true},
		{"time_get_current_time", map[string]any{"timezone": "UTC"}, "is_dst", false},
	} {
		b, err := s.request("tools/call", map[string]any{"name": c.tool, "arguments": c.args})
		if err != nil || !strings.Contains(string(b), c.want) || strings.Contains(string(b), `"isError":true`) != c.bad {
			t.Errorf("%s: %s %v\n%s", c.tool, b, err, s.said)
		}
	}
	if _, err := os.Stat(docs + "/b.txt"); err == nil {
		t.Error("a file was written")
	}
}

// TestWhoseFaultAPackageIs: of a full disk it is not said that the package is
// hostile.
func TestWhoseFaultAPackageIs(t *testing.T) {
	l := &loaded{state: "/the/state"}
	for _, c := range []struct {
		err  error
		kind casemate.Kind
		fix  string
	}{
		{fmt.Errorf("x: %w", syscall.ENOSPC), casemate.Internal, "make room and rights in /the/state"},
		{fmt.Errorf("%w: x", store.ErrRefused), casemate.Denied, "the package is broken or hostile: name another version of it, or none"},
	} {
		_, err := broken(l, c.err)
		if e, ok := errors.AsType[*casemate.Error](err); !ok || e.Kind != c.kind || e.Fix != c.fix {
			t.Errorf("%v: %+v", c.err, err)
		}
	}
}
