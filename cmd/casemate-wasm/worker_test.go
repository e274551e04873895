package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	quickjswasi "github.com/aperturerobotics/go-quickjs-wasi-reactor"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/internal/wasm"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "casemate-wasm-")
	if err == nil {
		err = os.Setenv(envScratch, dir)
	}
	if err != nil {
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// envScratch names the folder of what is compiled once for all tests: modules,
// and machine code.
const envScratch = "CASEMATE_TEST_SCRATCH"

// build compiles a program of testdata to a module.
func build(t testing.TB, dir string, more ...string) []byte {
	t.Helper()
	out := filepath.Join(os.Getenv(envScratch), dir+".wasm")
	if b, err := os.ReadFile(out); err == nil {
		return b
	}
	cmd := exec.Command("go", append(append([]string{"build"}, more...), "-o", out, ".")...)
	cmd.Dir = filepath.Join("testdata", dir)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return read(t, out)
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// inC compiles a program of testdata with Debian's compiler for WASI.
func inC(t testing.TB, name string) []byte {
	t.Helper()
	_, err1 := exec.LookPath("clang")
	_, err2 := exec.LookPath("wasm-ld")
	_, err3 := os.Stat("/usr/lib/wasm32-wasi/crt1-reactor.o")
	var err error
	if e := errors.Join(err1, err2, err3); e != nil {
		err = &testenv.Unsupported{What: "C for WASI", Why: e.Error(), Fix: "apt install clang lld wasi-libc libclang-rt-dev-wasm32"}
	}
	testenv.Require(t, "wasi-libc", err)
	out := filepath.Join(t.TempDir(), "m.wasm")
	if text, err := exec.Command("clang", "--target=wasm32-wasi", "-mexec-model=reactor", "-O2", "-o", out, filepath.Join("testdata", "c", name)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return read(t, out)
}

// started is a worker of a module with as much memory as wasm.Pages gives of it.
func started(t testing.TB, module []byte, g plan.Guest) (context.Context, *worker) {
	t.Helper()
	ctx := experimental.WithMemoryAllocator(t.Context(), experimental.MemoryAllocatorFunc(reserve))
	if g.Memory == 0 {
		g.Memory = 256 << 20
	}
	if g.Output == 0 {
		g.Output = 1 << 20
	}
	p, err := newProgram(ctx, module, wasm.Pages(g.Memory), filepath.Join(os.Getenv(envScratch), "compiled"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.runtime.Close(context.Background()) })
	w := &worker{guest: g, program: p, files: &grants{}}
	if g.Runner != wasm.RunnerJS {
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	}
	return ctx, w
}

// printed is what f makes this process print, on its two streams.
func printed(t testing.TB, f func()) (stdout, stderr string) {
	t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	out, errs := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = files[0], files[1]
	defer func() { os.Stdout, os.Stderr = out, errs }()
	f()
	return string(read(t, files[0].Name())), string(read(t, files[1].Name()))
}

// text is a tool whose argument does is the module's first, and text its input.
func text(words ...string) plan.Guest {
	g := plan.Guest{Runner: wasm.Runner, Stdin: "text", Cwd: "/tmp"}
	for _, w := range words {
		g.Command = append(g.Command, plan.Arg{Text: w})
	}
	return g
}

func TestEngineIsTheOneThatIsBuiltIn(t *testing.T) {
	if wasm.QuickJS != "quickjs-"+quickjswasi.Version {
		t.Errorf("QuickJS is %s, and not %s", quickjswasi.Version, wasm.QuickJS)
	}
	info, _ := debug.ReadBuildInfo()
	for _, d := range info.Deps {
		if d.Path == "github.com/tetratelabs/wazero" && wasm.Engine == "wazero-"+d.Version && wasm.Version == "wazero "+d.Version[1:] {
			return
		}
	}
	t.Errorf("%s and %s are not what this test is built of", wasm.Engine, wasm.Version)
}

// A module gets its arguments, input and variables, whole, and nothing of this
// process's; each call has an instance of its own.
func TestCommand(t *testing.T) {
	g := text("echo", "--")
	g.Command = append(g.Command, plan.Arg{Name: "x"}, plan.Arg{Name: "left-out"})
	g.Env = []string{"A=b=c"}
	ctx, w := started(t, build(t, "command"), g)
	t.Setenv("CASEMATE_SECRET", "of this process")
	for _, x := range []string{"ü\n✓", "-x"} {
		var o outcome
		stdout, stderr := printed(t, func() { o = w.call(ctx, []guest.Pair{{Key: "text", Value: "in\x00put"}, {Key: "x", Value: x}}) })
		var got struct {
			Args, Env []string
			Stdin     string
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || o.status != 0 || stderr != "said\n" {
			t.Fatalf("%q %q %+v %v", stdout, stderr, o, err)
		}
		if len(got.Args) != 2 || got.Args[1] != x || got.Stdin != "in\x00put" || strings.Join(got.Env, " ") != "PWD=/tmp A=b=c" {
			t.Errorf("%+v", got)
		}
	}
	for does, status := range map[string]uint32{"exit": 7, "panic": 2} {
		w.guest = text(does)
		var o outcome
		if printed(t, func() { o = w.call(ctx, nil) }); o.status != status || o.why != "" {
			t.Errorf("%s: %+v", does, o)
		}
	}
	w.guest = text("reach")
	if stdout, _ := printed(t, func() { w.call(ctx, nil) }); stdout != "true true true 0\n" {
		t.Errorf("it reaches something: %s", stdout)
	}
}

func TestArguments(t *testing.T) {
	g := plan.Guest{Command: []plan.Arg{{Text: "a"}, {Name: "x"}, {Name: "y"}}, Options: []string{"y"}}
	for _, c := range []struct {
		x, y, want string
	}{{"b c", "-d", "a|b c|-d"}, {"-b", "", "!"}, {"\x00", "", "!"}} {
		got, err := fill(g, []guest.Pair{{Key: "x", Value: c.x}, {Key: "y", Value: c.y}})
		if s := strings.Join(got, "|"); err == nil && s != c.want || err != nil && c.want != "!" {
			t.Errorf("%q %q: %q %v", c.x, c.y, s, err)
		}
	}
}

// The clock, chance and sleep of a deterministic tool are the same in each call.
func TestDeterministic(t *testing.T) {
	ctx, w := started(t, build(t, "command"), text("chance"))
	twice := func() (a, b string) {
		a, _ = printed(t, func() { w.call(ctx, nil) })
		b, _ = printed(t, func() { w.call(ctx, nil) })
		return a, b
	}
	if a, b := twice(); a == b || a == "" {
		t.Errorf("two calls have the same chance: %s", a)
	}
	w.guest.Preload = []string{wasm.Deterministic}
	if a, b := twice(); a != b || !strings.Contains(a, "2022-01-01") {
		t.Errorf("two calls differ:\n%s%s", a, b)
	}
}

// Memory ends where its sandbox's does, less the worker, and comes back whole.
func TestMemory(t *testing.T) {
	g := text("grow")
	g.Memory = 256 << 20
	ctx, w := started(t, build(t, "command"), g)
	var o outcome
	stdout, stderr := printed(t, func() { o = w.call(ctx, nil) })
	if o.status != 2 || !strings.Contains(stderr, "out of memory") || !strings.Contains(stdout, "128\n") || strings.Contains(stdout, "224\n") {
		t.Errorf("%+v %q %.200q", o, stdout, stderr)
	}
	before := reservedBytes(t)
	w.guest = text("hold")
	for range 20 {
		if o := w.call(ctx, nil); o.status != 0 {
			t.Fatalf("%+v", o)
		}
	}
	if more := reservedBytes(t) - before; more > 400<<20 { // of which each reserves 208
		t.Errorf("after 20 instances %d MiB more are reserved", more>>20)
	}
}

// reservedBytes is how much this process has mapped.
func reservedBytes(t *testing.T) int64 {
	t.Helper()
	var pages int64
	for _, c := range strings.Fields(string(read(t, "/proc/self/statm")))[0] {
		pages = pages*10 + int64(c-'0')
	}
	return pages * int64(os.Getpagesize())
}

func TestPages(t *testing.T) {
	for memory, want := range map[int64]uint32{1: 1, 32 << 20: 256, 128 << 20: 1280, 512 << 20: 7424, 1 << 40: 1 << 16} {
		if got := wasm.Pages(memory); got != want {
			t.Errorf("%d: %d pages, want %d", memory, got, want)
		}
	}
}

// The whole conversation: ready, calls of a session, and the end.
func TestServe(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "router"), os.NewFile(uintptr(pair[1]), "guest")
	over := make(chan error, 1)
	g := plan.Guest{Runner: wasm.RunnerJS, Memory: 128 << 20, Output: 1 << 20, Session: true}
	go func() { over <- run(theirs, []byte(wasm.EncodeGuest(g))) }()
	if f, err := guest.Read(ours, guest.MaxReply); err != nil || f.Type != guest.Ready {
		t.Fatalf("%c %v", f.Type, err)
	}
	for i, c := range []struct{ code, frames string }{
		{"var kept = 1; kept", "V1 D0"},
		{"typeof kept", `V"undefined" D0`}, // nothing of the call before is there
		{"throw new Error('boo')", "Xboo D1"},
	} {
		number := uint32(i + 7)
		if err := guest.Write(ours, guest.Frame{Type: guest.Call, Call: number, Body: guest.AppendPairs(nil, []guest.Pair{{Key: "code", Value: c.code}})}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for {
			f, err := guest.Read(ours, guest.MaxReply)
			if err != nil || f.Call != number {
				t.Fatalf("%v %d", err, f.Call)
			}
			switch f.Type {
			case guest.Value:
				got = append(got, "V"+string(f.Body))
			case guest.Failure:
				s := string(f.Body)
				got = append(got, "X"+s[strings.LastIndex(s, ": ")+2:])
			case guest.Done:
				got = append(got, "D"+string('0'+f.Body[3]))
			}
			if f.Type == guest.Done {
				break
			}
		}
		if s := strings.Join(got, " "); s != c.frames {
			t.Errorf("%s: %s", c.code, s)
		}
	}
	ours.Close()
	if err := <-over; err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("it ended with %v", err)
	}
	if err := run(theirs, []byte("anything else")); err == nil {
		t.Error("a guest that nobody described was served")
	}
}

// A guest is described to its worker without a path of the host's.
func TestGuestFile(t *testing.T) {
	g := plan.Guest{Tool: "@python", Runner: wasm.Runner, Runtime: "/home/me/worker", Module: "/home/me/module", Mounts: []plan.Mount{{Source: "/home/me/docs", At: "/docs", Write: true}}}
	s := wasm.EncodeGuest(g)
	if strings.Contains(s, "/home/me") || s[0] == '@' {
		t.Errorf("%q", s)
	}
	back, err := wasm.DecodeGuest([]byte(s))
	if err != nil || len(back.Mounts) != 1 || back.Mounts[0].At != "/docs" || !back.Mounts[0].Write {
		t.Errorf("%+v %v", back, err)
	}
}
