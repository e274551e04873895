package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Percentile is the smallest of sorted that at least p of 100 are not greater
// than; of none it is NaN.
func Percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[rank(len(sorted), p)]
}

// rank is the index of the percentile among n.
func rank(n int, p float64) int {
	return min(n-1, max(0, int(math.Ceil(p/100*float64(n)))-1))
}

// resamples is how often a sample is drawn anew for an interval.
const resamples = 1000

// An Interval holds a percentile with 95 of 100.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Bootstrap returns the intervals of percentiles of a sorted sample: those
// that 95 of 100 samples drawn from it, with replacement, have. It draws the
// same for the same sample.
func Bootstrap(sorted []float64, percentiles ...float64) []Interval {
	out := make([]Interval, len(percentiles))
	n := len(sorted)
	if n == 0 {
		return out
	}
	r := rand.New(rand.NewPCG(uint64(n), 0x9e3779b97f4a7c15))
	seen := make([][]float64, len(percentiles))
	drawn := make([]int, n) // how often each was drawn
	for range resamples {
		clear(drawn)
		for range n {
			drawn[r.IntN(n)]++
		}
		for k, p := range percentiles {
			left := rank(n, p)
			i := 0
			for ; left >= drawn[i]; i++ {
				left -= drawn[i]
			}
			seen[k] = append(seen[k], sorted[i])
		}
	}
	for k := range percentiles {
		slices.Sort(seen[k])
		out[k] = Interval{Percentile(seen[k], 2.5), Percentile(seen[k], 97.5)}
	}
	return out
}

// microseconds returns the durations, sorted.
func microseconds(took []time.Duration) []float64 {
	out := make([]float64, len(took))
	for i, d := range took {
		out[i] = float64(d.Nanoseconds()) / 1e3
	}
	slices.Sort(out)
	return out
}
