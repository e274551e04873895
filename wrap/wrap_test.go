package wrap

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

var update = flag.Bool("update", false, "write the golden files")

func samples(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/clients/*")
	if err != nil || len(files) < 15 {
		t.Fatal(len(files), err)
	}
	return files
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// names gives every server that can be wrapped the name of its key.
func names(d *Document) (names, added map[string]bool, byID map[string]string) {
	byID, added = map[string]string{}, map[string]bool{}
	for _, s := range d.Servers {
		if s.State == Plain {
			byID[s.ID()] = nameOf(s.Key, 1)
			added[s.ID()] = s.args == nil && !s.command.isList()
		}
	}
	return nil, added, byID
}

// Every client's configuration, wrapped, is what a person who knows the
// client would write; and unwrapped it is what it was, to the byte.
func TestGolden(t *testing.T) {
	for _, file := range samples(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			src := read(t, file)
			d, err := Read(file, src)
			if err != nil {
				t.Fatal(err)
			}
			_, added, byID := names(d)
			if len(byID) == 0 {
				t.Fatal("no server was found")
			}
			out := d.Wrap("casemate", byID)
			next, err := d.checked(file, out)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			golden := filepath.Join("testdata/wrapped", filepath.Base(file))
			if *update {
				if err := os.WriteFile(golden, out, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := read(t, golden); !bytes.Equal(out, want) {
				t.Errorf("wrapped:\n%s\nwant:\n%s", out, want)
			}
			if back := next.Unwrap(nil, added); !bytes.Equal(back, src) {
				t.Errorf("unwrapped:\n%q\nwant:\n%q", back, src)
			}
			for i, s := range next.Servers {
				if was := d.Servers[i]; was.State == Plain && (s.State != Wrapped || s.Name != byID[s.ID()]) {
					t.Errorf("%s is %s under %q", s.Key, s.State, s.Name)
				}
			}
			if again := next.Wrap("casemate", byID); !bytes.Equal(again, out) {
				t.Error("a second time it is another")
			}
		})
	}
}

// The bytes outside what wrap inserted and replaced are those of the file.
func TestKeepsEveryOtherByte(t *testing.T) {
	for _, file := range samples(t) {
		src := read(t, file)
		d, err := Read(file, src)
		if err != nil {
			t.Fatal(err)
		}
		_, _, byID := names(d)
		out := d.Wrap("casemate", byID)
		rest := out
		for _, s := range d.Servers {
			if s.State != Plain || s.command.isList() {
				continue
			}
			rest = bytes.Replace(rest, []byte(`"casemate"`), src[s.command.start:s.command.end], 1)
		}
		// What is left is the original with text inserted: it is a subsequence of lines' bytes.
		i := 0
		for _, c := range rest {
			if i < len(src) && c == src[i] {
				i++
			}
		}
		if i != len(src) {
			t.Errorf("%s: byte %d (%q) of the original is lost", file, i, src[i:min(len(src), i+20)])
		}
	}
}

func TestStates(t *testing.T) {
	for _, c := range []struct {
		file, key string
		state     State
		why       string
	}{
		{"claude.json", "remote", Remote, "URL"},
		{"vscode.json", "web", Remote, "URL"},
		{"vscode.json", "containers", Alone, "docker"},
		{"windsurf.json", "two", Remote, "URL"},
		{"zed.json", "extension", Alone, "no program"},
		{"goose.yaml", "developer", Alone, "builtin"},
		{"goose.yaml", "anchored", Alone, "not written as a word"},
		{"goose.yaml", "web", Remote, "URL"},
		{"opencode.jsonc", "far", Remote, "URL"},
		{"codex.toml", "remote", Remote, "URL"},
	} {
		path := filepath.Join("testdata/clients", c.file)
		d, err := Read(path, read(t, path))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, s := range d.Servers {
			if s.Key == c.key {
				found = true
				if s.State != c.state || !strings.Contains(s.Why, c.why) {
					t.Errorf("%s %s: %s %q", c.file, c.key, s.State, s.Why)
				}
			}
		}
		if !found {
			t.Errorf("%s has no %s", c.file, c.key)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ file, src, why string }{
		{"a.json", `{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}`, `stands twice`},
		{"a.json", `{"mcpServers": {"a": {"command": "x", "command": "y"}}}`, `1:39: the name "command" stands twice`},
		{"a.json", `{"mcpServers": {"a": {"comm\u0061nd": "x", "command": "y"}}}`, `stands twice`},
		{"a.json", `{"mcpServers": {`, `expected`},
		{"a.json", `{"mcpServers": {}} x`, `follows`},
		{"a.json", `{"mcpServers": {"a": {"command": "\ud800"}}}`, `escape`},
		{"a.json", "{\"mcpServers\": {\"a\": {\"command\": \"\xff\"}}}", `UTF-8`},
		{"a.json", "{\"mcpServers\": \x00}", `NUL`},
		{"a.json", `{"a": 01}`, `JSON`},
		{"a.json", `{"a": 'b'}`, `JSON`},
		{"a.json", `{"a": [1,,2]}`, `JSON`},
		{"a.json", `{"a" 1}`, `colon`},
		{"a.json", `/* {"mcpServers": {}}`, `comment`},
		{"a.json", ``, `ends`},
		{"a.json", `[]`, `not the configuration`},
		{"a.json", `{"mcpServers": []}`, `not the configuration`},
		{"a.json", `{"servers": {"nginx": {"listen": 80}}}`, `not the configuration`},
		{"package.json", `{"name": "x", "dependencies": {}}`, `not the configuration`},
		{"a.json", strings.Repeat("[", 500), `nested`},
		{"a.toml", "[mcp_servers.a]\ncommand = \"x\"\ncommand = \"y\"\n", `3:1: the name "command" stands twice`},
		{"a.toml", "[mcp_servers.a]\ncommand = \"x\"\n[mcp_servers.a]\n", `stands twice`},
		{"a.toml", "mcp_servers = {a = {command = \"x\"}}\n[mcp_servers.b]\ncommand = \"y\"\n", `no table`},
		{"a.toml", "mcp_servers = {a.command = \"x\"}\n", `dotted`},
		{"a.toml", "[mcp_servers.a]\ncommand = x\n", `TOML`},
		{"a.toml", "[mcp_servers.a]\ncommand = \"x\" y\n", `goes on`},
		{"a.toml", "[mcp_servers.a\n", `]`},
		{"a.toml", "[mcp_servers.a]\ncommand = \"x\n", `control`},
		{"a.toml", "x = 1\n", `not the configuration`},
		{"a.yaml", "extensions:\n  a: {type: stdio, cmd: x}\n  a: {type: stdio, cmd: y}\n", `stands twice`},
		{"a.yaml", "extensions:\n  a: {type: stdio, cmd: x, cmd: y}\n", `stands twice`},
		{"a.yaml", "extensions: {a: {type: stdio}\n", `not YAML`},
		{"a.yaml", "extensions: {a: {type: stdio, cmd: x}}\n---\na: 1\n", `more than one`},
		{"a.yaml", "# \u2028\nextensions: {a: {type: stdio, cmd: x}}\n", `line break`},
		{"a.yaml", "a: 1\n", `not the configuration`},
		{"a.yaml", "", `not the configuration`},
	} {
		_, err := Read("/x/"+c.file, []byte(c.src))
		e, ok := errors.AsType[*casemate.Error](err)
		if !ok || e.Kind != casemate.Invalid || !strings.Contains(err.Error(), c.why) || e.Fix == "" {
			t.Errorf("%q: %v", c.src, err)
		}
	}
}

// A mistake never shows what the file holds.
func TestErrorsShowNoSecret(t *testing.T) {
	for _, src := range []string{
		`{"mcpServers": {"a": {"env": {"K": "TOPSECRET}}}`,
		`{"mcpServers": {"a": {"env": {"K": TOPSECRET}}}}`,
	} {
		if _, err := Read("/x/a.json", []byte(src)); err == nil || strings.Contains(err.Error(), "TOPSECRET") {
			t.Error(err)
		}
		if _, err := Read("/x/a.yaml", []byte("extensions:\n  a: 'TOPSECRET\n   b: *TOPSECRET\n")); err == nil || strings.Contains(err.Error(), "TOPSECRET") {
			t.Error(err)
		}
	}
}
