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
)

// tree makes files beneath a new folder: a name that ends in / is a folder,
// "-> x" a link, "ELF" a program, and other text a script.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, "ROOT", root)
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(to, p)
		} else {
			if text == "ELF" {
				text = "\x7fELF" + name
			}
			err = os.WriteFile(p, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const pyenvShim = "#!/usr/bin/env bash\nset -e\nexec \"ROOT/.pyenv/libexec/pyenv\" exec \"$program\" \"$@\"\ntouch ROOT/EXECUTED\n"

func TestFind(t *testing.T) {
	pyenv := map[string]string{
		".pyenv/shims/python3":               pyenvShim,
		".pyenv/versions/3.9.1/bin/python3":  "ELF",
		".pyenv/versions/3.11.4/bin/python3": "ELF",
		".pyenv/versions/3.11.10/bin/python": "ELF",
		".pyenv/versions/env":                "-> ROOT/.pyenv/versions/3.9.1",
		"sys/bin/python3":                    "ELF",
		"repo/.python-version":               "3.9.1\n",
	}
	with := func(m map[string]string, name, text string) map[string]string {
		m = map[string]string(mapsClone(m))
		m[name] = text
		return m
	}
	asdf := map[string]string{
		".asdf/shims/python3":                      "#!/usr/bin/env bash\n# asdf-plugin: python 3.10.1\n# asdf-plugin: python 3.12.0\nexec ROOT/bin/asdf exec \"python3\" \"$@\"\n",
		".asdf/installs/python/3.10.1/bin/python3": "ELF",
		".asdf/installs/python/3.12.0/bin/python3": "ELF",
		"mise/shims/python3":                       "-> ROOT/bin/mise",
		"bin/mise":                                 "ELF",
		"mise/installs/python/3.9.20/bin/python3":  "ELF",
		"mise/installs/python/3.13.1/bin/python3":  "ELF",
		"repo/.tool-versions":                      "python 3.10.1\n",
		"sys/bin/python3":                          "ELF",
		"unused/.config/mise/config.toml":          "[tools]\npython = \"3.9\"\n",
		"other/.tool-versions":                     "nodejs 20\npython 3.12.0 3.10.1\n",
		"plain/.config/mise/config.toml":           "[settings]\npython = \"9\"\n[tools]\n\"python\" = [\"3.9\", \"3.13\"] # the old\n",
	}
	for name, c := range map[string]struct {
		files map[string]string
		path  string // of ROOT-relative folders
		env   map[string]string
		home  string
		want  string // ROOT-relative; "" is an error that holds err
		err   string
	}{
		"no shim":                     {pyenv, "sys/bin", nil, "", "sys/bin/python3", ""},
		"pyenv global":                {with(pyenv, ".pyenv/version", "3.11.4\n"), ".pyenv/shims:sys/bin", nil, "", ".pyenv/versions/3.11.4/bin/python3", ""},
		"pyenv first that has it":     {with(pyenv, ".pyenv/version", "3.11.10\n3.9.1\n"), ".pyenv/shims:sys/bin", nil, "", ".pyenv/versions/3.9.1/bin/python3", ""},
		"pyenv by variable":           {with(pyenv, ".pyenv/version", "3.11.4\n"), ".pyenv/shims", map[string]string{"PYENV_VERSION": "3.9.1"}, "", ".pyenv/versions/3.9.1/bin/python3", ""},
		"pyenv prefix":                {with(pyenv, ".pyenv/version", "3.11"), ".pyenv/shims", nil, "", ".pyenv/versions/3.11.4/bin/python3", ""},
		"pyenv alias":                 {with(pyenv, ".pyenv/version", "env"), ".pyenv/shims", nil, "", ".pyenv/versions/3.9.1/bin/python3", ""},
		"pyenv system":                {with(pyenv, ".pyenv/version", "system"), ".pyenv/shims:sys/bin", nil, "", "sys/bin/python3", ""},
		"pyenv without a version":     {pyenv, ".pyenv/shims:sys/bin", nil, "", "sys/bin/python3", ""},
		"pyenv climbs nowhere":        {with(pyenv, ".pyenv/version", "../../repo"), ".pyenv/shims", nil, "", "", "pyenv has no python3"},
		"pyenv not installed":         {with(pyenv, ".pyenv/version", "3.14"), ".pyenv/shims", nil, "", "", "pyenv has no python3 in 3.14"},
		"asdf by the shim":            {asdf, ".asdf/shims", nil, "none", ".asdf/installs/python/3.10.1/bin/python3", ""},
		"asdf by the user's file":     {asdf, ".asdf/shims", nil, "other", ".asdf/installs/python/3.12.0/bin/python3", ""},
		"asdf by variable":            {asdf, ".asdf/shims", map[string]string{"ASDF_PYTHON_VERSION": "3.12.0"}, "none", ".asdf/installs/python/3.12.0/bin/python3", ""},
		"mise newest":                 {asdf, "mise/shims", nil, "none", "mise/installs/python/3.13.1/bin/python3", ""},
		"mise by its configuration":   {asdf, "mise/shims", nil, "plain", "mise/installs/python/3.9.20/bin/python3", ""},
		"a relative folder of PATH":   {pyenv, "", map[string]string{"PATH": "sys/bin:."}, "", "", "not found on PATH"},
		"a script that is no shim":    {map[string]string{"b/python3": "#!/bin/sh\nexec python3 \"$@\"\n"}, "b", nil, "", "", "a kind that is not known"},
		"nothing":                     {nil, "b", nil, "", "", "python3 is not found on PATH"},
		"python where python3 is not": {map[string]string{"b/python": "ELF"}, "b", nil, "", "b/python", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, c.files)
			if err := os.MkdirAll(root+"/repo", 0o755); err != nil {
				t.Fatal(err)
			}
			t.Chdir(root + "/repo")
			env := map[string]string{}
			var path []string
			for _, d := range strings.Split(c.path, ":") {
				path = append(path, filepath.Join(root, d))
			}
			env["PATH"] = strings.Join(path, ":")
			for k, v := range c.env {
				env[k] = v
			}
			f := finder{env: func(k string) string { return env[k] }, home: filepath.Join(root, c.home)}
			got, err := f.find("python3", "python")
			if c.want == "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("find = %q, %v; want an error with %q", got, err, c.err)
				}
			} else if want := filepath.Join(root, c.want); got != want || err != nil {
				t.Fatalf("find = %q, %v; want %q", got, err, want)
			}
			if _, err := os.Stat(root + "/EXECUTED"); err == nil {
				t.Fatal("the shim was executed")
			}
		})
	}
}

func mapsClone(m map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// TestResolveWithoutASandbox: what keeps an interpreter from being asked is
// what is wrong, and its fix is the fix.
func TestResolveWithoutASandbox(t *testing.T) {
	root := tree(t, map[string]string{"py/bin/python3": "ELF"})
	r := interpreters{finder: finder{env: func(string) string { return "" }, home: root}, cache: filepath.Join(root, "c.json"),
		ask: func(context.Context, string, interpreter) (said, error) {
			return said{}, &casemate.Error{Kind: casemate.Internal, Err: errors.New("disk full"), Fix: "make room"}
		}}
	_, err := r.resolve(t.Context(), "python", root+"/py/bin/python3")
	if j := casemate.JSON(err); j == nil || j.Kind != casemate.Internal || j.Fix != "make room" || !strings.Contains(j.Message, "disk full") {
		t.Errorf("%+v", j)
	}
	if _, err := os.Lstat(r.cache); err == nil {
		t.Error("no answer was kept as one")
	}
}

func TestResolve(t *testing.T) {
	root := tree(t, map[string]string{
		"py/bin/python3":          "ELF",
		"py/lib/os.py":            "x",
		"work/.venv/bin/python3":  "-> ROOT/py/bin/python3",
		"work/.venv/pyvenv.cfg":   "home = /root/.ssh\n",
		"home/bin/python3":        "ELF",
		"Cellar/py/3/bin/python3": "ELF",
		"home/.ssh/id":            "secret",
		"py-evil/secret":          "x",
	})
	at := func(p string) string { return filepath.Join(root, p) }
	honest := said{"3.11.4", []string{at("py"), at("py/lib")}}
	for name, c := range map[string]struct {
		interpreter string
		writable    []string
		says        said
		folders     []string
		err         string
		kind        casemate.Kind
	}{
		"system":                     {"/usr/bin/env", nil, said{}, nil, "", ""},
		"own folder":                 {at("py/bin/python3"), nil, honest, []string{at("py")}, "", ""},
		"venv":                       {at("work/.venv/bin/python3"), nil, honest, []string{at("work/.venv"), at("py")}, "", ""},
		"inside a write grant":       {at("work/.venv/bin/python3"), []string{at("work")}, honest, nil, "lies in the write grant", casemate.Unsupported},
		"base inside a write grant":  {at("work/.venv/bin/python3"), []string{at("py/bin")}, honest, nil, "lies in the write grant", casemate.Unsupported},
		"a write grant inside it":    {at("py/bin/python3"), []string{at("py/lib")}, honest, nil, "overlaps the write grant", casemate.Unsupported},
		"a grant of a like name":     {at("py/bin/python3"), []string{at("py-evil")}, honest, []string{at("py")}, "", ""},
		"the home folder":            {at("home/bin/python3"), nil, honest, nil, "would need the whole of", casemate.Unsupported},
		"it claims another's folder": {at("py/bin/python3"), nil, said{"3", []string{at("py"), at("home/.ssh")}}, nil, "which is not in", casemate.Unsupported},
		"it claims a like name":      {at("py/bin/python3"), nil, said{"3", []string{at("py-evil")}}, nil, "which is not in", casemate.Unsupported},
		"it claims the parent":       {at("py/bin/python3"), nil, said{"3", []string{root}}, nil, "which is not in", casemate.Unsupported},
		"it claims the root":         {at("py/bin/python3"), nil, said{"3", []string{"/"}}, nil, "which is not in", casemate.Unsupported},
		"it says nothing":            {at("py/bin/python3"), nil, said{}, nil, "makes no sense", casemate.Unsupported},
		"it says a relative path":    {at("py/bin/python3"), nil, said{"3", []string{"py"}}, nil, "no folder here", casemate.Unsupported},
		"homebrew":                   {at("Cellar/py/3/bin/python3"), nil, said{"3", []string{at("Cellar/py/3")}}, []string{root}, "", ""},
		"relative":                   {"bin/python3", nil, honest, nil, "not an absolute path", casemate.Unsupported},
		"not there":                  {at("none"), nil, honest, nil, "is not a program", casemate.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			r := interpreters{finder: finder{env: func(string) string { return "" }, home: at("home")}, writable: c.writable,
				cache: filepath.Join(t.TempDir(), "c.json"),
				ask:   func(context.Context, string, interpreter) (said, error) { asked++; return c.says, nil }}
			if name == "homebrew" {
				r.finder.home = "/root"
			}
			for range 2 {
				got, err := r.resolve(t.Context(), "python", c.interpreter)
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) || casemate.KindOf(err) != c.kind {
						t.Fatalf("%v %v; want %q", got, err, c.err)
					}
					if e, _ := errors.AsType[*casemate.Error](err); e.Fix == "" {
						t.Error("no fix")
					}
					return
				}
				if err != nil || got.Path != c.interpreter || !slices.Equal(got.Folders, c.folders) {
					t.Fatalf("%+v, %v; want folders %v", got, err, c.folders)
				}
			}
			if want := min(1, len(c.folders)); asked != want {
				t.Errorf("asked %d times, want %d", asked, want)
			}
			if len(c.folders) > 0 { // a changed file is asked again
				if err := os.Chmod(c.interpreter, 0o755); err != nil {
					t.Fatal(err)
				}
				if _, err := r.resolve(t.Context(), "python", c.interpreter); err != nil || asked != 2 {
					t.Errorf("after a change it was asked %d times, %v", asked, err)
				}
			}
		})
	}
}
