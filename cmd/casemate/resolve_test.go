package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog/packages"
	"github.com/casemate/casemate/internal/plan"
)

// TestCommand: what runs for a command of the host's, and what of the host it
// gets. ROOT stands for the tree's folder.
func TestCommand(t *testing.T) {
	files := map[string]string{
		"py/bin/python3.11": "ELF",
		"py/bin/python3":    "-> python3.11",
		"py/bin/tool":       "#!ROOT/py/bin/python3.11\nimport x\n",
		"py/bin/long":       "#!/bin/sh\n'''exec' \"ROOT/py/bin/python3.11\" \"$0\" \"$@\"\n' '''\n",
		"node/bin/node":     "ELF",
		"node/bin/npm":      "-> ../lib/node_modules/npm/bin/npm-cli.js",
		"node/lib/node_modules/npm/bin/npm-cli.js":        "#!/usr/bin/env node\n",
		"proj/venv/bin/python":                            "-> ROOT/py/bin/python3.11",
		"proj/venv/bin/server":                            "#!ROOT/proj/venv/bin/python\n",
		"home/.local/bin/server":                          "-> ROOT/proj/venv/bin/server",
		"web/node_modules/.bin/srv":                       "-> ../srv/dist/cli.js",
		"web/node_modules/srv/dist/cli.js":                "#!/usr/bin/env -S node --no-warnings\n",
		"web/package.json":                                "{}",
		"web/build/index.js":                              "x",
		"web/build/run":                                   "#!/usr/bin/env node\n",
		"pnpm/node_modules/.pnpm/s@1/node_modules/s/c.js": "#!/usr/bin/env node\n",
		"pnpm/node_modules/.bin/s":                        "-> ../.pnpm/s@1/node_modules/s/c.js",
		"home/server.py":                                  "x",
		"home/script.js":                                  "x",
		"srv/main.py":                                     "x",
		"home/.config/server.py":                          "x",
		"home/.config/package.json":                       "{}",
		"home/.config/srv/index.js":                       "x",
		"home/.claude/mcp/server.py":                      "x",
		"home/Projects/a/server.py":                       "x",
		"own/server.py":                                   "x",
		"own/state/key":                                   "x",
		"own/bin/python3":                                 "-> ../../py/bin/python3.11",
		"own/bin/node":                                    "ELF",
		"opt/plain":                                       "ELF",
		"opt/link":                                        "-> plain",
		"opt/hello":                                       "#!/bin/sh\necho hello\n",
		"opt/arg":                                         "#!/bin/sh -e x\n",
		"opt/loop":                                        "#!ROOT/opt/loop\n",
		"opt/none":                                        "#!/nowhere/interpreter\n",
		"opt/text":                                        "just text\n",
		"opt/odd":                                         "#!/usr/bin/env -i node\n",
		"write/bin/python3":                               "ELF",
		"write/tool":                                      "ELF",
		"write/a.py":                                      "x",
		"opt/intowrite":                                   "-> ROOT/write/tool",
		".pyenv/shims/mcp":                                pyenvShim,
		".pyenv/shims/python3.9":                          pyenvShim,
		".pyenv/version":                                  "3.9.1\n",
		".pyenv/versions/3.9.1/bin/python3.9":             "ELF",
		".pyenv/versions/3.9.1/bin/mcp":                   "#!ROOT/.pyenv/versions/3.9.1/bin/python3.9\n",
		"nvm/versions/node/v22/bin/cli":                   "-> ../lib/node_modules/@s/cli/i.js",
		"nvm/versions/node/v22/bin/node":                  "ELF",
		"nvm/versions/node/v22/lib/node_modules/@s/cli/i.js": "#!/usr/bin/env node\n",
	}
	for name, c := range map[string]struct {
		argv   string
		path   string // after the system's; default node/bin
		want   string
		mounts string
		err    string
	}{
		"of the system":           {"/bin/sh -c x", "", "/usr/bin/sh -c x", "", ""},
		"by name":                 {"sh -c x", "", "/usr/bin/sh -c x", "", ""},
		"an interpreter":          {"ROOT/py/bin/python3 -m x", "", "ROOT/py/bin/python3 -m x", "ROOT/py", ""},
		"of a venv":               {"ROOT/proj/venv/bin/python -m x", "", "ROOT/proj/venv/bin/python -m x", "ROOT/proj/venv ROOT/py", ""},
		"a script of Python":      {"ROOT/py/bin/tool a", "", "ROOT/py/bin/python3.11 ROOT/py/bin/tool a", "ROOT/py", ""},
		"with a long first line":  {"ROOT/py/bin/long a", "", "ROOT/py/bin/python3.11 ROOT/py/bin/long a", "ROOT/py", ""},
		"a script of a venv":      {"ROOT/proj/venv/bin/server a", "", "ROOT/proj/venv/bin/python ROOT/proj/venv/bin/server a", "ROOT/proj/venv ROOT/py", ""},
		"a link to one":           {"ROOT/home/.local/bin/server", "", "ROOT/proj/venv/bin/python ROOT/proj/venv/bin/server", "ROOT/proj/venv ROOT/py", ""},
		"npm":                     {"npm --version", "", "ROOT/node/bin/node ROOT/node/lib/node_modules/npm/bin/npm-cli.js --version", "ROOT/node", ""},
		"a link of npm's":         {"ROOT/web/node_modules/.bin/srv", "", "ROOT/node/bin/node --no-warnings ROOT/web/node_modules/srv/dist/cli.js", "ROOT/node ROOT/web/node_modules", ""},
		"a link of pnpm's":        {"ROOT/pnpm/node_modules/.bin/s", "", "ROOT/node/bin/node ROOT/pnpm/node_modules/.pnpm/s@1/node_modules/s/c.js", "ROOT/node ROOT/pnpm/node_modules", ""},
		"a script of a project":   {"ROOT/web/build/run", "", "ROOT/node/bin/node ROOT/web/build/run", "ROOT/node ROOT/web", ""},
		"nvm":                     {"cli", "nvm/versions/node/v22/bin", "ROOT/nvm/versions/node/v22/bin/node ROOT/nvm/versions/node/v22/lib/node_modules/@s/cli/i.js", "ROOT/nvm/versions/node/v22", ""},
		"node with a file":        {"node --no-warnings ROOT/web/build/index.js x", "", "ROOT/node/bin/node --no-warnings ROOT/web/build/index.js x", "ROOT/node ROOT/web", ""},
		"node with a home's file": {"node ROOT/home/script.js", "", "ROOT/node/bin/node ROOT/home/script.js", "ROOT/node ROOT/home/script.js", ""},
		"python with a file":      {"ROOT/py/bin/python3 -u ROOT/srv/main.py", "", "ROOT/py/bin/python3 -u ROOT/srv/main.py", "ROOT/py ROOT/srv", ""},
		"with a home's file":      {"ROOT/py/bin/python3 ROOT/home/server.py", "", "ROOT/py/bin/python3 ROOT/home/server.py", "ROOT/py ROOT/home/server.py", ""},
		"with one of settings":    {"ROOT/py/bin/python3 ROOT/home/.config/server.py", "", "ROOT/py/bin/python3 ROOT/home/.config/server.py", "ROOT/py ROOT/home/.config/server.py", ""},
		"of an agent's folder":    {"ROOT/py/bin/python3 ROOT/home/.claude/mcp/server.py", "", "ROOT/py/bin/python3 ROOT/home/.claude/mcp/server.py", "ROOT/py ROOT/home/.claude/mcp/server.py", ""},
		"node's among settings":   {"node ROOT/home/.config/srv/index.js", "", "ROOT/node/bin/node ROOT/home/.config/srv/index.js", "ROOT/node ROOT/home/.config/srv/index.js", ""},
		"beside Casemate's own":   {"ROOT/py/bin/python3 ROOT/own/server.py", "", "ROOT/py/bin/python3 ROOT/own/server.py", "ROOT/py ROOT/own/server.py", ""},
		"a link beside them":      {"ROOT/own/bin/python3 -m x", "", "ROOT/py/bin/python3.11 -m x", "ROOT/py", ""},
		"a program beside them":   {"ROOT/own/bin/node x", "", "", "", "would need the whole of"},
		"of a project at home":    {"ROOT/py/bin/python3 ROOT/home/Projects/a/server.py", "", "ROOT/py/bin/python3 ROOT/home/Projects/a/server.py", "ROOT/py ROOT/home/Projects/a", ""},
		"with a relative file":    {"ROOT/py/bin/python3 srv/main.py", "", "ROOT/py/bin/python3 ROOT/srv/main.py", "ROOT/py ROOT/srv", ""},
		"with a writable file":    {"ROOT/py/bin/python3 ROOT/write/a.py", "", "ROOT/py/bin/python3 ROOT/write/a.py", "ROOT/py", ""},
		"with no file":            {"ROOT/py/bin/python3 /srv/main.py", "", "ROOT/py/bin/python3 /srv/main.py", "ROOT/py", ""},
		"with code":               {"ROOT/py/bin/python3 -c ROOT/srv/main.py", "", "ROOT/py/bin/python3 -c ROOT/srv/main.py", "ROOT/py", ""},
		"a plain program":         {"ROOT/opt/plain a", "", "ROOT/opt/plain a", "ROOT/opt/plain", ""},
		"a link to it":            {"ROOT/opt/link a", "", "ROOT/opt/link a", "ROOT/opt/plain>ROOT/opt/link", ""},
		"relative":                {"opt/plain", "", "ROOT/opt/plain", "ROOT/opt/plain", ""},
		"a script of sh":          {"ROOT/opt/hello a", "", "/usr/bin/sh ROOT/opt/hello a", "ROOT/opt/hello", ""},
		"its one argument":        {"ROOT/opt/arg a", "", "/usr/bin/sh|-e x|ROOT/opt/arg|a", "ROOT/opt/arg", ""},
		"a shim's script":         {"mcp run", ".pyenv/shims", "ROOT/.pyenv/versions/3.9.1/bin/python3.9 ROOT/.pyenv/versions/3.9.1/bin/mcp run", "ROOT/.pyenv/versions/3.9.1", ""},
		"a shim's version":        {"python3.9", ".pyenv/shims", "ROOT/.pyenv/versions/3.9.1/bin/python3.9", "ROOT/.pyenv/versions/3.9.1", ""},
		"a loop":                  {"ROOT/opt/loop", "", "", "", "a script of a script"},
		"no interpreter":          {"ROOT/opt/none", "", "", "", "no such file"},
		"only text":               {"ROOT/opt/text", "", "", "", "neither a program"},
		"what env is asked":       {"ROOT/opt/odd", "", "", "", "not understood"},
		"nowhere":                 {"no-such-program", "", "", "", "not found on PATH"},
		"a path to nowhere":       {"ROOT/no/such", "", "", "", "no such file"},
		"a folder":                {"ROOT/opt", "", "", "", "may not be run"},
		"a writable interpreter":  {"ROOT/write/bin/python3", "", "", "", "lies in the write grant"},
		"a writable program":      {"ROOT/write/tool", "", "", "", "lies in the write grant"},
		"a link to a writable":    {"ROOT/opt/intowrite", "", "", "", "lies in the write grant"},
		"nothing":                 {"", "", "", "", "is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, files)
			in := func(s string) string { return strings.ReplaceAll(s, "ROOT", root) }
			if c.path == "" {
				c.path = "node/bin"
			}
			r := &interpreters{
				finder:   finder{env: func(k string) string { return map[string]string{"PATH": root + "/" + c.path + ":/usr/bin:/bin"}[k] }, home: root + "/home"},
				writable: []string{root + "/write"}, own: []string{root + "/own/state"}, cache: filepath.Join(root, "cache.json"),
				ask: func(_ context.Context, _ string, i interpreter) (said, error) {
					return said{Version: "1", Paths: i.Folders}, nil
				},
			}
			got, err := r.command(t.Context(), strings.Fields(in(c.argv)), root)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%q %v; want an error with %q", got.Argv, err, c.err)
				}
				if e, ok := errors.AsType[*casemate.Error](err); !ok || e.Fix == "" {
					t.Errorf("no fix: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Fields(in(c.want))
			if strings.Contains(c.want, "|") {
				want = strings.Split(in(c.want), "|")
			}
			for i, p := range want { // where /bin is a folder of its own
				if p == "/usr/bin/sh" && got.Argv[i] == "/bin/sh" {
					want[i] = "/bin/sh"
				}
			}
			if !slices.Equal(got.Argv, want) {
				t.Errorf("runs %q; want %q", got.Argv, want)
			}
			var mounts []string
			for _, m := range got.Mounts {
				if m.Write {
					t.Errorf("%s may be written", m.At)
				}
				s := m.Source
				if m.At != m.Source {
					s += ">" + m.At
				}
				mounts = append(mounts, s)
			}
			wanted := strings.Fields(in(c.mounts))
			slices.Sort(mounts)
			slices.Sort(wanted)
			if !slices.Equal(mounts, wanted) {
				t.Errorf("gets %q; want %q", mounts, wanted)
			}
			if _, err := os.Stat(root + "/EXECUTED"); err == nil {
				t.Error("the shim was executed")
			}
		})
	}
}

// TestBeside: a profile's own grants are what is there.
func TestBeside(t *testing.T) {
	folder := plan.Mount{Source: "/p/venv", At: "/p/venv", Execute: true}
	file := plan.Mount{Source: "/p/s.py", At: "/p/s.py"}
	r := resolved{Mounts: []plan.Mount{folder, file}}
	for name, c := range map[string]struct {
		own  []casemate.Mount
		want []plan.Mount
	}{
		"nothing":              {nil, []plan.Mount{folder, file}},
		"elsewhere":            {[]casemate.Mount{{Path: "/p2", At: "/p2"}}, []plan.Mount{folder, file}},
		"the same, to read":    {[]casemate.Mount{{Path: "/p", At: "/p"}}, []plan.Mount{folder}},
		"the same, to run":     {[]casemate.Mount{{Path: "/p", At: "/p", Execute: true}}, nil},
		"another in its place": {[]casemate.Mount{{Path: "/q", At: "/p"}}, nil},
	} {
		if got := r.beside(c.own); !slices.EqualFunc(got, c.want, func(a, b plan.Mount) bool { return a.At == b.At }) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestEnviron(t *testing.T) {
	r := resolved{Path: []string{"/opt/package/bin", "/py/bin"}, Env: map[string]string{"PYTHONPATH": "/opt/package"}}
	got := r.environ([]string{"PATH=/usr/bin", "PYTHONPATH=/mine", "A=b=c"})
	if want := []string{"A=b=c", "PATH=/opt/package/bin:/py/bin:/usr/bin", "PYTHONPATH=/opt/package:/mine"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestRegistrySettings: what an installer is told, and what not.
func TestRegistrySettings(t *testing.T) {
	root := tree(t, map[string]string{
		".npmrc":               "; comment\nregistry = https://r.test/npm/\n@s:registry=https://s.test/${TEAM}/\n//r.test/npm/:_authToken=SECRET\n_auth=SECRET\nignore-scripts=false\nscript-shell=/evil\ncafile=ROOT/ca.pem\n",
		"ca.pem":               "x",
		".config/pip/pip.conf": "[global]\nindex-url = https://p.test/simple\nextra_index_url =\n    https://q.test/a\n    https://q.test/b\n[freeze]\ntimeout = 9\n[install]\nno-binary = :all:\ntarget = /evil\n",
		"repo/.npmrc":          "registry=https://evil.test/\n",
	})
	t.Chdir(root + "/repo")
	got, err := registryOf(packages.NPM, []string{"TEAM=t", "NPM_TOKEN=SECRET", "npm_config_registry=https://env.test/", "HTTPS_PROXY=http://proxy.test", "PATH=/x", "NODE_OPTIONS=--evil"}, root)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"HOME": "/tmp", "npm_config_registry": "https://env.test/", "npm_config_@s:registry": "https://s.test/t/", "npm_config_cafile": root + "/ca.pem", "HTTPS_PROXY": "http://proxy.test"}
	sameMap(t, got.env, want)
	if len(got.mounts) != 1 || got.mounts[0].At != root+"/ca.pem" || got.mounts[0].Write {
		t.Errorf("%+v", got.mounts)
	}
	got, err = registryOf(packages.PyPI, []string{"PIP_TARGET=/evil", "PIP_NO_BINARY=:all:", "PIP_RETRIES=2", "UV_DEFAULT_INDEX=https://uv.test/simple", "AWS_SECRET=SECRET"}, root)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"PIP_INDEX_URL": "https://uv.test/simple", "PIP_EXTRA_INDEX_URL": "https://q.test/a https://q.test/b", "PIP_RETRIES": "2"} {
		if got.env[k] != v {
			t.Errorf("%s is %q; want %q", k, got.env[k], v)
		}
	}
	for k, v := range got.env {
		if strings.Contains(v, "evil") || strings.Contains(v, "SECRET") || k == "PIP_NO_BINARY" || k == "PIP_TARGET" {
			t.Errorf("%s=%s is handed on", k, v)
		}
	}
	if _, err := registryOf(packages.PyPI, []string{"SSL_CERT_FILE=" + root + "/no-such.pem"}, root); err == nil {
		t.Error("a file of certificates that is not there is passed over")
	}
}

func sameMap(t *testing.T, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q; want %q", k, got[k], v)
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s=%q too", k, v)
		}
	}
}

// TestARelativeProgramBeginsInTheWorkingFolder: as its profile has it, and
// where that states none in the folder of the configuration.
func TestARelativeProgramBeginsInTheWorkingFolder(t *testing.T) {
	root := tree(t, map[string]string{"conf/run": "ELF", "proj/run": "ELF"})
	r := &interpreters{finder: finder{env: func(string) string { return "" }, home: root}, dir: root + "/conf"}
	for cwd, want := range map[string]string{"": root + "/conf/run", root + "/proj": root + "/proj/run"} {
		tool := &casemate.Tool{Run: casemate.Run{MCP: &casemate.MCP{Command: []string{"./run", "./run"}}}, Security: casemate.Profile{Cwd: cwd}}
		got, err := r.started(t.Context(), tool)
		if err != nil || !slices.Equal(got.Argv, []string{want, "./run"}) {
			t.Errorf("in %q runs %q, %v; want %s", cwd, got.Argv, err, want)
		}
		if tool.Run.MCP.Command[0] != "./run" {
			t.Error("the tool is another")
		}
	}
}
