package wrap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

// place is a user's home of the test's own.
type place struct {
	*User
	t    *testing.T
	home string
}

func newPlace(t *testing.T) *place {
	home := filepath.Join(t.TempDir(), "home")
	config, state := filepath.Join(home, ".config"), filepath.Join(home, ".local/state/casemate")
	p := &place{t: t, home: home, User: &User{
		Host:     Host{Home: home, Never: []string{state, filepath.Join(config, "casemate")}, Passes: func(string) string { return "" }},
		State:    filepath.Join(state, "wrap"),
		Manifest: filepath.Join(config, "casemate/casemate.yaml"),
		Shim:     "casemate",
		Check:    func([]byte) error { return nil },
	}}
	p.mkdir("")
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.home, name) }

func (p *place) mkdir(name string) string {
	p.t.Helper()
	if err := os.MkdirAll(p.path(name), 0o755); err != nil {
		p.t.Fatal(err)
	}
	return p.path(name)
}

func (p *place) write(name, content string) string {
	p.t.Helper()
	p.mkdir(filepath.Dir(name))
	if err := os.WriteFile(p.path(name), []byte(strings.ReplaceAll(content, "~", p.home)), 0o640); err != nil {
		p.t.Fatal(err)
	}
	return p.path(name)
}

func (p *place) content(path string) string { return string(read(p.t, path)) }

func (p *place) do(plan *Plan, err error) *Plan {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	defer plan.Close()
	if err := errors.Join(plan.Grant(), plan.Apply()); err != nil {
		p.t.Fatal(err)
	}
	return plan
}

func (p *place) wrap(path string) *Plan { p.t.Helper(); return p.do(p.Wrap(path)) }
func (p *place) undo(path string) *Plan { p.t.Helper(); return p.do(p.Undo(path)) }

func (p *place) want(what, got, want string) {
	p.t.Helper()
	if got != want {
		p.t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

func result(t *testing.T, p *Plan, key string) Result {
	t.Helper()
	i := slices.IndexFunc(p.Results, func(r Result) bool { return r.Key == key })
	if i < 0 {
		t.Fatalf("no %s among %+v", key, p.Results)
	}
	return p.Results[i]
}

const config = `{"mcpServers": {
  "notes": {"command": "/usr/bin/python3", "args": ["~/server.py", "~/notes"], "env": {"API_KEY": "hush"}}
}}`

func TestWrapAndUndo(t *testing.T) {
	p := newPlace(t)
	p.mkdir("notes")
	p.write("server.py", "")
	file := p.write("c.json", config)
	was := p.content(file)
	plan := p.wrap(file)
	if fmt.Sprint(plan.Recorded) != fmt.Sprintf("[{notes [/usr/bin/python3 %[1]s/server.py %[1]s/notes]  [] false}]", p.home) {
		t.Error(plan.Recorded)
	}
	r := result(t, plan, "notes")
	if r.Name != "notes" || !r.New || len(r.Read) != 2 || len(r.Write) != 0 || fmt.Sprint(r.Env) != "[API_KEY]" {
		t.Errorf("%+v", r)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Error(info, err)
	}
	if m := p.content(p.Manifest); strings.Contains(m, "hush") || !strings.Contains(m, "env: [API_KEY]") {
		t.Error(m)
	}
	wrapped, manifest := p.content(file), p.content(p.Manifest)
	if again := p.wrap(file); again.Changes || p.content(file) != wrapped || p.content(p.Manifest) != manifest {
		t.Error("a second time something changes")
	}
	plan = p.undo(file)
	p.want("undone", p.content(file), was)
	if fmt.Sprint(plan.Removed) != "[notes]" {
		t.Error(plan.Removed)
	}
	p.want("the manifest", p.content(p.Manifest), header)
	if left, _ := filepath.Glob(filepath.Join(p.State, "*/*")); len(left) > 0 {
		t.Error("left over:", left)
	}
	if _, err := p.Undo(file); casemate.KindOf(err) != casemate.Invalid {
		t.Error("undone twice:", err)
	}
}

// What the user or the client wrote after wrap is not lost by undo.
func TestUndoAfterChange(t *testing.T) {
	p := newPlace(t)
	file := p.write("c.json", config)
	p.wrap(file)
	p.write("c.json", strings.Replace(p.content(file), "{\"mcpServers\"", "{\"later\": [1],\n \"mcpServers\"", 1))
	if plan := p.undo(file); !plan.Edited {
		t.Error("not said")
	}
	p.want("undone", p.content(file), strings.ReplaceAll(strings.Replace(config, "{\"mcpServers\"", "{\"later\": [1],\n \"mcpServers\"", 1), "~", p.home))
}

// A server that was renamed or copied after wrap does not keep a name that
// stands for nothing any more; one that had casemate in front before wrap does.
func TestUndoAfterRenaming(t *testing.T) {
	p := newPlace(t)
	own := `"own": {"command": "casemate", "args": ["run", "--name", "a", "--", "a", "x"]}`
	file := p.write("c.json", `{"mcpServers": {`+own+`, "a": {"command": "a", "args": ["x"]}, "b": {"command": "b", "args": []}}}`)
	p.wrap(file)
	renamed := strings.NewReplacer(`"a": {`, `"a2": {`, `"b": {`, `"b2": {`).Replace(p.content(file))
	p.write("c.json", renamed)
	plan := p.undo(file)
	if !plan.Edited || !result(t, plan, "a2").New || result(t, plan, "own").New {
		t.Errorf("%+v", plan.Results)
	}
	p.want("undone", p.content(file), `{"mcpServers": {`+own+`, "a2": {"command": "a", "args": ["x"]}, "b2": {"command": "b", "args": []}}}`)
}

// A server that comes later is wrapped too, and undo takes both back, the
// user's change between them kept.
func TestWrapAgain(t *testing.T) {
	p := newPlace(t)
	file := p.write("c.json", config)
	p.wrap(file)
	next := strings.Replace(p.content(file), "\n}}", ",\n  \"time\": {\"command\": \"uvx\"}\n}}", 1)
	p.write("c.json", next)
	plan := p.wrap(file)
	if result(t, plan, "notes").New || !result(t, plan, "time").New {
		t.Errorf("%+v", plan.Results)
	}
	if plan := p.undo(file); plan.Edited {
		t.Error("it is as wrap left it")
	}
	p.want("undone", p.content(file), strings.ReplaceAll(strings.Replace(config, "\n}}", ",\n  \"time\": {\"command\": \"uvx\"}\n}}", 1), "~", p.home))
}

// One command has one name, wherever it stands; another has another.
func TestNames(t *testing.T) {
	p := newPlace(t)
	one := p.write("a.json", `{"mcpServers": {"x": {"command": "a"}, "x!": {"command": "b"}}, "projects": {"/p": {"mcpServers": {"x": {"command": "c"}}}}}`)
	two := p.write("b.json", `{"mcpServers": {"x": {"command": "a"}}}`)
	three := p.write("c.json", `{"mcpServers": {"x": {"command": "a", "env": {"K": "1"}}}}`)
	var got []string
	for _, f := range []string{one, two, three} {
		for _, r := range p.wrap(f).Results {
			got = append(got, r.Name)
		}
	}
	if fmt.Sprint(got) != "[x x-2 x-3 x x-4]" {
		t.Error(got)
	}
	// The profile stays as long as one of them needs it.
	if plan := p.undo(one); fmt.Sprint(plan.Removed) != "[x-2 x-3]" {
		t.Error(plan.Removed)
	}
	if plan := p.undo(two); fmt.Sprint(plan.Removed) != "[x]" {
		t.Error(plan.Removed)
	}
}

func TestNameOf(t *testing.T) {
	for _, c := range []struct {
		key  string
		n    int
		want string
	}{{"a", 1, "a"}, {"a", 2, "a-2"}, {"@scope/päckage name", 1, "scope-p-ckage-name"}, {"", 1, "server"}, {"…", 3, "server-3"}, {strings.Repeat("x", 99), 10, strings.Repeat("x", 61) + "-10"}} {
		if got := nameOf(c.key, c.n); got != c.want || !ValidName(got) {
			t.Errorf("%q: %q", c.key, got)
		}
	}
}

// The user's own configuration keeps every byte, and what a person changed in
// an entry stays.
func TestManifestOfTheUser(t *testing.T) {
	for _, own := range []string{
		"# mine\nversion: 1 # one\ntools:\n- name: a\n  run: {shell: {}}\n\n# the end\nprofiles: {}\n",
		"version: 1\r\ntools:\r\n    - name: a\r\n      run: {shell: {}}",
		"version: 1\ntools: [] # none yet\nprofiles: {}\n",
		`{"version": 1, "tools": [{"name": "a", "run": {"shell": {}}}]}`,
		"version: 1\ntools:\n- name: a\n  run: {exec: {command: [/bin/echo, hi]}}\n  description: |+\n    text\n\n\nprofiles: {}\n",
	} {
		p := newPlace(t)
		p.write(".config/casemate/casemate.yaml", own)
		file := p.write("c.json", config)
		p.wrap(file)
		grown := p.content(p.Manifest)
		if grown == own || !strings.Contains(grown, "notes") {
			t.Errorf("%q became %q", own, grown)
			continue
		}
		p.undo(file)
		if got := p.content(p.Manifest); strings.TrimRight(got, "\r\n") != strings.TrimRight(own, "\n") {
			t.Errorf("undone: %q, was %q (%q)", got, own, grown)
		}
	}
	p := newPlace(t)
	file := p.write("c.json", config)
	p.wrap(file)
	mine := strings.Replace(p.content(p.Manifest), "scope: session", "scope: session\n      timeout: 9s", 1)
	p.write(".config/casemate/casemate.yaml", mine)
	p.mkdir("notes") // now wrap would grant it
	p.wrap(file)
	p.want("after wrap", p.content(p.Manifest), mine)
	if plan := p.undo(file); len(plan.Removed) != 0 || len(plan.Notes) != 1 {
		t.Error(plan.Removed, plan.Notes)
	}
	p.want("after undo", p.content(p.Manifest), mine)
}

// An entry that nobody changed follows what wrap would write now.
func TestEntryFollows(t *testing.T) {
	p := newPlace(t)
	file := p.write("c.json", config)
	if r := result(t, p.wrap(file), "notes"); len(r.Read) != 0 {
		t.Error(r.Read)
	}
	p.mkdir("notes")
	if r := result(t, p.wrap(file), "notes"); len(r.Read) != 1 || !strings.Contains(p.content(p.Manifest), "notes\", access: read") {
		t.Error(r.Read, p.content(p.Manifest))
	}
}

// A manifest that would not be one is not written, and the client's file
// stays as it is.
func TestCheckedFirst(t *testing.T) {
	p := newPlace(t)
	p.Check = func([]byte) error { return errors.New("no") }
	file := p.write("c.json", config)
	was := p.content(file)
	if _, err := p.Wrap(file); err == nil {
		t.Error("no error")
	}
	p.want("the file", p.content(file), was)
	if _, err := os.Stat(p.Manifest); err == nil {
		t.Error("the manifest was written")
	}
}

func TestRefusedFiles(t *testing.T) {
	p := newPlace(t)
	file := p.write("c.json", config)
	was := p.content(file)
	link := p.path("link.json")
	if err := errors.Join(os.Symlink("c.json", link), os.Mkdir(p.path("d.json"), 0o755)); err != nil {
		t.Fatal(err)
	}
	refused := func(path string, kind casemate.Kind, why, fix string) {
		t.Helper()
		_, err := p.Wrap(path)
		e, ok := errors.AsType[*casemate.Error](err)
		if !ok || e.Kind != kind || !strings.Contains(err.Error(), why) || !strings.Contains(e.Fix, fix) {
			t.Errorf("%s: %v (%+v)", path, err, e)
		}
	}
	refused(link, casemate.Invalid, "is a link", file)
	refused(p.path("d.json"), casemate.Invalid, "regular", "")
	refused(p.path("none.json"), casemate.Invalid, "no such file", "")
	refused(p.path("none/none.json"), casemate.Invalid, "no such file", "")
	if err := os.Link(file, p.path("second")); err != nil {
		t.Fatal(err)
	}
	refused(file, casemate.Invalid, "hard link", "cp")
	os.Remove(p.path("second"))
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 12345, -1); err != nil {
			t.Fatal(err)
		}
		refused(file, casemate.Denied, "belongs to user 12345", "as the user")
		os.Chown(file, 0, -1)
	} else {
		os.Chmod(file, 0o400)
		refused(file, casemate.Denied, "permission", "")
		os.Chmod(file, 0o640)
		os.Chmod(p.home, 0o500)
		refused(file, casemate.Denied, "permission", "")
		os.Chmod(p.home, 0o755)
	}
	p.want("the file", p.content(file), was)
	if _, err := os.Stat(p.Manifest); err == nil {
		t.Error("the manifest was written")
	}
}

// The client writes its file while it is wrapped: its version stays.
func TestChangedMeanwhile(t *testing.T) {
	for _, how := range []string{"in place", "by a new file"} {
		p := newPlace(t)
		file := p.write("c.json", config)
		plan, err := p.Wrap(file)
		if err != nil {
			t.Fatal(err)
		}
		if how == "in place" {
			p.write("c.json", `{"mcpServers": {}}`)
		} else {
			p.write("new", `{"mcpServers": {}}`)
			if err := os.Rename(p.path("new"), file); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(plan.Grant()); err != nil {
			t.Fatal(err)
		}
		if err := plan.Apply(); casemate.KindOf(err) != casemate.Busy {
			t.Error(how, err)
		}
		plan.Close()
		p.want(how, p.content(file), `{"mcpServers": {}}`)
		if left, _ := filepath.Glob(p.path(".casemate-*")); len(left) > 0 {
			t.Error(left)
		}
	}
}

// A copy that is not what was kept is not given out as the original.
func TestDamagedCopy(t *testing.T) {
	p := newPlace(t)
	file := p.write("c.json", config)
	p.wrap(file)
	wrapped := p.content(file)
	copies, _ := filepath.Glob(filepath.Join(p.State, "*/*"))
	for _, c := range copies {
		if filepath.Base(c) != "record.json" {
			info, err := os.Stat(c)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Error(info.Mode(), err)
			}
			if err := os.WriteFile(c, []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := p.Undo(file); err == nil {
		t.Error("no error")
	}
	p.want("the file", p.content(file), wrapped)
}

// TestNoOneElseReadsAnArgument: who may not read the client's file may not
// read what casemate.yaml gets of it.
func TestNoOneElseReadsAnArgument(t *testing.T) {
	for client, want := range map[os.FileMode]os.FileMode{0o600: 0o600, 0o640: 0o640, 0o644: 0o644} {
		p := newPlace(t)
		file := p.write(".claude.json", `{"mcpServers": {"a": {"command": "a", "args": ["--key", "secret"]}}}`)
		own := p.write(".config/casemate/casemate.yaml", "version: 1\ntools: []\n")
		for name, mode := range map[string]os.FileMode{file: client, own: 0o644} {
			if err := os.Chmod(name, mode); err != nil {
				t.Fatal(err)
			}
		}
		p.wrap(file)
		if fi, err := os.Stat(own); err != nil || fi.Mode().Perm() != want {
			t.Errorf("of a file of mode %#o: %#o, %v; want %#o", client, fi.Mode(), err, want)
		}
	}
}
