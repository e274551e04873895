package runners

import (
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

func template(parts ...string) []plan.Arg {
	var as []plan.Arg
	for _, p := range parts {
		if n, ok := strings.CutPrefix(p, "{"); ok {
			as = append(as, plan.Arg{Name: strings.TrimSuffix(n, "}")})
		} else {
			as = append(as, plan.Arg{Text: p})
		}
	}
	return as
}

func TestArgv(t *testing.T) {
	for _, c := range []struct {
		name     string
		template []plan.Arg
		options  []string
		args     []guest.Pair
		want     []string
		err      string
	}{
		{"fills", template("/bin/echo", "{text}"), nil, []guest.Pair{{Key: "text", Value: "a b; $(id)"}}, []string{"/bin/echo", "a b; $(id)"}, ""},
		{"empty value is an element", template("/bin/echo", "{text}"), nil, []guest.Pair{{Key: "text", Value: ""}}, []string{"/bin/echo", ""}, ""},
		{"left out", template("/bin/echo", "{text}", "x"), nil, nil, []string{"/bin/echo", "x"}, ""},
		{"value like a template", template("/bin/echo", "{a}", "{b}"), nil, []guest.Pair{{Key: "a", Value: "{b}"}, {Key: "b", Value: "2"}}, []string{"/bin/echo", "{b}", "2"}, ""},
		{"option", template("/bin/echo", "{text}"), nil, []guest.Pair{{Key: "text", Value: "-n"}}, nil, "option"},
		{"dash", template("/bin/echo", "{text}"), nil, []guest.Pair{{Key: "text", Value: "-"}}, nil, "option"},
		{"after --", template("/bin/echo", "--", "{text}"), nil, []guest.Pair{{Key: "text", Value: "-n"}}, []string{"/bin/echo", "--", "-n"}, ""},
		{"an argument is no --", template("/bin/echo", "{a}", "{b}"), []string{"a"}, []guest.Pair{{Key: "a", Value: "--"}, {Key: "b", Value: "-n"}}, nil, "option"},
		{"role option", template("/bin/echo", "{text}"), []string{"text"}, []guest.Pair{{Key: "text", Value: "-n"}}, []string{"/bin/echo", "-n"}, ""},
		{"NUL", template("/bin/echo", "{text}"), nil, []guest.Pair{{Key: "text", Value: "a\x00b"}}, nil, "NUL"},
		{"too long", template("/bin/echo", "{text}"), nil, []guest.Pair{{Key: "text", Value: strings.Repeat("x", 128<<10)}}, nil, "standard input"},
		{"no program", template("{prog}"), nil, nil, nil, "prog"},
		{"nothing", nil, nil, nil, nil, "empty"},
	} {
		got, err := argv(plan.Guest{Command: c.template, Options: c.options}, c.args)
		if c.err == "" && (err != nil || !reflect.DeepEqual(got, c.want)) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %q %v", c.name, got, err)
		}
	}
}

func TestExec(t *testing.T) {
	noExec := file(t, "data", "text", 0o644)
	noInterpreter := file(t, "script", "#!/no/such/interpreter\n", 0o755)
	garbage := file(t, "garbage", "\x01\x02\x03", 0o755)
	for _, c := range []struct {
		name     string
		template []plan.Arg
		args     []string
		want     wanted
	}{
		{"echo", template("/bin/echo", "{text}"), []string{"text", "; id `id` $(id)"}, wanted{stdout: "; id `id` $(id)\n"}},
		{"by PATH", template("echo", "x"), nil, wanted{stdout: "x\n"}},
		{"not on PATH", template("no-such-program"), nil, wanted{failure: "no-such-program: not found", status: 127}},
		{"missing", template("/bin/no-such"), nil, wanted{failure: "/bin/no-such: not found in the sandbox; grant", status: 127}},
		{"not executable", template(noExec), nil, wanted{failure: "not an executable", status: 126}},
		{"folder", template("/tmp"), nil, wanted{failure: "not an executable", status: 126}},
		{"interpreter missing", template(noInterpreter), nil, wanted{failure: "the interpreter that it names", status: 127}},
		{"garbage", template(garbage), nil, wanted{failure: "no program", status: 126}},
		{"status", template("/bin/sh", "-c", "echo out; echo err >&2; exit 3"), nil, wanted{stdout: "out\n", stderr: "err\n", status: 3}},
		{"signal", template("/bin/sh", "-c", "kill -TERM $$"), nil, wanted{status: 143}},
		{"environment", template("/usr/bin/env"), nil, wanted{stdout: "A=b\n"}},
		{"no standard input", template("/bin/cat"), nil, wanted{}},
		{"descriptors", template("/bin/ls", "/proc/self/fd"), nil, wanted{stdout: "0\n1\n2\n3\n"}}, // 3 is ls's own
		{"a session of its own", template("/bin/sh", "-c", `set -- $(cat /proc/self/stat); [ "$6" = "$4" ] && echo leader`), nil, wanted{stdout: "leader\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := plan.Guest{Runner: "exec", Command: c.template, Cwd: "/"}
			if c.name == "environment" {
				g.Env = []string{"A=b"}
			}
			p := start(t, g)
			c.want.check(t, p.call(c.args...))
			p.wait() // one call, and it is over
		})
	}
}

func TestExecMissingFolder(t *testing.T) {
	p := start(t, plan.Guest{Runner: "exec", Command: template("/bin/true"), Cwd: "/no/such"})
	wanted{failure: "cwd", status: 126}.check(t, p.call())
}

func TestExecStdin(t *testing.T) {
	big := strings.Repeat("0123456789", 1<<20)
	for _, c := range []struct {
		name, script, in string
		want             wanted
	}{
		{"10 MB", "wc -c", big, wanted{stdout: "10485760\n"}},
		{"10 MB back", "cat", big, wanted{stdout: big}},
		{"not read", "echo done", big, wanted{stdout: "done\n"}},
		{"closed", "exec <&-; echo done; sleep 0.1", big, wanted{stdout: "done\n"}},
		{"empty", "wc -c", "", wanted{stdout: "0\n"}},
		{"NUL", "wc -c", "a\x00b", wanted{stdout: "3\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, plan.Guest{Runner: "exec", Command: template("/bin/sh", "-c", c.script), Stdin: "data"})
			c.want.check(t, p.call("data", c.in))
		})
	}
}

// The call ends with the main process, whoever else holds its output, and
// what was written by then arrives.
func TestExecBackgroundChild(t *testing.T) {
	p := start(t, plan.Guest{Runner: "shell"})
	r := p.call("command", "(sleep 20; echo late) & head -c 60000 /dev/zero | tr '\\0' x; echo; echo main")
	if r.took > 5*time.Second || len(r.stdout) != 60006 || !strings.HasSuffix(r.stdout, "\nmain\n") {
		t.Errorf("%d bytes after %v", len(r.stdout), r.took)
	}
}

// All that the main process wrote arrives, though more than one frame of it
// was still in the pipe when it ended.
func TestExecLastWords(t *testing.T) {
	python := pythons(t)[0]
	p := start(t, plan.Guest{Runner: "exec", Command: template(python, "-c", "import fcntl, os\nfor fd in 1, 2: fcntl.fcntl(fd, 1031, 1 << 20)\nos.write(1, b'o' * 900000)\nos.write(2, b'e' * 900000)\nif os.fork() == 0: os.execv('/bin/sleep', ['sleep', '20'])")})
	p.send()
	time.Sleep(500 * time.Millisecond) // meanwhile the runner cannot send it all
	r := p.reply()
	if len(r.stdout) != 900000 || len(r.stderr) != 900000 || r.took > 10*time.Second {
		t.Errorf("%d and %d bytes after %v", len(r.stdout), len(r.stderr), r.took)
	}
}

// The last reading is bounded, if there is always more.
func TestDrainEnds(t *testing.T) {
	file := os.NewFile(uintptr(open(t, "/dev/null", unix.O_WRONLY)), "router")
	defer file.Close()
	conn := newWire(file)
	x := &task{server: &server{conn: conn}, stdout: open(t, "/dev/zero", unix.O_RDONLY), stderr: -1, stdin: -1, bytes: make([]byte, chunk)}
	defer x.close()
	done := make(chan error)
	go func() { done <- x.drain() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it did not end")
	}
}

func open(t *testing.T, path string, mode int) int {
	fd, err := unix.Open(path, mode|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// A background child that never stops writing does not hold the call.
func TestExecBackgroundFlood(t *testing.T) {
	p := start(t, plan.Guest{Runner: "shell"})
	r := p.call("command", "yes & sleep 0.2; echo main")
	if r.took > 10*time.Second || r.status != 0 {
		t.Errorf("status %d after %v", r.status, r.took)
	}
}

// Without a reader the tool waits: the runner keeps no more than the pipes
// and the socket hold.
func TestBackPressure(t *testing.T) {
	p := start(t, plan.Guest{Runner: "shell"})
	p.send("command", "yes 0123456789")
	time.Sleep(500 * time.Millisecond)
	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	var kb int
	for l := range strings.SplitSeq(string(status), "\n") {
		if v, ok := strings.CutPrefix(l, "RssAnon:"); ok {
			kb, _ = strconv.Atoi(strings.Fields(v)[0])
		}
	}
	if kb == 0 || kb > 64<<10 {
		t.Errorf("the runner holds %d KiB", kb)
	}
	sum := 0
	for sum < 8<<20 {
		f, err := guest.Read(p.conn, guest.MaxReply)
		if err != nil || f.Type != guest.Stdout || len(f.Body) > 64<<10 {
			t.Fatalf("%c %d %v", f.Type, len(f.Body), err)
		}
		sum += len(f.Body)
	}
}

func TestShellSession(t *testing.T) {
	cwd := t.TempDir()
	p := start(t, plan.Guest{Runner: "shell", Session: true, Cwd: cwd})
	wanted{stdout: "1\n"}.check(t, p.call("command", "echo 1; touch f; sleep 20 &"))
	wanted{stdout: "f\n"}.check(t, p.call("command", "ls"))
	wanted{failure: "missing", status: 2}.check(t, p.call("x", "y"))
	wanted{status: 7}.check(t, p.call("command", "exit 7"))
}

// Orphans are reaped while a call runs and between calls.
func TestOrphansAreReaped(t *testing.T) {
	p := start(t, plan.Guest{Runner: "shell", Session: true})
	orphans := "for i in 1 2 3 4 5 6 7 8; do (sh -c 'sleep 0.05' &) ; done; sleep 0.4; "
	zombies := `n=0; for s in /proc/[0-9]*/stat; do read -r l < $s 2>/dev/null || continue; case "$l" in *") Z ` + strconv.Itoa(p.cmd.Process.Pid) + ` "*) n=$((n+1));; esac; done; echo $n`
	wanted{stdout: "0\n"}.check(t, p.call("command", orphans+zombies))
	p.call("command", "(sleep 0.1 &)")
	time.Sleep(300 * time.Millisecond)
	wanted{stdout: "0\n"}.check(t, p.call("command", zombies))
	for i := range 50 { // the main process is never taken for an orphan
		wanted{status: i}.check(t, p.call("command", "(true &); (true &); exit "+strconv.Itoa(i)))
	}
}

func TestRouterHangsUpDuringACall(t *testing.T) {
	p := start(t, plan.Guest{Runner: "shell"})
	p.send("command", "sleep 30")
	time.Sleep(50 * time.Millisecond)
	p.conn.Close()
	p.wait()
}

func TestExecOutFiles(t *testing.T) {
	p := start(t, plan.Guest{Runner: "shell", Session: true, Output: 1000, Env: []string{"PATH=/usr/bin:/bin"}})
	secret := file(t, "secret", "CANARY", 0o644)
	q := func(s string) string { return strings.ReplaceAll(s, "OUT", p.out) }
	r := p.call("command", q("cd OUT; echo hi > a.txt; mkdir sub; printf x > sub/p.PNG; ln -s "+secret+" link; ln -s / root; mkfifo fifo; head -c 2000 /dev/zero > big.bin"))
	if len(r.files) != 2 || r.files["a.txt"] != "hi\n" || r.files["sub/p.PNG"] != "x" || r.mimes["sub/p.PNG"] != "image/png" || r.mimes["a.txt"] != "text/plain" {
		t.Errorf("files %v %v", r.files, r.mimes)
	}
	if !strings.Contains(r.stderr, "big.bin (2000 bytes) is left out") {
		t.Errorf("stderr %q", r.stderr)
	}
	r = p.call("command", q("cd OUT; rm big.bin; echo more >> sub/p.PNG; echo new > b"))
	if len(r.files) != 2 || r.files["sub/p.PNG"] != "xmore\n" || r.files["b"] != "new\n" {
		t.Errorf("second call: %v", r.files)
	}
	r = p.call("command", q("head -c 990 /dev/zero | tr '\\0' x; echo twenty-bytes-of-text > OUT/late"))
	if len(r.files) != 0 || len(r.stdout) != 990 || !strings.Contains(r.stderr, "late (21 bytes) is left out") {
		t.Errorf("a file beside much text: %v %q", r.files, r.stderr)
	}
	r = p.call("command", q("cd OUT; rm late; for i in $(seq 100); do : > n$i; done"))
	if len(r.files) != maxFiles || !strings.Contains(r.stderr, "at most 64 files") {
		t.Errorf("%d files, %q", len(r.files), r.stderr)
	}
	if _, err := os.Stat(filepath.Join(p.out, "n1")); err != nil {
		t.Error("a file was taken away")
	}
}
