package bench

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// sample is a report of fixed samples: of each subject a hundred times around
// the given one, or fewer.
func sample() *Report {
	r := &Report{
		Machine: Machine{CPU: "Example CPU", Cores: 2, Arch: "amd64", Memory: 8 << 30, Kernel: "6.12.0", Load: "0.10", Python: "Python 3.13.1"},
		Quick:   true, Took: 42, Floor: "int main(void) { return 0; }\n", Drawing: "drawing.svg",
		Absent: []string{"crun", "nono"},
	}
	var all []Result
	add := func(name, payload string, n int, us float64) {
		o := Result{Subject: Subject{Name: name, Payload: payload}}
		for i := range n {
			spread := math.Exp(float64(i%10-5)/20) * (1 + float64(i/95))
			o.Took = append(o.Took, time.Duration(us*spread*1e3))
		}
		all = append(all, o)
	}
	add("posix_spawn", "true", 120, 540)
	add("bwrap", "true", 120, 3600)
	add("bwrap", "python", 60, 8100)
	add("process/cold", "true", 120, 4000)
	add("process/pooled", "first byte", 120, 120)
	add("process/forked", "python", 120, 1700)
	add("process/kill", "gone", 120, 2000)
	add(FloorAll, "nothing", 120, 860)
	add("router", "call", 120, 80)
	add("runc", "true", 60, 24000)
	add("oci/cold", "true", 60, 26000)
	add("oci/pooled", "first byte", 60, 3000)
	add("wasm/routed", "module", 60, 700)
	all[0].Note = "no sandbox: the floor"
	all = append(all, Result{Subject: Subject{Name: "docker", Payload: "true"}, Err: errors.New("Cannot connect to unix:///var/run/docker.sock | is\nit <running>?")})
	r.Add(all)
	half := 4.2
	r.Rates = []Rate{{Subject: "bwrap", Payload: "python", Workers: 2, PerSecond: 190, Ratio: new(float64)}, {Subject: "process/forked", Payload: "python", Workers: 2, PerSecond: 798, Ratio: &half}}
	*r.Rates[0].Ratio = 1
	r.Memory = []Memory{{Subject: "exec", First: 2 << 20, Further: 1.5 * (1 << 20), Guests: 11}, {Subject: "python", First: 9 << 20, Further: 3.5 * (1 << 20), Guests: 11, Unread: 2}}
	r.Growth = []Growth{{What: "tools", Rate: 25, Points: []GrowthPoint{{1, 1000, 2000, Interval{1900, 2100}, 60}, {1000, 1100, 3000, Interval{2900, 3100}, 60}}}}
	r.Calls = []Calls{NewCalls("bwrap", "true", map[string]float64{"mount": 28, "clone": 2, "read": 9})}
	r.Judge()
	return r
}

func TestRendering(t *testing.T) {
	r := sample()
	for name, got := range map[string]string{"table.txt": r.Table(), "page.md": r.Markdown(), "drawing.svg": r.SVG()} {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is another than before; go test ./internal/bench -update writes it:\n%s", name, got)
		}
	}
}

// TestJudge: each target is held or not by the numbers, and unknown without.
func TestJudge(t *testing.T) {
	want := map[string]string{ // of sample
		"claim of a parked guest to its first byte":                      "yes",
		"a cold sandbox, every wall on, to exit":                         "yes",
		"an isolated Python call, forked for it":                         "yes",
		"isolated Python calls a second, on all cores":                   "yes",
		"private memory of a parked exec guest":                          "yes",
		"private memory of a further parked Python guest":                "no",
		"claim of a parked oci guest to its first byte":                  "yes",
		"claim of a parked gvisor guest to its first byte":               "not measured",
		"a cold oci sandbox, to exit":                                    "yes",
		"a call of a module in a fresh instance, of a worker that waits": "no",
		"kill to gone":                      "yes",
		"the router, nothing else":          "yes",
		"a tool of an MCP server that runs": "not measured",
	}
	seen := 0
	for _, x := range sample().Targets {
		if w, ok := want[x.What]; ok && !strings.Contains(x.Want, "sandlock") {
			seen++
			if held(x) != w {
				t.Errorf("%s is %s: %+v", x.What, held(x), x)
			}
		}
		if (x.Held == nil) != (x.Missing != "") || (x.Held == nil) != (x.Measured == "") {
			t.Errorf("%+v", x)
		}
	}
	if seen != len(want) {
		t.Errorf("%d of %d targets are there", seen, len(want))
	}
	r := sample()
	for i := range r.Rows { // ten times slower, but for the peers
		if r.Rows[i].Subject != Base && r.Rows[i].Subject != "runc" {
			r.Rows[i].P50 *= 10
			r.Rows[i].P99 *= 100
		}
	}
	r.Rates[1].PerSecond /= 2
	r.Memory[0].Further *= 2
	r.Judge()
	for _, x := range r.Targets {
		if x.Held != nil && *x.Held && x.What != "growth" {
			t.Errorf("held though everything is slow: %+v", x)
		}
	}
	for name, slow := range map[string]func(*Row){"p50": func(x *Row) { x.P50 *= 10 }, "p99": func(x *Row) { x.P99 *= 100 }} {
		r := sample()
		slow(r.Row("process/pooled", "first byte"))
		slow(r.Row("router", "call"))
		r.Judge()
		for _, x := range r.Targets {
			if x.Held != nil && *x.Held && !strings.Contains(x.What, "oci") && (strings.Contains(x.What, "first byte") || strings.Contains(x.What, "router")) {
				t.Errorf("held though its %s is slow: %+v", name, x)
			}
		}
	}
}

func TestPageNamesNoPath(t *testing.T) {
	for in, want := range map[string]string{
		"open /tmp/casemate-bench-1/x: no such file": "open …: no such file",
		"at unix:///var/run/docker.sock. Is":         "at unix:… Is",
		"in /home/someone/.config/":                  "in …",
		"p50 1/15, ≤ 1/2, and/or a/b":                "p50 1/15, ≤ 1/2, and/or a/b",
		"process/cold":                               "process/cold",
		"(/usr/bin/true)":                            "(…)",
		"/one":                                       "/one",
	} {
		if got := cell(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestDrawingStandsByItself(t *testing.T) {
	for _, r := range []*Report{sample(), {}} {
		svg := r.SVG()
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, svg)
			}
		}
		for _, x := range []string{"NaN", "Inf", "href", "url(", "<script", "@import"} {
			if strings.Contains(svg, x) {
				t.Errorf("it holds %s:\n%s", x, svg)
			}
		}
	}
}
