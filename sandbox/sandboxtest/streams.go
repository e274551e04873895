package sandboxtest

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// A peer is the router's side of one sandbox, for what is more than a call.
type peer struct {
	t      testing.TB
	sb     casemate.Sandbox
	number uint32
}

func (p *peer) frame(ft guest.Type, body []byte) {
	p.t.Helper()
	if err := guest.Write(p.sb.Guest(), guest.Frame{Type: ft, Call: p.number, Body: body}); err != nil {
		p.t.Fatal(err)
	}
}

// open opens a call, with a terminal of 24 rows where columns is not 0.
func (p *peer) open(columns uint16, args ...guest.Pair) {
	p.t.Helper()
	p.number++
	if columns > 0 {
		p.size(columns, 24)
	}
	p.frame(guest.Open, guest.AppendPairs(nil, args))
}

func (p *peer) size(columns, rows uint16) {
	p.frame(guest.Size, binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, columns), rows))
}

func (p *peer) stdin(text string) { p.t.Helper(); p.frame(guest.Stdin, []byte(text)) }

func (p *peer) signal(s unix.Signal) { p.t.Helper(); p.frame(guest.Signal, []byte{byte(s)}) }

// until reads until what came of that type ends with text.
func (p *peer) until(ft guest.Type, text string) string {
	p.t.Helper()
	over := time.AfterFunc(patience, func() { p.sb.Close() })
	defer over.Stop()
	var got []byte
	for !bytes.HasSuffix(got, []byte(text)) {
		f, err := guest.Read(p.sb.Guest(), guest.MaxReply)
		if err != nil || f.Type == guest.Done || f.Type == guest.Failure {
			p.t.Fatalf("%c %q %v after %.500q", f.Type, f.Body, err, got)
		}
		if f.Type == ft {
			got = append(got, f.Body...)
		}
	}
	return string(got)
}

// end reads what is left of the call.
func (p *peer) end() done {
	p.t.Helper()
	return collect(p.t, p.sb)
}

// files asks for files, and returns the data, the entries and the failure's
// word.
func (p *peer) files(op, path, data string) (string, []guest.Entry, string) {
	p.t.Helper()
	p.number++
	p.frame(guest.Files, guest.AppendPairs(nil, []guest.Pair{{Key: "op", Value: op}, {Key: "path", Value: path}}))
	if op == "write" {
		p.stdin(data)
		p.stdin("")
	}
	d := p.end()
	word, _, _ := strings.Cut(d.Failure, ":")
	if d.Value == "" {
		return d.Stdout, nil, word
	}
	es, err := guest.ParseEntries([]byte(d.Value))
	if err != nil {
		p.t.Fatal(err)
	}
	return d.Stdout, es, word
}

func session(p casemate.Profile) casemate.Profile {
	p.Scope = casemate.ScopeSession
	return p
}

// server is an MCP server that is a script.
func server(p casemate.Profile, script string) *casemate.Tool {
	return &casemate.Tool{Name: "server", Run: casemate.Run{MCP: &casemate.MCP{Server: "server", Command: []string{"sh", "-c", script}}}, Security: p}
}

// echo answers each line, says things that are no JSON, and keeps a journal.
const echo = `echo 'Listening… (no JSON)'; echo started >&2
while read -r line; do printf 'debug\000\033[31m\n{"echo":%s}\n' "$line"; echo "$line" >> /work/journal; [ "$line" = 0 ] && exit 7; done; exit 3`

var streams = map[string]func(*testing.T, Subject){
	"open call": func(t *testing.T, s Subject) {
		p := &peer{t: t, sb: s.start(t, shell(session(casemate.Profile{})))}
		p.open(0, command("while read a; do echo got $a; done; echo end >&2; exit 5"))
		for _, line := range []string{"one\n", "two\n"} {
			p.stdin(line)
			p.until(guest.Stdout, "got "+line)
		}
		p.stdin("")
		if d := p.end(); d.Status != 5 || d.Stderr != "end\n" {
			t.Errorf("%+v", d)
		}
		if d := call(t, p.sb, 9, command("cat; echo next")); d.Stdout != "next\n" { // a plain call's input is empty
			t.Errorf("%+v", d)
		}
	},
	"exit status of an open call": func(t *testing.T, s Subject) {
		for program, want := range map[string]int{"/no/such": 127, "no-such": 127, "/etc/passwd": 126, "/bin/false": 1} {
			p := &peer{t: t, sb: s.start(t, &casemate.Tool{Name: "x", Run: casemate.Run{Exec: &casemate.Exec{Command: []string{program}}}})}
			p.open(0)
			if d := p.end(); d.Status != want || (d.Failure == "") != (want < 126) {
				t.Errorf("%s: %+v", program, d)
			}
		}
	},
	"signals": func(t *testing.T, s Subject) {
		p := &peer{t: t, sb: s.start(t, shell(session(casemate.Profile{})))}
		p.open(0, command("trap 'echo term; exit 4' TERM; echo ready; while :; do sleep 0.05; done"))
		p.until(guest.Stdout, "ready\n")
		p.stdin(strings.Repeat("x", 200<<10)) // which it does not read
		p.signal(unix.SIGTERM)
		if d := p.end(); d.Status != 4 || d.Stdout != "term\n" {
			t.Errorf("%+v", d)
		}
		p.open(0, command("trap '' TERM; echo ready; sleep 300 & wait"))
		p.until(guest.Stdout, "ready\n")
		p.signal(unix.SIGKILL)
		if d := p.end(); d.Status != 137 {
			t.Errorf("%+v", d)
		}
	},
	"terminal": func(t *testing.T, s Subject) {
		p := &peer{t: t, sb: s.start(t, shell(session(casemate.Profile{})))}
		p.open(91, command(`stty size; tty; echo error >&2; echo x > /dev/tty && echo controls; trap 'stty size; seen=1' WINCH; echo ready; until [ "$seen" ]; do sleep 0.05; done; read a; trap "exit 6" INT; echo "<$a>"; while :; do sleep 0.05; done`))
		p.until(guest.Stdout, "24 91\r\n/dev/pts/0\r\nerror\r\nx\r\ncontrols\r\nready\r\n")
		p.size(40, 10)
		p.until(guest.Stdout, "10 40\r\n")
		p.stdin("line\n")
		p.until(guest.Stdout, "<line>\r\n")
		p.stdin("\x03")
		if d := p.end(); d.Status != 6 {
			t.Errorf("%+v", d)
		}
	},
	"files of a session": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"read/a": "alpha", "write/b": "beta"})
		tool := shell(session(casemate.Profile{Cwd: "/w", Filesystem: []casemate.Mount{{Path: dir + "/read", At: "/r", Access: casemate.Read}, {Path: dir + "/write", At: "/w", Access: casemate.Write}}}))
		p := &peer{t: t, sb: s.start(t, tool)}
		for _, c := range []struct{ op, path, data, want, word string }{
			{"read", "/r/a", "", "alpha", ""}, {"read", "b", "", "beta", ""}, {"write", "new/er/f", "text", "", ""}, {"write", "/tmp/x", "y", "", ""}, {"read", "/tmp/x", "", "y", ""},
			{"write", "/r/a", "no", "", guest.PermissionDenied}, {"remove", "/r/a", "", "", guest.PermissionDenied}, {"write", "/etc/passwd", "no", "", guest.PermissionDenied}, {"write", "/usr/new/x", "no", "", guest.PermissionDenied},
			{"read", dir + "/read/a", "", "", guest.FileNotFound}, {"read", "/root/.ssh/id", "", "", guest.FileNotFound}, {"read", "/w", "", "", guest.IsDirectory}, {"list", "/r/a", "", "", guest.NotADirectory},
			{"read", "/proc/1/environ", "", "", guest.PermissionDenied}, {"write", "/proc/self/mem", "", "", guest.PermissionDenied}, {"read", "/dev/zero", "", "", guest.InvalidPath},
		} {
			if got, _, word := p.files(c.op, c.path, c.data); got != c.want || word != c.word {
				t.Errorf("%s %s: %q %q", c.op, c.path, got, word)
			}
		}
		_, es, _ := p.files("list", "/w", "")
		if len(es) != 2 || es[0].Name != "b" || es[0].Size != 4 || es[1].Name != "new" || es[1].Kind != "folder" {
			t.Errorf("%+v", es)
		}
		if d := call(t, p.sb, 90, command("cat new/er/f; cat /tmp/x")); d.Stdout != "texty" {
			t.Errorf("%+v", d)
		}
		if _, err := p.sb.(casemate.Committer).Commit(t.Context(), callID()); err != nil {
			t.Fatal(err)
		}
		if contents(t, dir+"/write/new/er/f") != "text" || contents(t, dir+"/read/a") != "alpha" {
			t.Error("what was written did not reach the host alone")
		}
	},
	"files beyond the disk": func(t *testing.T, s Subject) {
		p := &peer{t: t, sb: s.start(t, shell(session(casemate.Profile{Disk: 1 << 20})))}
		p.number++
		p.frame(guest.Files, guest.AppendPairs(nil, []guest.Pair{{Key: "op", Value: "write"}, {Key: "path", Value: "/tmp/x"}}))
		taken := 0
		for d := (done{}); ; {
			p.stdin(strings.Repeat("x", 200<<10))
			f, err := guest.Read(p.sb.Guest(), guest.MaxReply)
			if err != nil || taken > 2<<20 {
				t.Fatal(taken, err)
			}
			if f.Type == guest.Taken {
				taken += int(binary.BigEndian.Uint32(f.Body))
				continue
			}
			if d.Failure = string(f.Body); f.Type != guest.Failure || !strings.HasPrefix(d.Failure, guest.NoSpace+":") {
				t.Errorf("%c %q", f.Type, f.Body)
			}
			break
		}
		p.end()
		p.files("remove", "/tmp/x", "")
		if d := call(t, p.sb, 90, command("echo on > /tmp/y; cat /tmp/y")); d.Stdout != "on\n" {
			t.Errorf("%+v", d)
		}
	},
	"mcp server": func(t *testing.T, s Subject) {
		dir := folder(t, nil)
		p := &peer{t: t, sb: s.start(t, server(grant(dir, "/work", casemate.Write), echo))}
		p.open(0)
		p.until(guest.Stdout, "Listening… (no JSON)\n")
		for _, line := range []string{"1", "[2]"} {
			p.stdin(line + "\n")
			if got := p.until(guest.Stdout, `{"echo":`+line+"}\n"); !strings.HasPrefix(got, "debug\x00\x1b[31m\n") {
				t.Errorf("%q", got)
			}
			// What a call wrote is carried while the server lives on.
			p.until(guest.Taken, "")
			for contents(t, dir+"/journal") != map[string]string{"1": "1\n", "[2]": "1\n[2]\n"}[line] {
				if _, err := p.sb.(casemate.Committer).Commit(t.Context(), callID()); err != nil {
					t.Fatal(err)
				}
			}
		}
		p.stdin("0\n")
		d := p.end()
		if d.Status != 7 || !strings.HasSuffix(d.Stdout, "{\"echo\":0}\n") {
			t.Errorf("%+v", d)
		}
		if x, err := p.sb.Wait(t.Context()); err != nil || x.Status != 0 {
			t.Errorf("%+v %v", x, err)
		}
	},
	"mcp server that is not there": func(t *testing.T, s Subject) {
		tool := server(casemate.Profile{}, "")
		tool.Run.MCP.Command = []string{"/no/such/server"}
		b := s.Open(t, tool)
		sb, err := b.Start(t.Context(), casemate.Spec{Tool: tool})
		if err != nil {
			t.Fatal(err)
		}
		defer sb.Close()
		if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Failure || !strings.Contains(string(f.Body), "/no/such/server: not found") {
			t.Errorf("%c %q %v", f.Type, f.Body, err)
		}
	},
}

var streamEscapes = map[string]func(*testing.T, Subject){
	// Lines that a program pushes into its own terminal (TIOCSTI) are read by
	// whoever reads that next; with high bits set they passed a filter.
	"terminal-push": func(t *testing.T, s Subject) {
		mount := casemate.Mount{Path: filepath.Dir(s.Attacker), At: "/attacker", Access: casemate.Read, Execute: true}
		p := &peer{t: t, sb: s.start(t, shell(casemate.Profile{Filesystem: []casemate.Mount{mount}}))}
		p.open(80, command("stty -echo; /attacker/"+filepath.Base(s.Attacker)+" push; stty -icanon min 0 time 5; timeout --foreground 1 cat"))
		d := p.end()
		if strings.Count(d.Stdout, unix.EPERM.Error()) != 2 || strings.Contains(d.Stdout, "PUSHED") {
			t.Errorf("%+v", d)
		}
	},
	// A server floods both of its streams, or never reads: it waits, its own
	// sandbox ends at once, and its neighbours do not notice.
	"server-flood": func(t *testing.T, s Subject) {
		for name, script := range map[string]string{
			"both streams":     `yes flood & yes flood >&2`,
			"one huge line":    `while :; do printf '%65536s' x; done`,
			"never reads":      `echo up; sleep 300`,
			"closes its input": `exec <&-; echo up; sleep 300`,
		} {
			tool := server(casemate.Profile{}, script)
			plain := shell(casemate.Profile{})
			b := s.Open(t, tool, plain)
			p := &peer{t: t, sb: park(t, b, tool)}
			p.open(0)
			for range 4 { // a window, which nobody may ever take
				p.stdin(strings.Repeat("x", guest.Window/4))
			}
			if d := call(t, park(t, b, plain), 1, command("echo well")); d.Stdout != "well\n" {
				t.Errorf("%s: its neighbour: %+v", name, d)
			}
			// A signal arrives though nobody reads what it says.
			p.signal(unix.SIGKILL)
			if d := p.end(); !d.Answered || d.Status != 137 {
				t.Errorf("%s: status %d, answered %v", name, d.Status, d.Answered)
			}
			if err := p.sb.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	},
	// What a guest plants where a caller will read or write is a file of the
	// sandbox, or refused.
	"planted-file": func(t *testing.T, s Subject) {
		secret := folder(t, map[string]string{"secret": "CANARY"})
		p := &peer{t: t, sb: s.start(t, shell(session(casemate.Profile{})))}
		call(t, p.sb, 50, command("cd /tmp; ln -s "+secret+"/secret s; ln -s /proc/1/root r; ln -s /proc/self/mem m; ln -s /proc/self/fd/4 d; ln -s "+secret+" f; mkfifo p; ln -s loop loop; ln -s /etc/passwd w"))
		for _, path := range []string{"/tmp/s", "/tmp/r" + secret + "/secret", "/tmp/m", "/tmp/d", "/tmp/f/secret", "/tmp/p", "/tmp/loop", "/tmp/../" + secret + "/secret"} {
			if got, _, word := p.files("read", path, ""); got != "" || word == "" {
				t.Errorf("read %s: %q", path, got)
			}
		}
		for _, path := range []string{"/tmp/m", "/tmp/d", "/tmp/p", "/tmp/loop", "/tmp/w", "/tmp/f/new"} {
			if _, _, word := p.files("write", path, "evil"); word == "" {
				t.Errorf("write %s", path)
			}
		}
		if contents(t, secret+"/secret") != "CANARY" {
			t.Error("a file of the host was changed")
		}
		absent(t, secret+"/new")
		if es, _ := os.ReadDir(secret); !slices.ContainsFunc(es, func(e os.DirEntry) bool { return e.Name() == "secret" }) || len(es) != 1 {
			t.Errorf("%v", es)
		}
	},
}
