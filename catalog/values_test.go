package catalog

import (
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
)

func everything(t *testing.T) (string, *Config) {
	t.Helper()
	dir := folder(t, map[string]string{"casemate.yaml": good(t)["everything.yaml"], "docs/": "", "work/": "", "bin/tool": "#!/bin/sh\n"})
	c, err := Load(filepath.Join(dir, "casemate.yaml"), options())
	if err != nil {
		t.Fatal(err)
	}
	return dir, c
}

func TestEveryKeyArrives(t *testing.T) {
	dir, c := everything(t)
	var names []string
	for _, tool := range c.Tools {
		names = append(names, string(tool.Name))
	}
	if got, want := strings.Join(names, " "), "python node shell program docs_read_file docs_list_folder docs_search_files "+
		"notes_read_file notes_write_file notes_edit_file notes_list_folder notes_search_files one contained"; got != want {
		t.Errorf("tools\n got %s\nwant %s", got, want)
	}
	python := find(c, "python")
	if want := (casemate.Profile{Isolation: "auto", Assurance: casemate.Weak, Network: casemate.NetworkNone, Env: map[string]string{"LANG": "C.UTF-8", "Y": "no"},
		Cwd: "/tmp", Rate: casemate.Rate{PerMinute: 60, PerDay: 2000, PerSession: 100}, CPU: 2, Memory: 512 << 20, Disk: 1 << 30, Processes: 64,
		Timeout: 90 * time.Second, Output: 1 << 20, Scope: casemate.ScopeCall}); !reflect.DeepEqual(python.Security, want) {
		t.Errorf("python.Security\n got %+v\nwant %+v", python.Security, want)
	}
	if want := `{"additionalProperties":false,"properties":{"code":{"type":"string"}},"required":["code"],"type":"object"}`; string(python.Parameters) != want {
		t.Errorf("python.Parameters %s", python.Parameters)
	}
	if python.Pool != (casemate.Parking{Min: 2, Max: 8}) || !python.Run.Python.NoFork || find(c, "one").Pool != (casemate.Parking{Max: 1}) || c.Server("other").Pool != (casemate.Parking{Min: 1}) {
		t.Errorf("pool %+v, %+v, %+v; fork %+v", python.Pool, find(c, "one").Pool, c.Server("other").Pool, python.Run.Python)
	}
	if python.Roles["code"] != casemate.RoleContent || !slices.Equal(python.Run.Python.Preload, []string{"json", "os.path"}) {
		t.Errorf("python %+v %+v", python.Roles, python.Run.Python)
	}
	contained := find(c, "contained")
	if contained.Image == nil || *contained.Image != (casemate.Image{Reference: "oci:./image"}) || contained.Security.Isolation != "gvisor" || contained.Security.Assurance != casemate.Strong {
		t.Errorf("contained %+v %+v", contained.Image, contained.Security)
	}
	node := find(c, "node")
	if s := node.Security; s.Network != casemate.NetworkLoopback || s.Scope != casemate.ScopeSession || s.CPU != 0.5 || s.Memory != 256<<20 || node.Run.Node.Interpreter != "/usr/bin/node" {
		t.Errorf("node %+v %+v", s, node.Run.Node)
	}
	if find(c, "shell").Security.Memory != 64<<20 || find(c, "shell").Run.Shell == nil {
		t.Error("the profile did not arrive at shell")
	}
	p := find(c, "program")
	if want := []casemate.Mount{
		{Path: dir + "/bin", At: "/opt", Access: casemate.Read, Execute: true},
		{Path: dir + "/work", At: "/work", Access: casemate.Write, Names: []string{".vscode", ".git/hooks"}},
	}; !reflect.DeepEqual(p.Security.Filesystem, want) {
		t.Errorf("program's grants %+v", p.Security.Filesystem)
	}
	if !maps.Equal(p.Security.Env, map[string]string{"API_KEY": "value of API_KEY"}) || p.Run.Exec.Stdin != "{body}" || p.Run.Exec.Result != "json" || p.Roles["count"] != casemate.RoleOption {
		t.Errorf("program %+v %+v", p.Security.Env, p.Run.Exec)
	}
	for name, access := range map[casemate.ToolName]casemate.Access{"notes_read_file": casemate.Read, "notes_search_files": casemate.Read, "notes_write_file": casemate.Write, "one": casemate.Write} {
		if got := find(c, name).Security.Filesystem[0].Access; got != access {
			t.Errorf("%s gets its grant for %s", name, got)
		}
	}
	if h := c.Host; !reflect.DeepEqual(h, Host{State: "/var/empty/casemate", AllowDegraded: []string{"memory", "cpu"}, Client: "exclusive", Pool: Pool{64, 2 << 30}, Concurrency: Concurrency{32, 8}, Callers: map[string]Caller{
		"ci":    {SHA256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", Tools: []string{"program", "docs_*"}},
		"agent": {TokenFile: "/etc/casemate/agent", Contexts: map[string][]string{"read": {"docs_*"}, "nothing": {}}}}}) {
		t.Errorf("host %+v", h)
	}
}

func TestWhatCannotBeEnforcedIsNeverRun(t *testing.T) {
	_, c := everything(t)
	want := map[casemate.ToolName]bool{"": true, "issues": true}
	for _, u := range c.Unsupported {
		if !want[u.Tool] || u.Kind != casemate.Unsupported || u.Fix == "" {
			t.Errorf("%+v", u)
		}
		if u.Tool != "" && find(c, u.Tool) != nil {
			t.Errorf("%s is among the tools all the same", u.Tool)
		}
		delete(want, u.Tool)
		want[""] = true // two of them are of the whole file
	}
	if len(want) != 1 {
		t.Errorf("not reported: %v", want)
	}
	for _, name := range []casemate.ToolName{"server", "other"} { // nobody said yet what they list
		if c.Server(string(name)) == nil || find(c, name) != nil {
			t.Errorf("%s: %v", name, c.Servers)
		}
	}
	if !slices.Equal(c.Warnings, []string{"host.client has no effect in this version", "flow.effect and flow.result are not enforced by this version"}) {
		t.Errorf("warnings %q", c.Warnings)
	}
}

func TestDefaultsAreNothing(t *testing.T) {
	c, err := Parse("/c/casemate.yaml", []byte("version: 1\ntools:\n  - {name: a, run: {shell: {}}}\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Tools[0].Security; !reflect.DeepEqual(s, casemate.Profile{}.WithDefaults()) || len(s.Filesystem)+len(s.Env) > 0 || s.Network != casemate.NetworkNone {
		t.Errorf("%+v", s)
	}
}

func TestOneFilesEntryNamesItsFunctionsPlainly(t *testing.T) {
	dir := folder(t, map[string]string{"w/": ""})
	c, err := Parse(dir+"/casemate.yaml", []byte("version: 1\ntools:\n  - name: files\n    description: Notes.\n    run: {builtin: files}\n    security: {filesystem: [{path: w, at: /w, access: write}]}\n"), options())
	if err != nil {
		t.Fatal(err)
	}
	want := map[casemate.ToolName]string{
		"read_file": "path", "write_file": "path content", "edit_file": "path old new", "list_folder": "path", "search_files": "path",
	}
	for _, tool := range c.Tools {
		for _, arg := range strings.Fields(want[tool.Name]) {
			if !strings.Contains(string(tool.Parameters), `"`+arg+`"`) {
				t.Errorf("%s has no argument %s: %s", tool.Name, arg, tool.Parameters)
			}
		}
		if !strings.Contains(tool.Description, "/w") || !strings.Contains(tool.Description, "Notes.") {
			t.Errorf("%s: %s", tool.Name, tool.Description)
		}
		delete(want, tool.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestOperatorsKeysAreRefusedElsewhere(t *testing.T) {
	opt := options()
	opt.Operator = false
	for key, src := range map[string]string{"host": "version: 1\nhost: {allow_degraded: [memory]}\ntools: []\n", "secrets": "version: 1\nsecrets: {a: {}}\ntools: []\n"} {
		_, err := Parse("/c/casemate.yaml", []byte(src), opt)
		if casemate.KindOf(err) != casemate.Invalid || !strings.Contains(err.Error(), "casemate.yaml:2:1: "+key+": belongs to the operator") {
			t.Errorf("%s: %v", key, err)
		}
		if _, err := Parse("/c/casemate.yaml", []byte(src), options()); err != nil {
			t.Errorf("%s of the operator: %v", key, err)
		}
	}
}

func TestJSONIsTheSameStrictPath(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{`{"version": 1, "version": 1, "tools": []}`, `casemate.json:1:16: duplicate key "version"; it stands at line 1 already`},
		{"{\n\t\"version\": 1,\n\t\"tools\": [\n\t\t{\"name\": \"ä\", \"run\": {\"shell\": {}}}\n\t]\n}", `casemate.json:4:12: tools[0].name: "ä" is not`},
		{`{"version": 1, "Version": 1, "tools": []}`, `casemate.json:1:16: Version: unknown key "Version"; did you mean "version"?`},
		{`{"version": 1, "tools": [}`, "casemate.json:1:26: not JSON: "},
		{`{"version": 1, "tools": []} {}`, "casemate.json:1:29: not JSON: something follows"},
		{`{"version": 1, "tools": [`, "not JSON: the text ends too early"},
		{`{"version": 1, "tools": [], /* c */ "x": 1}`, "not JSON: "},
		{`{"version": 1, "tools": ` + strings.Repeat("[", 100000) + `}`, "casemate.json:1:"},
		{`{"version": 1, "tools": [{"name": "a", "run": {"shell": {}}, "description": "\u0000"}]}`, "holds a NUL byte"},
	} {
		_, err := Parse("/c/casemate.json", []byte(c.src), options())
		if casemate.KindOf(err) != casemate.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: %v", c.src, err)
		}
	}
	dir := folder(t, map[string]string{"casemate.json": good(t)["same.json"]})
	c, err := Load(dir+"/casemate.json", options())
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Tools[0].Description; d != "A pair 😀 and a slash /." {
		t.Errorf("description %q", d)
	}
}

func TestByteOrderMark(t *testing.T) {
	if _, err := Parse("/c/casemate.yaml", []byte("\xef\xbb\xbfversion: 1\ntools: []\n"), options()); err != nil {
		t.Error(err)
	}
}

func TestUnits(t *testing.T) {
	for s, want := range map[string]int64{"1": 1, "512MiB": 512 << 20, "1GiB": 1 << 30, "2KiB": 2048, "1.5KiB": 1536, "1MB": 1e6, "3GB": 3e9, "7B": 7} {
		if got, err := casemate.ParseSize(s); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v", s, got, err)
		}
	}
	for s, want := range map[string]int{"60/min": 60, "2/s": 120} {
		if got, err := parseCalls(s); err != nil || got != want {
			t.Errorf("parseCalls(%q) = %d, %v", s, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range mistakes() {
		f.Add([]byte(m.src), false)
	}
	for name, src := range map[string]string{"casemate.yaml": string(Starter())} {
		f.Add([]byte(src), strings.HasSuffix(name, ".json"))
	}
	f.Add([]byte(`{"version": 1, "tools": []}`), true)
	f.Fuzz(func(t *testing.T, src []byte, asJSON bool) {
		name := "/c/casemate.yaml"
		if asJSON {
			name = "/c/casemate.json"
		}
		c, err := Parse(name, src, Options{Operator: true, Home: "/h"})
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v and error %v", c, err)
		}
		if err != nil {
			if casemate.KindOf(err) != casemate.Invalid {
				t.Fatalf("%v is of kind %s", err, casemate.KindOf(err))
			}
			for _, r := range strings.ReplaceAll(err.Error(), "\n", "") {
				if r < ' ' || r == 0x7f {
					t.Fatalf("control character in %q", err)
				}
			}
			return
		}
		for _, s := range c.Summary() {
			if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("control character in %q", s)
			}
		}
		for _, tool := range c.Tools {
			tool.Digest()
		}
	})
}

func TestImageIsPinned(t *testing.T) {
	of := func(image string) *Config {
		t.Helper()
		c, err := Parse("/c/casemate.yaml", []byte("version: 1\ntools:\n  - name: a\n    image: \""+image+"\"\n    run: {python: {interpreter: /usr/bin/python3}}\n"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	hex := casemate.Digest("sha256:" + strings.Repeat("a", 64))
	one, other := of("x.io/y@"+string(hex)), of("x.io/y@sha256:"+strings.Repeat("b", 64))
	if got := one.Tools[0].Image; *got != (casemate.Image{Reference: "x.io/y@" + string(hex), Digest: hex}) {
		t.Errorf("image %+v", got)
	}
	if one.pins["a"] == other.pins["a"] || one.Tools[0].Digest() == other.Tools[0].Digest() {
		t.Error("another image has the same pin")
	}
	if s := strings.Join(one.Summary(), ""); !strings.Contains(s, `in the image "x.io/y@`) {
		t.Errorf("summary %s", s)
	}
	if got := one.Tools[0].Run.Python.Interpreter; got != "/usr/bin/python3" || len(one.refs) > 0 {
		t.Errorf("interpreter %s, references %q: that of an image is no file of the host", got, one.refs)
	}
}
