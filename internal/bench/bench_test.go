package bench

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

// fixed is a subject that takes a fixed time, without taking it.
func fixed(name string, took time.Duration) Subject {
	return Subject{Name: name, Payload: "true", Run: func(context.Context) (time.Duration, error) { return took, nil }}
}

func TestRunTakesTurns(t *testing.T) {
	var order []string
	noting := func(name string) Subject {
		return Subject{Name: name, Run: func(context.Context) (time.Duration, error) {
			order = append(order, name)
			return time.Millisecond, nil
		}}
	}
	out := Run(context.Background(), []Subject{noting("a"), noting("b"), noting("c")}, Schedule{Rounds: 50, Warm: 2, Budget: time.Hour})
	for _, o := range out {
		if o.Err != nil || len(o.Took) != 50 {
			t.Errorf("%s ran %d times, %v", o.Name, len(o.Took), o.Err)
		}
	}
	order = order[6:]
	firsts := map[string]int{}
	for i := 0; i < len(order); i += 3 {
		round := slices.Clone(order[i : i+3])
		firsts[round[0]]++
		slices.Sort(round)
		if !slices.Equal(round, []string{"a", "b", "c"}) {
			t.Fatalf("round %d has %v", i/3, round)
		}
	}
	if len(firsts) != 3 {
		t.Errorf("only %v ever came first", firsts)
	}
}

// What costs much has fewer turns, spread over the run, and never none.
func TestRunSpreadsWhatIsSlow(t *testing.T) {
	var when []int
	round := 0
	quick := Subject{Name: "quick", Run: func(context.Context) (time.Duration, error) { round++; return 1, nil }}
	slow := Subject{Name: "slow", Run: func(context.Context) (time.Duration, error) {
		time.Sleep(2 * time.Millisecond)
		when = append(when, round)
		return 1, nil
	}}
	out := Run(context.Background(), []Subject{quick, slow}, Schedule{Rounds: 200, Least: 4, Warm: 1, Budget: 40 * time.Millisecond})
	when = when[1:]
	if n := len(out[1].Took); n < 2 || n > 60 || len(out[0].Took) < 2*n {
		t.Fatalf("%d turns of the quick and %d of the slow", len(out[0].Took), n)
	}
	if when[0] > 2 {
		t.Errorf("its first turn is in round %d", when[0])
	}
}

func TestRunGivesUpWhatFails(t *testing.T) {
	n := 0
	late := Subject{Name: "late", Run: func(context.Context) (time.Duration, error) {
		if n++; n > 10 {
			return 0, errors.New("broken")
		}
		return time.Millisecond, nil
	}}
	never := Subject{Name: "never", Run: func(context.Context) (time.Duration, error) { return 0, errors.New("absent") }}
	out := Run(context.Background(), []Subject{late, never, fixed("good", time.Second)}, Schedule{Rounds: 20, Warm: 1, Budget: time.Hour})
	for i, want := range []int{0, 0, 20} {
		if len(out[i].Took) != want || (out[i].Err == nil) != (want > 0) {
			t.Errorf("%s: %d samples, %v", out[i].Name, len(out[i].Took), out[i].Err)
		}
	}
	if n != 11 {
		t.Errorf("it was called %d times", n)
	}
	var r Report
	r.Add(out)
	if len(r.Rows) != 1 || len(r.Failed) != 2 || r.Rows[0].Ratio != nil {
		t.Errorf("%+v", r)
	}
}

func TestAllot(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		costs  []time.Duration
		budget time.Duration
		want   []int
	}{
		{[]time.Duration{ms, ms}, time.Second, []int{100, 100}},             // all fit
		{[]time.Duration{ms, 100 * ms}, 1100 * ms, []int{100, 10}},          // the slow one has what is left
		{[]time.Duration{100 * ms, 100 * ms}, time.Second, []int{5, 5}},     // the same time each
		{[]time.Duration{ms, 10 * time.Second}, time.Second, []int{100, 3}}, // never below the least
		{[]time.Duration{0}, time.Second, []int{100}},                       // of one that is given up already
	} {
		if got := allot(c.costs, 100, 3, c.budget); !slices.Equal(got, c.want) {
			// A share is found by halving: one below is as good.
			near := len(got) == len(c.want)
			for i := range got {
				near = near && (got[i] == c.want[i] || got[i] == c.want[i]-1)
			}
			if !near {
				t.Errorf("%v in %v: %v, want %v", c.costs, c.budget, got, c.want)
			}
		}
	}
}

func TestPercentile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(i+1))
	}
	for _, c := range []struct {
		of   []float64
		p    float64
		want float64
	}{
		{hundred, 50, 50}, {hundred, 90, 90}, {hundred, 99, 99}, {hundred, 100, 100}, {hundred, 0, 1}, {hundred, 99.5, 100},
		{[]float64{15, 20, 35, 40, 50}, 30, 20}, {[]float64{15, 20, 35, 40, 50}, 40, 20}, {[]float64{15, 20, 35, 40, 50}, 50, 35}, // of the definition's own example
		{[]float64{7}, 50, 7}, {[]float64{1, 2, 3}, 99, 3},
	} {
		if got := Percentile(c.of, c.p); got != c.want {
			t.Errorf("%v of %d: %v, want %v", c.p, len(c.of), got, c.want)
		}
	}
	if got := Percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
}

// The p50 of n samples lies, in 95 of 100 resamples, between the order
// statistics n/2 ± 0.98 √n: the interval of a binomial.
func TestBootstrapAgreesWithTheBinomial(t *testing.T) {
	for _, n := range []int{100, 400, 2500} {
		sorted := make([]float64, n)
		for i := range sorted {
			sorted[i] = float64(i)
		}
		got := Bootstrap(sorted, 50, 99)
		half := 0.98 * math.Sqrt(float64(n))
		slack := 0.15*half + 2
		if math.Abs(got[0].Low-(float64(n)/2-half)) > slack || math.Abs(got[0].High-(float64(n)/2+half)) > slack {
			t.Errorf("p50 of %d: %+v, want %v ± %v", n, got[0], n/2, half)
		}
		if got[1].Low > 0.99*float64(n) || got[1].High < 0.99*float64(n)-1 || got[1].High > float64(n-1) {
			t.Errorf("p99 of %d: %+v", n, got[1])
		}
		if again := Bootstrap(sorted, 50, 99); !slices.Equal(again, got) {
			t.Errorf("%v, and again %v", got, again)
		}
	}
	if got := Bootstrap([]float64{3, 3, 3}, 50)[0]; got != (Interval{3, 3}) {
		t.Errorf("of what is all the same: %v", got)
	}
	if got := Bootstrap(nil, 50)[0]; got != (Interval{}) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestRatesAreOfWhatWasDone(t *testing.T) {
	quick := Crowd{Subject: "quick", Payload: "x", Workers: []Worker{pause(time.Millisecond), pause(time.Millisecond)}}
	slow := Crowd{Subject: "slow", Payload: "x", Workers: []Worker{pause(20 * time.Millisecond)}}
	bad := Crowd{Subject: "bad", Payload: "x", Workers: []Worker{func(context.Context) error { return errors.New("broken") }}}
	got, failed := Rates(context.Background(), []Crowd{slow, bad, quick}, 2, 60*time.Millisecond)
	if len(got) != 2 || len(failed) != 1 || failed[0].Subject != "bad" {
		t.Fatalf("%+v %+v", got, failed)
	}
	// A pause is never shorter than asked for: at most 50 a second, and of the other some.
	if got[0].PerSecond > 50 || got[0].PerSecond <= 0 || *got[0].Ratio != 1 || got[1].PerSecond <= got[0].PerSecond {
		t.Errorf("%+v", got)
	}
}

func pause(d time.Duration) Worker {
	return func(context.Context) error { time.Sleep(d); return nil }
}

func TestGrowCallsEachSizeAsOften(t *testing.T) {
	n := map[int]int{}
	sized := func(size int) Paced {
		return Paced{size, func(_ context.Context, k int) error {
			if k != n[size] {
				t.Errorf("call %d of size %d is its %dth", k, size, n[size])
			}
			n[size]++
			return nil
		}}
	}
	g, err := Grow(context.Background(), "tools", []Paced{sized(1), sized(1000)}, 200*time.Microsecond, 30)
	if err != nil || len(g.Points) != 2 || g.Points[0].N != 30 || g.Points[1].Size != 1000 || n[1] != 30 || n[1000] != 30 {
		t.Errorf("%+v %v %v", g, err, n)
	}
	if _, err := Grow(context.Background(), "tools", []Paced{{1, func(context.Context, int) error { return errors.New("busy") }}}, time.Millisecond, 3); err == nil {
		t.Error("an error of a call is lost")
	}
}

func TestParseCounts(t *testing.T) {
	const text = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000300         300         1           wait4
 40.00    0.000200          10        20         3 openat
  0.00    0.000000           0         9           futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.000500          23        30         3 total
`
	got, err := ParseCounts(text)
	if err != nil || len(got) != 2 || got["wait4"] != 1 || got["openat"] != 20 {
		t.Fatalf("%v %v", got, err)
	}
	for _, bad := range []string{"", "strace: Process exited\n", " 1.00 0.1 1 many wait4\n"} {
		if got, err := ParseCounts(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
	less := Less(map[string]float64{"a": 21, "b": 1, "c": 3}, map[string]float64{"a": 1, "b": 5}, 10)
	if len(less) != 2 || less["a"] != 2 || less["c"] != 0.3 {
		t.Errorf("%v", less)
	}
	c := NewCalls("x", "true", map[string]float64{"wait4": 1, "openat": 20})
	if c.Total != 21 || c.Most[0].Name != "openat" {
		t.Errorf("%+v", c)
	}
}
