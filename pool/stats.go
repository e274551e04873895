package pool

import (
	"time"

	"github.com/casemate/casemate"
)

// A Place says what waits for one key, and what became of it so far. The
// counts begin with the pool, and are kept for as long as the key is.
type Place struct {
	Key      Key                `json:"-"`
	Parked   []casemate.Sandbox `json:"-"`        // to look at only
	Wanted   int                `json:"wanted"`   // what the demand asks for, within every bound
	Starting int                `json:"starting"` // starts in progress
	Waiting  int                `json:"waiting"`  // claims that wait for one
	Bytes    int64              `json:"bytes"`    // that the parked ones hold, as far as it is known
	Err      error              `json:"-"`        // why none could be parked the last time
	Totals
}

// Totals count what happened to one key.
type Totals struct {
	Claimed uint64    `json:"claimed"` // sandboxes handed out
	Cold    uint64    `json:"cold"`    // of them, those that were not parked
	Refused uint64    `json:"refused"` // claims that were told busy
	Failed  uint64    `json:"failed"`  // starts that failed
	Thrown  uint64    `json:"thrown"`  // parked or started, and ended without a claim: dead, stale, idle or in the way
	Start   Histogram `json:"start"`   // how long starts took that did not fail
	Claim   Histogram `json:"claim"`   // how long claims took that got one
}

// Add counts what o counted, too.
func (t *Totals) Add(o Totals) {
	t.Claimed += o.Claimed
	t.Cold += o.Cold
	t.Refused += o.Refused
	t.Failed += o.Failed
	t.Thrown += o.Thrown
	t.Start.join(o.Start)
	t.Claim.join(o.Claim)
}

// A Histogram counts durations. Its buckets are cumulative: Counts[i] is of
// those that took Bounds()[i] seconds at most, and Count is of all.
type Histogram struct {
	Counts [buckets]uint64 `json:"buckets"`
	Count  uint64          `json:"count"`
	Sum    float64         `json:"sum_s"` // seconds
}

const buckets = 17

// Bounds are the upper bounds of a Histogram's buckets, in seconds.
func Bounds() [buckets]float64 {
	return [...]float64{20e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 10}
}

// Add counts one.
func (h *Histogram) Add(d time.Duration) {
	s := d.Seconds()
	h.Count++
	h.Sum += s
	bounds := Bounds()
	for i := len(bounds) - 1; i >= 0 && s <= bounds[i]; i-- {
		h.Counts[i]++
	}
}

func (h *Histogram) join(o Histogram) {
	h.Count += o.Count
	h.Sum += o.Sum
	for i := range h.Counts {
		h.Counts[i] += o.Counts[i]
	}
}
