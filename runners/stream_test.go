package runners

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

// open opens a call, with a terminal where columns is not 0.
func (p *peer) open(columns int, args ...string) {
	p.t.Helper()
	if columns > 0 {
		p.calls++
		p.frame(guest.Size, words(columns, 24))
		p.calls--
	}
	p.request(guest.Open, args...)
}

func words(a, b int) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(a)), uint16(b))
}

func (p *peer) frame(t guest.Type, body []byte) {
	p.t.Helper()
	if err := guest.Write(p.conn, guest.Frame{Type: t, Call: p.calls, Body: body}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) stdin(text string) { p.t.Helper(); p.frame(guest.Stdin, []byte(text)) }

// until reads frames until what came of that type ends with text.
func (p *peer) until(ft guest.Type, text string) string {
	p.t.Helper()
	var got []byte
	for !bytes.HasSuffix(got, []byte(text)) {
		f, err := guest.Read(p.conn, guest.MaxReply)
		if err != nil || f.Type == guest.Done || f.Type == guest.Failure {
			p.t.Fatalf("%c %v after %q; runner: %s", f.Type, err, got, p.stderr.String())
		}
		if f.Type == ft {
			got = append(got, f.Body...)
		}
	}
	return string(got)
}

var shell = plan.Guest{Runner: "shell", Session: true}

func TestOpenStreams(t *testing.T) {
	p := start(t, shell)
	p.open(0, "command", "read a; echo got $a; read b; echo and $b >&2; cat; exit 5")
	p.stdin("one\n")
	p.until(guest.Stdout, "got one\n")
	p.stdin("two\n")
	p.until(guest.Stderr, "and two\n")
	p.stdin("rest")
	p.stdin("")
	wanted{stdout: "rest", status: 5}.check(t, p.reply())
	p.stdin("late") // and what comes too late is dropped
	p.frame(guest.Signal, []byte{9})
	wanted{stdout: "next\n"}.check(t, p.call("command", "echo next"))
}

func TestOpenStatus(t *testing.T) {
	for _, c := range []struct {
		command []plan.Arg
		want    wanted
	}{
		{template("/bin/no-such"), wanted{failure: "not found", status: 127}},
		{template("no-such-program"), wanted{failure: "not found", status: 127}},
		{template("/etc/passwd"), wanted{failure: "not an executable", status: 126}},
		{template("/bin/sh", "-c", "kill -9 $$"), wanted{status: 137}},
	} {
		p := start(t, plan.Guest{Runner: "exec", Command: c.command})
		p.open(0)
		c.want.check(t, p.reply())
		p.wait()
	}
}

// Ten megabytes go both ways through windows of 256 KiB.
func TestOpenWindow(t *testing.T) {
	p := start(t, plan.Guest{Runner: "exec", Command: template("/bin/cat"), Stdin: "first"})
	p.open(0, "first", strings.Repeat("f", 1<<20))
	const sum = 10 << 20
	go func() {
		p.credit <- guest.Window
		left := sum
		for room := 0; left > 0; {
			for room == 0 {
				room += <-p.credit
			}
			n := min(room, left, 60000)
			p.stdin(strings.Repeat("x", n))
			room, left = room-n, left-n
		}
		p.stdin("")
	}()
	r := p.reply()
	if len(r.stdout) != sum+1<<20 || r.status != 0 || r.taken != sum {
		t.Errorf("%d bytes, status %d, %d taken", len(r.stdout), r.status, r.taken)
	}
}

// More than the window is the end of the sandbox.
func TestOpenWindowIsHeld(t *testing.T) {
	p := start(t, shell)
	p.open(0, "command", "sleep 30")
	for range 8 { // a pipe takes some of it
		if guest.Write(p.conn, guest.Frame{Type: guest.Stdin, Call: p.calls, Body: make([]byte, 64<<10)}) != nil {
			break // it has ended
		}
	}
	p.wait()
	if !strings.Contains(p.stderr.String(), "more standard input") {
		t.Error(p.stderr.String())
	}
}

// A program that does not read holds up neither a signal nor its output.
func TestOpenDoesNotRead(t *testing.T) {
	p := start(t, shell)
	p.open(0, "command", "trap 'echo caught; exit 3' TERM; echo here; while :; do sleep 0.05; done")
	p.until(guest.Stdout, "here\n")
	for range 4 {
		p.stdin(strings.Repeat("x", 64<<10))
	}
	p.frame(guest.Signal, []byte{byte(unix.SIGTERM)})
	wanted{stdout: "caught\n", status: 3}.check(t, p.reply())
}

// A signal is heard though the router does not read.
func TestOpenRouterDoesNotRead(t *testing.T) {
	p := start(t, shell)
	mark := t.TempDir() + "/mark"
	p.open(0, "command", "trap 'touch "+mark+"; exit 4' TERM; yes & echo $! >&2; while :; do sleep 0.05; done")
	p.until(guest.Stderr, "\n")
	p.frame(guest.Signal, []byte{byte(unix.SIGTERM)})
	eventually(t, func() bool { return unix.Access(mark, unix.F_OK) == nil })
	if r := p.reply(); r.status != 4 {
		t.Errorf("status %d", r.status)
	}
}

// A signal reaches the group, those that stop and continue too.
func TestOpenSignals(t *testing.T) {
	p := start(t, shell)
	p.open(0, "command", "sleep 30 & echo $!; wait")
	p.until(guest.Stdout, "\n")
	for _, s := range []unix.Signal{unix.SIGSTOP, unix.SIGINT, unix.SIGCONT} {
		p.frame(guest.Signal, []byte{byte(s)})
	}
	if r := p.reply(); r.status != 130 {
		t.Errorf("status %d", r.status)
	}
}

func TestOpenClosedStdin(t *testing.T) {
	p := start(t, shell)
	p.open(0, "command", "trap 'exit 0' TERM; exec <&-; echo closed; while :; do sleep 0.05; done")
	p.until(guest.Stdout, "closed\n")
	taken := 0
	for taken < 1<<20 { // all of it is taken, and dropped
		p.stdin(strings.Repeat("x", 64<<10))
		f, err := guest.Read(p.conn, guest.MaxReply)
		if err != nil || f.Type != guest.Taken {
			t.Fatalf("%c %v", f.Type, err)
		}
		taken += int(binary.BigEndian.Uint32(f.Body))
	}
	p.frame(guest.Signal, []byte{byte(unix.SIGTERM)})
	wanted{}.check(t, p.reply())
}

// The call ends with the main process, though a child holds its output.
func TestOpenBackgroundChild(t *testing.T) {
	for _, columns := range []int{0, 80} {
		p := start(t, shell)
		p.open(columns, "command", "(trap '' HUP; sleep 60; echo late) & head -c 5000 /dev/zero | tr '\\0' x; echo; exit 6")
		if r := p.reply(); r.status != 6 || !strings.HasSuffix(strings.TrimRight(r.stdout, "\r\n"), "xxx") || len(r.stdout) < 5001 {
			t.Errorf("%d columns: status %d, %d bytes", columns, r.status, len(r.stdout))
		}
	}
}

func TestOpenTerminal(t *testing.T) {
	p := start(t, shell)
	p.open(91, "command", `[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && stty size; echo error >&2; tty; echo $TERM; : < /dev/tty && echo controls; trap 'stty size; seen=1' WINCH; echo ready; read a; echo "<$a>"; until [ "$seen" ]; do sleep 0.05; done; cat; exit 9`)
	p.until(guest.Stdout, "24 91\r\nerror\r\n/dev/pts/0\r\nxterm\r\ncontrols\r\nready\r\n")
	p.stdin("x\n")
	p.until(guest.Stdout, "<x>\r\n")
	p.frame(guest.Size, words(50, 10))
	p.until(guest.Stdout, "10 50\r\n")
	p.stdin("half")
	p.stdin("")
	wanted{stdout: "halfhalf", status: 9}.check(t, p.reply())
}

// The terminal's own interrupt character reaches what runs in its foreground.
func TestOpenTerminalInterrupt(t *testing.T) {
	p := start(t, shell)
	p.open(80, "command", "trap 'echo caught; exit 6' INT; echo ready; while :; do sleep 0.05; done")
	p.until(guest.Stdout, "ready\r\n")
	p.stdin("\x03")
	wanted{stdout: "^Ccaught\r\n", status: 6}.check(t, p.reply())
}

func TestOpenRefused(t *testing.T) {
	p := start(t, plan.Guest{Runner: "python", Interpreter: pythons(t)[0], Session: true})
	p.open(80)
	p.stdin("x")
	wanted{failure: "no standard input", status: 2}.check(t, p.reply())
	wanted{value: "7"}.check(t, p.call("code", "7"))
}

func TestRouterHangsUpDuringAnOpen(t *testing.T) {
	p := start(t, shell)
	p.open(0, "command", "yes")
	p.until(guest.Stdout, "y\n")
	p.conn.Close()
	p.wait()
}

func TestRouterBreaksTheProtocol(t *testing.T) {
	for name, send := range map[string]func(*peer){
		"a call within":        func(p *peer) { p.send("command", "true") },
		"another call's input": func(p *peer) { p.calls++; p.stdin("x") },
		"a terminal, no open": func(p *peer) {
			p.frame(guest.Signal, []byte{9})
			p.reply()
			p.calls++
			p.frame(guest.Size, words(1, 1))
			p.send("command", "true")
		},
		"input after its end":   func(p *peer) { p.stdin(""); p.stdin("x") },
		"a size of three bytes": func(p *peer) { p.frame(guest.Size, []byte{1, 2, 3}) },
	} {
		p := start(t, shell)
		p.open(0, "command", "sleep 30")
		send(p)
		p.wait()
		if !strings.Contains(p.stderr.String(), "the router") {
			t.Errorf("%s: %q", name, p.stderr.String())
		}
	}
}

func TestMCP(t *testing.T) {
	script := `echo banner; echo log >&2; while read line; do echo "echo:$line"; [ "$line" = stop ] && exit 8; done; echo ended; exit 2`
	g := plan.Guest{Runner: "mcp", Command: []plan.Arg{{Text: "sh"}, {Text: "-c"}, {Text: script}}, Session: true}
	p := start(t, g)
	p.open(0)
	p.until(guest.Stdout, "banner\n")
	p.stdin("{a}\n")
	p.until(guest.Stdout, "echo:{a}\n")
	p.stdin("stop\n")
	wanted{stdout: "echo:stop\n", status: 8}.check(t, p.reply())
	p.wait()

	p = start(t, g)
	p.send() // no plain call, and no files
	wanted{failure: "one open call", status: 2}.check(t, p.reply())
	p.open(0)
	p.stdin("")
	r := p.reply()
	wanted{stdout: "banner\nended\n", stderr: "log\n", status: 2}.check(t, r)
}

// It runs from the start, and what it says before the call waits in its pipes.
func TestMCPRunsFromTheStart(t *testing.T) {
	mark := t.TempDir() + "/mark"
	p := start(t, plan.Guest{Runner: "mcp", Command: []plan.Arg{{Text: "/bin/sh"}, {Text: "-c"}, {Text: "echo pid; touch " + mark + "; exit 3"}}})
	eventually(t, func() bool { return unix.Access(mark, unix.F_OK) == nil })
	p.open(0)
	wanted{stdout: "pid\n", status: 3}.check(t, p.reply())
}

func TestMCPCannotStart(t *testing.T) {
	p := launch(t, plan.Guest{Runner: "mcp", Command: []plan.Arg{{Text: "no-such-server"}}})
	p.wait()
	if !strings.Contains(p.stderr.String(), "no-such-server: not found") {
		t.Error(p.stderr.String())
	}
}
