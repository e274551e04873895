package catalog

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

const serverSource = `version: 1
profiles:
  base: {memory: 64MiB, filesystem: [{path: ./data, at: /data, access: write}]}
tools:
  - name: plain
    mcp:
      command: [python3, ./server.py]
      split: per-tool
      tools:
        read_it: {security: {filesystem: [{path: ./data, at: /data, access: read}], scope: call}}
        "*": {security: {memory: 32MiB}}
    security: base
`

// load loads a configuration of a folder with data and server.py in it.
func loadServers(t *testing.T, src string, change ...func(*Options)) *Config {
	t.Helper()
	dir := folder(t, map[string]string{"casemate.yaml": src, "data/": "", "server.py": "print()", "state/": ""})
	if err := os.Chmod(dir+"/state", 0o700); err != nil {
		t.Fatal(err)
	}
	return reload(t, dir, change...)
}

func reload(t *testing.T, dir string, change ...func(*Options)) *Config {
	t.Helper()
	o := options()
	o.State = dir + "/state"
	for _, f := range change {
		f(&o)
	}
	c, err := Load(filepath.Join(dir, "casemate.yaml"), o)
	if err == nil {
		err = c.CheckLock()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// lists is what a router would say of a server with these tools.
func lists(tools ...string) []byte {
	return []byte(`{"initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}, "tools": [` + strings.Join(tools, ",") + `]}`)
}

func listedTool(name string) string {
	return `{"name": "` + name + `", "description": "Does <` + name + `>.", "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}}}`
}

// approve approves what the server of that name lists.
func approve(t *testing.T, c *Config, server string, tools ...string) {
	t.Helper()
	l, err := NewListing(c.Server(server).Run.MCP.Command, lists(tools...))
	if err == nil {
		err = c.Approve(map[string]Listing{server: l}, true)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func names(c *Config) (out []string) {
	for _, t := range c.Tools {
		out = append(out, string(t.Name))
	}
	return out
}

func TestServerBecomesTools(t *testing.T) {
	c := loadServers(t, serverSource)
	if len(c.Tools) != 0 || len(c.Servers) != 1 || len(c.Unlisted()) != 1 || c.Servers[0].Run.MCP.Listed != nil {
		t.Fatalf("before it is listed: tools %v, servers %v", names(c), c.Servers)
	}
	approve(t, c, "plain", listedTool("read_it"), listedTool("write_it"))
	again := reload(t, c.Dir)
	for _, c := range []*Config{c, again} {
		if got := strings.Join(names(c), " "); got != "read_it write_it" || len(c.Unlisted()) != 0 || len(c.Unsupported) != 0 {
			t.Fatalf("tools %s, unlisted %v, unsupported %v", got, c.Unlisted(), c.Unsupported)
		}
		read, write, base := find(c, "read_it"), find(c, "write_it"), c.Servers[0]
		if s := read.Security; s.Memory != 64<<20 || s.Filesystem[0].Access != casemate.Read || s.Scope != casemate.ScopeCall {
			t.Errorf("read_it %+v: what it does not state is the server's", s)
		}
		if s := write.Security; s.Memory != 32<<20 || s.Filesystem[0].Access != casemate.Write || s.Scope != casemate.ScopeSession {
			t.Errorf("write_it %+v: * stands for it", s)
		}
		if s := base.Security; s.Memory != 64<<20 || s.Scope != casemate.ScopeSession {
			t.Errorf("the server itself %+v", s)
		}
		if read.Description != "Does <read_it>." || read.Run.MCP.Tool != "read_it" || read.Run.MCP.Server != "plain" || !read.Run.MCP.Split {
			t.Errorf("read_it %+v %+v", read, read.Run.MCP)
		}
		var m struct{ Name, Description string }
		if json.Unmarshal(read.Run.MCP.Listed, &m) != nil || m.Description != "Does <read_it>." || !strings.Contains(string(base.Run.MCP.Listed), `"2025-06-18"`) {
			t.Errorf("listed %s, %s", read.Run.MCP.Listed, base.Run.MCP.Listed)
		}
		if read.Guest() == write.Guest() || read.Guest() == base.Guest() {
			t.Error("tools of a split server share a sandbox")
		}
	}
	if !reflect.DeepEqual(c.Tools, again.Tools) || !reflect.DeepEqual(c.Servers, again.Servers) {
		t.Error("what was listed just now is not what is read of the lock")
	}
}

// TestServerSharesOneSandbox: without split, the tools are served by the
// server's own sandbox.
func TestServerSharesOneSandbox(t *testing.T) {
	c := loadServers(t, "version: 1\ntools:\n  - name: a\n    mcp: {command: [a]}\n")
	approve(t, c, "a", listedTool("x"), listedTool("y"))
	if c.Tools[0].Guest() != c.Tools[1].Guest() || c.Tools[0].Guest() != c.Servers[0].Guest() {
		t.Error("they do not")
	}
}

func TestNamesOfServersTools(t *testing.T) {
	two := "version: 1\ntools:\n  - {name: x, run: {shell: {}}}\n  - {name: a, mcp: {command: [a]%s}}\n  - {name: b, mcp: {command: [b]%s}}\n"
	one := "version: 1\ntools:\n  - {name: x, run: {shell: {}}}\n  - {name: a, mcp: {command: [a]%s}}\n"
	for _, c := range []struct {
		name, src, a, b string
		tools           []string
		refused         string // words of it, with "; " between
	}{
		{name: "a lone one keeps its names", src: one, tools: []string{"x", "t.1"}},
		{name: "a lone one with a prefix", src: one, a: ", prefix: p-", tools: []string{"x", "p-t.1"}},
		{name: "several", src: two, tools: []string{"x", "a_t.1", "b_t.1"}},
		{name: "several, one of them without", src: two, a: `, prefix: ""`, tools: []string{"x", "t.1", "b_t.1"}},
		{name: "two of one name", src: two, a: `, prefix: ""`, b: `, prefix: ""`, tools: []string{"x"}, refused: "t.1; server b; server a; prefix: b_"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := strings.Replace(strings.Replace(c.src, "%s", c.a, 1), "%s", c.b, 1)
			cfg := loadServers(t, src)
			for _, s := range cfg.Servers {
				approve(t, cfg, string(s.Name), listedTool("t.1"))
			}
			if got := names(cfg); !slices.Equal(got, c.tools) {
				t.Errorf("tools %v, want %v", got, c.tools)
			}
			checkRefused(t, cfg, c.refused)
		})
	}
}

func checkRefused(t *testing.T, c *Config, words string) {
	t.Helper()
	if words == "" {
		if len(c.Unsupported) > 0 {
			t.Errorf("refused %v", c.Unsupported)
		}
		return
	}
	if len(c.Unsupported) != 1 {
		t.Fatalf("refused %v, want one for %s", c.Unsupported, words)
	}
	e := c.Unsupported[0]
	for _, w := range strings.Split(words, "; ") {
		if !strings.Contains(e.Error()+" "+e.Fix, w) {
			t.Errorf("%q is not in %v; fix %s", w, e, e.Fix)
		}
	}
}

// TestWhatAServerListsIsData: one tool that cannot be used keeps no other away
// and gets no name that is another's.
func TestWhatAServerListsIsData(t *testing.T) {
	schema := func(s string) string { return `{"name": "bad", "inputSchema": ` + s + `}` }
	for _, c := range []struct{ name, tool, refused string }{
		{"shadows a tool of the file", listedTool("mine"), "mine; would shadow; prefix: a_"},
		{"the same name again", listedTool("good"), "two tools of that name"},
		{"a name with a space", listedTool("a b"), "a#1; its name is not"},
		{"a name that a terminal obeys", listedTool(`\u001b[2J`), "a#1; its name is not"},
		{"no name", `{"inputSchema": {"type": "object"}}`, "its name is not"},
		{"a name that is too long", listedTool(strings.Repeat("x", 129)), "its name is not"},
		{"a description that is no text", `{"name": "bad", "description": [], "inputSchema": {"type": "object"}}`, "description is not text"},
		{"no schema", `{"name": "bad"}`, "not the schema of an object"},
		{"schema of text", schema(`{"type": "string"}`), "not the schema of an object"},
		{"schema of anything", schema(`true`), "not the schema of an object"},
		{"schema by another case", schema(`{"Type": "object"}`), "not the schema of an object"},
		{"schema that reads a file", schema(`{"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}}`), "refers outside itself"},
		{"schema that is none", schema(`{"type": "object", "properties": []}`), "cannot be used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := loadServers(t, "version: 1\ntools:\n  - {name: mine, run: {shell: {}}}\n  - {name: a, mcp: {command: [a]}}\n")
			approve(t, cfg, "a", listedTool("good"), c.tool)
			want := []string{"mine", "good"}
			if c.refused == "two tools of that name" {
				want = want[:1]
			}
			if got := names(cfg); !slices.Equal(got, want) || find(cfg, "mine").Run.Shell == nil {
				t.Errorf("tools %v, want %v", got, want)
			}
			checkRefused(t, cfg, c.refused)
		})
	}
}

// TestPatternsOfOtherDialects: what Go's regular expressions do not know is
// checked by the server alone, and everything else still here.
func TestPatternsOfOtherDialects(t *testing.T) {
	cfg := loadServers(t, "version: 1\ntools:\n  - {name: a, mcp: {command: [a]}}\n")
	raw := `{"name": "mail", "inputSchema": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {` +
		`"to": {"type": "string", "format": "email", "pattern": "^(?!\\.)[a-z.]+@[a-z.]+$"}, "id": {"type": "string", "pattern": "^[0-9]+$"}, "pattern": {"const": {"pattern": "(?!"}}}}}`
	approve(t, cfg, "a", raw)
	mail := find(cfg, "mail")
	if mail == nil {
		t.Fatal(cfg.Unsupported)
	}
	want := `{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"id":{"pattern":"^[0-9]+$","type":"string"},"pattern":{"const":{"pattern":"(?!"}},"to":{"format":"email","type":"string"}},"type":"object"}`
	if string(mail.Parameters) != want {
		t.Errorf("parameters %s", mail.Parameters)
	}
	if !strings.Contains(string(mail.Run.MCP.Listed), `(?!\\.)`) {
		t.Errorf("listed %s", mail.Run.MCP.Listed)
	}
}

func TestListingsThatAreNone(t *testing.T) {
	for _, c := range []struct{ name, raw, want string }{
		{"nothing", "", "no JSON"},
		{"no object", "[]", "no JSON object"},
		{"no initialize", `{"tools": []}`, "initialize"},
		{"initialize is a list", `{"initialize": [], "tools": []}`, "initialize is no JSON object"},
		{"no tools", `{"initialize": {}}`, "tools is no list"},
		{"tools by another case", `{"initialize": {}, "Tools": []}`, "tools is no list"},
		{"a key twice", `{"initialize": {}, "tools": [], "tools": []}`, `has the key "tools" twice`},
		{"a key twice, deep", string(lists(`{"name": "a", "name": "b"}`)), `has the key "name" twice`},
		{"a key twice by an escape", string(lists(`{"name": "a", "n\u0061me": "b"}`)), `has the key "name" twice`},
		{"two values", string(lists()) + "{}", "after its JSON value"},
		{"a number for a calculator", string(lists(`{"name": "a", "inputSchema": {"type": "object", "maxProperties": 1e10000000}}`)), "an exponent beyond"},
		{"deep", string(lists(strings.Repeat("[", 100) + strings.Repeat("]", 100))), "nested deeper"},
		{"a tool that is none", string(lists(`7`)), "tool 0 is no JSON object"},
		{"a large tool", string(lists(`{"name": "` + strings.Repeat("x", maxListed) + `"}`)), "larger than 256 KiB"},
		{"many tools", string(lists(strings.TrimSuffix(strings.Repeat("{},", maxTools+1), ","))), "at most 1000"},
		{"large", `{"initialize": {}, "tools": ["` + strings.Repeat("x", maxListing) + `"]}`, "larger than"},
		{"no text", "{\"initialize\": {}, \"tools\": [\"\xff\"]}", "not UTF-8"},
	} {
		_, err := NewListing([]string{"a"}, []byte(c.raw))
		if casemate.KindOf(err) != casemate.ToolFailed || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// TestServersVariables: a variable that is not set costs its server alone, and
// one that comes with each session is not looked up.
func TestServersVariables(t *testing.T) {
	src := "version: 1\ntools:\n  - {name: x, run: {shell: {}}}\n  - {name: a, mcp: {command: [a], prefix: \"\"}, security: {env: [UNSET_KEY]}}\n  - {name: b, mcp: {command: [b], prefix: \"\"}, security: {env: [API_KEY]}}\n"
	c := loadServers(t, src)
	approve(t, c, "a", listedTool("one"))
	approve(t, c, "b", listedTool("two"))
	if got := names(c); !slices.Equal(got, []string{"x", "two"}) || find(c, "two").Security.Env["API_KEY"] != "value of API_KEY" {
		t.Errorf("tools %v", got)
	}
	checkRefused(t, c, "a; UNSET_KEY; set it")

	passed := reload(t, c.Dir, func(o *Options) {
		o.Pass = true
		o.Getenv = func(k string) (string, bool) { return "the router's own", true }
	})
	if got := names(passed); !slices.Equal(got, []string{"x", "one", "two"}) {
		t.Fatalf("tools %v", got)
	}
	for name, want := range map[casemate.ToolName]string{"one": "UNSET_KEY", "two": "API_KEY"} {
		if s := find(passed, name).Security; !slices.Equal(s.Pass, []string{want}) || len(s.Env) > 0 {
			t.Errorf("%s %+v", name, s)
		}
	}
	if !reflect.DeepEqual(c.Lock().Tools, passed.Lock().Tools) {
		t.Error("what is passed on changes the pins")
	}
}

// TestServerIsPinned: the lock covers the command, the profiles of the tools,
// and the files of the folder that the command names.
func TestServerIsPinned(t *testing.T) {
	src := strings.ReplaceAll(serverSource, "at: /data", "at: /data") + "  - name: other\n    mcp: {command: [python3, /srv/server.py]}\n    security: {filesystem: [{path: ./server.py, at: /srv/server.py}]}\n"
	c := loadServers(t, src)
	if err := c.WriteLock(); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(c.Pinned(), c.Dir+"/server.py") {
		t.Errorf("pinned %v", c.Pinned())
	}
	o := options()
	for _, change := range []struct{ name, file, from, to string }{
		{"the command", "casemate.yaml", "./server.py]", "./evil.py]"},
		{"the profile of a tool", "casemate.yaml", "access: read", "access: write"},
		{"the file that it runs", "server.py", "print()", "steal()"},
	} {
		file := filepath.Join(c.Dir, change.file)
		was, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(was), change.from, change.to, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		d, err := Load(c.File, o)
		if err != nil {
			t.Fatal(change.name, err)
		}
		denied(t, d.CheckLock(), "has changed since it was pinned")
		if d.Digest == c.Digest {
			t.Errorf("%s: the same digest", change.name)
		}
		if err := os.WriteFile(file, was, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	reload(t, c.Dir)
}

// TestSummaryOfServers: whoever is asked to trust a file reads what a server and
// each of its tools would get.
func TestSummaryOfServers(t *testing.T) {
	src := strings.Replace(serverSource, "split: per-tool", "split: per-tool\n      sampling: true\n      elicitation: true", 1)
	got := strings.Join(loadServers(t, src).Summary(), "\n")
	for _, want := range []string{
		`plain: runs the MCP server ["python3" "./server.py"], a sandbox for each of its tools, which may ask for the planner's model, which may ask the user; network none; writes `,
		"plain, its tool read_it: runs ", "reads \"", "plain, its tool *: runs ", "memory 32 MiB", "lives for a session",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

// TestMistakesOfAServerAreSaidOnce: what its tools take over from it too.
func TestMistakesOfAServerAreSaidOnce(t *testing.T) {
	_, err := Parse("/c/casemate.yaml", []byte(strings.Replace(strings.Replace(serverSource, "security: base", "security: {cwd: /a/}", 1), "memory: 32MiB", "memory: 16MiB", 1)), Options{})
	if err == nil || strings.Count(err.Error(), "not a clean path") != 1 {
		t.Errorf("%v", err)
	}
}

// TestListingsInTheLock: another command is another server, a listing that was
// changed by hand is none, and writing pins keeps listings.
func TestListingsInTheLock(t *testing.T) {
	src := "version: 1\ntools:\n  - name: a\n    mcp: {command: [a]}\n"
	c := loadServers(t, src)
	approve(t, c, "a", listedTool("x"))
	if l, _ := c.readLock(c.LockFile()); l.Tools != nil {
		t.Error("a listing pins tools that nobody pinned")
	}
	if err := c.WriteLock(); err != nil {
		t.Fatal(err)
	}
	if got := names(reload(t, c.Dir)); !slices.Equal(got, []string{"x"}) {
		t.Fatalf("tools %v", got)
	}
	lock, err := os.ReadFile(c.LockFile())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(lock), "Does <x>.") {
		t.Errorf("a person cannot read it: %s", lock)
	}
	if err := os.WriteFile(c.LockFile(), []byte(strings.Replace(string(lock), "Does <x>.", "Obey <x>.", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	denied(t, c.CheckLock(), "servers.a", "its digest is not that of its content")
	if err := os.WriteFile(c.LockFile(), lock, 0o644); err != nil {
		t.Fatal(err)
	}

	// First use does not replace what another process approved meanwhile.
	other, err := NewListing([]string{"a"}, lists(listedTool("evil")))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Approve(map[string]Listing{"a": other}, true); err != nil || !slices.Equal(names(c), []string{"x"}) {
		t.Errorf("%v, %v", names(c), err)
	}
	if err := c.Approve(map[string]Listing{"a": other}, false); err != nil || !slices.Equal(names(c), []string{"evil"}) {
		t.Errorf("%v, %v", names(c), err)
	}

	os.Remove(c.LockFile())
	approve(t, reload(t, c.Dir), "a", listedTool("x"))
	if err := os.WriteFile(c.File, []byte(strings.Replace(src, "[a]", "[a, --more]", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if d := reload(t, c.Dir); len(d.Tools) != 0 || len(d.Unlisted()) != 1 {
		t.Errorf("another command has the tools %v", names(d))
	}
}

// TestARepositoryApprovesNothing: what lies beside a configuration that merely
// lies in a folder is not taken for the user's approval.
func TestARepositoryApprovesNothing(t *testing.T) {
	stranger := func(o *Options) { o.Operator = false }
	c := loadServers(t, "version: 1\ntools:\n  - name: a\n    mcp: {command: [a]}\n", stranger)
	approve(t, c, "a", listedTool("mine"))
	if _, err := os.Lstat(c.LockFile()); err == nil {
		t.Error("an approval of the user's was written into the folder")
	}
	if err := c.WriteLock(); err != nil {
		t.Fatal(err)
	}
	theirs, err := NewListing([]string{"a"}, lists(listedTool("theirs")))
	if err == nil {
		err = writeLock(c.LockFile(), Lock{Version: 1, Tools: c.pins, Servers: map[string]Listing{"a": theirs}}, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	c = reload(t, c.Dir, stranger)
	if got := names(c); !slices.Equal(got, []string{"mine"}) {
		t.Errorf("tools %v", got)
	}
	if err := c.WriteLock(); err != nil { // which keeps what others approved, for others
		t.Fatal(err)
	}
	if l, err := c.readLock(c.LockFile()); err != nil || !reflect.DeepEqual(l.Servers["a"], theirs) || l.Tools["a"] == "" {
		t.Errorf("beside the file: %+v, %v", l, err)
	}
	if named := reload(t, c.Dir); !slices.Equal(names(named), []string{"theirs"}) {
		t.Errorf("named by its operator: %v", names(named))
	}
}

func TestProfilesByName(t *testing.T) {
	c := loadServers(t, "version: 1\nprofiles:\n  plain: {memory: 32MiB}\n  timed: {timeout: 5s}\n  keyed: {env: [UNSET_X]}\n  strong: {network: {rules: [{host: a.test}]}}\ntools: []\n")
	if p := c.Profiles["plain"]; p.Memory != 32<<20 || p.Timed || p.Unsupported != nil {
		t.Errorf("plain %+v", p)
	}
	if p := c.Profiles["timed"]; !p.Timed || p.Timeout.Seconds() != 5 {
		t.Errorf("timed %+v", p)
	}
	for name, word := range map[string]string{"keyed": "UNSET_X is not set", "strong": "rules of the network"} {
		if e := c.Profiles[name].Unsupported; e == nil || !strings.Contains(strings.ReplaceAll(e.Error(), `"`, ""), word) {
			t.Errorf("%s %v", name, e)
		}
	}
}

// FuzzListing: whatever a router says, it is taken whole or not at all, and
// what is taken is read of the lock as it was written.
func FuzzListing(f *testing.F) {
	f.Add(lists(listedTool("a"), listedTool("b")))
	f.Add(lists(`{"name": "<\u2028>", "inputSchema": {"type": "object"}}`))
	f.Add([]byte(`{"initialize": {"a": 1e400}, "tools": [{"name": 1}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := NewListing([]string{"a"}, raw)
		if err != nil {
			return
		}
		j, err := encodeLock(Lock{Version: 1, Servers: map[string]Listing{"s": l}})
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeLock(j)
		if err != nil || !reflect.DeepEqual(back.Servers["s"], l) {
			t.Fatalf("written %+v, read %+v, %v", l, back.Servers["s"], err)
		}
		for _, raw := range l.Tools {
			if x, err := readListed(raw); err == nil && !serverTool.MatchString(x.name) {
				t.Fatalf("the name %q", x.name)
			}
		}
	})
}

// FuzzLock: a lock is read as one thing or refused.
func FuzzLock(f *testing.F) {
	l, _ := NewListing([]string{"a"}, lists(listedTool("a")))
	j, _ := encodeLock(Lock{Version: 1, Tools: map[casemate.ToolName]casemate.Digest{"a": "sha256:00"}, Servers: map[string]Listing{"s": l},
		Wrapped: map[string]Wrapped{"w": {Argv: []string{"a"}}}, Packages: map[string]json.RawMessage{"p": []byte(`{"a":1}`)}})
	f.Add(j)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"servers":{"a":{"tools":[null]}}}`))
	f.Fuzz(func(t *testing.T, j []byte) {
		l, err := decodeLock(j)
		if err != nil {
			return
		}
		again, err := encodeLock(l)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeLock(again); err != nil || len(back.Servers) != len(l.Servers) || len(back.Wrapped) != len(l.Wrapped) {
			t.Fatalf("%v: %s", err, again)
		}
	})
}
