package process

import (
	"os/exec"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
)

// BenchmarkForked measures a forked Python sandbox beside a start of the bare
// interpreter in the same run: fork is from the request until the guest waits,
// call until its answer, and end until it is gone.
func BenchmarkForked(b *testing.B) {
	python, err := exec.LookPath("/usr/bin/python3")
	if err != nil {
		testenv.Require(b, "python", &testenv.Unsupported{What: "python3", Why: "it is not installed", Fix: "apt install python3"})
	}
	tool := &casemate.Tool{Name: "python", Run: casemate.Run{Python: &casemate.Script{Interpreter: python}}}
	g, err := Compile(tool, Options{})
	if err != nil {
		b.Fatal(err)
	}
	backend := open(b, testenv.Binaries(b).Init, &plan.Plan{Guests: []plan.Guest{g}})
	one := func() (fork, call, end time.Duration) {
		at := time.Now()
		sb, err := backend.Start(b.Context(), casemate.Spec{Tool: tool})
		if err != nil {
			b.Fatal(err)
		}
		ready(b, sb)
		fork = time.Since(at)
		at = time.Now()
		guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, []guest.Pair{{Key: "code", Value: "print(1)"}})})
		for {
			f, err := guest.Read(sb.Guest(), guest.MaxReply)
			if err != nil {
				b.Fatal(err)
			}
			if f.Type == guest.Done {
				break
			}
		}
		call = time.Since(at)
		at = time.Now()
		sb.Close()
		return fork, call, time.Since(at)
	}
	one()
	var peer, fork, call, end time.Duration
	for b.Loop() {
		at := time.Now()
		if out, err := exec.Command(python, "-I", "-S", "-c", "pass").CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		peer += time.Since(at)
		f, c, e := one()
		fork, call, end = fork+f, call+c, end+e
	}
	for name, d := range map[string]time.Duration{"fork": fork, "call": call, "end": end} {
		b.ReportMetric(float64(d)/float64(peer), name+"/python3")
	}
	b.ReportMetric(float64(peer.Microseconds())/float64(b.N), "python3-µs")
}
