package wrap

import (
	"bytes"
	"path/filepath"
	"testing"
)

func seeds(f *testing.F, ending ...string) {
	for _, e := range ending {
		files, _ := filepath.Glob("testdata/*/*" + e)
		if len(files) == 0 {
			f.Fatal(e)
		}
		for _, file := range files {
			f.Add(read(f, file))
		}
	}
}

// through wraps and unwraps what can be read: nothing panics, what is wrapped
// says the same, and what is unwrapped is the original: to the byte where
// exact is true, else by its meaning.
func through(t *testing.T, path string, src []byte, exact bool) {
	d, err := Read(path, src)
	if err != nil {
		return
	}
	_, added, byID := names(d)
	out := d.Wrap("/opt/with space/casemate", byID)
	next, err := d.checked(path, out)
	if err != nil {
		if exact {
			t.Fatalf("%v\n%q\n%q", err, src, out)
		}
		return // it is refused, and the file stays
	}
	if len(byID) == 0 {
		if !bytes.Equal(out, src) {
			t.Fatalf("nothing to wrap, and yet changed: %q", out)
		}
		return
	}
	ids := map[string]bool{}
	for id := range byID {
		ids[id] = true
	}
	back := next.Unwrap(ids, added)
	if exact && !bytes.Equal(back, src) {
		t.Fatalf("unwrapped:\n%q\nwas:\n%q\nwrapped:\n%q", back, src, out)
	}
	if _, err := d.checked(path, back); err != nil {
		t.Fatalf("%v\nunwrapped:\n%q\nwas:\n%q\nwrapped:\n%q", err, back, src, out)
	}
}

func FuzzJSON(f *testing.F) {
	seeds(f, ".json", ".jsonc")
	f.Add([]byte(`{"mcpServers":{"a":{"args":["x",/*c*/],"command":"y",}}}`))
	f.Add([]byte("{\"mcpServers\":{\"a\":{\"command\"://x\n\"y\"}}}"))
	f.Fuzz(func(t *testing.T, src []byte) { through(t, "/x/a.json", src, true) })
}

func FuzzTOML(f *testing.F) {
	seeds(f, ".toml")
	f.Add([]byte("[mcp_servers]\na={command='x',args=[\"\"\"y\n\"\"\"]}"))
	f.Fuzz(func(t *testing.T, src []byte) { through(t, "/x/a.toml", src, true) })
}

func FuzzYAML(f *testing.F) {
	seeds(f, ".yaml")
	f.Fuzz(func(t *testing.T, src []byte) { through(t, "/x/a.yaml", src, false) })
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(header), "name", "/x y")
	f.Add([]byte("version: 1\ntools:\n- name: a\n  run: {shell: {}}\n\n# end\nprofiles: {}\n"), "b", "c")
	f.Add([]byte("version: 1\ntools: [ # none\n]  # end"), "b", "c")
	f.Add([]byte(`{"version": 1, "tools": [{"name": "a", "run": {"shell": {}}}]}`), "b", "\u2028\"\\")
	f.Fuzz(func(t *testing.T, src []byte, name, arg string) {
		if !ValidName(name) || notText([]byte(arg)) != nil {
			return
		}
		m, err := ReadManifest("/x/casemate.yaml", src)
		if err != nil {
			return
		}
		if has, err := m.entries(); err != nil || taken(has, name) {
			return
		}
		p := &Profile{Argv: []string{"x", arg}, Mounts: []Mount{{Path: "/" + arg, At: "/y"}}, Notes: []string{arg}}
		text := p.text(name, arg, "  ", "\n", false)
		if indent, newline, brackets := m.layout(); true {
			text = p.text(name, arg, indent, newline, brackets)
		}
		next, err := m.add(text)
		if err != nil {
			return
		}
		has, err := next.entries()
		if err == nil && (len(has[name].command) != 2 || has[name].command[1] != arg) {
			t.Fatalf("%+v\n%q", has[name], next.Src)
		}
	})
}
