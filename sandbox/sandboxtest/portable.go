package sandboxtest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// The cases of one program, which every backend runs.
var portable = map[string]func(*testing.T, Subject){
	"arguments": func(t *testing.T, s Subject) {
		values := []string{"plain", "", " two words ", "grüße 🏰", "'\"$(id)`\\", "line\nline\r\n\t", "{text}", "{", "\x01\x7f", strings.Repeat("long", 20_000)}
		want := ""
		args := []string{"args"}
		var pairs []guest.Pair
		for i, v := range values {
			args = append(args, fmt.Sprintf("{a%d}", i))
			pairs = append(pairs, guest.Pair{Key: fmt.Sprintf("a%d", i), Value: v})
			want += strconv.Quote(v) + "\n"
		}
		args = append(args, "literal {text} $HOME")
		want += strconv.Quote("literal {text} $HOME") + "\n"
		if d := s.once(t, s.program(casemate.Profile{}, args...), pairs...); d.Stdout != want || d.Status != 0 {
			t.Errorf("%.300q %.300q %d %s", d.Stdout, d.Stderr, d.Status, d.Failure)
		}
	},
	"standard input": func(t *testing.T, s Subject) {
		for _, text := range []string{"", "x", "grüße\n\x00\xff\r\n", strings.Repeat("0123456789abcdef", 8<<16)} {
			tool := s.program(casemate.Profile{}, "stdin")
			if tool.Run.Wasm != nil {
				tool.Run.Wasm.Stdin = "{text}"
			} else {
				tool.Run.Exec.Stdin = "{text}"
			}
			d := s.once(t, tool, guest.Pair{Key: "text", Value: text})
			if want := fmt.Sprintf("%d %x\n", len(text), sha256.Sum256([]byte(text))); d.Stdout != want {
				t.Errorf("%d bytes: %q %q %s", len(text), d.Stdout, d.Stderr, d.Failure)
			}
		}
		if d := s.does(t, casemate.Profile{}, "stdin"); !strings.HasPrefix(d.Stdout, "0 ") {
			t.Errorf("without any: %+v", d)
		}
	},
	"standard output and error": func(t *testing.T, s Subject) {
		if d := s.does(t, casemate.Profile{}, "both", "grüße 🏰"); d.Stdout != "out grüße 🏰\n" || d.Stderr != "err grüße 🏰\n" || d.Status != 0 || !d.Answered {
			t.Errorf("%+v", d)
		}
		if d := s.does(t, casemate.Profile{}, "print", "3000000"); d.Stdout != strings.Repeat("x", 3_000_000) || !d.Answered {
			t.Errorf("%d bytes, %v, %q %s", len(d.Stdout), d.Answered, d.Stderr, d.Failure)
		}
	},
	"exit status": func(t *testing.T, s Subject) {
		for _, want := range []int{0, 1, 42, 255} {
			if d := s.does(t, casemate.Profile{}, "exit", strconv.Itoa(want)); d.Status != want || !d.Answered {
				t.Errorf("%d: %+v", want, d)
			}
		}
		if d := s.does(t, casemate.Profile{}, "panic"); !d.Answered || d.Status == 0 && d.Failure == "" {
			t.Errorf("%+v", d)
		}
	},
	"environment": func(t *testing.T, s Subject) {
		t.Setenv("CASEMATE_CANARY", "CANARY")
		d := s.does(t, casemate.Profile{Env: map[string]string{"MINE": "a b", "EMPTY": ""}}, "env")
		if out := "\n" + d.Stdout; !strings.Contains(out, "\nMINE=a b\n") || !strings.Contains(out, "\nEMPTY=\n") || strings.Contains(out, "CANARY") || strings.Count(out, "\n") > 12 {
			t.Errorf("%+v", d)
		}
	},
	"a read grant": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "alpha", "sub/grüße": "beta"})
		p := grant(dir, "/g", casemate.Read)
		if d := s.does(t, p, "cat", "/g/a", "/g/sub/grüße"); d.Stdout != "alphabeta" || d.Status != 0 {
			t.Errorf("%+v", d)
		}
		if d := s.does(t, p, "list", "/g"); d.Stdout != "a\nsub\n" {
			t.Errorf("%+v", d)
		}
		if d := s.does(t, p, "write", "/g/new", "x"); d.Status == 0 {
			t.Errorf("%+v", d)
		}
		if d := s.does(t, p, "write", "/g/a", "x"); d.Status == 0 || contents(t, dir+"/a") != "alpha" {
			t.Errorf("%+v", d)
		}
		absent(t, dir+"/new")
	},
	"a write grant": func(t *testing.T, s Subject) {
		dir := folder(t, map[string]string{"a": "alpha"})
		d := s.does(t, grant(dir, "/g", casemate.Write), "write", "/g/a", "changed", "/g/grüße", "new")
		if contents(t, dir+"/a") != "changed" || contents(t, dir+"/grüße") != "new" || len(d.Changes) != 2 {
			t.Errorf("%+v", d)
		}
	},
	"nothing of the host": func(t *testing.T, s Subject) {
		secret := folder(t, map[string]string{"secret": "CANARY"})
		d := s.does(t, casemate.Profile{}, "cat", secret+"/secret", "/proc/1/root"+secret+"/secret", "/etc/shadow", "/root/.bashrc")
		if d.Stdout != "" || d.Status == 0 {
			t.Errorf("%+v", d)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for _, n := range []casemate.Network{casemate.NetworkNone, casemate.NetworkLoopback} {
			p := casemate.Profile{Network: n}
			if _, err := s.Compile(s.program(p, "dial")); casemate.KindOf(err) == casemate.Unsupported {
				t.Logf("network: %s is refused: %v", n, err)
				continue
			}
			if d := s.does(t, p, "dial", "tcp", l.Addr().String()); d.Stdout != "" || d.Status == 0 {
				t.Errorf("%+v", d)
			}
		}
		l.(*net.TCPListener).SetDeadline(time.Now().Add(50 * time.Millisecond))
		if c, err := l.Accept(); err == nil {
			c.Close()
			t.Error("the host's listener was reached")
		}
	},
	// A snapshot or a template that shares random state is two guests with one key.
	"no two draw the same": func(t *testing.T, s Subject) {
		tool := s.program(casemate.Profile{}, "random")
		b := s.Open(t, tool)
		seen := map[string]bool{}
		for range 4 {
			d := call(t, park(t, b, tool), 1)
			if len(d.Stdout) != 33 || seen[d.Stdout] {
				t.Errorf("%+v", d)
			}
			seen[d.Stdout] = true
		}
	},
	"memory is bounded": func(t *testing.T, s Subject) {
		sb := s.start(t, s.program(casemate.Profile{Memory: 96 << 20}, "grow", "512"))
		if l := sb.Enforced().Memory; l == nil || l.Limit != 96<<20 || l.By == "" {
			degraded(t, sb, "memory")
			return
		}
		if d := call(t, sb, 1); strings.Contains(d.Stdout, "grew") || d.Answered && d.Status == 0 && d.Failure == "" {
			t.Errorf("%+v", d)
		}
		if d := s.does(t, casemate.Profile{Memory: 96 << 20}, "grow", "8"); d.Stdout != "grew 8\n" {
			t.Errorf("within its bounds: %+v", d)
		}
	},
	// A share of the processor holds from the start on, in a loop that calls nothing
	// too; what the machine does beside only lowers what is used.
	"processor is bounded": func(t *testing.T, s Subject) {
		begin := time.Now()
		sb := s.start(t, s.program(casemate.Profile{CPU: 0.25}, "spin"))
		if l := sb.Enforced().CPU; l == nil || l.Limit != 250 || l.By == "" {
			degraded(t, sb, "cpu")
			return
		}
		spinning(t, sb)
		time.Sleep(time.Second) // of measuring
		sb.Close()
		wall := time.Since(begin)
		x, err := sb.Wait(t.Context())
		if err != nil || x.Usage.CPU > wall*3/8+100*time.Millisecond || x.Usage.CPU < 10*time.Millisecond {
			t.Errorf("%v of %v, %v", x.Usage.CPU, wall, err)
		}
	},
	// A call whose time is over, or whose caller left, is ended so.
	"a loop is ended": func(t *testing.T, s Subject) {
		tool := s.program(casemate.Profile{}, "spin")
		b := s.Open(t, tool)
		one, two := park(t, b, tool), park(t, b, tool)
		spinning(t, one)
		spinning(t, two)
		if err := one.Close(); err != nil {
			t.Fatal(err)
		}
		x, err := one.Wait(t.Context())
		if err != nil || x.Signal == 0 && x.Status == 0 || x.Usage.CPU <= 0 {
			t.Errorf("%+v %v", x, err)
		}
		if _, err := one.Guest().Read(make([]byte, 1)); err == nil {
			t.Error("what is gone said something")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := two.Wait(ctx); err == nil {
			t.Error("its neighbour ended with it")
		}
		for range 2 {
			if err := two.Close(); err != nil {
				t.Error(err)
			}
		}
	},
	"a guest is used again in a session": func(t *testing.T, s Subject) {
		sb := s.start(t, s.program(session(casemate.Profile{}), "both", "{text}"))
		for i := range 3 {
			n := strconv.Itoa(i)
			if d := call(t, sb, uint32(i+1), guest.Pair{Key: "text", Value: n}); d.Stdout != "out "+n+"\n" {
				t.Errorf("%+v", d)
			}
		}
	},
	"what was on is said": func(t *testing.T, s Subject) {
		sb := s.start(t, s.program(casemate.Profile{Memory: 64 << 20, CPU: 0.5, Disk: 8 << 20, Processes: 40}, "cwd"))
		e := sb.Enforced()
		if !e.NoNewPrivs || e.Seccomp == "" || len(e.Namespaces) < 7 || e.Degraded == nil || e.Uid == "" {
			t.Errorf("%+v", e)
		}
		for _, c := range []struct {
			name string
			l    *casemate.Limit
			want int64
		}{{"memory", e.Memory, 64 << 20}, {"cpu", e.CPU, 500}, {"disk", e.Disk, 8 << 20}, {"processes", e.Processes, 40}} {
			if c.l == nil {
				degraded(t, sb, c.name)
			} else if c.l.Limit != c.want || c.l.By == "" {
				t.Errorf("%s: %+v", c.name, c.l)
			}
		}
		if (s.Name != "process") != (e.Runtime != "") {
			t.Errorf("the runtime is %q", e.Runtime)
		}
	},
	"an unknown tool is refused": func(t *testing.T, s Subject) {
		b := s.Open(t, s.program(casemate.Profile{}, "cwd"))
		other := s.program(casemate.Profile{Memory: 1 << 30}, "cwd")
		if sb, err := b.Start(t.Context(), casemate.Spec{Tool: other}); err == nil {
			sb.Close()
			t.Error("what the plan does not hold was started")
		}
		if b.Name() != s.Name {
			t.Errorf("its name is %q", b.Name())
		}
	},
	"the probe says what starts": func(t *testing.T, s Subject) {
		c, err := s.Open(t, s.program(casemate.Profile{}, "cwd")).Probe(t.Context())
		if err != nil || c.Name != s.Name || len(c.Controls) < 8 || os.Geteuid() == 0 && (!c.Available || c.Assurance == "") {
			t.Errorf("%+v %v", c, err)
		}
		for _, x := range c.Controls {
			if x.State != "on" && (x.Why == "" || x.State == "missing" && x.Fix == "") {
				t.Errorf("%+v", x)
			}
		}
	},
}

// spinning calls a guest that spins, and returns when it does.
func spinning(t testing.TB, sb casemate.Sandbox) {
	t.Helper()
	if err := guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, nil)}); err != nil {
		t.Fatal(err)
	}
	over := time.AfterFunc(patience, func() { sb.Close() })
	defer over.Stop()
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || string(f.Body) != "spinning\n" {
		t.Fatalf("%c %q %v", f.Type, f.Body, err)
	}
}

// degraded is for a limit that is not on: the operator has allowed that, and the
// record says so.
func degraded(t testing.TB, sb casemate.Sandbox, name string) {
	t.Helper()
	for _, d := range sb.Enforced().Degraded {
		if d == name {
			t.Logf("%s is not limited here, which the operator allowed", name)
			return
		}
	}
	t.Errorf("%s is not limited, and nobody says so: %+v", name, sb.Enforced())
}
