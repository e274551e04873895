package sandboxtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/testenv"
)

// Every kind of guest, as far as a wall could tell them apart.
var runners = map[string]func(*testing.T, Subject){
	"python": func(t *testing.T, s Subject) {
		python := interpreter(t, "python3")
		for _, alone := range []bool{false, true} {
			tool := &casemate.Tool{Name: "python", Run: casemate.Run{Python: &casemate.Script{Interpreter: python, NoFork: alone}}}
			b := s.Open(t, tool)
			for code, want := range map[string]done{
				"print('grüße')\nimport sys\nprint('err', file=sys.stderr)\n6*7": {Stdout: "grüße\n", Stderr: "err\n", Value: "42"},
				"import os\nos._exit(4)":                     {Status: 4},
				"open('/out/a.txt','w').write('left')\nNone": {Files: map[string]string{"a.txt": "left"}},
				"import subprocess\nprint(subprocess.run(['echo','x'],stdout=-1,text=True).stdout)": {Stdout: "x\n\n"},
			} {
				d := call(t, park(t, b, tool), 1, guest.Pair{Key: "code", Value: code})
				if d.Stdout != want.Stdout || d.Stderr != want.Stderr || d.Value != want.Value || d.Status != want.Status || d.Files["a.txt"] != want.Files["a.txt"] || !d.Answered {
					t.Errorf("alone %v: %q: %+v", alone, code, d)
				}
			}
			if d := call(t, park(t, b, tool), 1, guest.Pair{Key: "code", Value: "1/0"}); d.Failure == "" && !strings.Contains(d.Stderr, "ZeroDivisionError") {
				t.Errorf("%+v", d)
			}
		}
	},
	"node": func(t *testing.T, s Subject) {
		tool := &casemate.Tool{Name: "node", Run: casemate.Run{Node: &casemate.Script{Interpreter: interpreter(t, "node")}}}
		if d := s.once(t, tool, guest.Pair{Key: "code", Value: "console.log('grüße'); console.error('err'); 6*7"}); d.Stdout != "grüße\n" || d.Stderr != "err\n" || d.Value != "42" {
			t.Errorf("%+v", d)
		}
	},
	"built in": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "alpha\nbeta\n"})
		tool := &casemate.Tool{Name: "read_file", Run: casemate.Run{Builtin: casemate.ReadFile}, Security: grant(dir, "/g", casemate.Read)}
		if d := s.once(t, tool, guest.Pair{Key: "path", Value: "/g/a"}); !strings.Contains(d.Stdout+d.Value, "alpha") || d.Failure != "" {
			t.Errorf("%+v", d)
		}
		if d := s.once(t, tool, guest.Pair{Key: "path", Value: dir + "/a"}); strings.Contains(d.Stdout+d.Value, "alpha") {
			t.Errorf("%+v", d)
		}
		tool = &casemate.Tool{Name: "write_file", Run: casemate.Run{Builtin: casemate.WriteFile}, Security: grant(dir, "/g", casemate.Write)}
		if d := s.once(t, tool, guest.Pair{Key: "path", Value: "/g/new"}, guest.Pair{Key: "content", Value: "text"}); contents(t, dir+"/new") != "text" {
			t.Errorf("%+v", d)
		}
	},
}

// interpreter is the real path of one that lies beneath /usr, which every root
// has.
func interpreter(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/bin", "/usr/local/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			if path, err = filepath.EvalSymlinks(path); err == nil && strings.HasPrefix(path, "/usr/") {
				return path
			}
		}
	}
	_, err := os.Stat("/usr/bin/" + name)
	testenv.Require(t, name, &testenv.Unsupported{What: name, Why: err.Error(), Fix: "install it from your distribution"})
	return ""
}
