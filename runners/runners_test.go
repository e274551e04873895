package runners

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

// The tests speak with a runner as the router does. It is the first process
// of a process namespace, as in a sandbox: it adopts orphans, and when it
// ends everything that it started does.
func TestMain(m *testing.M) {
	if os.Getenv("RUNNERS_TEST_GUEST") == "" {
		os.Exit(m.Run())
	}
	b, _ := hex.DecodeString(os.Getenv("RUNNERS_TEST_GUEST"))
	g, err := plan.DecodeGuest(b)
	if err != nil {
		panic(err)
	}
	s := &server{conn: newWire(os.NewFile(3, "router")), guest: g, out: os.Getenv("RUNNERS_TEST_OUT"), stopped: &sync.Mutex{}}
	if until := os.Getenv("RUNNERS_TEST_STOPPED"); until != "" { // as while what it wrote is carried
		s.stopped.Lock()
		go func() {
			for unix.Access(until, unix.F_OK) != nil {
				time.Sleep(5 * time.Millisecond)
			}
			s.stopped.Unlock()
		}()
	}
	if program := os.Getenv("RUNNERS_TEST_PROGRAM"); program != "" {
		err = interpret(s, Command(g, program))
	} else {
		err = serve(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A peer is the router's end of one runner.
type peer struct {
	t       *testing.T
	cmd     *exec.Cmd
	conn    *net.UnixConn
	out     string
	stderr  strings.Builder
	runtime string
	calls   uint32
	credit  chan int // what the guest took
	gone    chan struct{}
}

func start(t *testing.T, g plan.Guest) *peer {
	t.Helper()
	p := launch(t, g)
	f, err := guest.Read(p.conn, guest.MaxReply)
	if err != nil || f.Type != guest.Ready {
		p.wait()
		t.Fatalf("not ready: %c %v: %s", f.Type, err, p.stderr.String())
	}
	ps, err := guest.ParsePairs(f.Body)
	if err != nil {
		t.Fatal(err)
	}
	p.runtime, _ = guest.Get(ps, "runtime")
	return p
}

func launch(t *testing.T, g plan.Guest) *peer {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "guest"), os.NewFile(uintptr(pair[1]), "router")
	defer theirs.Close()
	defer ours.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	if g.Cwd == "" {
		g.Cwd = t.TempDir()
	}
	if g.Output == 0 {
		g.Output = 1 << 20
	}
	if g.Env == nil {
		g.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + g.Cwd}
	}
	p := &peer{t: t, conn: c.(*net.UnixConn), out: t.TempDir(), credit: make(chan int, 1<<16), gone: make(chan struct{})}
	p.conn.SetDeadline(time.Now().Add(30 * time.Second))
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Env = []string{"RUNNERS_TEST_GUEST=" + hex.EncodeToString(plan.EncodeGuest(g)), "RUNNERS_TEST_OUT=" + p.out, "RUNNERS_TEST_STOPPED=" + os.Getenv("RUNNERS_TEST_STOPPED")}
	if body := map[string][]byte{"python": Python(), "node": Node()}[g.Runner]; body != nil {
		program := filepath.Join(t.TempDir(), "runner")
		if err := os.WriteFile(program, body, 0o444); err != nil {
			t.Fatal(err)
		}
		p.cmd.Env = append(p.cmd.Env, "RUNNERS_TEST_PROGRAM="+program)
	}
	// The second is one that no program may inherit: nobody closed it.
	p.cmd.ExtraFiles = []*os.File{theirs, os.Stderr}
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	if uid := os.Getuid(); uid != 0 {
		p.cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		p.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.gone) }()
	t.Cleanup(func() {
		p.conn.Close()
		select {
		case <-p.gone:
		case <-time.After(10 * time.Second):
			p.cmd.Process.Kill()
			<-p.gone
			t.Error("the runner did not end when the router hung up")
		}
	})
	return p
}

// wait blocks until the runner's process is gone.
func (p *peer) wait() {
	p.t.Helper()
	select {
	case <-p.gone:
	case <-time.After(20 * time.Second):
		p.t.Error("the runner did not end")
	}
}

// A reply is all that came back of a call.
type reply struct {
	stdout, stderr, value, failure string
	files                          map[string]string
	mimes                          map[string]string
	status, taken                  int
	took                           time.Duration
}

func (p *peer) call(args ...string) reply {
	p.t.Helper()
	p.send(args...)
	return p.reply()
}

func (p *peer) send(args ...string) { p.t.Helper(); p.request(guest.Call, args...) }

func (p *peer) request(ft guest.Type, args ...string) {
	p.t.Helper()
	var ps []guest.Pair
	for i := 0; i < len(args); i += 2 {
		ps = append(ps, guest.Pair{Key: args[i], Value: args[i+1]})
	}
	p.calls++
	if err := guest.Write(p.conn, guest.Frame{Type: ft, Call: p.calls, Body: guest.AppendPairs(nil, ps)}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) reply() reply {
	p.t.Helper()
	r := reply{files: map[string]string{}, mimes: map[string]string{}}
	began := time.Now()
	var out, errs strings.Builder
	for {
		f, err := guest.Read(p.conn, guest.MaxCall)
		if err != nil {
			p.wait()
			p.t.Fatalf("no answer: %v; so far %d bytes, %.200q %.200q; runner: %s", err, out.Len(), out.String(), errs.String(), p.stderr.String())
		}
		if f.Call != p.calls {
			p.t.Fatalf("a frame of call %d in call %d", f.Call, p.calls)
		}
		if f.Type != guest.File && len(f.Body) > guest.MaxReply {
			p.t.Fatalf("a frame of %d bytes", len(f.Body))
		}
		switch f.Type {
		case guest.Stdout:
			out.Write(f.Body)
		case guest.Stderr:
			errs.Write(f.Body)
		case guest.Taken:
			n := int(binary.BigEndian.Uint32(f.Body))
			r.taken += n
			p.credit <- n
		case guest.Value:
			r.value = string(f.Body)
		case guest.Failure:
			r.failure = string(f.Body)
		case guest.File:
			ps, err := guest.ParsePairs(f.Body)
			if err != nil {
				p.t.Fatal(err)
			}
			name, _ := guest.Get(ps, "name")
			r.files[name], _ = guest.Get(ps, "data")
			r.mimes[name], _ = guest.Get(ps, "mime")
		case guest.Done:
			r.stdout, r.stderr, r.took = out.String(), errs.String(), time.Since(began)
			r.status = int(int32(binary.BigEndian.Uint32(f.Body)))
			return r
		default:
			p.t.Fatalf("frame %c", f.Type)
		}
	}
}

// want is what a reply must hold; an empty string is not looked at but in
// value and failure, where it means none.
type wanted struct {
	stdout, stderr, value, failure string
	status                         int
}

func (w wanted) check(t *testing.T, r reply) {
	t.Helper()
	if w.stdout != "" && r.stdout != w.stdout || !strings.Contains(r.stderr, w.stderr) || r.value != w.value || !strings.Contains(r.failure, w.failure) || (w.failure == "") != (r.failure == "") || r.status != w.status {
		t.Errorf("got %+v\nwant %+v", r, w)
	}
}

// file writes a file of a fresh folder and returns its path.
func file(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return p
}

// eventually waits until it holds; what it waits for is certain to come.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for range 3000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not come")
}
