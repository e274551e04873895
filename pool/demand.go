package pool

import (
	"math"
	"time"
)

// How fast the past is forgotten.
const (
	rateMemory  = 5 * time.Second
	burstMemory = 20 * time.Second
	leastWindow = 20 * time.Millisecond
)

// demand estimates how many sandboxes of one key have to wait: as many as are
// claimed while one is started (the arrival rate times the start time), and
// twice the deviation of what came from what was to be expected, for bursts.
type demand struct {
	rate   float64       // claims a second, as of last
	burst  float64       // claims, the deviation in one window, as of last
	last   time.Time     // of claims; zero before the first
	window time.Time     // when this window began
	n      int           // claims in it
	start  time.Duration // of one sandbox, smoothed; 0 while unknown
}

func decay(since, memory time.Duration) float64 {
	return math.Exp(-max(since, 0).Seconds() / memory.Seconds())
}

// claimed counts a claim.
func (d *demand) claimed(now time.Time) {
	if since := now.Sub(d.last); d.last.IsZero() {
		d.window = now
	} else {
		d.rate *= decay(since, rateMemory)
		d.burst *= decay(since, burstMemory)
	}
	width := max(d.start, leastWindow)
	expected := d.rate * width.Seconds()
	if now.Sub(d.window) >= width {
		d.burst += (math.Abs(float64(d.n)-expected) - d.burst) / 8
		d.window, d.n = now, 0
	}
	d.n++
	d.burst = max(d.burst, float64(d.n)-1-expected) // one at a time is no burst
	d.rate += 1 / rateMemory.Seconds()
	d.last = now
}

// started learns from a start that took that long.
func (d *demand) started(took time.Duration) {
	if d.start == 0 {
		d.start = took
		return
	}
	d.start += (took - d.start) / 8
}

// needed is how many are claimed while one is started, and the next one.
func (d *demand) needed(now time.Time) int {
	return 1 + int(min(math.Ceil(d.arriving(now)), 1<<20))
}

// arriving is how many are claimed while one is started.
func (d *demand) arriving(now time.Time) float64 {
	return d.rate * decay(now.Sub(d.last), rateMemory) * d.start.Seconds()
}

// parked is how many should wait now.
func (d *demand) parked(now time.Time) int {
	if d.last.IsZero() {
		return 0
	}
	x := d.arriving(now) + 2*d.burst*decay(now.Sub(d.last), burstMemory)
	return int(math.Ceil(min(x, 1<<20) - 0.1))
}
