package process

import (
	"testing"
	"time"

	"github.com/casemate/casemate"
)

// BenchmarkLate measures what is done to a sandbox that waits, as ratios to a
// start of one in the same run: it is frozen, thawed, and given less.
func BenchmarkLate(b *testing.B) {
	tool := narrowable(b)
	backend := subject(b).Open(b, tool)
	var cold, frozen, thawed, limits, mounts time.Duration
	timed := func(to *time.Duration, f func() error) {
		at := time.Now()
		must(b, f())
		*to += time.Since(at)
	}
	for b.Loop() {
		for i, g := range []casemate.Grant{{Memory: 64 << 20, Processes: 8, CPU: 0.5}, {Without: []string{"/docs"}}} {
			var sb casemate.Sandbox
			timed(&cold, func() (err error) {
				if sb, err = backend.Start(b.Context(), casemate.Spec{Tool: tool}); err == nil {
					ready(b, sb)
				}
				return err
			})
			timed(&frozen, func() error { return sb.(casemate.Freezer).Freeze(b.Context()) })
			timed(&thawed, func() error { return sb.(casemate.Freezer).Thaw(b.Context()) })
			timed([]*time.Duration{&limits, &mounts}[i], func() error { return sb.(casemate.Narrower).Narrow(b.Context(), g) })
			sb.Close()
		}
	}
	one := float64(cold) / 2
	b.ReportMetric(float64(frozen)/2/one, "freeze/start")
	b.ReportMetric(float64(thawed)/2/one, "thaw/start")
	b.ReportMetric(float64(limits)/one, "limits/start")
	b.ReportMetric(float64(mounts)/one, "without/start")
	b.ReportMetric(one/float64(b.N)/1e3, "start-µs")
}
