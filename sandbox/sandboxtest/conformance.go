package sandboxtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

var conformance = map[string]func(*testing.T, Subject){
	"streams": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{}, "echo out; echo err >&2; exit 7")
		if d.Stdout != "out\n" || d.Stderr != "err\n" || d.Status != 7 {
			t.Errorf("%+v", d)
		}
	},
	"unicode and large output": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{}, "printf 'grüße 🏰\n'; head -c 1000000 /dev/zero | tr '\\0' x")
		if !strings.HasPrefix(d.Stdout, "grüße 🏰\n") || len(d.Stdout) < 1_000_000 {
			t.Errorf("%d bytes, %.40q", len(d.Stdout), d.Stdout)
		}
	},
	"large input": func(t *testing.T, s Subject) {
		tool := &casemate.Tool{Name: "count", Run: casemate.Run{Exec: &casemate.Exec{Command: []string{"/usr/bin/wc", "-c"}, Stdin: "{text}"}}}
		if d := s.once(t, tool, guest.Pair{Key: "text", Value: strings.Repeat("x", 8<<20)}); strings.TrimSpace(d.Stdout) != "8388608" {
			t.Errorf("%+v", d)
		}
	},
	"environment is an allow list": func(t *testing.T, s Subject) {
		t.Setenv("CASEMATE_CANARY", "1")
		d := s.sh(t, casemate.Profile{Env: map[string]string{"MINE": "a b"}}, "env")
		if !strings.Contains(d.Stdout, "MINE=a b\n") || strings.Contains(d.Stdout, "CANARY") {
			t.Errorf("%s", d.Stdout)
		}
	},
	"working folder": func(t *testing.T, s Subject) {
		if d := s.sh(t, casemate.Profile{}, "pwd"); d.Stdout != "/tmp\n" {
			t.Errorf("%+v", d)
		}
		if d := s.sh(t, casemate.Profile{Cwd: "/usr"}, "pwd"); d.Stdout != "/usr\n" {
			t.Errorf("%+v", d)
		}
	},
	"grants": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "alpha", "sub/b": "beta"})
		p := grant(dir, "/g", casemate.Read)
		if d := s.sh(t, p, "cat /g/a /g/sub/b; touch /g/c || echo refused"); !strings.HasPrefix(d.Stdout, "alphabeta") || !strings.Contains(d.Stdout, "refused") {
			t.Errorf("%+v", d)
		}
		absent(t, dir+"/c")
		p = grant(dir, "/deep/er/g", casemate.Write)
		d := s.sh(t, p, "echo new > /deep/er/g/c; echo more >> /deep/er/g/a; rm /deep/er/g/sub/b")
		if got := contents(t, dir+"/a") + contents(t, dir+"/c"); got != "alphamore\nnew\n" {
			t.Errorf("%q; %+v", got, d)
		}
		absent(t, dir+"/sub/b")
		if info, err := os.Stat(dir + "/c"); err == nil && info.Mode().Perm()&0o022 != 0 {
			t.Errorf("made with mode %v", info.Mode())
		}
	},
	"one file as a grant": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "alpha", "b": "beta"})
		d := s.sh(t, grant(dir+"/a", "/one", casemate.Read), "cat /one; ls "+dir+"; echo x >/one")
		if d.Stdout != "alpha" || contents(t, dir+"/a") != "alpha" {
			t.Errorf("%+v", d)
		}
	},
	"programs run only where they may": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"x": "#!/bin/sh\necho ran\n"})
		os.Chmod(dir+"/x", 0o755)
		p := grant(dir, "/g", casemate.Read)
		if d := s.sh(t, p, "/g/x; cp /bin/true /tmp/x && /tmp/x && echo ran"); strings.Contains(d.Stdout, "ran") {
			t.Errorf("%+v", d)
		}
		p.Filesystem[0].Execute = true
		if d := s.sh(t, p, "/g/x"); d.Stdout != "ran\n" {
			t.Errorf("%+v", d)
		}
	},
	"what is never committed never happened": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "alpha"})
		sb := s.start(t, shell(grant(dir, "/g", casemate.Write)))
		call(t, sb, 1, command("echo x > /g/a; echo y > /g/b"))
		sb.Close()
		if contents(t, dir+"/a") != "alpha" {
			t.Error("changed without a commit")
		}
		absent(t, dir+"/b")
	},
	"host edits are visible to a session": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "one"})
		p := grant(dir, "/g", casemate.Write)
		p.Scope = casemate.ScopeSession
		sb := s.start(t, shell(p))
		c, ok := sb.(casemate.Committer)
		if !ok {
			t.Fatal("no commits")
		}
		if d := call(t, sb, 1, command("cat /g/a; echo mine > /g/b")); d.Stdout != "one" {
			t.Errorf("%+v", d)
		}
		if _, err := c.Commit(t.Context(), callID()); err != nil {
			t.Fatal(err)
		}
		if contents(t, dir+"/b") != "mine\n" {
			t.Error("the first commit did not reach the host")
		}
		os.WriteFile(dir+"/a", []byte("two"), 0o644)
		os.WriteFile(dir+"/new", []byte("three"), 0o644)
		if d := call(t, sb, 2, command("cat /g/a /g/new; echo again > /g/b")); d.Stdout != "twothree" {
			t.Errorf("%+v", d)
		}
		cs, err := c.Commit(t.Context(), callID())
		if err != nil || contents(t, dir+"/b") != "again\n" || contents(t, dir+"/a") != "two" {
			t.Errorf("%v %v", cs, err)
		}
	},
	"two writers lose nothing": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "base"})
		tool := shell(grant(dir, "/g", casemate.Write))
		b := s.Open(t, tool)
		first, second := park(t, b, tool), park(t, b, tool)
		call(t, first, 1, command("echo first > /g/a"))
		call(t, second, 1, command("echo second > /g/a"))
		time.Sleep(10 * time.Millisecond) // the kernel's file clock ticks
		if _, err := first.(casemate.Committer).Commit(t.Context(), callID()); err != nil {
			t.Fatal(err)
		}
		cs, err := second.(casemate.Committer).Commit(t.Context(), callID())
		if err != nil || len(cs) != 1 || cs[0].Did != "conflict" || contents(t, dir+"/a") != "first\n" {
			t.Errorf("%+v %v %q", cs, err, contents(t, dir+"/a"))
		}
	},
	"session keeps its state": func(t *testing.T, s Subject) {
		sb := s.start(t, shell(casemate.Profile{Scope: casemate.ScopeSession}))
		call(t, sb, 1, command("echo kept > /tmp/f"))
		if d := call(t, sb, 2, command("cat /tmp/f")); d.Stdout != "kept\n" {
			t.Errorf("%+v", d)
		}
	},
	"sandboxes share nothing": func(t *testing.T, s Subject) {
		tool := shell(casemate.Profile{})
		b := s.Open(t, tool)
		one, two := park(t, b, tool), park(t, b, tool)
		call(t, one, 1, command("echo x > /tmp/f; echo x > /dev/shm/f"))
		if d := call(t, two, 1, command("ls /tmp /dev/shm /out")); strings.Contains(d.Stdout, "f\n") {
			t.Errorf("%+v", d)
		}
	},
	"limits are what the profile says": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{Disk: 8 << 20}, "head -c 20000000 /dev/zero > /tmp/big; wc -c < /tmp/big; head -c 9000000 /dev/zero > /out/big2; wc -c </out/big2")
		f := strings.Fields(d.Stdout)
		if len(f) != 2 || len(f[0]) > 7 || f[0][0] != '8' || f[1] != "0" {
			t.Errorf("disk: %q", d.Stdout)
		}
	},
	"files that are left": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{}, "mkdir /out/sub; echo text > /out/sub/grüße.txt; printf '\\000\\377' > /out/raw; ln -s /etc/passwd /out/link; : > /out/empty")
		if len(d.Files) != 3 || d.Files["sub/grüße.txt"] != "text\n" || d.Files["raw"] != "\x00\xff" {
			t.Errorf("%+v", d)
		}
	},
	"what is left beyond the output is named": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{Output: 1000}, "head -c 2000 /dev/zero > /out/big; echo small > /out/small")
		if len(d.Files) != 1 || d.Files["small"] != "small\n" || !strings.Contains(d.Stderr, "big") {
			t.Errorf("%+v", d)
		}
	},
	// The root is small, and Debian's programs run in it all the same.
	"programs of the host": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a.c": "int puts(const char*); int main(void){return puts(\"compiled\")<0;}"})
		p := grant(dir, "/w", casemate.Write)
		p.Filesystem[0].Execute = true
		for program, want := range map[string]string{
			"awk 'BEGIN{print 6*7}'":                    "42\n",
			"date -u -d @0 +%Y; getent passwd 1000":     "1970\nsandbox:x:1000:1000:sandbox:/tmp:/bin/sh\n",
			"getent services http | tr -s ' '":          "http 80/tcp www\n",
			"perl -e 'print 6*7'":                       "42",
			"echo a | xargs echo b | cat /dev/fd/0":     "b a\n",
			"git init -q /tmp/r && ls /tmp/r/.git/HEAD": "/tmp/r/.git/HEAD\n",
			"node -e 'console.log(6*7)'":                "42\n",
			"/usr/bin/python3 -c 'import multiprocessing as m; print(m.Value(\"i\", 7).value)'": "7\n",
			"gcc -o /w/a /w/a.c && /w/a": "compiled\n",
		} {
			if name, _, _ := strings.Cut(program, " "); name != "echo" {
				if _, err := exec.LookPath(name); err != nil {
					t.Logf("%s is not on this host", name)
					continue
				}
			}
			if d := s.sh(t, p, program); d.Stdout != want {
				t.Errorf("%s: %+v", program, d)
			}
		}
	},
	"no network interface is up": func(t *testing.T, s Subject) {
		tool := &casemate.Tool{Name: "node", Run: casemate.Run{Node: &casemate.Script{Interpreter: interpreter(t, "node")}}}
		if d := s.once(t, tool, guest.Pair{Key: "code", Value: `Object.keys(require("os").networkInterfaces()).length`}); d.Value != "0" {
			t.Errorf("%+v", d)
		}
	},
	"usage is counted": func(t *testing.T, s Subject) {
		d := s.sh(t, casemate.Profile{}, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
		if d.Exit.Usage.CPU < time.Millisecond {
			t.Errorf("%+v", d.Exit)
		}
	},
	"close ends everything": func(t *testing.T, s Subject) {
		mark := filepath.Base(t.TempDir()) + time.Now().Format("150405.000000")
		sb := s.start(t, shell(casemate.Profile{}))
		call(t, sb, 1, command("(setsid sh -c 'exec -a "+mark+" sleep 300' </dev/null >/dev/null 2>&1 &) ; setsid sleep 301 & sleep 0.1"))
		begin := time.Now()
		if err := sb.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("close took %v", took)
		}
		if _, err := sb.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if err := sb.Close(); err != nil {
			t.Errorf("a second close: %v", err)
		}
	},
	"cancelling a start": func(t *testing.T, s Subject) {
		tool := shell(casemate.Profile{})
		b := s.Open(t, tool)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if sb, err := b.Start(ctx, casemate.Spec{Tool: tool}); err == nil {
			sb.Close()
			t.Error("a cancelled start succeeded")
		}
		park(t, b, tool) // and the backend goes on
	},
	"a wider grant is refused": func(t *testing.T, s Subject) {
		tool := shell(casemate.Profile{Memory: 64 << 20, Processes: 8, Disk: 8 << 20})
		b := s.Open(t, tool)
		for _, g := range []casemate.Grant{{Memory: 65 << 20}, {Processes: 9}, {Disk: 9 << 20}, {Without: []string{"/nothing"}}, {Tool: "sha256:0"}} {
			if sb, err := b.Start(t.Context(), casemate.Spec{Tool: tool, Grant: g}); err == nil {
				sb.Close()
				t.Errorf("%+v was given", g)
			} else if casemate.KindOf(err) != casemate.Denied {
				t.Errorf("%+v: %v", g, err)
			}
		}
	},
	"a narrower grant is given": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "alpha"})
		tool := shell(grant(dir, "/g", casemate.Read))
		b := s.Open(t, tool)
		sb, err := b.Start(t.Context(), casemate.Spec{Tool: tool, Grant: casemate.Grant{Without: []string{"/g"}, Disk: 4 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		defer sb.Close()
		guest.Read(sb.Guest(), guest.MaxReply)
		if d := call(t, sb, 1, command("cat /g/a; head -c 9000000 /dev/zero > /tmp/x; wc -c < /tmp/x")); d.Stdout != "4194304\n" {
			t.Errorf("%+v", d)
		}
	},
}
