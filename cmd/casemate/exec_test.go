package main

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

const confinedProfile = "version: 1\nprofiles:\n  plain: {memory: 256MiB, processes: 32}\ntools: []\n"

// execPlace is a place with the profile plain.
func execPlace(t *testing.T) *place {
	t.Helper()
	p := newPlace(t)
	if err := os.WriteFile(filepath.Join(p.dir, "casemate.yaml"), []byte(confinedProfile), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) confined(argv ...string) *exec.Cmd {
	return p.command(append([]string{"exec", "--profile", "plain", "--"}, argv...)...)
}

// TestExecStreams: bytes pass as they are, both ways, more than any buffer
// holds.
func TestExecStreams(t *testing.T) {
	in := make([]byte, 3<<20)
	rand.Read(in)
	cmd := execPlace(t).confined("/bin/cat")
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil || !bytes.Equal(in, out) {
		t.Fatalf("%d bytes in, %d bytes out, %v", len(in), len(out), err)
	}
}

// TestExecReaderLeaves: a command whose output nobody reads ends as it would
// anywhere.
func TestExecReaderLeaves(t *testing.T) {
	cmd := execPlace(t).confined("/usr/bin/yes")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	out.Close()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGPIPE) {
		t.Errorf("exit status %d", code)
	}
}

// TestExecSignals: the command gets them, and its status is passed on.
func TestExecSignals(t *testing.T) {
	p := execPlace(t)
	for _, c := range []struct {
		sig    syscall.Signal
		script string
		status int
	}{
		{syscall.SIGUSR1, `trap "exit 9" USR1; echo ready; while :; do sleep 0.02; done`, 9},
		{syscall.SIGTERM, `trap "" INT; echo ready; exec sleep 60`, 128 + 15},
		{syscall.SIGINT, `trap "exit 3" INT; echo ready; while :; do sleep 0.02; done`, 3},
		{syscall.SIGHUP, `echo ready; exec sleep 60`, 128 + 1},
		{syscall.SIGQUIT, `echo ready; exec sleep 60`, 128 + 3},
	} {
		cmd := p.confined("/bin/sh", "-c", c.script)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
			t.Fatal(err)
		}
		cmd.Process.Signal(c.sig)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != c.status {
			t.Errorf("%v: exit status %d, want %d", c.sig, code, c.status)
		}
	}
}

// TestExecBackground: it ends when its main process does, though a child holds
// its output; and that is gone too.
func TestExecBackground(t *testing.T) {
	cmd := execPlace(t).confined("/bin/sh", "-c", "sleep 3600 & echo over")
	out, err := cmd.Output() // until nobody holds the pipe
	if err != nil || string(out) != "over\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestExecIsKilled: the whole tree goes with its process group.
func TestExecIsKilled(t *testing.T) {
	cmd := execPlace(t).confined("/bin/sh", "-c", "sleep 3601 & setsid sleep 3602 & exec sleep 3603")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	var all map[string]string
	eventually(t, "the command runs", func() bool {
		all = family(cmd.Process.Pid)
		n := 0
		for _, name := range all {
			if strings.HasPrefix(name, "sleep 360") {
				n++
			}
		}
		return n == 3
	})
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	eventually(t, "nothing is left", func() bool { return len(alive(all)) == 0 })
}

// TestExecTerminal: a command at a terminal has one of its own, of the same
// size and with the keys that are signals; the one here is given back.
func TestExecTerminal(t *testing.T) {
	p := execPlace(t)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	resize := func(columns, rows uint16) {
		t.Helper()
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
			t.Fatal(err)
		}
	}
	resize(101, 31)
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	slave := os.NewFile(fd, "terminal")
	defer slave.Close()
	before, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	cmd := p.confined("/bin/sh", "-c", `test -t 0 && test -t 1 && test -t 2 && stty size; trap 'stty size' WINCH
		trap 'echo interrupted; exit 5' INT; printf 'a\033[1mb\n'; while :; do sleep 0.02; done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := &lockedBuffer{}
	go io.Copy(out, master)
	says := func(what string) {
		t.Helper()
		eventually(t, what, func() bool { return strings.Contains(out.String(), what) })
	}
	says("31 101")
	says("a\x1b[1mb")
	resize(120, 40)
	says("40 120")
	master.WriteString("\x03")
	says("interrupted")
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit status %d\n%s", code, out.String())
	}
	after, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *before != *after {
		t.Errorf("the terminal was %+v and is %+v", before, after)
	}

	// Without a terminal of its own, what it prints cannot drive the one here.
	cmd = p.confined("/usr/bin/printf", `\033]0;title\007`)
	cmd.Stdout = slave
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	says(`\x1b]0;title\x07`)
}

func TestVisible(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	v := &visible{to: w}
	for _, b := range []byte("é\x1b[2J…\xff\u202ex\xe2\x82") { // byte by byte
		v.Write([]byte{b})
	}
	v.close()
	w.Close()
	got, err := io.ReadAll(r)
	if want := `é\x1b[2J…\xff\u{202e}x\xe2\x82`; err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

func TestLiteral(t *testing.T) {
	for _, s := range []string{"", "x", "{x}", `\{x}`, `\\{x}`, "{}", `\x`, "{a}{b}", "-x={y}"} {
		if name, text := casemate.Element(literal(s)); name != "" || text != s {
			t.Errorf("literal(%q) is the argument %q, or %q", s, name, text)
		}
	}
}
