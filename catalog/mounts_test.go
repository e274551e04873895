package catalog

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
)

func grants(path string) []byte {
	return []byte("version: 1\ntools:\n  - name: a\n    run: {shell: {}}\n    security: {filesystem: [{path: \"" + path + "\", at: /w, access: write}]}\n")
}

func TestGrantsAreResolvedOnce(t *testing.T) {
	dir := folder(t, map[string]string{"conf/real/a": "x", "conf/file": "x", "outside/b": "x", "home/c": "x", "state/trust/": ""})
	ok(t, os.Symlink("real", dir+"/conf/inner"))
	ok(t, os.Symlink("../outside", dir+"/conf/outer"))
	ok(t, os.Symlink("..", dir+"/conf/real/up"))
	ok(t, os.Symlink("/", dir+"/conf/root"))
	ok(t, os.Symlink(dir+"/state", dir+"/state-link"))
	opt := options()
	opt.Home, opt.State = dir+"/home", dir+"/state-link"
	for _, c := range []struct{ path, real, refusal string }{
		{".", dir + "/conf", ""},
		{"./real", dir + "/conf/real", ""},
		{"real/", dir + "/conf/real", ""},
		{"inner", dir + "/conf/real", ""},
		{"real/up/file", dir + "/conf/file", ""},
		{"~", dir + "/home", ""},
		{"~/c", dir + "/home/c", ""},
		{dir + "/outside", dir + "/outside", ""},
		{dir + "/conf/outer/b", dir + "/outside/b", ""}, // absolute: it is meant
		{"outer", "", "is a link that leaves the folder of the configuration, to \"" + dir + "/outside\""},
		{"root", "", "is a link that leaves"},
		{dir + "/conf/root", "", "the whole file system is never granted"},
		{dir, "", "holds or lies in Casemate's own state"},
		{dir + "/state/trust", "", "holds or lies in Casemate's own state"},
		{dir + "/conf/root/proc", "", "lies in /proc"},
		{"a\\0b", "", "holds a NUL byte"},
	} {
		got, err := Parse(dir+"/conf/casemate.yaml", grants(c.path), opt)
		if c.refusal != "" {
			if casemate.KindOf(err) != casemate.Invalid || !strings.Contains(err.Error(), c.refusal) {
				t.Errorf("%s: %v", c.path, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
		} else if real := got.Tools[0].Security.Filesystem[0].Path; real != c.real {
			t.Errorf("%s: %s, want %s", c.path, real, c.real)
		}
	}
}

// TestPrefixMatch is the row prefix-match: paths compare by component.
func TestPrefixMatch(t *testing.T) {
	for _, c := range []struct {
		dir, p string
		want   bool
	}{
		{"/work", "/work", true}, {"/work", "/work/a", true}, {"/work", "/work-evil", false}, {"/work/a", "/work", false}, {"/", "/x", true},
	} {
		if within(c.dir, c.p) != c.want {
			t.Errorf("within(%q, %q) is not %v", c.dir, c.p, c.want)
		}
	}
	dir := folder(t, map[string]string{"conf/": "", "conf-evil/": ""})
	if _, err := Parse(dir+"/conf/casemate.yaml", grants("../conf-evil"), options()); err == nil {
		t.Error("../conf-evil was granted to conf")
	}
	opt := options()
	opt.State = dir + "/conf"
	if _, err := Parse(dir+"/x/casemate.yaml", grants(dir+"/conf-evil"), opt); err != nil {
		t.Errorf("conf-evil is taken for the state in conf: %v", err)
	}
}

func TestHostileTextIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	for name, unit := range map[string]string{"open": "[", "maps": "{a: ", "dashes": "- ", "keys": "? ", "anchors": "&a ", "quotes": "\"\\x41", "commas": "[,", "comments": "#\n", "lines": "a: b\n", "tags": "!!a ", "blocks": "|\n a\n", "spaces": " ", "directives": "%TAG ! x\n"} {
		src := strings.Repeat(unit, maxSource/len(unit))
		start := time.Now()
		if _, err := Parse("/c/casemate.yaml", []byte(src), options()); casemate.KindOf(err) != casemate.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("%s took %v", name, d)
		} else {
			t.Logf("%s: %v", name, d)
		}
	}
}
