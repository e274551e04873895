package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
)

// BenchmarkSandbox measures sandboxes beside bubblewrap's in the same run, one
// of each in turn, as medians and as ratios to its median:
//   - ready: a start until the guest waits
//   - cold: the same, and true in it, until its exit status
//   - files, exec: a call of a guest that waits, until its answer; exec is a
//     static program where busybox is one
//   - gone: a kill until nothing is left, its median and its 99th percentile
//   - idle-KiB: what one parked exec guest more holds of memory (private, by
//     smaps_rollup)
//
// Only ratios compare between machines. CASEMATE_BENCH_INIT names another
// casemate-init to measure.
func BenchmarkSandbox(b *testing.B) {
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		testenv.Require(b, "bwrap", &testenv.Unsupported{What: "bwrap", Why: "it is not installed", Fix: "apt install bubblewrap"})
	}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("alpha"), 0o644); err != nil {
		b.Fatal(err)
	}
	init := os.Getenv("CASEMATE_BENCH_INIT")
	if init == "" {
		init = testenv.Binaries(b).Init
	}
	static := []string{"/usr/bin/true"}
	if busybox, err := exec.LookPath("busybox"); err == nil {
		static = []string{busybox, "true"}
	}
	tools := map[string]*casemate.Tool{
		"files": {Name: "files", Run: casemate.Run{Builtin: casemate.ReadFile}, Security: casemate.Profile{
			Filesystem: []casemate.Mount{{Path: dir, At: "/grant", Access: casemate.Read}}}},
		"true": {Name: "true", Run: casemate.Run{Exec: &casemate.Exec{Command: []string{"/usr/bin/true"}}}},
		"exec": {Name: "exec", Run: casemate.Run{Exec: &casemate.Exec{Command: static}}},
	}
	p := &plan.Plan{}
	if os.Geteuid() != 0 {
		p.Host.AllowDegraded = []string{"memory", "cpu"}
	}
	for _, t := range tools {
		g, err := Compile(t, Options{})
		if err != nil {
			b.Fatal(err)
		}
		p.Guests = append(p.Guests, g)
	}
	backend := open(b, init, p)
	times, idle := map[string][]time.Duration{}, []int{}
	took := func(what string, since time.Time) { times[what] = append(times[what], time.Since(since)) }
	start := func(tool string) casemate.Sandbox {
		sb, err := backend.Start(b.Context(), casemate.Spec{Tool: tools[tool]})
		if err != nil {
			b.Fatal(err)
		}
		ready(b, sb)
		return sb
	}
	end := func(sb casemate.Sandbox) {
		at := time.Now()
		sb.Close()
		took("gone", at)
	}
	for b.Loop() {
		at := time.Now()
		if out, err := exec.Command(bwrap, "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/lib", "/lib", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/usr/bin/true").CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		took("bwrap", at)

		at = time.Now()
		sb := start("true")
		took("ready", at)
		call(b, sb)
		took("cold", at)
		end(sb)

		sb = start("files")
		at = time.Now()
		call(b, sb, guest.Pair{Key: "path", Value: "/grant/a"})
		took("files", at)
		end(sb)

		sb = start("exec")
		idle = append(idle, private(b, sb.(*sandbox).Pid()))
		at = time.Now()
		call(b, sb)
		took("exec", at)
		end(sb)
	}
	peer := percentile(times["bwrap"], 50)
	for what, all := range times {
		b.ReportMetric(float64(percentile(all, 50))/float64(peer), what+"/bwrap")
	}
	b.ReportMetric(float64(percentile(times["gone"], 99).Microseconds())/1000, "gone-p99-ms")
	b.ReportMetric(float64(peer.Microseconds()), "bwrap-µs")
	slices.Sort(idle)
	b.ReportMetric(float64(idle[len(idle)/2]), "idle-KiB")
}

func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[min(len(all)*p/100, len(all)-1)]
}

func ready(b *testing.B, sb casemate.Sandbox) {
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		b.Fatal(f.Type, err)
	}
}

// call makes one call of a guest and returns when it is done.
func call(b *testing.B, sb casemate.Sandbox, args ...guest.Pair) {
	guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, args)})
	for {
		f, err := guest.Read(sb.Guest(), guest.MaxReply)
		if err != nil || f.Type == guest.Failure {
			b.Fatalf("%v %s", err, f.Body)
		}
		if f.Type == guest.Done {
			return
		}
	}
}

// private is what a process holds of memory that nobody shares, in KiB; 0 where
// it is not shown, which is an ordinary user's lot.
func private(b *testing.B, pid int) (sum int) {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[0], "Private_") {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				b.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}
