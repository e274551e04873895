package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate/internal/testenv"
)

const pythonTool = `
  - name: python
    parameters: {type: object, properties: {code: {type: string}}, required: [code]}
    run: {python: {}}
`

// withPath returns p with a folder before its PATH.
func (p *place) withPath(dir string) *place {
	q := *p
	q.env = nil
	for _, kv := range p.env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			kv = "PATH=" + dir + ":" + path
		}
		q.env = append(q.env, kv)
	}
	return &q
}

// TestVirtualEnvironment: the interpreter of an activated environment is the
// one that is meant, with its packages.
func TestVirtualEnvironment(t *testing.T) {
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		testenv.Require(t, "python", &testenv.Unsupported{What: "/usr/bin/python3", Why: err.Error(), Fix: "apt install python3 python3-venv"})
	}
	p := newPlace(t, pythonTool)
	venv := filepath.Join(p.dir, "venv")
	if out, err := exec.Command("/usr/bin/python3", "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		testenv.Require(t, "python", &testenv.Unsupported{What: "python3 -m venv", Why: string(out), Fix: "apt install python3-venv"})
	}
	site, err := filepath.Glob(venv + "/lib/python3*/site-packages")
	if err != nil || len(site) != 1 {
		t.Fatal(site, err)
	}
	if err := os.WriteFile(site[0]+"/inside.py", []byte("x = 'from the environment'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{p.dir, filepath.Dir(p.dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	q := p.withPath(venv + "/bin")
	for range 2 { // the second time from the cache
		if out := q.run("call", "python", "code=import sys, inside; print(sys.prefix, inside.x)"); out != venv+" from the environment\n" {
			t.Errorf("%q", out)
		}
	}
}

// TestPrefixExec is the row prefix-exec: an interpreter that a repository put
// on PATH is asked inside a sandbox or not at all.
func TestPrefixExec(t *testing.T) {
	p := newPlace(t, pythonTool)
	repo := filepath.Join(p.dir, "repo")
	bin := filepath.Join(repo, ".venv/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(bin, 0o777); err != nil { // so that it could leave its file, whoever it is run as
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(testenv.Program(t, "cmd/casemate/testdata/evil"), "evil"))
	if err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(bin, "python3")
	if err := os.WriteFile(python, b, 0o755); err != nil {
		t.Fatal(err)
	}
	q := p.withPath(bin)
	refused := func(want string) {
		t.Helper()
		for _, args := range [][]string{{"call", "python", "code=1"}, {"why", "python", "code=1"}} {
			cmd := q.command(args...)
			var said bytes.Buffer
			cmd.Stderr = &said
			cmd.Run()
			if cmd.ProcessState.ExitCode() != 4 || !strings.Contains(said.String(), want) || !strings.Contains(said.String(), "fix: ") {
				t.Errorf("casemate %s: exit %d\n%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), said.String())
			}
		}
		if _, err := os.Lstat(filepath.Join(bin, "RAN")); err == nil {
			t.Fatal("the repository's interpreter was run on the host")
		}
	}
	refused("/root")
	p.configure(pythonTool + `
  - name: files
    run: {builtin: files}
    security: {filesystem: [{path: ./repo, at: /repo, access: write}]}
`)
	refused("write grant")

	// The check can fail: run on the host, it leaves its file.
	if err := exec.Command(python).Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(bin, "RAN")); err != nil {
		t.Error("the interpreter would not have left a file")
	}
}

// TestOrdinaryUser: without root it is refused by name what the host
// withholds, with the fix; what the operator accepts is said to be missing.
func TestOrdinaryUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, func(t *testing.T) {
		p := newPlace(t, echoTool)
		cmd := p.command("call", "--json", "echo", "text=x")
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		cmd.Run()
		switch cmd.ProcessState.ExitCode() {
		case 0:
			if !strings.Contains(out.String(), `"memory":{"limit":536870912,"by":"cgroup"}`) {
				t.Errorf("memory is not held:\n%s", out.String())
			}
			return
		case 4:
		default:
			t.Fatalf("exit %d\n%s%s", cmd.ProcessState.ExitCode(), out.String(), said.String())
		}
		if s := said.String(); !strings.Contains(s, "memory") || !strings.Contains(s, "cgroup") || !strings.Contains(s, "fix: ") {
			t.Errorf("it does not say what is missing:\n%s", s)
		}
		if err := os.WriteFile(p.dir+"/casemate.yaml", []byte("version: 1\nhost: {allow_degraded: [memory, cpu]}\ntools:"+echoTool+sleepTool), 0o600); err != nil {
			t.Fatal(err)
		}
		if s := p.run("call", "--json", "echo", "text=x"); !strings.Contains(s, `"degraded":["`) || !strings.Contains(s, `"text":"x\n"`) {
			t.Errorf("%s", s)
		}
		s := p.serve().initialize()
		all := family(s.cmd.Process.Pid)
		if r, err := s.request("tools/call", map[string]any{"name": "echo", "arguments": map[string]any{"text": "y"}}); err != nil || !strings.Contains(string(r), "y\\n") {
			t.Errorf("%s %v", r, err)
		}
		if !strings.Contains(p.run("pool"), "echo") {
			t.Error("pool does not show the server")
		}
		s.in.Close()
		if code := s.ends(testWait); code != 0 {
			t.Errorf("exit status %d", code)
		}
		if left := alive(all); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}
