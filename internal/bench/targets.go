package bench

import (
	"fmt"
	"strings"
)

// A Target is one of what Casemate sets itself, as this run shows it.
type Target struct {
	What     string `json:"what"`
	Want     string `json:"want"`
	Measured string `json:"measured"` // "" where the run does not have it
	Held     *bool  `json:"held"`     // null where the run does not have it
	Missing  string `json:"missing,omitempty"`
	Floor    string `json:"floor,omitempty"` // what the kernel alone needs, where the bench shows it
}

// A judge reads numbers of a report, and remembers what is not in it.
type judge struct {
	*Report
	missing []string
}

func (j *judge) lacks(what string) float64 {
	j.missing = append(j.missing, what)
	return 0
}

func (j *judge) row(subject, payload string) Row {
	if r := j.Row(subject, payload); r != nil {
		return *r
	}
	j.lacks(subject + " " + payload)
	return Row{}
}

func (j *judge) rate(subject, payload string) float64 {
	for _, r := range j.Rates {
		if r.Subject == subject && r.Payload == payload {
			return r.PerSecond
		}
	}
	return j.lacks("throughput of " + subject + " " + payload)
}

func (j *judge) further(subject string) float64 {
	for _, m := range j.Memory {
		if m.Subject == subject {
			return m.Further
		}
	}
	return j.lacks("memory of " + subject)
}

// growth is how much the p99 of the largest size is of that of the smallest.
func (j *judge) growth(what string) float64 {
	for _, g := range j.Growth {
		if n := len(g.Points); g.What == what && n > 1 {
			return g.Points[n-1].P99 / g.Points[0].P99
		}
	}
	return j.lacks("growth with " + what)
}

// of is how much one is of another, as a fraction or a multiple.
func of(one, other float64) string {
	switch {
	case one <= 0 || other <= 0:
		return "?"
	case one < other:
		return "1/" + short(other/one)
	}
	return short(one/other) + " ×"
}

// short is a number with about three digits.
func short(x float64) string {
	s := fmt.Sprintf("%.2f", x)
	switch {
	case x >= 100:
		s = fmt.Sprintf("%.0f", x)
	case x >= 10:
		s = fmt.Sprintf("%.1f", x)
	}
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// Duration is microseconds for people.
func Duration(us float64) string {
	switch {
	case us < 1000:
		return short(us) + " µs"
	case us < 1e6:
		return short(us/1000) + " ms"
	}
	return short(us/1e6) + " s"
}

func mebibytes(b float64) string { return short(b/(1<<20)) + " MiB" }

// Judge fills Targets from what the report holds.
func (r *Report) Judge() {
	r.Targets = nil
	add := func(what, want string, f func(*judge) (measured string, held bool), floor ...string) {
		j := &judge{Report: r}
		t := Target{What: what, Want: want}
		if measured, held := f(j); len(j.missing) == 0 {
			t.Measured, t.Held = measured, &held
		} else {
			t.Missing = strings.Join(j.missing, "; ")
		}
		if len(floor) == 2 {
			if row := r.Row(floor[0], floor[1]); row != nil {
				t.Floor = Duration(row.P50)
			}
		}
		r.Targets = append(r.Targets, t)
	}
	const isTrue, python = "true", "python"
	add("claim of a parked guest to its first byte", "p50 ≤ 1/15 of bwrap, p99 ≤ p50 of bwrap", func(j *judge) (string, bool) {
		x, base := j.row("process/pooled", "first byte"), j.row(Base, isTrue)
		return fmt.Sprintf("p50 %s, p99 %s", of(x.P50, base.P50), of(x.P99, base.P50)), x.P50*15 <= base.P50 && x.P99 <= base.P50
	}, FloorSwitch, "nothing")
	add("a static program in a parked sandbox, to exit", "p50 ≤ 1/2 of bwrap", func(j *judge) (string, bool) {
		x, base := j.row("process/pooled", "static true"), j.row(Base, isTrue)
		return of(x.P50, base.P50), x.P50*2 <= base.P50
	}, "posix_spawn", "static true")
	add("a cold sandbox, every wall on, to exit", "p50 ≤ 1.2 × bwrap", func(j *judge) (string, bool) {
		x, base := j.row("process/cold", isTrue), j.row(Base, isTrue)
		return of(x.P50, base.P50), x.P50 <= 1.2*base.P50
	}, FloorAll, "nothing")
	for _, x := range []struct{ subject, what string }{{"process/forked", "an isolated Python call, forked for it"}, {"process/pooled", "an isolated Python call, forked ahead"}} {
		add(x.what, "p50 ≤ 1/4 of bwrap with Python", func(j *judge) (string, bool) {
			x, base := j.row(x.subject, python), j.row(Base, python)
			return of(x.P50, base.P50), x.P50*4 <= base.P50
		}, FloorShared, "nothing")
		add(x.what, "p50 < sandlock's fork", func(j *judge) (string, bool) {
			x, base := j.row(x.subject, python), j.row("sandlock/forked", python)
			return of(x.P50, base.P50), x.P50 < base.P50
		}, FloorShared, "nothing")
	}
	for _, x := range []struct{ subject, what string }{{"process/forked", "isolated Python calls a second, on all cores"}, {"mcp/stdio", "the same over MCP, with the pool"}} {
		add(x.what, "≥ 4 × bwrap with Python", func(j *judge) (string, bool) {
			x, base := j.rate(x.subject, python), j.rate(Base, python)
			return of(x, base), x >= 4*base
		})
	}
	add("a Python tool over MCP, a fresh sandbox", "p50 ≤ 2 ms above a direct call", func(j *judge) (string, bool) {
		x, base := j.row("mcp/stdio", python), j.row("mcp/direct", "echo")
		return above(x.P50, base.P50), x.P50 <= base.P50+2000
	})
	add("a Python tool over MCP, a fresh sandbox", "p50 ≤ 1/40 of sandlock's MCP server", func(j *judge) (string, bool) {
		x, base := j.row("mcp/stdio", python), j.row("sandlock/mcp", python)
		return of(x.P50, base.P50), x.P50*40 <= base.P50
	})
	add("a tool of an MCP server that runs", "p50 ≤ 0.3 ms above a direct call", func(j *judge) (string, bool) {
		x, base := j.row("mcp/stdio", "echo"), j.row("mcp/direct", "echo")
		return above(x.P50, base.P50), x.P50 <= base.P50+300
	})
	add("the router, nothing else", "p50 ≤ 100 µs, p99 ≤ 400 µs", func(j *judge) (string, bool) {
		x := j.row("router", "call")
		return fmt.Sprintf("p50 %s, p99 %s", Duration(x.P50), Duration(x.P99)), x.P50 <= 100 && x.P99 <= 400
	})
	for _, backend := range []string{"oci", "gvisor"} {
		add("claim of a parked "+backend+" guest to its first byte", "p50 ≤ 5 ms", func(j *judge) (string, bool) {
			x, base := j.row(backend+"/pooled", "first byte"), j.row(map[string]string{"oci": "runc", "gvisor": "runsc"}[backend], isTrue)
			return fmt.Sprintf("%s, %s of the runtime's own run", Duration(x.P50), of(x.P50, base.P50)), x.P50 <= 5000
		})
	}
	add("a cold oci sandbox, to exit", "p50 ≤ 1.2 × runc run", func(j *judge) (string, bool) {
		x, base := j.row("oci/cold", isTrue), j.row("runc", isTrue)
		return of(x.P50, base.P50), x.P50 <= 1.2*base.P50
	})
	add("a call of a module in a fresh instance, of a worker that waits", "p50 ≤ 0.5 ms through the router", func(j *judge) (string, bool) {
		x := j.row("wasm/routed", "module")
		return Duration(x.P50), x.P50 <= 500
	})
	for _, x := range []struct {
		subject, what string
		most          float64
	}{{"exec", "private memory of a parked exec guest", 2}, {"python", "private memory of a further parked Python guest", 3}} {
		add(x.what, fmt.Sprintf("≤ %s MiB", short(x.most)), func(j *judge) (string, bool) {
			b := j.further(x.subject)
			return mebibytes(b), b <= x.most*(1<<20)
		})
	}
	add("kill to gone", "p99 ≤ 50 ms", func(j *judge) (string, bool) {
		x := j.row("process/kill", "gone")
		return "p99 " + Duration(x.P99), x.P99 <= 50_000
	})
	for _, x := range []struct{ what, want string }{{"tools", "p99 within 2 ×, from 1 to 1,000 tools"}, {"sessions", "p99 within 2 ×, from 1 to 500 sessions"}} {
		add("growth", x.want, func(j *judge) (string, bool) {
			g := j.growth(x.what)
			return short(g) + " ×", g <= 2
		})
	}
}

// above is by how much one takes longer than another.
func above(one, other float64) string {
	if one < other {
		return Duration(other-one) + " below"
	}
	return Duration(one-other) + " above"
}
