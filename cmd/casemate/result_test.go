package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

func TestResultOnATerminal(t *testing.T) {
	r := &casemate.Result{Content: []casemate.Content{{Type: "text", Text: "\x1b]0;pwned\x07\x1b[2Jend"}}}
	for tty, want := range map[bool]string{true: `\x1b]0;pwned\x07\x1b[2Jend` + "\n", false: "\x1b]0;pwned\x07\x1b[2Jend"} {
		var b bytes.Buffer
		a := &app{console: &console{out: &b, err: &b, outTTY: tty}}
		if err := a.result(r, ""); err != nil || b.String() != want {
			t.Errorf("terminal %v: %q, %v", tty, b.String(), err)
		}
	}
}

func TestFilesOfAResult(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link.png": "../victim", "dangling.png": "../planted"} {
		if err := os.Symlink(to, filepath.Join(out, name)); err != nil {
			t.Fatal(err)
		}
	}
	var parts []casemate.Content
	for _, uri := range []string{"file:///out/fig.png", "file:///out/fig.png", "file:///out/link.png", "file:///out/dangling.png", "../../victim", "file:///out/.bashrc", "a/..", "-rf", "x\x1b[2J.png", ""} {
		parts = append(parts, casemate.Content{Type: "image", MimeType: "image/png", URI: uri, Data: []byte("PNG")})
	}
	var said bytes.Buffer
	a := &app{console: &console{out: &said, err: &said}}
	if err := a.files(&casemate.Result{Content: parts}, out); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	const want = "dangling-1.png dangling.png fig-1.png fig.png link-1.png link.png part-10.png part-6.png part-7.png part-8.png part-9.png victim"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("files %s\nwant  %s", s, want)
	}
	if b, _ := os.ReadFile(victim); string(b) != "mine" {
		t.Errorf("a file outside was written: %q", b)
	}
	if _, err := os.Lstat(filepath.Join(dir, "planted")); err == nil {
		t.Error("a dangling link was followed")
	}
	said.Reset()
	if err := a.files(&casemate.Result{Content: parts[:1]}, ""); err != nil || !strings.Contains(said.String(), "image/png, 3 B (--out DIR writes it)") {
		t.Errorf("%q %v", said.String(), err)
	}
	if err := a.files(&casemate.Result{Content: parts[:1]}, filepath.Join(dir, "none")); casemate.KindOf(err) != casemate.Internal {
		t.Errorf("an absent folder: %v", err)
	}
}
