package merge

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Each case: what the host has, what the guest does, what the host does
// meanwhile, what the merge says, and what then holds on the host.
var cases = []struct {
	name                   string
	host, guest, meanwhile string
	names, pinned          []string
	want                   string
	holds                  string
}{
	{name: "create", guest: `echo hi >a; mkdir -p d/e; echo deep >d/e/f; chmod 640 a; chmod 750 d`,
		want: "created a; created d; created d/e; created d/e/f", holds: `test "$(cat a)" = hi; test "$(cat d/e/f)" = deep; test $(stat -c %a a) = 640; test $(stat -c %a d) = 750`},
	{name: "change", host: `echo old >a; chmod 600 a`, guest: `echo new >a`,
		want: "changed a", holds: `test "$(cat a)" = new; test $(stat -c %a a) = 600`},
	{name: "mode", host: `echo x >a; chmod 644 a`, guest: `chmod 755 a`, want: "changed a", holds: `test -x a`},
	{name: "folder mode", host: `mkdir d`, guest: `chmod 777 d`, want: "held d", holds: `test $(stat -c %a d) = 755`},
	{name: "same", host: `echo x >a; ln -s a l; mkdir d`, guest: `touch a; touch -h l; touch d; echo x >b; mv b a`, want: ""},
	{name: "append large", host: `dd if=/dev/zero of=big bs=1M count=16 2>/dev/null`, guest: `echo end >>big`,
		want: "changed big", holds: `test $(stat -c %s big) = 16777220; test "$(tail -c 4 big)" = end`},
	{name: "sparse", guest: `truncate -s 40M holes; echo end >>holes`, want: "created holes",
		holds: `test $(stat -c %s holes) = 41943044; test $(stat -c %b holes) -lt 100; test "$(tail -c 4 holes)" = end`},
	{name: "sparse and huge", guest: `truncate -s 4T holes`, want: "held holes", holds: `test ! -e holes`},
	{name: "hard links of the guest cost their sum", guest: `dd if=/dev/zero of=a bs=1M count=30 2>/dev/null; for i in 1 2 3 4; do ln a b$i; done`,
		want: "created a; created b1; held b2; held b3; held b4"},
	{name: "delete", host: `mkdir -p d/e; echo 1 >d/e/f; echo 2 >a; ln -s a l`, guest: `rm -r d a l`,
		want: "deleted a; deleted d; deleted d/e; deleted d/e/f; deleted l", holds: `test -z "$(ls -A)"`},
	{name: "opaque", host: `mkdir d; echo 1 >d/x; echo 2 >d/y`, guest: `rm -r d; mkdir d; echo 3 >d/y`,
		want: "changed d/y; deleted d/x", holds: `test "$(ls d)" = y; test "$(cat d/y)" = 3`},
	{name: "rename", host: `echo 1 >a; mkdir d; echo 2 >d/b`, guest: `mv a z; cp -r d e; rm -r d`,
		want: "created e; created e/b; created z; deleted a; deleted d; deleted d/b", holds: `test "$(cat z e/b)" = "1
2"`},
	{name: "rename in a busy folder", host: `echo 1 >a`, guest: `mv a z`, meanwhile: `echo other >o`, want: "created z; deleted a"},
	{name: "file to folder", host: `echo 1 >a`, guest: `rm a; mkdir a; echo 2 >a/b`, want: "created a; created a/b; deleted a", holds: `test "$(cat a/b)" = 2`},
	{name: "folder to file", host: `mkdir a; echo 1 >a/b`, guest: `rm -r a; echo 2 >a`, want: "created a; deleted a; deleted a/b", holds: `test "$(cat a)" = 2`},
	{name: "link to file", host: `echo 1 >t; ln -s t a`, guest: `rm a; echo 2 >a`, want: "changed a", holds: `test ! -L a; test "$(cat a t)" = "2
1"`},
	{name: "file to link", host: `echo 1 >a`, guest: `rm a; ln -s b a`, want: "changed a", holds: `test "$(readlink a)" = b`},
	{name: "odd names", guest: `mkdir 'a b'; echo 1 >'a b/-n'; echo 2 >"$(printf 'x\033[2J\ny')"; echo 3 >"$(printf '\377\376')"`,
		want: "created a b; created a b/-n; created x\x1b[2J\ny; created \xff\xfe"},
	{name: "own names", guest: `echo 1 >` + TempPrefix + `0123`, want: "held " + TempPrefix + "0123"},

	// setuid-plant
	{name: "setuid-plant", host: `echo x >h`, guest: `echo x >a; chmod 6755 a; chmod 4755 h; mkdir d; chmod 3777 d`,
		want: "changed h; created a; created d", holds: `test $(stat -c %a a) = 755; test $(stat -c %a d) = 777`},
	{name: "hard link of the host's", host: `echo 1 >../../outside/victim; ln ../../outside/victim a`, guest: `echo 2 >>a`, want: "changed a",
		holds: `test "$(cat ../../outside/victim)" = 1; rm ../../outside/victim`},
	{name: "special files", guest: `mkfifo p; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("s")'`, want: "held p; held s", holds: `test -z "$(ls -A)"`},
	{name: "special files of the host's", host: `mkfifo p q r`, guest: `rm p q; echo x >p; chmod 700 r`, want: "held p; held q", holds: `test -p p -a -p q -a -p r`},
	{name: "raw device", guest: `raw:mkdir e; mknod e/w c 0 0; mknod q p`, want: "created e; held q", holds: `test -z "$(ls -A e)"`},
	{name: "overlay features", host: `mkdir d; echo 1 >d/f`, guest: `raw:echo x >a; echo y >b; mkdir d; python3 -c '
import os
os.setxattr("a", "user.overlay.metacopy", b"")
os.setxattr("b", "user.overlay.redirect", b"/etc/passwd")
os.setxattr("d", "user.overlay.redirect", b"/etc")'`, want: "held a; held b; held d", holds: `test "$(ls)" = d`},
	{name: "attributes", guest: `echo x >a; python3 -c 'import os; os.setxattr("a", "user.evil", b"1")'`, want: "created a",
		holds: `python3 -c 'import os; assert os.listxattr("a") == []'`},

	// symlink-write
	{name: "links out", guest: `ln -s /etc/passwd abs; ln -s ../../outside/canary up; mkdir d; ln -s ../../x d/up; ln -s a/../../x d/through; ln -s ../a d/ok; ln -s d/ok ok`,
		want: "created d; created d/ok; created ok; held abs; held d/through; held d/up; held up"},
	{name: "links of the host's are not followed", host: `ln -s ../../outside out`, guest: `rm out; mkdir out; echo evil >out/canary`,
		want: "created out; created out/canary; deleted out"},
	{name: "raw write through a link", host: `ln -s ../../outside out`, guest: `raw:mkdir out; echo evil >out/canary`,
		want: "created out; created out/canary; deleted out"},
	{name: "swapped for a link", host: `mkdir d; echo 1 >d/f`, guest: `echo 2 >d/f; echo 3 >d/g`, meanwhile: `mv d e; ln -s ../../outside d`,
		want: "conflict d/f; conflict d/g", holds: `test "$(cat e/f)" = 1`},

	// absent-protected-path, dotfile-plant
	{name: "absent-protected-path", guest: `mkdir .git; mkdir .git/hooks; echo x >.git/hooks/pre-commit; echo x >.git/config; mkdir .vscode; echo x >.vscode/tasks.json`,
		want: "created .git; held .git/config; held .git/hooks; held .vscode", holds: `test "$(ls -A)" = .git; test -z "$(ls -A .git)"`},
	{name: "dotfile-plant", host: `mkdir .claude; echo 1 >.claude/settings.json; echo 1 >.bashrc`,
		guest: `echo x >.bashrc; echo x >.BashRC; echo x >a; mv a .mcp.json; mkdir -p s/.claude; echo x >CLAUDE.md; rm .claude/settings.json; echo x >.claude/hook; mkdir -p .github/workflows; echo x >.github/ok; mkdir b; mv b .ssh`,
		want:  "created .github; created .github/ok; created s; held .BashRC; held .bashrc; held .claude/hook; held .claude/settings.json; held .github/workflows; held .mcp.json; held .ssh; held CLAUDE.md; held s/.claude",
		holds: `test "$(cat .bashrc .claude/settings.json)" = "1
1"`},
	{name: "protected and gone", host: `mkdir -p r/.git/hooks; echo 1 >r/.git/hooks/h; echo 2 >r/.git/HEAD; echo 3 >r/f`, guest: `rm -r r; echo x >r`,
		want: "conflict r; deleted r/.git/HEAD; deleted r/f; held r; held r/.git; held r/.git/hooks; held r/.git/hooks/h", holds: `test "$(cat r/.git/hooks/h)" = 1`},
	{name: "protected, replaced by an opaque folder", host: `mkdir -p .git/hooks; echo 1 >.git/hooks/h; echo c >.git/config`, guest: `rm -r .git; mkdir .git; mkdir .git/hooks; echo 2 >.git/hooks/h`,
		want: "held .git/config; held .git/hooks/h", holds: `test "$(cat .git/hooks/h)" = 1`},
	{name: "protected and untouched", host: `echo 1 >.bashrc; mkdir .vscode; echo 1 >.vscode/x`, guest: `touch .bashrc; touch .vscode/x; chmod 600 .bashrc; chmod 644 .bashrc`, want: ""},
	{name: "a link as a folder of protected names", guest: `mkdir evil; ln -s evil .config; ln -s evil .github; ln -s evil .git; ln -s evil .claude; ln -s ../evil evil/fish`,
		want: "created evil; created evil/fish; held .claude; held .config; held .git; held .github"},
	{name: "a link to what is protected", guest: `ln -s .bashrc log; mkdir d; ln -s ../.git/hooks/x d/out; ln -s .config/fish/config.fish z`, want: "created d; held d/out; held log; held z"},
	{name: "a commit", host: `mkdir -p .git/objects .git/refs/heads; echo ref >.git/HEAD; echo c >.git/config`, guest: `echo 1 >.git/index; mkdir .git/objects/ab; echo o >.git/objects/ab/cd; echo r >.git/refs/heads/main; echo x >.git/commondir; ln -s ../config .git/ORIG_HEAD; mkdir .git/objects/info; echo / >.git/objects/info/alternates; echo y >>.git/config`,
		want: "created .git/index; created .git/objects/ab; created .git/objects/ab/cd; created .git/objects/info; created .git/refs/heads/main; held .git/ORIG_HEAD; held .git/commondir; held .git/config; held .git/objects/info/alternates"},

	// git-bare
	{name: "git-bare", guest: `mkdir -p evil/objects evil/refs evil/more; echo ref >evil/HEAD; echo x >evil/config; echo ok >evil/README`,
		want: "created evil; created evil/README; created evil/more; held evil/HEAD; held evil/config; held evil/objects; held evil/refs"},
	{name: "git-bare, completed", host: `mkdir -p evil/objects evil/refs; echo c >evil/config`, guest: `echo ref >evil/HEAD; echo x >evil/config`, want: "changed evil/config; held evil/HEAD"},
	{name: "git-bare, commondir", host: `mkdir -p a`, guest: `echo ref >a/HEAD; echo ../b >a/commondir; mkdir -p b/objects b/refs; echo x >b/config`,
		want: "created b; created b/config; created b/objects; created b/refs; held a/HEAD; held a/commondir"},
	{name: "git-bare, of the host's", host: `mkdir -p r.git/objects r.git/refs r.git/hooks; echo ref >r.git/HEAD; echo c >r.git/config`, guest: `echo x >r.git/config; echo x >r.git/hooks/h; echo x >r.git/refs/y; rm r.git/HEAD; echo 2 >r.git/HEAD`,
		want: "changed r.git/HEAD; created r.git/refs/y; held r.git/config; held r.git/hooks/h"},
	{name: "git-bare, at the root", guest: `mkdir objects refs; echo ref >HEAD; echo x >config; echo y >f`, want: "created f; held HEAD; held config; held objects; held refs"},

	// granted by name
	{name: "granted", host: `mkdir .git`, guest: `mkdir .git/hooks; echo x >.git/hooks/h; echo x >.git/config; echo x >.bashrc; echo x >.profile`, names: []string{".git/hooks", ".BASHRC"},
		want: "created .bashrc; created .git/hooks; created .git/hooks/h; held .git/config; held .profile"},
	{name: "pinned", host: `mkdir conf; echo 1 >conf/t.py; echo 1 >s.sh`, guest: `echo 2 >conf/t.py; rm -r conf; ln -s x conf; echo 2 >>s.sh; ln -s x tools; echo y >S.SH`, pinned: []string{"/home/u/work/conf/t.py", "/home/u/work/s.sh", "/home/u/work/tools/x", "/elsewhere"},
		want: "held S.SH; held conf; held s.sh; held tools", holds: `test "$(cat conf/t.py s.sh)" = "1
1"`},

	// conflicts
	{name: "changed meanwhile", host: `echo 1 >a`, guest: `echo 2 >a`, meanwhile: `echo 3 >a`, want: "conflict a", holds: `test "$(cat a)" = 3`},
	{name: "made meanwhile", guest: `echo 2 >a`, meanwhile: `echo 3 >a`, want: "conflict a", holds: `test "$(cat a)" = 3`},
	{name: "deleted meanwhile", host: `echo 1 >a; mkdir d; echo 1 >d/f`, guest: `echo 2 >a; echo 2 >d/f`, meanwhile: `rm -r a d`, want: "conflict a; conflict d/f", holds: `test -z "$(ls -A)"`},
	{name: "changed and deleted", host: `echo 1 >a; mkdir d; echo 1 >d/f; echo 1 >d/g`, guest: `rm -r a d`, meanwhile: `echo 3 >a; echo 3 >d/f`, want: "conflict a; conflict d/f; deleted d/g; held d", holds: `test "$(cat a d/f)" = "3
3"`},
	{name: "deleted by both", host: `echo 1 >a`, guest: `rm a`, meanwhile: `rm a`, want: ""},
	{name: "other type meanwhile", host: `echo 1 >a; mkdir d; echo 1 >d/f`, guest: `echo 2 >a; echo 2 >d/f`, meanwhile: `rm -r a d; ln -s x a; echo 3 >d`, want: "conflict a; conflict d/f", holds: `test -L a -a -f d`},
	{name: "same meanwhile", host: `echo 1 >a`, guest: `echo 2 >a`, meanwhile: `echo 2 >a`, want: ""},
	{name: "added meanwhile", host: `mkdir d; echo 1 >d/x`, guest: `rm -r d; mkdir d; echo 2 >d/y`, meanwhile: `echo 3 >d/z`, want: "conflict d/z; created d/y; deleted d/x", holds: `test "$(cat d/z)" = 3`},
	{name: "a link, kept", guest: `ln -s b a`, meanwhile: `echo 3 >a`, want: "conflict a"},
}

func TestMerge(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.host)
			w.g.Names, w.g.Pinned = c.names, c.pinned
			w.guest(c.guest)
			w.onHost(c.meanwhile)
			changes := w.merge()
			if got := show(changes); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			for _, c := range changes {
				if (c.Did == Held || c.Did == Conflict) == (c.Why == "") {
					t.Errorf("%s %s: why %q", c.Did, c.Path, c.Why)
				}
				if c.Kept != "" {
					if b, err := os.ReadFile(w.keep(c.Kept)); err != nil || strings.TrimSpace(string(b)) != "2" && string(b) != "b" && !strings.Contains(c.Path, "d/g") && !strings.Contains(c.Path, "/r") {
						t.Errorf("kept of %s: %q %v", c.Path, b, err)
					}
				}
			}
			if c.holds != "" {
				w.onHost(c.holds)
			}
			w.quiet()
			b := EncodeChanges(changes)
			if again, err := DecodeChanges(b); err != nil || show(again) != show(changes) {
				t.Errorf("wire: %v", err)
			}
		})
	}
}

// A grant whose root lies in a protected folder needs the name.
func TestRootInProtectedFolder(t *testing.T) {
	for at, want := range map[string]string{
		"/home/u/repo/.git/hooks": "held pre-commit", "/home/u/.CLAUDE/x": "held pre-commit", "/home/u/.git": "held pre-commit",
		"/home/u/.github": "created pre-commit", "/home/u/.gitx/hooks": "created pre-commit",
	} {
		w := newWorld(t, "")
		w.g.HostPath = at
		w.guest("echo x >pre-commit")
		if got := show(w.merge()); got != want {
			t.Errorf("%s: %s", at, got)
		}
		w.g.Names = []string{".git/hooks", ".claude", ".git"}
		w.claim()
		if got := show(w.merge()); got != "created pre-commit" && want[0] == 'h' {
			t.Errorf("%s, granted: %s", at, got)
		}
	}
}

func TestBounds(t *testing.T) {
	w := newWorld(t, "")
	w.guest(`d=x; python3 -c '
import os
for i in range(300):
    os.mkdir("d"); os.chdir("d")
open("f", "w").write("x")'
python3 -c '
import os
for i in range(14):
    os.mkdir("n"*250); os.chdir("n"*250)'`)
	got := w.merge()
	if n := len(got); n != 256+1+12+1 {
		t.Errorf("%d changes", n)
	}
	for _, c := range got[len(got)-2:] {
		if c.Did == Held && c.Why != "too deep" {
			t.Error(c.Why)
		}
	}
	// The bound is on all folders together, on both sides.
	for _, c := range []struct{ host, guest string }{
		{"", `mkdir a b c d; touch a/1 a/2 b/1 b/2 c/1 c/2 d/1`},
		{`mkdir -p d/a d/b; touch d/a/1 d/a/2 d/a/3 d/a/4 d/b/1 d/b/2 d/b/3 d/b/4 d/b/5`, `rm -r d`},
		{`mkdir d; touch d/1 d/2 d/3 d/4 d/5 d/6 d/7 d/8 d/9 d/10`, `rm -r d; mkdir d`},
	} {
		w := newWorld(t, c.host)
		w.guest(c.guest)
		if _, err := plan(w.g, 10); err == nil || !strings.Contains(err.Error(), "too many") {
			t.Errorf("%s: over the bound of entries: %v", c.guest, err)
		}
		if _, err := plan(w.g, 24); err != nil {
			t.Error(err)
		}
	}
	w = newWorld(t, "")
	w.guest(`raw:python3 -c '
import os
open("f0", "w")
for i in range(1, 100001): os.link("f0", "f%d" % i)'`)
	if _, err := Plan(w.g); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Error("over the bound of entries: ", err)
	}
	w.onHost(`test -z "$(ls -A)"`)
}

// Two guests that hold the same folder lose nothing of one another's.
func TestTwoWriters(t *testing.T) {
	a := newWorld(t, `echo base >both; echo base >mine`)
	b := &world{t: t, dir: a.dir, host: a.host, calls: 10}
	b.start()
	a.guest(`echo a >both; echo a >mine; echo a >new`)
	b.guest(`echo b >both; echo b >new; echo b >other`)
	if got := show(a.merge()); got != "changed both; changed mine; created new" {
		t.Error(got)
	}
	changes := b.merge()
	if got := show(changes); got != "conflict both; conflict new; created other" {
		t.Error(got)
	}
	a.onHost(`test "$(cat both mine new other)" = "a
a
a
b"`)
	for _, c := range changes {
		if c.Did == Conflict {
			if text, err := os.ReadFile(b.keep(c.Kept)); string(text) != "b\n" {
				t.Error(c, string(text), err)
			}
		}
	}
}

// One session, several calls: what its own merges wrote is no conflict, what
// the owner did between the calls is never undone by a stale upper tree.
func TestSession(t *testing.T) {
	w := newWorld(t, `echo 1 >a; echo 1 >b; echo 1 >c; echo 1 >gone; echo 1 >touched; mkdir d; echo 1 >d/x`)
	w.g.Known = map[string]Stamp{}
	next := func(guest, host, want string) {
		t.Helper()
		w.onHost(host)
		w.claim()
		w.guest(guest)
		if got := show(w.merge()); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		k, err := DecodeKnown(EncodeKnown(w.g.Known))
		if err != nil || len(k) != len(w.g.Known) {
			t.Fatal(err)
		}
		w.g.Known = k
	}
	next(`echo 2 >a; echo 2 >b; echo 2 >c; rm gone; touch touched; rm -r d; mkdir d; echo 2 >d/y; echo 2 >n; mkdir e; echo 2 >e/f; echo 2 >e/g`, "",
		"changed a; changed b; changed c; created d/y; created e; created e/f; created e/g; created n; deleted d/x; deleted gone")
	next(``, ``, "")
	next(`echo 3 >a; echo 3 >n`, ``, "changed a; changed n")
	// The owner edits b and touched, makes gone again, adds to the folders.
	next(`echo 4 >a`, `echo own >b; echo own >touched; echo own >gone; echo own >d/z; echo own >e/z`, "changed a")
	w.onHost(`test "$(cat b touched gone d/z e/z | uniq)" = own`)
	next(`echo 5 >b; rm n e/f`, ``, "conflict b; deleted e/f; deleted n")
	w.onHost(`test "$(cat b)" = own`)
	next(``, ``, "")
	next(`rm -r e`, ``, "conflict e/z; deleted e/g; held e")
	w.onHost(`test "$(cat e/z)" = own; rm c`)
	next(``, ``, "conflict e/z; held e")
	next(`echo 6 >c`, ``, "conflict c; conflict e/z; held e")
	w.onHost(`test ! -e c`)
}

// A folder without exchange: the way of NFS and some FUSE file systems.
func TestPlainRename(t *testing.T) {
	w := newWorld(t, `echo 1 >a; ln -s a l`)
	w.guest(`echo 2 >a; rm l; ln -s b l`)
	steps, err := Plan(w.g)
	if err != nil {
		t.Fatal(err)
	}
	a := &applier{g: w.g, k: openKeep(w.g.Keep), plain: true}
	defer a.k.close()
	if err := a.k.begin("/work"); err != nil {
		t.Fatal(err)
	}
	for i, s := range steps {
		if err := a.step(uint64(i), s); err != nil {
			t.Fatal(err)
		}
	}
	w.onHost(`test "$(cat a)" = 2; test "$(readlink l)" = b`)
	if cs, err := Undo(w.g.Keep, w.g.Host); err != nil || show(cs) != "changed a; changed l" {
		t.Fatal(show(cs), err)
	}
	w.onHost(`test "$(cat a)" = 1; test "$(readlink l)" = a`)
}

// What the host changes between Plan and Apply is a conflict, also where two
// names cannot be exchanged, and where all that changed is the ctime.
func TestChangedAfterPlan(t *testing.T) {
	for _, plain := range []bool{false, true} {
		w := newWorld(t, `echo 1 >a; echo 1 >b; echo 1 >c; mkdir d; echo 1 >d/f; echo 1 >e; echo 1 >linked`)
		w.guest(`echo 2 >a; rm b; echo 2 >c; rm -r d; echo 2 >new; mkdir sub; echo 2 >e; echo 2 >linked`)
		steps, err := Plan(w.g)
		if err != nil {
			t.Fatal(err)
		}
		w.onHost(`echo own >a; echo own >b; rm c; mkdir c; echo own >d/g; echo own >new; echo own >sub; rm e; ln linked l2`)
		a := &applier{g: w.g, k: openKeep(w.g.Keep), plain: plain, made: map[string]uint64{}}
		defer a.k.close()
		err = a.k.begin("/work")
		for i, s := range steps {
			err = errors.Join(err, a.step(uint64(i), s))
		}
		if want := "conflict a; conflict b; conflict c; conflict e; conflict linked; conflict new; conflict sub; deleted d/f; held d"; err != nil || show(a.changes) != want {
			t.Errorf("%v %s", err, show(a.changes))
		}
		w.onHost(`test "$(cat a b d/g new sub | uniq)" = own; test -d c; test ! -e e; test "$(cat linked)" = 1`)
		w.quiet()
	}
}

// A mount in the folder on the host is not entered.
func TestMountIsNotEntered(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("unsupported: mounting in this namespace needs root")
	}
	w := newWorld(t, `mkdir m; echo 1 >m/f`)
	if err := unix.Mount("tmpfs", w.host+"/m", "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("unsupported: mount: ", err)
	}
	defer unix.Unmount(w.host+"/m", unix.MNT_DETACH)
	w.guest(`echo 2 >m/f; echo 3 >m/g`)
	if got := show(w.merge()); got != "held m" {
		t.Error(got)
	}
	w.onHost(`test -z "$(ls -A m)"`)
}
