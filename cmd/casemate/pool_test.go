package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/router"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// view is a server with a tool in use, one that fails, and quiet ones; a name
// and an error are hostile.
func view() poolView {
	var h pool.Histogram
	for i := range 100 {
		h.Add(time.Duration(i+1) * 100 * time.Microsecond)
	}
	used := router.PoolStatus{Tool: "python", Backend: "process", Parked: 3, Wanted: 4, Busy: 2, Starting: 1, Waiting: 7, Bytes: 12 << 20,
		Totals: pool.Totals{Claimed: 12345, Cold: 12, Refused: 3, Failed: 1, Thrown: 2, Start: h, Claim: h}}
	fails := router.PoolStatus{Tool: "sh\x1b]0;x\x07ell", Backend: "process", Error: "no\x1b[2J pids\nat all " + strings.Repeat("漢字", 200)}
	v := poolView{servers: 1, pools: []poolRow{{used, 7}, {fails, 7}}}
	for i := range 3 {
		v.pools = append(v.pools, poolRow{router.PoolStatus{Tool: casemate.ToolName(fmt.Sprint("quiet", i)), Backend: "process"}, 7})
	}
	v.calls = []callRow{{router.CallStatus{Call: "c_aaaaaaaaaaaaaaaaaaaaaaaaaa", Tool: "python", Since: noon.Add(-1500 * time.Millisecond)}, 7}}
	return v
}

func TestPoolView(t *testing.T) {
	var b strings.Builder
	for _, s := range []sheet{
		{now: noon},
		{width: 160, height: 40, bars: true, now: noon},
		{width: 80, height: 40, bars: true, now: noon},
		{width: 50, height: 40, bars: true, ascii: true, now: noon},
		{width: 80, height: 5, bars: true, now: noon},
	} {
		fmt.Fprintf(&b, "== %d columns, %d lines\n%s\n", s.width, s.height, strings.Join(view().lines(s), "\n"))
	}
	const golden = "testdata/pool.golden"
	if os.Getenv("CASEMATE_TEST_UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the view is another; CASEMATE_TEST_UPDATE=1 writes it:\n%s", b.String())
	}
}

// TestPoolViewFits: whatever the terminal is, a frame is within it, so that it
// does not scroll, and holds nothing that drives it but what we wrote.
func TestPoolViewFits(t *testing.T) {
	for width := 1; width < 200; width += 3 {
		for _, height := range []int{1, 2, 3, 7, 24} {
			v := view()
			v.servers = 1 + width%2
			for _, l := range append(v.lines(sheet{width: width, height: height, bars: true, now: noon}), v.headline(noon, width)) {
				if columnsOf(l) > width || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					t.Errorf("%d columns: %q", width, l)
				}
			}
			if all := strings.Join(v.lines(sheet{width: width, height: 24, bars: true, now: noon}), "\n"); width > 22 && !strings.Contains(all, "3/4") {
				t.Errorf("%d columns: how many are parked is not there: %q", width, all)
			}
			if n := len(v.lines(sheet{width: width, height: height, now: noon})); n > max(height, 2) {
				t.Errorf("%d lines on %d", n, height)
			}
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h pool.Histogram
	if got := percentiles(h); got != "-" {
		t.Error(got)
	}
	h.Add(121 * time.Millisecond)
	if got := percentiles(h); got != "121ms 121ms" {
		t.Error(got)
	}
	h = pool.Histogram{}
	for range 99 {
		h.Add(70 * time.Microsecond) // between 50 and 100
	}
	h.Add(time.Minute)
	for q, want := range map[float64]string{0.5: "75µs", 0.99: "100µs", 1: ">10s"} {
		if got := quantile(h, q); got != want {
			t.Errorf("%v: %s, want %s", q, got, want)
		}
	}
	for s, want := range map[float64]string{0: "0.0µs", 2e-6: "2.0µs", 9.97e-4: "997µs", 0.0012: "1.2ms", 0.5: "500ms", 2.5: "2.5s", 60: "60s"} {
		if got := seconds(s); got != want {
			t.Errorf("%v: %s, want %s", s, got, want)
		}
	}
}

// A screen is a terminal and what was written to it.
type screen struct {
	master, slave *os.File
	said          *lockedBuffer
}

func newScreen(t *testing.T, columns, rows uint16) *screen {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	s := &screen{master, os.NewFile(fd, "terminal"), &lockedBuffer{}}
	t.Cleanup(func() { s.slave.Close() })
	go io.Copy(s.said, master)
	return s
}

func (s *screen) start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.slave, s.slave, s.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

// TestPoolAtATerminal: it is drawn anew while things change, and gives the
// terminal back as it was, however it ends.
func TestPoolAtATerminal(t *testing.T) {
	p := newPlace(t, echoTool, sleepTool)
	s := p.serve().initialize()
	for name, end := range map[string]func(*screen, *exec.Cmd){
		"q":       func(s *screen, _ *exec.Cmd) { s.master.WriteString("q") },
		"Ctrl-C":  func(s *screen, _ *exec.Cmd) { s.master.WriteString("\x03") },
		"SIGTERM": func(_ *screen, c *exec.Cmd) { c.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newScreen(t, 100, 20)
			before, err := unix.IoctlGetTermios(int(w.slave.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			cmd := p.command("pool")
			w.start(t, cmd)
			eventually(t, "it is drawn", func() bool {
				return strings.HasPrefix(w.said.String(), enterScreen) && strings.Contains(w.said.String(), "echo")
			})
			if name == "q" { // once is enough: what happens meanwhile is seen
				s.send("tools/call", map[string]any{"name": "sleep", "arguments": map[string]any{}})
				eventually(t, "the call is seen", func() bool { return strings.Contains(w.said.String(), "1 call in flight") })
			}
			end(w, cmd)
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ended with %v", err)
			}
			eventually(t, "the screen is left", func() bool { return strings.HasSuffix(w.said.String(), leaveScreen) })
			after, err := unix.IoctlGetTermios(int(w.slave.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal was %+v and is %+v, %v", before, after, err)
			}
		})
	}
	w := newScreen(t, 100, 20)
	cmd := p.command("pool", "--once")
	w.start(t, cmd)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	eventually(t, "it is printed", func() bool { return strings.Contains(w.said.String(), "echo") })
	if strings.Contains(w.said.String(), "\x1b") {
		t.Errorf("--once drives the terminal: %q", w.said.String())
	}
}

// TestPoolWithoutServers: nothing runs, and nothing is drawn.
func TestPoolWithoutServers(t *testing.T) {
	p := newPlace(t, echoTool)
	if got := p.run("pool"); got != noServer+"\n" {
		t.Errorf("%q", got)
	}
	if got := p.run("pool", "--json"); got != `{"pools":[],"calls":[]}`+"\n" {
		t.Errorf("%q", got)
	}
	if socks, _ := filepath.Glob(p.dir + "/run/casemate/*"); len(socks) != 0 {
		t.Errorf("it made %v", socks)
	}
}
