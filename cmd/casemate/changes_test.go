package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
)

const folderTool = `
  - name: look
    parameters: {type: object, properties: {command: {type: string}}, required: [command]}
    run: {shell: {}}
    security: {filesystem: [{path: ./data, at: /data}]}
    pool: {min: 1, max: 1}
  - name: forked
    run: {python: {}}
    security: {filesystem: [{path: ./data, at: /data}]}
    pool: {min: 1, max: 1}
  - name: other
    run: {shell: {}}
    pool: {min: 1, max: 1}
`

// parked returns the processes of the parked sandboxes of a tool.
func (p *place) parked(tool string) (pids []int) {
	p.t.Helper()
	var v struct {
		Pools []struct {
			Tool string
			Pids []int `json:"parked_pids"`
		}
	}
	if err := json.Unmarshal([]byte(p.run("pool", "--json")), &v); err != nil {
		p.t.Fatal(err)
	}
	for _, x := range v.Pools {
		if x.Tool == tool {
			pids = append(pids, x.Pids...)
		}
	}
	return pids
}

// TestWhatIsParkedIsOfNow: another folder lies where one was granted, so what
// waits with the former one serves nobody; what waits of other tools stays.
func TestWhatIsParkedIsOfNow(t *testing.T) {
	p := newPlace(t, folderTool)
	write := func(dir, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(p.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p.dir, dir, "x"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("data", "before")
	s := p.serve().initialize()
	eventually(t, "all are parked", func() bool {
		return len(p.parked("look")) == 1 && len(p.parked("forked")) == 1 && len(p.parked("other")) == 1
	})
	look, forked, other := p.parked("look"), p.parked("forked"), p.parked("other")
	write("new", "after")
	for _, r := range [][2]string{{"data", "old"}, {"new", "data"}} {
		if err := os.Rename(filepath.Join(p.dir, r[0]), filepath.Join(p.dir, r[1])); err != nil {
			t.Fatal(err)
		}
	}
	for tool, before := range map[string][]int{"look": look, "forked": forked} {
		eventually(t, "another is parked", func() bool { now := p.parked(tool); return len(now) == 1 && !slices.Equal(now, before) })
	}
	if now := p.parked("other"); !slices.Equal(now, other) {
		t.Errorf("what is parked of another tool was %v and is %v", other, now)
	}
	for tool, args := range map[string]map[string]any{"look": {"command": "cat /data/x"}, "forked": {"code": "print(open('/data/x').read())"}} {
		raw, err := s.request("tools/call", map[string]any{"name": tool, "arguments": args})
		if err != nil || !strings.Contains(string(raw), "after") {
			t.Errorf("%s: %s %v", tool, raw, err)
		}
	}
}

// TestWatch: what guests are made of is seen when it is replaced or written
// anew, by itself or through the link that names it, and nothing else is.
func TestWatch(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "lib", "grant"} {
		must(os.Mkdir(at(d), 0o755))
	}
	must(os.WriteFile(at("lib/python3.1"), nil, 0o755))
	must(os.Symlink("../lib/python3.1", at("bin/python3")))
	w := newWatch()
	defer w.close()
	guests := []plan.Guest{
		{Digest: "a", Runner: "python", Interpreter: at("bin/python3")},
		{Digest: "b", Runner: "shell", Mounts: []plan.Mount{{Source: at("grant"), At: "/grant"}}},
		{Digest: "c", Runner: "mcp", Command: []plan.Arg{{Text: at("bin/server")}}},
	}
	w.follow(guests)
	for _, c := range []struct {
		what string
		do   func() error
		want []casemate.Digest
	}{
		{"an interpreter is written", func() error { return os.WriteFile(at("lib/python3.1"), []byte("x"), 0o755) }, []casemate.Digest{"a"}},
		{"another takes its place", func() error {
			must(os.WriteFile(at("lib/new"), nil, 0o755))
			return os.Rename(at("lib/new"), at("lib/python3.1"))
		}, []casemate.Digest{"a"}},
		{"its link is another", func() error {
			must(os.Symlink("../lib/python3.2", at("bin/new")))
			return os.Rename(at("bin/new"), at("bin/python3"))
		}, []casemate.Digest{"a"}},
		{"a folder is moved", func() error { return os.Rename(at("grant"), at("gone")) }, []casemate.Digest{"b"}},
		{"a program appears", func() error { return os.WriteFile(at("bin/server"), nil, 0o755) }, []casemate.Digest{"c"}},
	} {
		must(os.WriteFile(at("bin/unrelated"), []byte(c.what), 0o644))
		must(c.do())
		select {
		case <-w.changed:
		case <-time.After(testWait):
			t.Fatalf("%s, and nobody notices", c.what)
		}
		if got := w.take(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", c.what, got)
		}
		if len(w.take()) != 0 {
			t.Error("it is told twice")
		}
	}
	w.follow(nil)
	must(os.WriteFile(at("bin/server"), []byte("x"), 0o755))
	w.follow(guests)
	must(os.Mkdir(at("grant"), 0o755))
	<-w.changed
	if got := w.take(); !slices.Equal(got, []casemate.Digest{"b"}) {
		t.Errorf("what was not followed is told: %v", got)
	}
}

// TestDiffering: a reload throws away what the plan makes otherwise.
func TestDiffering(t *testing.T) {
	a := plan.Plan{Guests: []plan.Guest{{Digest: "same"}, {Digest: "moved", Interpreter: "/usr/bin/a"}, {Digest: "gone"}}}
	b := plan.Plan{Guests: []plan.Guest{{Digest: "same"}, {Digest: "moved", Interpreter: "/usr/bin/b"}, {Digest: "new"}}}
	if got := differing(a, b); !slices.Equal(got, []casemate.Digest{"moved"}) {
		t.Error(got)
	}
	b.Host.AllowDegraded = []string{"memory"}
	if got := differing(a, b); !slices.Equal(got, []casemate.Digest{"same", "moved"}) {
		t.Error(got)
	}
}
