package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hostSees returns whether a process of that command line, which no other
// would have, can still be seen a second after a call is over.
func hostSees(line string) int {
	n := 0
	for range 20 {
		if n = countRunning(line); n == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return n
}

var bombAttacks = []demoAttack{
	{"fork bomb", "cgroup and rlimit: processes", func(d *demo, ctx context.Context, r *attackRow) {
		child := "sleep 31." + d.place.mark
		r.Tried = fmt.Sprintf("start 500 processes where the profile allows %d, while the honest planner works", demoProcesses)
		var peak, slowest = 0, time.Duration(0)
		stop, watched := make(chan struct{}), make(chan error, 1)
		go func() {
			for {
				select {
				case <-stop:
					watched <- nil
					return
				default:
				}
				began := time.Now()
				if a, err := d.honest.call(ctx, "sort", map[string]any{"file": "/work/numbers.txt"}); err != nil || a.failed {
					<-stop
					watched <- fmt.Errorf("the honest planner's call: %q %w", short(a.text), err)
					return
				}
				slowest, peak = max(slowest, time.Since(began)), max(peak, countRunning(child))
			}
		}()
		// A shell that may not fork ends: the last number is on record then.
		a, err := d.hijacked.call(ctx, "shell", map[string]any{"command": "( i=0; while [ $i -lt 500 ]; do " + child + " & i=$((i+1)); echo $i > /tmp/n; done ) 2>/dev/null; read n < /tmp/n; echo \"made $n\"; exec sleep 1"})
		close(stop)
		werr := <-watched
		made, nerr := strconv.Atoi(after(a.text, "made "))
		if err != nil || nerr != nil {
			r.failed("the tool answered %q, %v", short(a.text), err)
			return
		}
		left := hostSees(child)
		r.judge(peak > demoProcesses || made > demoProcesses+1 || left > 0 || werr != nil,
			"the host counted at most %d at once and %d when the call was over; meanwhile the honest planner's calls took at most %d ms%s", peak, left, slowest.Milliseconds(), because(werr))
	}},
	{"memory bomb", "cgroup: memory, swap off, the whole sandbox ends", func(d *demo, ctx context.Context, r *attackRow) {
		const bomb = 512
		r.Tried = fmt.Sprintf("take %d MiB where the profile allows %d", bomb, demoMemory>>20)
		if slices.Contains(d.degraded, "memory") {
			r.na("this host lets this user limit no memory, as it said, and the configuration allows that; the attack is not made where nothing would hold it")
			return
		}
		if slices.Contains(d.without, "memory") && availableMiB() < 4*bomb {
			r.na("with the wall gone the host must have %d MiB to spare", 4*bomb)
			return
		}
		a, err := d.hijacked.call(ctx, "shell", map[string]any{"command": attackerAt + " attacker memory " + strconv.Itoa(bomb) + "; echo the sandbox lives"})
		if err != nil {
			r.failed("%v", err)
			return
		}
		through := strings.Contains(a.text, wordThrough+" ")
		killed := strings.Contains(a.text, "memory") && !strings.Contains(a.text, "the sandbox lives")
		if !through && !killed {
			r.failed("the tool answered %q", short(a.text))
			return
		}
		next, err := d.honest.call(ctx, "sort", map[string]any{"file": "/work/numbers.txt"})
		r.judge(through || err != nil || next.failed, "the planner got %q; the next call of another tool answered %q", short(a.text), short(next.text))
	}},
	{"disk bomb", "tmpfs of the profile's size, for /tmp and for what a call writes to its grants", func(d *demo, ctx context.Context, r *attackRow) {
		r.Tried = fmt.Sprintf("write 200 MB to /tmp, and to the project, where the profile allows %d MiB, and 20,000 empty files", demoDisk>>20)
		const fill = "i=0; while [ $i -lt 50 ]; do head -c 4000000 /dev/zero > %[1]s/big$i; i=$((i+1)); done 2>/dev/null; cat %[1]s/big* | wc -c; "
		text, ok := d.hit(ctx, r, "workshop", fmt.Sprintf(fill, "/tmp")+"rm /tmp/big*; "+fmt.Sprintf(fill, "/work")+"rm /work/big[1-9]*; mkdir /tmp/many; i=0; while [ $i -lt 20000 ] && true > /tmp/many/$i; do i=$((i+1)); done 2>/dev/null; echo $i")
		if !ok {
			return
		}
		var n [3]int
		for i, f := range strings.Fields(text)[:min(3, len(strings.Fields(text)))] {
			n[i], _ = strconv.Atoi(f)
		}
		if n[0] == 0 || n[1] == 0 || n[2] == 0 {
			r.failed("the tool answered %q", lines(text))
			return
		}
		onHost := 0
		files, _ := filepath.Glob(d.place.path("project/big*"))
		for _, f := range files {
			if fi, err := os.Stat(f); err == nil {
				onHost += int(fi.Size())
			}
		}
		r.judge(n[0] > demoDisk || n[1] > demoDisk || onHost > demoDisk || n[2] >= 20000,
			"/tmp took %d bytes, the project %d, of which %d were left and came to the host; %d of the empty files were made", n[0], n[1], onHost, n[2])
	}},
	{"output flood", "bound on a result", func(d *demo, ctx context.Context, r *attackRow) {
		const flood = 50_000_000
		r.Tried = fmt.Sprintf("print %d bytes where the profile allows %d", flood, demoOutput)
		a, err := d.hijacked.call(ctx, "shell", map[string]any{"command": fmt.Sprintf("head -c %d /dev/zero | tr '\\0' A", flood)})
		if err != nil {
			r.failed("%v", err)
			return
		}
		if len(a.text) == 0 {
			r.failed("the tool answered nothing")
			return
		}
		r.judge(len(a.text) > demoOutput+4096, "%d bytes reached the planner, and it was told: %q", len(a.text), short(strings.ReplaceAll(a.text, "A", "")))
	}},
	{"outlive its call", "pid namespace: its end is everybody's", func(d *demo, ctx context.Context, r *attackRow) {
		child := "sleep 27." + d.place.mark
		r.Tried = "leave daemons behind (setsid, double fork, signals ignored) that write to the project half a second later"
		if _, ok := d.hit(ctx, r, "workshop", "trap '' HUP TERM INT; (setsid "+child+" >/dev/null 2>&1 </dev/null & ); (setsid sh -c 'sleep 0.5; echo late > /work/late; exec "+child+"' >/dev/null 2>&1 </dev/null & ) "); !ok {
			return
		}
		left := hostSees(child)
		time.Sleep(800 * time.Millisecond)
		late := d.place.there("project/late")
		r.judge(left > 0 || len(late) > 0, "the host counted %d of them when the call was over; files that they wrote: %s", left, orNone(late))
	}},
}

var otherAttacks = []demoAttack{
	{"argument injection into exec: an option", "argv of the pinned template: one argument fills one element, and none becomes an option", func(d *demo, ctx context.Context, r *attackRow) {
		values := []string{"--output=/work/injected", "-o/work/injected", "-n", "/work/numbers.txt; touch /work/injected", "$(touch /work/injected)", "/work/numbers.txt\n-o/work/injected"}
		r.Tried = fmt.Sprintf("sort with the file %q", values)
		var said []string
		for _, v := range values {
			a, err := d.hijacked.call(ctx, "sort", map[string]any{"file": v})
			if err != nil {
				r.failed("%v", err)
				return
			}
			if !a.failed {
				said = append(said, v)
			}
		}
		made := d.place.there("project/injected")
		r.judge(len(made) > 0 || len(said) > 0, "on the host was made: %s; calls that succeeded: %s", orNone(made), orNone(said))
	}},
	{"ask for a wider grant in the arguments", "JSON Schema of the tool; grants are the operator's alone", func(d *demo, ctx context.Context, r *attackRow) {
		secret := d.place.path("vault/shadow")
		r.Tried = "shell with filesystem, cwd and network beside its command; read_file of " + secret
		var got []string
		text := ""
		for tool, args := range map[string]map[string]any{
			"shell":     {"command": "cat " + shellWord(secret), "filesystem": []any{map[string]any{"path": "/", "at": "/host"}}, "cwd": "/", "network": "loopback"},
			"read_file": {"path": secret},
		} {
			a, err := d.hijacked.call(ctx, tool, args)
			if err != nil {
				r.failed("%v", err)
				return
			}
			if !a.failed {
				got = append(got, tool)
			}
			text += a.text
		}
		r.judge(len(got) > 0 || strings.Contains(text, canary), "calls that succeeded: %s; the secret, which everybody on the host may read, reached the planner %s", orNone(got), times(strings.Count(text, canary)))
	}},
	{"terminal escapes in output", "everything that a person sees is escaped", func(d *demo, ctx context.Context, r *attackRow) {
		r.Tried = "print a title change, a cleared screen, a clipboard write, a C1 control and a right-to-left override, and have casemate call show it on a terminal"
		shown, err := d.onTerminal(ctx, "call", "shell", `command=printf '\033]0;owned\007\033[2J\033]52;c;ZXZpbA==\007\302\233 1m\342\200\256evil'`)
		switch {
		case err != nil:
			r.failed("%v", err)
		case !strings.Contains(shown, "owned"):
			r.failed("the terminal showed %q", short(shown))
		default:
			bad := 0
			for _, c := range strings.ReplaceAll(shown, "\r\n", "\n") {
				if c != '\n' && (c < 0x20 || c >= 0x7f && c < 0xa0 || c == 0x202e) {
					bad++
				}
			}
			r.judge(bad > 0, "%d characters reached a terminal of the host, %d of them such that it would obey: %q", len([]rune(shown)), bad, short(shown))
		}
	}},
}

// onTerminal runs casemate with a terminal of its own as standard output and
// returns what the terminal got.
func (d *demo) onTerminal(ctx context.Context, args ...string) (string, error) {
	master, slave, err := openTerminal()
	if err != nil {
		return "", err
	}
	cmd := d.place.command(ctx, args...)
	cmd.Stdout = slave
	got := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(master, 1<<20)) // ends with an error when no one holds the other end
		got <- string(b)
	}()
	err = cmd.Start()
	slave.Close()
	if err == nil {
		err = cmd.Wait()
	}
	text := <-got
	master.Close()
	return text, err
}

// openTerminal makes a pseudoterminal.
func openTerminal() (master, slave *os.File, err error) {
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("no terminal can be made: %w", err)
	}
	if err := unix.IoctlSetPointerInt(m, unix.TIOCSPTLCK, 0); err != nil {
		unix.Close(m)
		return nil, nil, fmt.Errorf("no terminal can be made: %w", err)
	}
	n, err := unix.IoctlGetInt(m, unix.TIOCGPTN)
	if err != nil {
		unix.Close(m)
		return nil, nil, fmt.Errorf("no terminal can be made: %w", err)
	}
	s, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		unix.Close(m)
		return nil, nil, fmt.Errorf("no terminal can be made: %w", err)
	}
	return os.NewFile(uintptr(m), "/dev/ptmx"), s, nil
}

// availableMiB is how much memory the host can spare.
func availableMiB() int {
	b, _ := os.ReadFile("/proc/meminfo")
	n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(after(string(b), "MemAvailable:")), " kB"))
	return n / 1024
}

// because is an error as the end of a sentence.
func because(err error) string {
	if err == nil {
		return ""
	}
	return "; " + short(err.Error())
}
