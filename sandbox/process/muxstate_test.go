package process

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/spawn"
	"github.com/casemate/casemate/internal/testenv"
)

// twins is a parent that forks two guests, each the first process of a process
// namespace as it is itself, so that nothing tells them apart by their number.
const twins = `
import ctypes, os, sys, types
m = types.ModuleType("casemate_runner")
with open(sys.argv[1], encoding="utf-8") as f:
    exec(compile(f.read(), sys.argv[1], "exec"), m.__dict__)
wrong = m.prepare(sys.argv[2:])
m.reopen()
main = m.fresh()
exec(os.environ["BEFORE"])
assert os.getpid() == 1
renew = m.seeds()
libc = ctypes.CDLL(None, use_errno=True)
own = os.open("/proc/thread-self/ns/pid", os.O_RDONLY)
pids = []
for i in range(2):
    if libc.unshare(0x20000000): sys.exit("unshare: %d" % ctypes.get_errno())
    pid = os.fork()
    if pid == 0:
        assert os.getpid() == 1
        for fd in range(3):
            os.dup2(3 + 3 * i + fd, 90 + fd)
        for to, fd in (3, 90), (1, 91), (2, 92):
            os.dup2(fd, to)
        os.closerange(4, 100)
        os.set_inheritable(3, False)
        m.forked(wrong, main, 1 << 20, "/nonexistent", renew=renew)
    pids.append(pid)
    if libc.setns(own, 0x20000000): sys.exit("setns: %d" % ctypes.get_errno())
for fd in range(3, 9):
    os.close(fd)
for pid in pids:
    os.waitpid(pid, 0)
`

// random is every source of chance that Python has.
const random = `
import os, random, secrets, ssl, tempfile, uuid, multiprocessing
print("random", random.random())
print("seeded anew", random.getrandbits(64))
print("urandom", os.urandom(8).hex())
print("secrets", secrets.token_hex(8))
print("OpenSSL", ssl.RAND_bytes(8).hex())
print("uuid1", uuid.uuid1())
print("uuid4", uuid.uuid4())
print("temporary name", next(tempfile._get_candidate_names()))
print("authkey", bytes(multiprocessing.current_process().authkey).hex())
`

// Two guests that were forked of one process share no random state, though
// the parent had used every generator before.
func TestForkedTwinsDiffer(t *testing.T) {
	got := twinOutputs(t, random, "random", "ssl", "tempfile", "uuid", "multiprocessing")
	a, b := strings.Split(got[0], "\n"), strings.Split(got[1], "\n")
	if len(a) != 10 || len(b) != 10 {
		t.Fatalf("%q", got)
	}
	for i := range a[:9] {
		if a[i] == b[i] {
			t.Errorf("both have %s", a[i])
		}
	}
}

func TestForkedTwinsDifferInNumpy(t *testing.T) {
	if out, err := exec.Command(interpreter, "-I", "-c", "import numpy").CombinedOutput(); err != nil {
		testenv.Require(t, "numpy", &testenv.Unsupported{What: "numpy", Why: string(out), Fix: "apt install python3-numpy"})
	}
	got := twinOutputs(t, "import numpy as np\nprint(np.random.rand(), np.random.default_rng().random())", "numpy.random")
	a, b := strings.Fields(got[0]), strings.Fields(got[1])
	if len(a) != 2 || len(b) != 2 || a[0] == b[0] || a[1] == b[1] {
		t.Errorf("%q", got)
	}
}

// twinOutputs lets two guests of one parent run code, after the parent itself
// ran it, and returns what they printed.
func twinOutputs(t *testing.T, code string, preload ...string) [2]string {
	t.Helper()
	if _, err := os.Stat(interpreter); err != nil {
		testenv.Require(t, "python", &testenv.Unsupported{What: interpreter, Why: err.Error(), Fix: "apt install python3"})
	}
	cmd := exec.Command(interpreter, append([]string{"-I", "-B", "-X", "utf8", "-c", twins, "../../runners/python.py"}, preload...)...)
	var said bytes.Buffer
	cmd.Stderr, cmd.Env = &said, []string{"BEFORE=" + code}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWUSER, Pdeathsig: unix.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	var muxes [2]*mux
	for i := range muxes {
		ours, theirs := ends(t)
		cmd.ExtraFiles = append(cmd.ExtraFiles, theirs...)
		m, err := newMux(ours, make(chan struct{}), func() (spawn.Exited, bool) { return spawn.Exited{}, false })
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		muxes[i] = m
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	var got [2]string
	for i, m := range muxes {
		if f, err := guest.Read(m, guest.MaxReply); err != nil || f.Type != guest.Ready {
			cmd.Process.Kill()
			cmd.Wait()
			t.Fatalf("twin %d: %c %v: %s", i, f.Type, err, said.String())
		}
		g := &forkedGuest{t: t, mux: m}
		g.ask(code)
		c := collect(m)
		if c.err != nil || c.failure != "" {
			t.Fatal(c)
		}
		got[i] = c.stdout
	}
	return got
}

// FuzzMux feeds a hostile guest's bytes, and what it prints, in pieces. What
// comes out is frames of its socket as they are, with whole frames of its
// pipes between, or an error; and no more bytes than went in.
func FuzzMux(f *testing.F) {
	done := guest.Append(nil, guest.Frame{Type: guest.Done, Call: number, Body: []byte{0, 0, 0, 1}})
	f.Add(done, []byte("out"), []byte("err"), uint8(3), uint16(4096))
	f.Add(guest.Append(nil, guest.Frame{Type: guest.Value, Call: number, Body: []byte("value")}), []byte{}, []byte("e"), uint8(1), uint16(1))
	f.Add(append(guest.Append(nil, guest.Frame{Type: guest.Stdout, Call: 7, Body: bytes.Repeat([]byte("x"), 5000)}), done...), []byte("o"), []byte{}, uint8(200), uint16(9))
	f.Add([]byte("V\x00\x00\x00\x00\xff\xff\xff\xff"), []byte("o"), []byte("e"), uint8(9), uint16(100))
	f.Add([]byte("C\x00\x00\x00\x00\x00\x00\x00\x00"), []byte(nil), []byte(nil), uint8(9), uint16(700))
	f.Fuzz(func(t *testing.T, socket, stdout, stderr []byte, step uint8, size uint16) {
		if len(socket) > 64<<10 || len(stdout) > 32<<10 || len(stderr) > 32<<10 {
			return
		}
		ours, theirs := ends(t)
		gone := make(chan struct{})
		m, err := newMux(ours, gone, func() (spawn.Exited, bool) { return spawn.Exited{Status: 5}, true })
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
		theirs[1].Write(stdout)
		theirs[2].Write(stderr)
		theirs[1].Close()
		theirs[2].Close()
		go func() {
			for b := socket; len(b) > 0; {
				n, err := theirs[0].Write(b[:min(len(b), 1+int(step)*16)])
				if err != nil {
					break // the stream was over before
				}
				b = b[n:]
			}
			theirs[0].Close()
			close(gone)
		}()
		var all bytes.Buffer
		b := make([]byte, 1+int(size))
		for err == nil {
			var n int
			n, err = m.Read(b)
			all.Write(b[:n])
			if n == 0 && err == nil {
				t.Fatal("nothing was read, and no error")
			}
		}
		m.Close()
		var fromSocket, out, errs []byte
		for r := bytes.NewReader(all.Bytes()); r.Len() > 0; {
			at := all.Len() - r.Len()
			fr, ferr := guest.Read(r, guest.MaxCall)
			switch {
			case ferr != nil: // cut short, as its socket was
				fromSocket = append(fromSocket, all.Bytes()[at:]...)
			case fr.Type == guest.Stdout && fr.Call == number && bytes.HasPrefix(stdout[len(out):], fr.Body) && len(fr.Body) > 0:
				out = append(out, fr.Body...)
			case fr.Type == guest.Stderr && fr.Call == number && bytes.HasPrefix(stderr[len(errs):], fr.Body) && len(fr.Body) > 0:
				errs = append(errs, fr.Body...)
			default:
				fromSocket = guest.Append(fromSocket, fr)
			}
			if ferr != nil {
				break
			}
		}
		clean := errors.Is(err, io.EOF)
		made := bytes.TrimSuffix(fromSocket, guest.Append(nil, guest.Frame{Type: guest.Done, Call: number, Body: []byte{0, 0, 0, 5}}))
		if !bytes.HasPrefix(socket, fromSocket) && !(clean && bytes.HasPrefix(socket, made)) {
			t.Errorf("the guest sent %q, and %q came", socket, fromSocket)
		}
		if clean && bytes.Equal(made, fromSocket) && !bytes.Contains(socket, []byte("D")) {
			t.Error("the call has no end: " + strconv.Quote(string(fromSocket)))
		}
		if clean && (len(out) != len(stdout) || len(errs) != len(stderr)) && !bytes.ContainsAny(socket, "OE") {
			t.Errorf("%d and %d bytes of what was printed came, of %d and %d", len(out), len(errs), len(stdout), len(stderr))
		}
	})
}
