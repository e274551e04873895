package wrap

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// propose makes the profile of a server in a home of the test's own; ~ stands
// for that.
func (p *place) propose(argv string, env map[string]string, base string) *Profile {
	p.t.Helper()
	all, err := catalogue()
	if err != nil {
		p.t.Fatal(err)
	}
	tilde := func(s string) string { return strings.ReplaceAll(s, "~", p.home) }
	s := &Server{Base: tilde(base), values: map[string]string{}, owner: &node{form: table}}
	for _, a := range strings.Fields(argv) {
		s.Argv = append(s.Argv, tilde(a))
	}
	for k, v := range env {
		s.variable(k, &node{form: text, text: tilde(v)})
	}
	slices.Sort(s.Env)
	return p.Host.propose(s, all)
}

func (p *place) mounts(pr *Profile) string {
	var out []string
	for _, m := range pr.Mounts {
		s := strings.ReplaceAll(m.At, p.home, "~")
		if m.Write {
			s += ":w"
		}
		if m.Execute {
			s += ":x"
		}
		if m.Path != m.At {
			s += "=" + strings.ReplaceAll(m.Path, p.home, "~")
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestProposes(t *testing.T) {
	p := newPlace(t)
	for _, d := range []string{"docs", "data/sub", "empty", "repo/.git", ".ssh", ".aws", ".config/gcloud", ".claude", ".kube", ".config/zed", "proj/node_modules/@a/b/dist", "venv/bin", "src/app/build", ".nvm/v20/lib/node_modules/x", "work/.codex", ".local/state/casemate/wrap"} {
		p.mkdir(d)
	}
	for _, f := range []string{"server.py", "bin/tool", "proj/node_modules/@a/b/dist/index.js", "venv/pyvenv.cfg", "venv/bin/mcp-server-time", "src/app/package.json", "src/app/build/index.js", "docs/a.txt", "db/test.db", "db/test.db-wal", "docs/test.db", "own/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js", ".nvm/v20/lib/node_modules/x/i.js", ".env", ".netrc", "work/run.js", ".kube/config"} {
		p.write(f, "")
	}
	if err := os.Symlink(p.path(".ssh"), p.path("innocent")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(p.path("docs"), p.path("link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		argv string
		env  map[string]string
		base string
		want string
		note string // a part of one
	}{
		{argv: "/usr/bin/python3 ~/server.py ~/docs", want: "~/docs ~/server.py"},
		{argv: "unknown ~/docs ~/none --file=~/docs/a.txt", want: "~/docs"},
		{argv: "npx -y @modelcontextprotocol/server-filesystem@1.2 ~/docs ~/data/sub", want: "~/data/sub:w ~/docs:w"},
		{argv: "npx -p @modelcontextprotocol/server-filesystem mcp-server-filesystem ~/docs", want: "~/docs:w"},
		{argv: "node ~/proj/node_modules/@a/b/dist/index.js ~/docs", want: "~/docs ~/proj/node_modules:x"},
		{argv: "node ~/.nvm/v20/lib/node_modules/x/i.js", want: "~/.nvm/v20/lib/node_modules:x"},
		{argv: "node ~/src/app/build/index.js", want: "~/src/app:x"},
		{argv: "~/venv/bin/mcp-server-time", want: "~/venv:x"},
		{argv: "~/bin/tool", want: "~/bin/tool:x"},
		{argv: "uvx mcp-server-git --repository ~/repo", want: "~/repo", note: "commits"},
		{argv: "uvx --from mcp-server-git==1 mcp-server-git -r ~/repo", want: "~/repo"},
		{argv: "uvx mcp-server-sqlite --db-path ~/db/test.db", want: "~/db:w"},
		{argv: "uvx mcp-server-sqlite --db-path ~/docs/test.db", want: "~/docs/test.db", note: "may not write"},
		{argv: "uvx mcp-server-sqlite --db-path ~/empty/new.db", want: "~/empty:w"},
		{argv: "uvx mcp-server-fetch", note: "no network"},
		{argv: "npx @bytebase/dbhub --dsn sqlite:///~/db/test.db", want: "~/db:w"},
		{argv: "npx -y @modelcontextprotocol/server-memory", env: map[string]string{"MEMORY_FILE_PATH": "~/empty/m.json"}, want: "~/empty:w"},
		{argv: "x ./docs", base: "~", want: "~/docs"},
		{argv: "node server.js .", base: "~/src/app", want: "~/src/app"},
		{argv: "python3 server.py", base: "~", want: "~/server.py"},
		{argv: "npx @modelcontextprotocol/server-filesystem ~/link", want: "~/link:w=~/docs"},
		{argv: "node ~/work/run.js ~/work", want: "~/work"},
		{argv: "npx @modelcontextprotocol/server-filesystem ~/data ~/data/sub", want: "~/data:w"},
		{argv: "node ~/own/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js ~/own", want: "~/own:x", note: "the server's own program"},
		{argv: "x ${HOME}/docs $DOCS {env:A}/x", note: "variable of the client"},
		// What is never granted.
		{argv: "x /", note: "whole file system"},
		{argv: "npx @modelcontextprotocol/server-filesystem /", note: "whole file system"},
		{argv: "x ~", note: "home folder"},
		{argv: "x ~/", note: "home folder"},
		{argv: "x ~/docs/..", note: "home folder"},
		{argv: "x " + filepath.Dir(p.home), note: "home folder"},
		{argv: "x /etc", note: "system"},
		{argv: "x /etc/passwd", note: "system"},
		{argv: "x /proc/self", note: "system"},
		{argv: "x /tmp", note: "its own"},
		{argv: "x /usr/share", want: ""},
		{argv: "npx @modelcontextprotocol/server-filesystem /usr/share", note: "its own"},
		{argv: "x ~/.ssh", note: "keys"},
		{argv: "x ~/innocent", note: "keys"},
		{argv: "x ~/.aws ~/.config/gcloud ~/.claude ~/.env ~/.netrc", note: "keys"},
		{argv: "x --config=~/.config/zed", note: "settings"},
		{argv: "x ~/.config", note: "not granted"},
		{argv: "kubernetes-mcp-server --kubeconfig ~/.kube/config", note: "keys"},
		{argv: "x ~/work/.codex", note: "keys"},
		{argv: "x ~/.local/state/casemate/wrap", note: "Casemate"},
	} {
		pr := p.propose(c.argv, c.env, c.base)
		if got := p.mounts(pr); got != c.want {
			t.Errorf("%s: %s, want %s", c.argv, got, c.want)
		}
		if c.note != "" && !strings.Contains(strings.Join(pr.Notes, "\n"), c.note) {
			t.Errorf("%s: notes %q", c.argv, pr.Notes)
		}
	}
	if pr := p.propose("node server.js ./build", nil, "~/src/app"); pr.Cwd != p.path("src/app") {
		t.Error("cwd", pr.Cwd)
	}
}

// No argument leads to a grant that holds or lies in what is never granted,
// however it is written.
func TestNeverWidens(t *testing.T) {
	p := newPlace(t)
	secret := p.mkdir(".ssh")
	p.mkdir("docs")
	for _, way := range []string{"~/.ssh", "~/docs/../.ssh", "~//.ssh/", "~/.ssh/.", "file://~/.ssh", "--x=~/.ssh", "sqlite:////~/.ssh", "~/docs/../../home"} {
		for _, server := range []string{"x", "npx @modelcontextprotocol/server-filesystem", "uvx mcp-python-interpreter --dir", "node", "python3"} {
			for _, m := range p.propose(server+" "+way, nil, p.home).Mounts {
				if within(m.Path, secret) || within(secret, m.Path) {
					t.Errorf("%s %s: %+v", server, way, m)
				}
			}
		}
	}
}

func TestUnderstands(t *testing.T) {
	all, err := catalogue()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ argv, pkg, purpose string }{
		{"npx -y @modelcontextprotocol/server-memory@latest", "@modelcontextprotocol/server-memory", "graph"},
		{"npm exec --yes -- @playwright/mcp@0.1 --headless", "@playwright/mcp", "browser"},
		{"pnpm dlx mcp-server-commands", "mcp-server-commands", "commands"},
		{"bunx chrome-devtools-mcp", "chrome-devtools-mcp", "browser"},
		{"uvx --python 3.12 mcp-alchemy[x]>=1", "mcp-alchemy", "SQL"},
		{"uv tool run mcp-server-time", "mcp-server-time", "time"},
		{"uv run --directory /x mcp-server-time", "mcp-server-time", "time"},
		{"pipx run --spec cli-mcp-server==1 cli-mcp-server", "cli-mcp-server", "folder"},
		{"python3.11 -m mcp_server_calculator", "mcp-server-calculator", "calculates"},
		{"python -u -m word_document_server", "word-document-server", "Word"},
		{"/opt/bin/mcp-server-sqlite", "", "SQLite"},
		{"node /x/node_modules/@eslint/mcp/src/mcp-cli.js", "@eslint/mcp", "JavaScript"},
		{"/x/node_modules/.bin/dbhub", "", "databases"},
		{"npx", "", ""},
		{"npx -y", "", ""},
		{"bash -c whatever", "", ""},
		{"something --else", "", ""},
	} {
		got := understand(strings.Fields(c.argv), all)
		purpose := ""
		if got.known != nil {
			purpose = got.known.Purpose
		}
		if got.pkg != c.pkg || !strings.Contains(purpose, c.purpose) || c.purpose == "" && purpose != "" {
			t.Errorf("%s: %q %q", c.argv, got.pkg, purpose)
		}
	}
}

// The data file says what it says in the words that the code knows, and no two
// servers share a name of a program.
func TestServersFile(t *testing.T) {
	all, err := catalogue()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for name, k := range all {
		if k.Purpose == "" || k.Paths != "" && k.Paths != "read" && k.Paths != "write" {
			t.Errorf("%s: %+v", name, k)
		}
		for o, access := range k.Options {
			if !strings.HasPrefix(o, "-") || access != "read" && access != "write" {
				t.Errorf("%s: %s: %s", name, o, access)
			}
		}
		for _, b := range append(k.Bins, k.Module, name) {
			if other := seen[b]; b != "" && other != "" {
				t.Errorf("%s and %s are both %s", name, other, b)
			}
			seen[b] = name
		}
	}
}

func TestRedact(t *testing.T) {
	for _, c := range []struct{ argv, want string }{
		{"npx -y @scope/some-server-with-long-name1@1.2.3 /home/me/docs", ""},
		{"x --api-key abc --port 80", "x --api-key … --port 80"},
		{"x --token=abc --url=postgres://u:p@db.test:5432/x?y", "x --token=… --url=postgres://db.test:5432/…"},
		{"x https://u:p@host.test/path?key=1", "x https://host.test/…"},
		{"x sk-abc ghp_abc eyJhbGciOi", "x … … …"},
		{"x 0123456789abcdef0123456789abcdef", "x …"},
		{"x API_KEY=abc postgres://u:p@[bad", "x API_KEY=… postgres://…"},
		{"x --header Authorization:~Bearer~abc -H X-Some:abc Cookie:abc", "x --header Authorization: … -H X-Some: … Cookie: …"},
		{"x --header Referer:~https://u:p@host.test", "x --header Referer: …"},
		{`x {"api_key":~"abc"} password~=~abc a~b`, "x … … a b"},
		{"x --pat abc --path abc --client-secret -ABC --auth --verbose", "x --pat … --path abc --client-secret … --auth --verbose"},
		{"x C:/windows host:80 a:b", ""},
	} {
		if c.want == "" {
			c.want = c.argv
		}
		argv := strings.Fields(c.argv)
		for i := range argv { // a blank within one
			argv[i] = strings.ReplaceAll(argv[i], "~", " ")
		}
		if got := strings.Join(Redact(argv), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.argv, got, c.want)
		}
	}
}

func TestConfigurations(t *testing.T) {
	p := newPlace(t)
	p.write(".claude.json", "{}")
	p.write(".config/zed/settings.json", "{")
	p.write("work/.vscode/mcp.json", `{"servers": {}}`)
	var got []string
	for _, c := range Configurations(p.home, p.path(".config"), p.path("work")) {
		_, err := c.Read()
		got = append(got, fmt.Sprint(c.Client, " ", strings.TrimPrefix(c.Path, p.home), " ", err == nil))
	}
	if want := "[Claude Code /.claude.json false VS Code /work/.vscode/mcp.json true Zed /.config/zed/settings.json false]"; fmt.Sprint(got) != want {
		t.Error(got)
	}
}

func TestExpands(t *testing.T) {
	for _, c := range []struct{ path, arg, want string }{
		{"/h/.claude.json", "${HOME}/x", "/h/x"},
		{"/h/.claude.json", "${HOME:-/y}/x", "/h/x"},
		{"/h/.claude.json", "$HOME/${KEY}", "$HOME/${KEY}"},
		{"/h/.gemini/settings.json", "$HOME/x", "/h/x"},
		{"/p/.vscode/mcp.json", "${workspaceFolder}/x/${userHome}", "/p/x//h"},
		{"/p/.vscode/mcp.json", "${input:key}", "${input:key}"},
		{"/h/.config/opencode/opencode.json", "{env:HOME}/x", "/h/x"},
		{"/h/.config/Claude/claude_desktop_config.json", "${HOME}/x", "${HOME}/x"},
	} {
		d := &Document{client: clientOf(c.path)}
		if got := d.expand(c.arg, "/h", projectOf(c.path)); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.path, c.arg, got, c.want)
		}
	}
}
