package sandboxtest

import (
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// Benchmark measures a backend by the portable program, as ratios to a start
// in the same run, which is what compares between machines:
//   - call: of a guest that waits, until the program's exit status
//   - gone: a kill until nothing is left
//
// What stands beside other runtimes is casemate bench.
func Benchmark(b *testing.B, s Subject) {
	tool := s.program(casemate.Profile{}, "exit", "0")
	backend := s.Open(b, tool)
	var ready, called, gone time.Duration
	for b.Loop() {
		at := time.Now()
		sb, err := backend.Start(b.Context(), casemate.Spec{Tool: tool})
		if err != nil {
			b.Fatal(err)
		}
		if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
			b.Fatal(f.Type, err)
		}
		ready += time.Since(at)
		at = time.Now()
		if d := call(b, sb, 1); !d.Answered || d.Status != 0 {
			b.Fatalf("%+v", d)
		}
		called += time.Since(at)
		at = time.Now()
		if err := sb.Close(); err != nil {
			b.Fatal(err)
		}
		gone += time.Since(at)
	}
	b.ReportMetric(float64(called)/float64(ready), "call/start")
	b.ReportMetric(float64(gone)/float64(ready), "gone/start")
	b.ReportMetric(float64(ready.Microseconds())/float64(b.N), "start-µs")
}
