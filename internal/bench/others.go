package bench

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A Rate is throughput: calls a second with as many workers at once.
type Rate struct {
	Subject   string   `json:"subject"`
	Payload   string   `json:"payload"`
	Workers   int      `json:"workers"`
	PerSecond float64  `json:"per_second"` // the median of slices
	In        Interval `json:"per_second_in"`
	Ratio     *float64 `json:"ratio"` // to the first subject of its payload
	Note      string   `json:"note,omitempty"`
}

// A Worker does something once; those of one subject do it at the same time.
type Worker func(context.Context) error

// A Crowd is the workers of one subject.
type Crowd struct {
	Subject, Payload, Note string
	Workers                []Worker
}

// Rates lets crowds work in turns, in slices of that length. A crowd whose
// worker fails is left out, with its error. Ratios are to the first crowd of
// the same payload.
func Rates(ctx context.Context, crowds []Crowd, slicesEach int, length time.Duration) (out []Rate, failed []Failure) {
	per := make([][]float64, len(crowds))
	errs := make([]error, len(crowds))
	for round := range slicesEach + 1 { // the first does not count
		for i, c := range crowds {
			if errs[i] != nil {
				continue
			}
			rate, err := c.slice(ctx, length)
			if errs[i] = err; err == nil && round > 0 {
				per[i] = append(per[i], rate)
			}
		}
	}
	for i, c := range crowds {
		if errs[i] != nil || len(per[i]) == 0 {
			if errs[i] != nil {
				failed = append(failed, Failure{c.Subject, c.Payload, errs[i].Error()})
			}
			continue
		}
		slices.Sort(per[i])
		r := Rate{Subject: c.Subject, Payload: c.Payload, Note: c.Note, Workers: len(c.Workers), PerSecond: Percentile(per[i], 50), In: Bootstrap(per[i], 50)[0]}
		base := r.PerSecond
		if j := slices.IndexFunc(out, func(x Rate) bool { return x.Payload == r.Payload }); j >= 0 {
			base = out[j].PerSecond
		}
		ratio := r.PerSecond / base
		r.Ratio = &ratio
		out = append(out, r)
	}
	return out, failed
}

// slice returns how much a crowd does in a second. What was begun in time
// counts, and the time until it is done.
func (c Crowd) slice(ctx context.Context, length time.Duration) (float64, error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	var bad error
	done := 0
	began := time.Now()
	for _, w := range c.Workers {
		all.Go(func() {
			n := 0
			for time.Since(began) < length {
				if err := w(ctx); err != nil {
					mu.Lock()
					bad = err
					mu.Unlock()
					return
				}
				n++
			}
			mu.Lock()
			done += n
			mu.Unlock()
		})
	}
	all.Wait()
	return float64(done) / time.Since(began).Seconds(), bad
}

// A Memory is what waiting guests hold that is nobody else's, in bytes.
type Memory struct {
	Subject string  `json:"subject"`
	First   int64   `json:"first_bytes"`   // of the first, and of what it needs once
	Further float64 `json:"further_bytes"` // of each further one
	Guests  int     `json:"guests"`
	Unread  int     `json:"unread"` // processes that could not be read: they are not in the sums
	Note    string  `json:"note,omitempty"`
}

// A Growth is the time of one call at the same rate while something grows.
type Growth struct {
	What   string        `json:"what"` // tools, sessions
	Rate   float64       `json:"calls_per_second"`
	Points []GrowthPoint `json:"points"`
}

// A GrowthPoint is one size.
type GrowthPoint struct {
	Size int      `json:"size"`
	P50  float64  `json:"p50_us"`
	P99  float64  `json:"p99_us"`
	In99 Interval `json:"p99_in_us"`
	N    int      `json:"n"`
}

// A Paced is a call whose time is taken, of one size.
type Paced struct {
	Size int
	Call func(ctx context.Context, n int) error
}

// Grow calls each size in turn, at the same rate each, for that many calls.
// A call that is late is not made up for: the next keeps its own time.
func Grow(ctx context.Context, what string, sizes []Paced, each time.Duration, calls int) (Growth, error) {
	took := make([][]time.Duration, len(sizes))
	pace := time.NewTicker(each / time.Duration(max(1, len(sizes))))
	defer pace.Stop()
	for n := range calls {
		for i, s := range sizes {
			select {
			case <-pace.C:
			case <-ctx.Done():
				return Growth{}, ctx.Err()
			}
			began := time.Now()
			if err := s.Call(ctx, n); err != nil {
				return Growth{}, err
			}
			took[i] = append(took[i], time.Since(began))
		}
	}
	g := Growth{What: what, Rate: 1 / each.Seconds()}
	for i, s := range sizes {
		row := NewRow("", "", "", took[i])
		g.Points = append(g.Points, GrowthPoint{s.Size, row.P50, row.P99, row.In99, row.N})
	}
	return g, nil
}

// Calls are the system calls of one run of a subject, by all its processes.
type Calls struct {
	Subject string      `json:"subject"`
	Payload string      `json:"payload"`
	Total   float64     `json:"total"`
	Most    []CallCount `json:"most"` // the most frequent, and those of a sandbox
	Error   string      `json:"error,omitempty"`
}

// A CallCount is one system call.
type CallCount struct {
	Name string  `json:"name"`
	Each float64 `json:"each"`
}
