package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/spawn"
	"github.com/casemate/casemate/internal/testenv"
)

// forker is what stands in for the template: it executes the runner as a
// module of another name and becomes the guest, without any wall.
const forker = `
import os, sys, types
os.set_inheritable(3, False)
m = types.ModuleType("casemate_runner")
with open(sys.argv[1], encoding="utf-8") as f:
    exec(compile(f.read(), sys.argv[1], "exec"), m.__dict__)
wrong, output, out = m.prepare(sys.argv[4:]), int(sys.argv[2]), sys.argv[3]
m.reopen()
m.forked(wrong, m.fresh(), output, out)
`

// A forkedGuest is a real runner behind a mux, in no sandbox.
type forkedGuest struct {
	t   *testing.T
	mux *mux
	cmd *exec.Cmd
	out string

	gone chan struct{}
	exit spawn.Exited // once gone is closed
}

const interpreter = "/usr/bin/python3"

// forkGuest starts one and reads its Ready.
func forkGuest(t *testing.T, preload ...string) *forkedGuest {
	t.Helper()
	if _, err := os.Stat(interpreter); err != nil {
		testenv.Require(t, "python", &testenv.Unsupported{What: interpreter, Why: err.Error(), Fix: "apt install python3"})
	}
	runner, err := filepath.Abs("../../runners/python.py")
	if err != nil {
		t.Fatal(err)
	}
	g := &forkedGuest{t: t, out: t.TempDir(), gone: make(chan struct{})}
	ours, theirs := ends(t)
	g.cmd = exec.Command(interpreter, append([]string{"-I", "-B", "-X", "utf8", "-c", forker, runner, "1048576", g.out}, preload...)...)
	g.cmd.Dir = t.TempDir()
	g.cmd.Stdout, g.cmd.Stderr, g.cmd.ExtraFiles = theirs[1], theirs[2], theirs[:1]
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	err = g.cmd.Start()
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	g.mux, err = newMux(ours, g.gone, func() (spawn.Exited, bool) { return g.exit, true })
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		g.cmd.Wait()
		ws := g.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if ws.Signaled() {
			g.exit.Signal = int64(ws.Signal())
		} else {
			g.exit.Status = int64(ws.ExitStatus())
		}
		close(g.gone)
	}()
	t.Cleanup(func() {
		g.mux.Close()
		g.cmd.Process.Kill()
		<-g.gone
	})
	if f, err := guest.Read(g.mux, guest.MaxReply); err != nil || f.Type != guest.Ready || f.Call != 0 {
		t.Fatalf("%+v %v", f, err)
	}
	return g
}

// ends returns a socket and two pipes: our ends, and the guest's.
func ends(t testing.TB) (ours [3]int, theirs []*os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours[0] = pair[0]
	theirs = append(theirs, os.NewFile(uintptr(pair[1]), "socket"))
	for i := range 2 {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		ours[1+i] = p[0]
		theirs = append(theirs, os.NewFile(uintptr(p[1]), "pipe"))
	}
	return ours, theirs
}

// number is that of every call here.
const number = 0x89ABCDEF

func (g *forkedGuest) ask(code string) {
	g.t.Helper()
	if err := guest.Write(g.mux, guest.Frame{Type: guest.Call, Call: number, Body: guest.AppendPairs(nil, []guest.Pair{{Key: "code", Value: code}})}); err != nil {
		g.t.Fatal(err)
	}
}

// A collected is what came of one call.
type collected struct {
	stdout, stderr, value, failure string
	files                          map[string]string
	order                          string // the types of the frames, repeats left out
	status                         int
	err                            error // of the stream, where it did not come to Done
}

func (c collected) String() string {
	return fmt.Sprintf("%s: stdout %.300q, stderr %.300q, value %.300q, failure %.300q, %d files, status %d, %v", c.order, c.stdout, c.stderr, c.value, c.failure, len(c.files), c.status, c.err)
}

// collect reads the stream to Done, or its end.
func collect(r io.Reader) collected {
	c := collected{files: map[string]string{}}
	for {
		f, err := guest.Read(r, guest.MaxCall)
		if err != nil {
			c.err = err
			return c
		}
		if !strings.HasSuffix(c.order, string(rune(f.Type))) {
			c.order += string(rune(f.Type))
		}
		switch {
		case f.Call != number:
			c.err = errors.New("a frame of call " + strconv.FormatUint(uint64(f.Call), 10))
			return c
		case f.Type == guest.Stdout:
			c.stdout += string(f.Body)
		case f.Type == guest.Stderr:
			c.stderr += string(f.Body)
		case f.Type == guest.Value:
			c.value += string(f.Body)
		case f.Type == guest.Failure:
			c.failure += string(f.Body)
		case f.Type == guest.File:
			ps, err := guest.ParsePairs(f.Body)
			if err != nil {
				c.err = err
				return c
			}
			name, _ := guest.Get(ps, "name")
			mime, _ := guest.Get(ps, "mime")
			data, _ := guest.Get(ps, "data")
			c.files[name] = mime + " " + data
		case f.Type == guest.Done:
			c.status = int(int32(binary.BigEndian.Uint32(f.Body)))
			return c
		}
	}
}

func TestForkedAnswers(t *testing.T) {
	for _, c := range []struct {
		name, code string
		want       collected
	}{
		{"print", "print(6*7)", collected{stdout: "42\n"}},
		{"nothing", "", collected{}},
		{"value", "print('p')\n'v'", collected{stdout: "p\n", value: "'v'", order: "OVD"}},
		{"failure", "print('p')\nraise ValueError('boom')", collected{stdout: "p\n", failure: "ValueError: boom", status: 1, order: "OXD"}},
		{"both streams", "import sys\nprint('o', end='')\nprint('e', end='', file=sys.stderr)\n1", collected{stdout: "o", stderr: "e", value: "1", order: "OEVD"}},
		{"unicode", "print('héé ☃ 𝄞 \\ud800')\n'𝄞'", collected{stdout: "héé ☃ 𝄞 \\ud800\n", value: "'𝄞'"}},
		{"exit", "import sys\nprint('x')\nsys.exit(3)", collected{stdout: "x\n", status: 3}},
		{"_exit", "import os\nprint('x')\nos._exit(3)", collected{stdout: "x\n", status: 3}},
		{"killed", "import os\nprint('x')\nos.kill(os.getpid(), 15)", collected{stdout: "x\n", failure: "python was ended by signal 15 (terminated)", status: 143}},
		{"crash", "import ctypes\nctypes.string_at(0)", collected{failure: "python was ended by signal 11 (segmentation fault)", status: 139}},
		{"exec", "import os\nprint('before')\nos.execv('/bin/sh', ['sh', '-c', 'sleep 0.1; echo after; echo e >&2; exit 6'])", collected{stdout: "before\nafter\n", stderr: "e\n", status: 6}},
		{"closed socket", "import os, time\nos.close(3)\nprint('x')\ntime.sleep(0.1)\nprint('y')\nos._exit(5)", collected{stdout: "x\ny\n", status: 5}},
		{"closed everything", "import os, time\nfor fd in 0, 1, 2, 3: os.close(fd)\ntime.sleep(0.1)\nos._exit(7)", collected{status: 7}},
		{"closed streams", "import os\nos.close(1)\nos.close(2)\n5", collected{value: "5"}},
		{"slow", "import time\nfor i in range(20): print(i); time.sleep(0.005)\n'v'", collected{stdout: "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n", value: "'v'", order: "OVD"}},
		{"large value", "'x' * 1000000", collected{value: "'" + strings.Repeat("x", 1000000) + "'"}},
		{"value longer than a frame", "'x' * (2 << 20)", collected{stdout: "'" + strings.Repeat("x", 2<<20) + "'\n"}},
		{"more than pipes hold", "import sys\nsys.stdout.write('o' * 3000000)\nsys.stderr.write('e' * 3000000)\n1", collected{stdout: strings.Repeat("o", 3000000), stderr: strings.Repeat("e", 3000000), value: "1"}},
		{"large code", "len('" + strings.Repeat("x", 5<<20) + "')", collected{value: "5242880"}},
		{"a frame of its own", "import os, struct\nos.write(3, struct.pack('>cII', b'O', 0x89ABCDEF, 3) + b'own')\nNone", collected{stdout: "own"}},
		{"garbage", "import os\nos.write(3, b'?' * 1000)", collected{err: guest.ErrProtocol}},
		{"a frame that is too long", "import os\nos.write(3, b'V\\0\\0\\0\\0\\xff\\xff\\xff\\xff')", collected{err: guest.ErrProtocol}},
		{"a frame cut short", "import os\nos.write(3, b'V\\x89\\xab\\xcd\\xef\\0\\0\\0\\4vv')\nos._exit(0)", collected{err: io.ErrUnexpectedEOF}},
		{"a head cut short", "import os\nos.write(3, b'V\\x89\\xab\\xcd')\nos._exit(4)", collected{status: 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := forkGuest(t)
			g.ask(c.code)
			got := collect(g.mux)
			if got.stdout != c.want.stdout || got.stderr != c.want.stderr || got.value != c.want.value || !strings.Contains(got.failure, c.want.failure) ||
				(got.failure == "") != (c.want.failure == "") || got.status != c.want.status || !errors.Is(got.err, c.want.err) {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
			if c.want.order != "" && got.order != c.want.order {
				t.Errorf("the order is %s", got.order)
			}
			if f, err := guest.Read(g.mux, guest.MaxReply); err == nil {
				t.Errorf("%c follows", f.Type)
			}
		})
	}
}

func TestForkedPreload(t *testing.T) {
	g := forkGuest(t, "json", "this") // which prints a poem
	g.ask("import sys\n'json' in sys.modules, 'this' in sys.modules")
	if c := collect(g.mux); c.value != "(True, True)" || c.err != nil {
		t.Error(c)
	}
	g = forkGuest(t, "no_such_module")
	g.ask("1")
	if c := collect(g.mux); c.status != 1 || !strings.HasPrefix(c.failure, "preload: the module no_such_module cannot be imported: ModuleNotFoundError") {
		t.Error(c)
	}
}

// A process that the code left behind does not hold up the answer, and what
// it writes later is not the call's.
func TestForkedLeavesBehind(t *testing.T) {
	g := forkGuest(t)
	g.ask("import os, time\nprint('parent')\nif os.fork() == 0:\n  while True: os.write(1, b'y' * 1000)\ntime.sleep(0.05)\n'v'")
	c := collect(g.mux)
	if c.value != "'v'" || c.err != nil || !strings.HasPrefix(c.stdout, "parent\n") {
		t.Error(c)
	}
}

// Who prints more than is read waits, and nothing is lost.
func TestForkedFlood(t *testing.T) {
	g := forkGuest(t)
	g.ask("import os, threading\nn = 0\ndef f():\n  global n\n  while True: n += os.write(1, b'y' * 4096)\nthreading.Thread(target=f, daemon=True).start()\nimport time\nwhile True:\n  m = n; time.sleep(0.3)\n  if m == n: break\nos.write(2, str(n).encode())\n1")
	read := 0
	for read < 1<<20 {
		f, err := guest.Read(g.mux, guest.MaxReply)
		if err != nil || f.Type != guest.Stdout || len(f.Body) > piece {
			t.Fatalf("%c %d %v", f.Type, len(f.Body), err)
		}
		read += len(f.Body)
	}
	// Nobody reads until the writer stands still, and says so on its other
	// stream.
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(g.mux.streams[1]), Events: unix.POLLIN}}, 20000); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	c := collect(g.mux)
	n, err := strconv.Atoi(c.stderr)
	if err != nil || c.err != nil || c.value != "1" {
		t.Fatal(c, err)
	}
	if ahead := n - read; ahead > 4*piece {
		t.Errorf("the writer was %d bytes ahead of who reads", ahead)
	}
	if read += len(c.stdout); read < n {
		t.Errorf("%d bytes came of %d", read, n)
	}
}

// Close ends a Read that waits, in each way of waiting.
func TestForkedClose(t *testing.T) {
	for name, code := range map[string]string{"quick": "", "watched": "import time\nprint('on')\ntime.sleep(60)", "socket lost": "import os, time\nos.close(3)\nprint('on')\ntime.sleep(60)", "in a frame": "import os, time\nos.write(3, b'V\\x89\\xab\\xcd\\xef\\0\\0\\0\\4vv')\ntime.sleep(60)"} {
		t.Run(name, func(t *testing.T) {
			g := forkGuest(t)
			if code != "" {
				g.ask(code)
				var b [1]byte
				if _, err := io.ReadFull(g.mux, b[:]); err != nil { // it runs
					t.Fatal(err)
				}
			}
			over := make(chan error)
			go func() {
				_, err := io.Copy(io.Discard, g.mux)
				over <- err
			}()
			g.mux.Close()
			if err := <-over; err != nil && !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
			if err := g.mux.Close(); err != nil {
				t.Error(err)
			}
			if _, err := g.mux.Write([]byte("x")); err == nil {
				t.Error("it is written to after Close")
			}
		})
	}
}

// How a guest ended is no answer where something else than itself ended it.
func TestForkedEndedFromOutside(t *testing.T) {
	for name, c := range map[string]struct {
		exit   spawn.Exited
		known  bool
		killed bool
		want   error
		status int
	}{
		"itself":      {exit: spawn.Exited{Status: 2}, known: true, status: 2},
		"its signal":  {exit: spawn.Exited{Signal: 11}, known: true, status: 139},
		"a limit":     {exit: spawn.Exited{Signal: 9, Limit: "memory"}, known: true, want: io.EOF},
		"closed here": {exit: spawn.Exited{Signal: 9}, known: true, killed: true, want: io.EOF},
		"unknown":     {want: io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := ends(t)
			gone := make(chan struct{})
			m, err := newMux(ours, gone, func() (spawn.Exited, bool) { return c.exit, c.known })
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := guest.Write(m, guest.Frame{Type: guest.Call, Call: number, Body: guest.AppendPairs(nil, nil)}); err != nil {
				t.Fatal(err)
			}
			if _, err := guest.Read(theirs[0], guest.MaxCall); err != nil {
				t.Fatal(err)
			}
			theirs[1].WriteString("last words")
			m.killed.Store(c.killed)
			for _, f := range theirs {
				f.Close()
			}
			close(gone)
			got := collect(m)
			if got.stdout != "last words" || got.status != c.status || !errors.Is(got.err, c.want) {
				t.Error(got)
			}
		})
	}
}

// A guest that died before it took its call has run nothing: the router may
// give the call to another.
func TestForkedDiedParked(t *testing.T) {
	g := forkGuest(t)
	g.cmd.Process.Signal(unix.SIGSTOP)
	g.ask("1")
	g.cmd.Process.Kill()
	if c := collect(g.mux); !errors.Is(c.err, syscall.ECONNRESET) || c.order != "" {
		t.Error(c)
	}
	if _, err := g.mux.Write(guest.Append(nil, guest.Frame{Type: guest.Call, Call: 2})); !errors.Is(err, syscall.EPIPE) {
		t.Error(err)
	}
	g = forkGuest(t)
	g.cmd.Process.Kill()
	if _, err := guest.Read(g.mux, guest.MaxReply); err != io.EOF {
		t.Error(err)
	}
}

func TestForkedOut(t *testing.T) {
	g := forkGuest(t)
	g.ask("import os\nOUT = " + strconv.Quote(g.out) + `
f = open(OUT + '/open.txt', 'w')
f.write('not closed')
os.mkdir(OUT + '/d')
open(OUT + '/d/plot.PNG', 'wb').write(bytes(range(256)))
os.symlink('/etc/passwd', OUT + '/link.txt')
os.symlink('/etc', OUT + '/folder')
os.mkfifo(OUT + '/fifo')
open(OUT.encode() + b'/b\xff\xfed', 'w').write('x')
open(OUT + '/large.bin', 'wb').write(bytes(2 << 20))
open(OUT + '/last', 'wb').write(bytes(100 << 10))
print('p')
5`)
	c := collect(g.mux)
	if c.err != nil || c.value != "5" || c.stdout != "p\n" || c.order != "OVFEFD" {
		t.Error(c)
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	want := map[string]string{"open.txt": "text/plain not closed", "d/plot.PNG": "image/png " + string(all), "b\uFFFDd": "application/octet-stream x",
		"last": "application/octet-stream " + strings.Repeat("\x00", 100<<10)}
	if !maps.Equal(c.files, want) {
		t.Errorf("%.2000q", c.files)
	}
	if c.stderr != "casemate: "+g.out+": large.bin (2097152 bytes) is left out: the whole result may have 1048576 bytes; raise output\n" {
		t.Errorf("%q", c.stderr)
	}
}

func TestForkedOutIsBounded(t *testing.T) {
	g := forkGuest(t)
	g.ask("for i in range(70): open(" + strconv.Quote(g.out) + " + '/%02d' % i, 'w').write('x')")
	if c := collect(g.mux); c.err != nil || len(c.files) != 64 || c.files["63"] == "" || !strings.Contains(c.stderr, "a result has at most 64 files") {
		t.Error(c)
	}
	g = forkGuest(t)
	g.ask("import os\nfor i in range(4097): os.mkdir(" + strconv.Quote(g.out) + " + '/%04d' % i)\nopen(" + strconv.Quote(g.out) + " + '/9', 'w').write('x')")
	if c := collect(g.mux); c.err != nil || len(c.files) != 0 || !strings.Contains(c.stderr, "a result has at most 64 files") {
		t.Error(c)
	}
}
