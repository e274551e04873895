package gvisor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

// fake writes a program that answers as a runsc would, which is all that
// finding asks of it.
func fake(t *testing.T, dir, says string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "runsc")
	if err := os.WriteFile(p, []byte("#!/bin/sh\nprintf '%s\\n' '"+says+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func env(kv ...string) func(string) string {
	return func(k string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == k {
				return kv[i+1]
			}
		}
		return ""
	}
}

// find looks, and asks the program that the test made as a sandbox does.
func find(getenv func(string) string) (Runsc, error) {
	path, err := Look(getenv, nil)
	if err != nil {
		return Runsc{}, err
	}
	said, _ := exec.Command(path, "--version").Output()
	return Read(path, string(said))
}

const good = "runsc version release-20260914.0"

func TestFindOrder(t *testing.T) {
	dir := t.TempDir()
	named := fake(t, dir+"/named", good)
	cached := fake(t, dir+"/cache/casemate/runsc-"+Pinned, good)
	home := fake(t, dir+"/home/.cache/casemate/runsc-"+Pinned, good)
	path := fake(t, dir+"/path", good)
	for _, c := range []struct {
		name, want string
		env        []string
	}{
		{"named", named, []string{Env, named, "XDG_CACHE_HOME", dir + "/cache", "PATH", dir + "/path"}},
		{"cache", cached, []string{"XDG_CACHE_HOME", dir + "/cache", "HOME", dir + "/home", "PATH", dir + "/path"}},
		{"home", home, []string{"HOME", dir + "/home", "PATH", dir + "/path"}},
		{"path", path, []string{"XDG_CACHE_HOME", dir + "/none", "HOME", dir + "/home", "PATH", dir + "/none:" + dir + "/path"}},
	} {
		r, err := find(env(c.env...))
		if err != nil || r.Path != c.want || r.Version != "release-20260914.0" {
			t.Errorf("%s: %+v %v", c.name, r, err)
		}
	}
}

func TestFindRefuses(t *testing.T) {
	dir := t.TempDir()
	cache := dir + "/cache"
	fake(t, cache+"/casemate/runsc-"+Pinned, good)
	loose := fake(t, dir+"/loose", good)
	if err := os.Chmod(loose, 0o777); err != nil {
		t.Fatal(err)
	}
	open := fake(t, dir+"/open", good)
	if err := os.Chmod(dir+"/open", 0o777); err != nil {
		t.Fatal(err)
	}
	plain := dir + "/plain"
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	fails := dir + "/fails"
	if err := os.WriteFile(fails, []byte("#!/bin/sh\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, c := range []struct {
		name, says string
		env        []string
	}{
		{"nothing", "there is no runsc", nil},
		{"a relative PATH", "there is no runsc", []string{"PATH", "loose:."}},
		{"old", "too old", []string{Env, fake(t, dir+"/old", "runsc version release-20240729.0")}},
		{"no day", "names no day", []string{Env, fake(t, dir+"/day", "runsc version 1.2.3")}},
		{"no version", "names no day", []string{Env, fake(t, dir+"/missing", "runsc version VERSION_MISSING")}},
		{"another program", "not what runsc says", []string{Env, fake(t, dir+"/other", "runc version 1.1.5")}},
		{"failing", "not what runsc says", []string{Env, fails}},
		{"writable", "can be written by others", []string{Env, loose}},
		{"writable folder", "can be written by others", []string{Env, open}},
		{"relative", "not an absolute path", []string{Env, "runsc"}},
		{"no program", "not a program", []string{Env, plain}},
		{"gone", "not a program", []string{Env, dir + "/gone"}},
	} {
		// The cache has one that serves: what is named and does not is not passed over.
		e := c.env
		if len(e) > 0 && e[0] == Env {
			e = append(e, "XDG_CACHE_HOME", cache)
		}
		_, err := find(env(e...))
		ce, ok := errors.AsType[*casemate.Error](err)
		if !ok || ce.Kind != casemate.Unsupported || ce.Fix == "" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRecent(t *testing.T) {
	for v, ok := range map[string]bool{
		Pinned: true, "release-20260905.0": true, "release-20270101.0-5-gabcdef": true, "v0.0.0-20270101000000-0123456789ab": true, "v0.0.0-0.20270101000000-0123456789ab": true,
		"v0.0.0-20260904235959-0123456789ab": false, "release-20260904.9": false, "": false, "20270101": false, "x-release-20270101": false, "1.1.5": false,
	} {
		if err := recent(v); (err == nil) != ok {
			t.Errorf("%q: %v", v, err)
		}
	}
}

// What is pinned here is what make builds.
func TestPinnedIsBuilt(t *testing.T) {
	b, err := os.ReadFile("../../tools/runsc/go.mod")
	if err != nil || !strings.Contains(string(b), "gvisor.dev/gvisor "+Pinned) {
		t.Fatalf("tools/runsc/go.mod does not require %s: %v", Pinned, err)
	}
	if !strings.Contains(Pinned, "-"+Oldest) {
		t.Fatal(Oldest + " is not the day of " + Pinned)
	}
}

// A runsc that a tool may write is none.
func TestLookRefusesGranted(t *testing.T) {
	dir := t.TempDir()
	fake(t, dir+"/cache/casemate/runsc-"+Pinned, good)
	_, err := Look(env("XDG_CACHE_HOME", dir+"/cache"), []string{dir + "/cache"})
	if casemate.KindOf(err) != casemate.Unsupported || !strings.Contains(err.Error(), "lies in the write grant") {
		t.Error(err)
	}
}
