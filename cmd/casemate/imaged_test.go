package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/casemate/casemate"
)

// The interpreter of a tool with an image is one of the image: what is on this
// host, or what a link of the image leads to outside it, is none.
func TestImaged(t *testing.T) {
	dir := t.TempDir()
	top, base := filepath.Join(dir, "top"), filepath.Join(dir, "base")
	for _, d := range []string{"top/usr/bin", "base/usr/local/bin", "base/opt/bin", "elsewhere"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"base/usr/local/bin/python3", "base/opt/bin/node", "elsewhere/nodejs"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"top/usr/bin/python3": "python3.12", "top/sbin": "/" + filepath.Join(dir, "elsewhere"), "top/bin": "../elsewhere"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(top, "usr", "bin", "node"), 0o755); err != nil {
		t.Fatal(err)
	}
	python := func(at string) casemate.Run { return casemate.Run{Python: &casemate.Script{Interpreter: at}} }
	node := func(at string) casemate.Run { return casemate.Run{Node: &casemate.Script{Interpreter: at}} }
	for _, c := range []struct {
		name   string
		run    casemate.Run
		layers []string
		want   string // "": refused
	}{
		{"first on PATH", python(""), []string{top, base}, "/usr/local/bin/python3"},
		{"a link that leads on inside", python(""), []string{top}, "/usr/bin/python3"},
		{"named", node("/opt/bin/node"), []string{top, base}, "/opt/bin/node"},
		{"named and not there", node("/usr/local/bin/node"), []string{top, base}, ""},
		{"of this host", python("/usr/bin/python3"), []string{base}, ""},
		{"a folder, and links that lead out", node(""), []string{top, base}, ""},
		{"named by a link that leads out", node("/bin/nodejs"), []string{top, base}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tool := &casemate.Tool{Name: "x", Run: c.run}
			stated := ""
			if c.run.Node != nil {
				stated = c.run.Node.Interpreter
			}
			err := imaged(tool, c.layers)
			if c.want == "" {
				if casemate.KindOf(err) != casemate.Unsupported {
					t.Errorf("%v", err)
				}
				return
			}
			got := ""
			for _, s := range []*casemate.Script{tool.Run.Python, tool.Run.Node} {
				if s != nil {
					got = s.Interpreter
				}
			}
			if err != nil || got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
			if c.run.Node != nil && c.run.Node.Interpreter != stated {
				t.Error("it changed what the manifest says")
			}
		})
	}
}
