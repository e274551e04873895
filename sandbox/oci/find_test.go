package oci

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

func TestVersionOf(t *testing.T) {
	for _, c := range []struct{ name, said, want string }{
		{"runc", "runc version 1.1.5+ds1\ncommit: x", "1.1.5"}, {"runc", "runc version 1.3.0\n", "1.3.0"}, {"runc", "runc version 1.0.0-rc93", "1.0.0"},
		{"crun", "crun version 1.8.1\n", "1.8.1"}, {"crun", "crun version 1.14", "1.14"}, {"crun", "runc version 1.1.5", ""}, {"runc", "", ""}, {"runc", "runc version ", ""},
		{"runc", "runc version x", ""}, {"runc", "runc version 1", ""}, {"runc", "runc version 1..", ""}, {"runc", "runc version " + strings.Repeat("1.", 40), ""}, {"runc", "runc version 99999999999999999999.1", ""},
	} {
		if got, _ := versionOf(c.name, c.said); got != c.want {
			t.Errorf("%q: %q", c.said, got)
		}
	}
}

// program makes a program in a folder "bin" that runs a script.
func program(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// find looks, and asks each program that the test made as a sandbox does.
func find(path string, grants []string) ([]Runtime, error) {
	programs, err := Look(func(string) string { return path }, grants)
	if err != nil {
		return nil, err
	}
	var out []Runtime
	for _, p := range programs {
		said, _ := exec.Command(p.Path, "--version").Output()
		rt, e := p.Runtime(string(said))
		if e == nil {
			out = append(out, rt)
		} else {
			err = e
		}
	}
	if len(out) > 0 {
		err = nil
	}
	return out, err
}

func TestFind(t *testing.T) {
	for what, c := range map[string]struct {
		runc, crun string // their scripts, in sbin and in bin
		want       string // the versions that are found, or what the error says
		refused    bool
	}{
		"both":       {"echo runc version 1.1.5+ds1", "echo crun version 1.8", "runc 1.1.5 crun 1.8", false},
		"crun alone": {"", "echo crun version 1.15", "crun 1.15", false},
		"old runc":   {"echo runc version 1.0.3", "echo crun version 1.15", "crun 1.15", false},
		"all old":    {"echo runc version 1.0.3", "echo crun version 0.17", "is crun 0.17, and 1.8 is the oldest that serves", true},
		"none":       {"", "", "there is no runc and no crun", true},
		"another":    {"echo hello", "", "does not say which version of runc it is", true},
		"silent":     {"exit 3", "", "does not say which version of runc it is", true},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			os.MkdirAll(dir+"/bin", 0o755)
			if c.runc != "" {
				program(t, dir+"/sbin", "runc", c.runc)
			}
			if c.crun != "" {
				program(t, dir+"/bin", "crun", c.crun)
			}
			got, err := find("relative:"+dir+"/bin", nil)
			if c.refused {
				e, _ := err.(*casemate.Error)
				if e == nil || e.Kind != casemate.Unsupported || e.Fix != Fix || !strings.Contains(e.Error(), c.want) {
					t.Errorf("%v", err)
				}
				return
			}
			var all []string
			for _, rt := range got {
				all = append(all, rt.Version)
				if !filepath.IsAbs(rt.Path) {
					t.Error(rt.Path)
				}
			}
			if err != nil || strings.Join(all, " ") != c.want {
				t.Errorf("%q %v", all, err)
			}
		})
	}
	if _, err := find("", nil); casemate.KindOf(err) != casemate.Unsupported {
		t.Errorf("without PATH: %v", err)
	}
}

// A program that a tool may write, or a stranger, is none.
func TestFindPassesOver(t *testing.T) {
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	program(t, dir+"/granted", "runc", "touch "+ran+"; echo runc version 1.1.5")
	program(t, dir+"/loose", "runc", "touch "+ran+"; echo runc version 1.1.5")
	program(t, dir+"/good", "runc", "echo runc version 1.2.3")
	if err := os.Mkdir(dir+"/linked", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"/granted/runc", dir+"/linked/runc"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/loose", 0o777); err != nil {
		t.Fatal(err)
	}
	bad := dir + "/granted:" + dir + "/linked:" + dir + "/loose"
	grants := []string{dir + "/granted"}
	got, err := find(bad+":"+dir+"/good", grants)
	if err != nil || len(got) != 1 || got[0].Path != dir+"/good/runc" {
		t.Errorf("%v %v", got, err)
	}
	for path, want := range map[string]string{bad: "can be written by others", dir + "/linked": "lies in the write grant"} {
		if _, err := find(path, grants); casemate.KindOf(err) != casemate.Unsupported || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("one was run")
	}
}
