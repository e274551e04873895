package runners

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

// An answer is all that came back of one Files.
type answer struct {
	data    string
	entries []guest.Entry
	frames  int // of Value
	failure string
	taken   int
}

func (p *peer) files(op, path string, data ...string) answer {
	p.t.Helper()
	p.request(guest.Files, "op", op, "path", path)
	for _, d := range data {
		p.stdin(d)
	}
	if op == "write" {
		p.stdin("")
	}
	return p.answer()
}

func (p *peer) answer() (a answer) {
	p.t.Helper()
	for {
		f, err := guest.Read(p.conn, guest.MaxReply)
		if err != nil || f.Call != p.calls {
			p.wait()
			p.t.Fatalf("%v; runner: %s", err, p.stderr.String())
		}
		switch f.Type {
		case guest.Stdout:
			a.data += string(f.Body)
		case guest.Taken:
			a.taken += int(binary.BigEndian.Uint32(f.Body))
		case guest.Failure:
			a.failure = string(f.Body)
		case guest.Value:
			a.frames++
			es, err := guest.ParseEntries(f.Body)
			if err != nil {
				p.t.Fatal(err)
			}
			a.entries = append(a.entries, es...)
		case guest.Done:
			if (f.Body[3] == 0) != (a.failure == "") {
				p.t.Errorf("status %d with failure %q", f.Body[3], a.failure)
			}
			return a
		}
	}
}

func TestFiles(t *testing.T) {
	for _, g := range []plan.Guest{shell, {Runner: "python", Interpreter: pythons(t)[0], Session: true}} {
		t.Run(g.Runner, func(t *testing.T) {
			p := start(t, g)
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			big := bytes.Repeat([]byte("0123456789abcde\n"), 10000) // not yet a window
			if a := p.files("write", at("new/er/f"), string(big[:70000]), string(big[70000:])); a.failure != "" || a.taken != len(big) {
				t.Fatalf("%+v", a)
			}
			if got, _ := os.ReadFile(at("new/er/f")); !bytes.Equal(got, big) {
				t.Errorf("%d bytes on disk", len(got))
			}
			if a := p.files("read", at("new/er/f")); a.data != string(big) || a.failure != "" {
				t.Errorf("%d bytes, %q", len(a.data), a.failure)
			}
			p.files("write", at("new/er/f"), "short") // in place, and nothing of the old
			if a := p.files("read", at("new/er/f")); a.data != "short" {
				t.Errorf("%+v", a)
			}
			if a := p.files("write", "relative"); a.failure != "" { // to the working folder, and empty
				t.Errorf("%+v", a)
			}
			if a := p.files("stat", "relative"); len(a.entries) != 1 || a.entries[0].Name != "relative" || a.entries[0].Kind != "file" {
				t.Errorf("%+v", a)
			}
			os.Symlink("er/f", at("new/link"))
			unix.Mkfifo(at("new/fifo"), 0o600)
			a := p.files("list", at("new"))
			var got []string
			for _, e := range a.entries {
				got = append(got, e.Name+" "+e.Kind)
			}
			if !slices.Equal(got, []string{"er folder", "fifo other", "link link"}) || a.frames != 1 {
				t.Errorf("%q", got)
			}
			if a := p.files("stat", at("new/link")); len(a.entries) != 1 || a.entries[0].Name != "link" || a.entries[0].Size != 5 || a.entries[0].Mode != 0o644 || a.entries[0].Modified < 1e18 {
				t.Errorf("%+v", a)
			}
			if a := p.files("stat", "/"); len(a.entries) != 1 || a.entries[0].Name != "/" || a.entries[0].Kind != "folder" {
				t.Errorf("%+v", a)
			}
			for _, gone := range []string{"new/link", "new/fifo", "new/er/f", "new/er"} {
				if a := p.files("remove", at(gone)); a.failure != "" {
					t.Errorf("%s: %+v", gone, a)
				}
			}
			if a := p.files("list", at("new")); a.failure != "" || a.frames != 1 || len(a.entries) != 0 {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestFilesFailures(t *testing.T) {
	p := start(t, shell)
	dir := t.TempDir()
	os.WriteFile(dir+"/f", []byte("x"), 0o644)
	os.MkdirAll(dir+"/d/e", 0o755)
	unix.Mkfifo(dir+"/fifo", 0o666)
	os.Symlink("loop", dir+"/loop")
	for _, c := range []struct{ op, path, word string }{
		{"read", dir + "/none", guest.FileNotFound}, {"stat", dir + "/none", guest.FileNotFound}, {"list", dir + "/none", guest.FileNotFound}, {"remove", dir + "/none", guest.FileNotFound},
		{"read", dir + "/d", guest.IsDirectory}, {"write", dir + "/d", guest.IsDirectory}, {"write", dir + "/x/", guest.IsDirectory}, {"remove", dir + "/d", guest.IsDirectory},
		{"list", dir + "/f", guest.NotADirectory}, {"read", dir + "/f/x", guest.NotADirectory}, {"write", dir + "/f/x", guest.NotADirectory},
		{"read", "", guest.InvalidPath}, {"read", "a\x00b", guest.InvalidPath}, {"read", strings.Repeat("a/", 2048), guest.InvalidPath}, {"write", dir + "/" + strings.Repeat("n", 256), guest.InvalidPath},
		{"read", dir + "/loop", guest.InvalidPath}, {"read", dir + "/fifo", guest.InvalidPath}, {"write", dir + "/fifo", guest.InvalidPath},
		{"read", "/dev/zero", guest.InvalidPath}, {"write", "/dev/null", guest.InvalidPath},
		{"read", "/proc/self/environ", guest.PermissionDenied}, {"write", "/proc/self/comm", guest.PermissionDenied}, {"list", "/proc/self/fd", guest.PermissionDenied}, {"stat", "/proc/1", guest.PermissionDenied},
		{"fly", dir + "/f", guest.Failed},
	} {
		a := p.files(c.op, c.path, "data")
		if !strings.HasPrefix(a.failure, c.word+": ") || a.data != "" {
			t.Errorf("%s %.60q: %.200q", c.op, c.path, a.failure)
		}
	}
	if b, _ := os.ReadFile(dir + "/f"); string(b) != "x" {
		t.Errorf("%q", b)
	}
	// And the guest goes on.
	wanted{stdout: "on\n"}.check(t, p.call("command", "echo on"))
}

// A guest that gives functions and not files keeps them.
func TestFilesRefused(t *testing.T) {
	p := start(t, plan.Guest{Runner: "files", Function: "read_file", Session: true})
	if a := p.files("read", "/etc/passwd"); !strings.HasPrefix(a.failure, guest.PermissionDenied) || a.data != "" {
		t.Errorf("%+v", a)
	}
}

func TestFilesManyEntries(t *testing.T) {
	p := start(t, shell)
	dir := t.TempDir()
	for i := range guest.MaxPairs + 6 {
		os.WriteFile(dir+"/"+strconv.Itoa(10000+i), nil, 0o600)
	}
	a := p.files("list", dir)
	if len(a.entries) != guest.MaxPairs+6 || a.frames != 2 || a.entries[0].Name != "10000" || a.entries[1029].Name != "11029" {
		t.Errorf("%d entries in %d frames; %q", len(a.entries), a.frames, a.failure)
	}
}

// A full disk ends the write, whose rest is dropped.
func TestFilesNoSpace(t *testing.T) {
	p := start(t, plan.Guest{Runner: "shell", Session: true})
	r := p.call("command", "ulimit -f 1; exec prlimit --pid $PPID --fsize=100000 2>&1")
	if r.status != 0 {
		t.Fatalf("%+v", r)
	}
	name := t.TempDir() + "/f"
	a := p.files("write", name, strings.Repeat("x", 60000), strings.Repeat("x", 60000), "more", "and more")
	if !strings.HasPrefix(a.failure, guest.NoSpace) || a.taken != 60000 {
		t.Errorf("%+v", a)
	}
	wanted{stdout: "on\n"}.check(t, p.call("command", "echo on"))
}

// While the guest is stopped the router starts nothing in it, and writes
// nothing.
func TestStoppedGuest(t *testing.T) {
	for name, ask := range map[string]func(p *peer, mark string){
		"call":  func(p *peer, mark string) { p.send("command", "touch "+mark) },
		"open":  func(p *peer, mark string) { p.open(80, "command", "touch "+mark) },
		"write": func(p *peer, mark string) { p.request(guest.Files, "op", "write", "path", mark); p.stdin("") },
	} {
		until, mark := t.TempDir()+"/until", t.TempDir()+"/mark"
		t.Setenv("RUNNERS_TEST_STOPPED", until)
		p := start(t, shell)
		ask(p, mark)
		time.Sleep(100 * time.Millisecond)
		if unix.Access(mark, unix.F_OK) == nil {
			t.Errorf("%s: it was done", name)
		}
		os.WriteFile(until, nil, 0o600)
		if r := p.reply(); r.status != 0 || unix.Access(mark, unix.F_OK) != nil {
			t.Errorf("%s: afterwards: %+v", name, r)
		}
	}
}
