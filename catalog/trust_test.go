package catalog

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

const exampleSource = `version: 1
tools:
  - name: run
    run: {exec: {command: [/opt/tool]}}
    parameters: {type: object}
    security:
      env: [API_KEY]
      filesystem: [{path: ./bin, at: /opt, execute: true}, {path: ./docs, at: /docs}]
`

// example is a folder with a configuration, and the folder of trust.
func example(t *testing.T) (dir, file string, trust Trust) {
	dir = folder(t, map[string]string{"casemate.yaml": exampleSource, "bin/tool": "#!/bin/sh\n", "docs/a": "a", "elsewhere/": ""})
	return dir, filepath.Join(dir, "casemate.yaml"), Trust{Dir: filepath.Join(dir, "state", "trust")}
}

func agree(t *testing.T, trust Trust, file string) {
	t.Helper()
	c, err := Load(file, options())
	if err == nil {
		err = trust.Add(c)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func denied(t *testing.T, err error, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*casemate.Error](err)
	if !ok || e.Kind != casemate.Denied {
		t.Fatalf("got %v, want an Error of kind denied", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error()+e.Fix, w) {
			t.Errorf("%q is not in %v; fix %s", w, err, e.Fix)
		}
	}
}

// TestConfigTrust is the row config-trust: a configuration that lies in a
// folder is nothing until the user trusts it, and only as it is.
func TestConfigTrust(t *testing.T) {
	dir, file, trust := example(t)
	_, err := trust.Load(file, options())
	denied(t, err, "is not trusted", "/opt/tool", "API_KEY", dir+"/docs", "casemate trust '"+file+"'")
	if _, err := os.Lstat(trust.Dir); err == nil {
		t.Error("asking made the folder")
	}
	agree(t, trust, file)
	c, err := trust.Load(file, options())
	if err != nil {
		t.Fatal(err)
	}
	if c.Tools[0].Security.Env["API_KEY"] != "value of API_KEY" {
		t.Error("a trusted configuration did not get its variable")
	}

	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, change := range []struct {
		name     string
		do, undo func()
		words    []string
	}{
		{"text", func() { write("casemate.yaml", exampleSource+"# x\n") }, func() { write("casemate.yaml", exampleSource) }, []string{"has changed"}},
		{"program", func() { write("bin/tool", "#!/bin/sh\nevil\n") }, func() { write("bin/tool", "#!/bin/sh\n") }, []string{"is another"}},
		{"grant", func() { os.Rename(dir+"/docs", dir+"/d"); os.Symlink("elsewhere", dir+"/docs") },
			func() { os.Remove(dir + "/docs"); os.Rename(dir+"/d", dir+"/docs") }, []string{"is another"}},
	} {
		change.do()
		_, err := trust.Load(file, options())
		denied(t, err, change.words...)
		change.undo()
		if _, err := trust.Load(file, options()); err != nil {
			t.Errorf("%s taken back: %v", change.name, err)
		}
	}

	other := folder(t, map[string]string{"casemate.yaml": exampleSource, "bin/tool": "#!/bin/sh\n", "docs/a": "a"})
	_, err = trust.Load(filepath.Join(other, "casemate.yaml"), options())
	denied(t, err, "is not trusted") // the same text elsewhere is not what was trusted
}

// TestUntrustedIsNotLookedAt: no path of an untrusted configuration is
// resolved (one may be an automount that dials) and no variable is read.
func TestUntrustedIsNotLookedAt(t *testing.T) {
	_, file, trust := example(t)
	opt := options()
	opt.Getenv = func(k string) (string, bool) { t.Errorf("%s was read", k); return "", true }
	if err := os.WriteFile(file, []byte(strings.Replace(exampleSource, "./docs", "./absent", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := trust.Load(file, opt)
	denied(t, err, "is not trusted")
	opt.Operator = true // of no use here
	if err := os.WriteFile(file, []byte("version: 1\nhost: {}\ntools: []\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := trust.Load(file, opt); err == nil || !strings.Contains(err.Error(), "host: belongs to the operator") {
		t.Errorf("host: in an untrusted file: %v", err)
	}
}

// TestARecordIsOfOneFile: a record that was moved to another configuration's
// place says nothing of that one.
func TestARecordIsOfOneFile(t *testing.T) {
	_, file, trust := example(t)
	agree(t, trust, file)
	other := folder(t, map[string]string{"casemate.yaml": exampleSource, "bin/tool": "#!/bin/sh\n", "docs/a": "a"}) + "/casemate.yaml"
	ok(t, os.Rename(trust.file(&Config{File: file}), trust.file(&Config{File: other})))
	_, err := trust.Load(other, options())
	denied(t, err, "damaged")
}

func TestTrustNeedsAFolderOfOnesOwn(t *testing.T) {
	dir, file, trust := example(t)
	agree(t, trust, file)
	info, err := os.Stat(trust.Dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	records, _ := filepath.Glob(trust.Dir + "/*")
	if len(records) != 1 {
		t.Fatalf("records %v", records)
	}
	if info, _ := os.Stat(records[0]); info.Mode().Perm() != 0o600 {
		t.Errorf("record has mode %v", info.Mode())
	}

	os.Chmod(trust.Dir, 0o777)
	_, err = trust.Load(file, options())
	denied(t, err, "not a folder of yours alone")
	os.Chmod(trust.Dir, 0o700)

	os.Chmod(records[0], 0o666)
	_, err = trust.Load(file, options())
	denied(t, err, "others may write")
	os.Chmod(records[0], 0o600)

	os.WriteFile(records[0], []byte("{"), 0o600)
	_, err = trust.Load(file, options())
	denied(t, err, "damaged")

	os.Rename(trust.Dir, dir+"/moved")
	os.Symlink(dir+"/moved", trust.Dir)
	_, err = trust.Load(file, options())
	denied(t, err, "not a folder of yours alone")
}

// TestTmpPath is the row tmp-path: a link planted where a file will be
// written is replaced and never followed.
func TestTmpPath(t *testing.T) {
	dir, file, trust := example(t)
	c, err := Load(file, options())
	if err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("canary"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(trust.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, write := range map[string]func() error{trust.file(c): func() error { return trust.Add(c) }, c.LockFile(): c.WriteLock} {
		if err := os.Symlink(victim, path); err != nil {
			t.Fatal(err)
		}
		if err := write(); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(victim); string(got) != "canary" {
			t.Errorf("%s: the link was followed", path)
		}
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s is still a link", path)
		}
	}
	left, _ := filepath.Glob(dir + "/.casemate-*")
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSummaryEscapes(t *testing.T) {
	dir := folder(t, map[string]string{"casemate.yaml": "version: 1\ntools:\n  - name: a\n    run: {exec: {command: [\"/bin/e\\u202e\\e[2J\"]}}\n    security: {filesystem: [{path: ., at: \"/a\\u202e\", access: write, names: [\"x\\e[2J\"]}]}\n"})
	c, err := Load(dir+"/casemate.yaml", options())
	if err != nil {
		t.Fatal(err)
	}
	if s := strings.Join(c.Summary(), "\n"); strings.ContainsAny(s, "\x1b\u202e") || !strings.Contains(s, "[2J") {
		t.Errorf("%q", s)
	}
}

func TestPinnedNamesWhatNoGrantMayChange(t *testing.T) {
	dir, file, _ := example(t)
	c, err := Load(file, options())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{file, dir + "/casemate.lock", dir + "/bin/tool"}; !slices.Equal(c.Pinned(), want) {
		t.Errorf("got %v, want %v", c.Pinned(), want)
	}
}

func TestLock(t *testing.T) {
	dir, file, _ := example(t)
	load := func(opt Options) *Config {
		t.Helper()
		c, err := Load(file, opt)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := load(options())
	if err := c.CheckLock(); err != nil {
		t.Errorf("without a lock: %v", err)
	}
	if err := c.WriteLock(); err != nil {
		t.Fatal(err)
	}
	if err := load(options()).CheckLock(); err != nil {
		t.Errorf("just written: %v", err)
	}
	other := options() // another value of a variable that is passed on is no change
	other.Getenv = func(string) (string, bool) { return "rotated", true }
	if err := load(other).CheckLock(); err != nil {
		t.Errorf("another value: %v", err)
	}
	moved := folder(t, map[string]string{"casemate.yaml": exampleSource, "bin/tool": "#!/bin/sh\n", "docs/a": "a"})
	lock, err := os.ReadFile(dir + "/casemate.lock")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(lock), "value of") || os.WriteFile(moved+"/casemate.lock", lock, 0o644) != nil {
		t.Fatal(string(lock))
	}
	if m, err := Load(moved+"/casemate.yaml", options()); err != nil || m.CheckLock() != nil {
		t.Errorf("on another machine: %v, %v", err, m.CheckLock())
	}

	// rug-pull: a description, a program, a new tool.
	for _, change := range []struct{ file, content, word string }{
		{"casemate.yaml", strings.Replace(exampleSource, "- name: run\n", "- name: run\n    description: x\n", 1), "has changed since it was pinned"},
		{"bin/tool", "evil", "has changed since it was pinned"},
		{"casemate.yaml", exampleSource + "  - {name: more, run: {shell: {}}}\n", "is not pinned"},
		{"casemate.lock", "{}", "not a lock of this version"},
		{"casemate.lock", `{"version":1,"tools":{},"x":1}`, "not a lock of this version"},
	} {
		p := filepath.Join(dir, change.file)
		before, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(p, []byte(change.content), 0o644)
		denied(t, load(options()).CheckLock(), change.word, "casemate trust")
		os.WriteFile(p, before, 0o644)
	}
	os.Chmod(dir+"/casemate.lock", 0o666)
	denied(t, load(options()).CheckLock(), "others may write")
}
