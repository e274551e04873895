package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
)

// BenchmarkSandbox measures a sandbox beside bubblewrap's in the same run, as
// ratios to it: cold is a start until the guest waits, and its end; parked is
// a call of a guest that waits, until its answer. Only ratios compare between
// machines.
func BenchmarkSandbox(b *testing.B) {
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		testenv.Require(b, "bwrap", &testenv.Unsupported{What: "bwrap", Why: "it is not installed", Fix: "apt install bubblewrap"})
	}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("alpha"), 0o644); err != nil {
		b.Fatal(err)
	}
	init := testenv.Binaries(b).Init
	tool := &casemate.Tool{Name: "files", Run: casemate.Run{Builtin: casemate.ReadFile}, Security: casemate.Profile{
		Filesystem: []casemate.Mount{{Path: dir, At: "/grant", Access: casemate.Read}}}}
	bare := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}}
	p := &plan.Plan{}
	for _, t := range []*casemate.Tool{tool, bare} {
		g, err := Compile(t, Options{})
		if err != nil {
			b.Fatal(err)
		}
		p.Guests = append(p.Guests, g)
	}
	backend := open(b, init, p)
	var peer, cold, parked time.Duration
	for b.Loop() {
		at := time.Now()
		if out, err := exec.Command(bwrap, "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/lib", "/lib", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/usr/bin/true").CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		peer += time.Since(at)
		at = time.Now()
		sb, err := backend.Start(b.Context(), casemate.Spec{Tool: bare})
		if err != nil {
			b.Fatal(err)
		}
		ready(b, sb)
		sb.Close()
		cold += time.Since(at)
		if sb, err = backend.Start(b.Context(), casemate.Spec{Tool: tool}); err != nil {
			b.Fatal(err)
		}
		ready(b, sb)
		at = time.Now()
		guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, []guest.Pair{{Key: "path", Value: "/grant/a"}})})
		for {
			f, err := guest.Read(sb.Guest(), guest.MaxReply)
			if err != nil {
				b.Fatal(err)
			}
			if f.Type == guest.Done {
				break
			}
		}
		parked += time.Since(at)
		sb.Close()
	}
	b.ReportMetric(float64(cold)/float64(peer), "cold/bwrap")
	b.ReportMetric(float64(parked)/float64(peer), "parked/bwrap")
	b.ReportMetric(float64(peer.Microseconds())/float64(b.N), "bwrap-µs")
}

func ready(b *testing.B, sb casemate.Sandbox) {
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		b.Fatal(f.Type, err)
	}
}
