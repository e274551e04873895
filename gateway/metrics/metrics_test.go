package metrics

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway/gatewaytest"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/router"
)

var update = flag.Bool("update", false, "write the golden file")

func took(ds ...time.Duration) (h pool.Histogram) {
	for _, d := range ds {
		h.Add(d)
	}
	return h
}

// sample is a router with a tool of before a reload, and a name that no
// manifest lets in.
func sample() router.Status {
	totals := pool.Totals{Claimed: 12, Cold: 2, Refused: 1, Failed: 3, Thrown: 4,
		Start: took(8*time.Millisecond, time.Minute), Claim: took(30*time.Microsecond, time.Millisecond)}
	return router.Status{
		Pools: []router.PoolStatus{
			{Tool: "shell", Key: "sha256:2", Backend: "process", Error: "\x1b[2J"},
			{Tool: "python", Key: "sha256:0", Backend: "process", Parked: 2, Busy: 1, Wanted: 3, Starting: 1, Waiting: 5, Bytes: 6 << 20, Totals: totals},
			{Tool: "python", Key: "sha256:1", Backend: "process", Busy: 1, Totals: totals},
		},
		Calls:    []router.CallStatus{{Tool: "python"}},
		Sessions: 7,
		Tallies: []router.Tally{
			{Tool: "", Ended: map[string]uint64{"invalid": 9}, Took: took(time.Microsecond)},
			{Tool: "a\"\\\n\xff", Ended: map[string]uint64{"done": 1, "timeout": 2}, Took: took(time.Second)},
			{Tool: "mcp:docs", Ended: map[string]uint64{"done": 1}, Took: took(time.Second)},
		},
	}
}

func TestText(t *testing.T) {
	got := string(Text(sample(), "v1.2.3", time.Unix(1700000000, 0)))
	got = strings.Replace(got, goversion(got), "go1", 1)
	const golden = "testdata/page.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the page is another; go test ./gateway/metrics -update writes it:\n%s", got)
	}
	m, err := gatewaytest.ParseMetrics(got)
	if err != nil {
		t.Fatal(err)
	}
	for series, want := range map[string]float64{
		`casemate_pool_parked{tool="python",backend="process"}`:                           2,
		`casemate_pool_claims_total{tool="python",backend="process"}`:                     24,
		`casemate_pool_start_seconds_bucket{tool="python",backend="process",le="0.01"}`:   2,
		`casemate_pool_start_seconds_bucket{tool="python",backend="process",le="+Inf"}`:   4,
		`casemate_pool_claim_seconds_bucket{tool="python",backend="process",le="0.0001"}`: 2,
		`casemate_pool_claims_total{tool="shell",backend="process"}`:                      0,
		`casemate_calls_total{tool="",outcome="invalid"}`:                                 9,
		`casemate_calls_total{tool="a\"\\\n` + "\uFFFD" + `",outcome="timeout"}`:          2,
		"casemate_sessions": 7,
	} {
		if v, ok := m[series]; !ok || v != want {
			t.Errorf("%s: %v %v, want %v", series, v, ok, want)
		}
	}
}

func goversion(page string) string {
	_, v, _ := strings.Cut(page, `goversion="`)
	v, _, _ = strings.Cut(v, `"`)
	return v
}

// FuzzText: every page is read, whatever the names and the numbers are.
func FuzzText(f *testing.F) {
	for _, name := range []string{"", "python", "a\"b", "a\\", "a\n# TYPE b counter\nb 1", "\x00\r\xff\u2028", `{x="y"} 1`} {
		f.Add(name, uint64(1)<<63, int64(time.Second))
	}
	f.Fuzz(func(t *testing.T, name string, n uint64, d int64) {
		counts := pool.Totals{Claimed: n, Start: took(time.Duration(d&^(-1<<63)), time.Second), Claim: took(0)}
		s := router.Status{
			Pools:   []router.PoolStatus{{Tool: casemate.ToolName(name), Backend: name, Totals: counts}, {Tool: casemate.ToolName(name), Totals: counts}, {Tool: casemate.ToolName(name), Backend: name}},
			Tallies: []router.Tally{{Tool: casemate.ToolName(name), Ended: map[string]uint64{"done": n, "busy": 1}, Took: counts.Start}},
		}
		page := string(Text(s, name, time.Now()))
		if _, err := gatewaytest.ParseMetrics(page); err != nil {
			t.Fatalf("%v\n%s", err, page)
		}
	})
}

// TestTheCheckerChecks: what it is for is what a page can get wrong.
func TestTheCheckerChecks(t *testing.T) {
	const head = "# HELP a_total x\n# TYPE a_total counter\n"
	const hist = "# HELP h x\n# TYPE h histogram\n"
	for _, page := range []string{
		"", "a 1\n", head + "a_total 1", head + "a_total -1\n", head + "a_total x\n", head + "a_total 1\na_total 1\n", head + "b_total 1\n",
		head + head, "# TYPE a_total counter\n", "# HELP a x\n# TYPE a counter\n", head + `a_total{x="a"b"} 1` + "\n", head + `a_total{x="\x"} 1` + "\n",
		head + `a_total{x="1",x="2"} 1` + "\n", head + `a_total{x="1"y="2"} 1` + "\n", head + `a_total{le="1"} 1` + "\n", head + "a_total\r 1\n", head + "\n",
		hist + `h_bucket{le="1"} 1` + "\n", hist + `h_bucket{le="1"} 1` + "\nh_count 1\n", hist + `h_bucket{le="+Inf"} 1` + "\nh_count 2\n",
		hist + `h_bucket{le="1"} 2` + "\n" + `h_bucket{le="+Inf"} 1` + "\nh_count 1\n", hist + `h_bucket{le="2"} 1` + "\n" + `h_bucket{le="1"} 1` + "\n", hist + "h_max 1\n",
	} {
		if m, err := gatewaytest.ParseMetrics(page); err == nil {
			t.Errorf("%q is taken as %v", page, m)
		}
	}
	if m, err := gatewaytest.ParseMetrics(head + "a_total{x=\"\\\\\\\"\\n\"} 1\n" + hist + "h_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 0.2\nh_count 1\n"); err != nil || len(m) != 5 {
		t.Errorf("%v %v", m, err)
	}
}
