// Package bench is the measuring of casemate bench, without what is measured:
// it takes turns between subjects, reduces their samples to percentiles with
// intervals, and renders a report as a table, a page and a drawing.
//
// All subjects of a run take turns, in another order each round, so that
// whatever else the machine does hits all alike; a subject that costs much
// more than others has fewer turns, evenly spread. A time is worth something
// only beside the others of its run: what compares between machines are the
// ratios. A percentile is a sample that was seen (nearest rank), so that of
// fewer than a hundred samples the 99th is the slowest; its interval says how
// much that can be trusted, and is itself too narrow at the end of so few.
//
// Limits: a subject that is interrupted by another process of the machine is
// not known from one that is slow. Nothing is left out as an outlier.
package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// A Subject is one thing that is measured.
type Subject struct {
	Name    string // such as bwrap
	Payload string // what it runs, such as true
	Note    string // what a reader has to know beside

	// Run does it once and says how long that took, without what it had to
	// prepare and to clear away.
	Run func(context.Context) (time.Duration, error)
}

// A Result is what a subject gave.
type Result struct {
	Subject
	Took []time.Duration
	Err  error // why it was given up; Took is then empty
}

// A Schedule bounds one run.
type Schedule struct {
	Rounds int           // at most this often each
	Least  int           // and at least this often, whatever it costs
	Warm   int           // before, not counted
	Budget time.Duration // in all, the time that subjects prepare included
	Say    func(done, of int)
}

// again is after how many rounds the turns are allotted anew: what a subject
// costs is known better then.
const again = 10

// Run measures subjects in turns. A subject whose run fails once is given up.
// It returns when all have had their turns, or ctx is done.
func Run(ctx context.Context, subjects []Subject, s Schedule) []Result {
	out := make([]Result, len(subjects))
	costs := make([]time.Duration, len(subjects))
	for i, sub := range subjects {
		out[i].Subject = sub
		for range max(1, s.Warm) {
			began := time.Now()
			if _, out[i].Err = sub.Run(ctx); out[i].Err != nil {
				break
			}
			if cost := time.Since(began); costs[i] == 0 || cost < costs[i] {
				costs[i] = cost
			}
			if costs[i] > s.Budget/time.Duration(10*len(subjects)) {
				break // once is enough of what is slow
			}
		}
		if out[i].Err != nil {
			costs[i] = 0
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	began := time.Now()
	spent := make([]time.Duration, len(subjects))
	credit := make([]float64, len(subjects)) // of turns
	for i := range credit {
		credit[i] = 1 // all have the first
	}
	var each []float64 // turns that each gets in a round
	for round := range s.Rounds {
		if round%again == 0 {
			for i, o := range out {
				switch {
				case o.Err != nil:
					costs[i] = 0
				case len(o.Took) > 0:
					costs[i] = spent[i] / time.Duration(len(o.Took))
				}
			}
			left := s.Rounds - round
			each = each[:0]
			for _, n := range allot(costs, left, s.Least*left/s.Rounds, s.Budget-time.Since(began)) {
				each = append(each, float64(n)/float64(left))
			}
		}
		if time.Since(began) > s.Budget*5/4 {
			break // the machine is slower than it was: all have had their share of turns
		}
		if s.Say != nil {
			s.Say(round, s.Rounds)
		}
		for _, i := range r.Perm(len(subjects)) {
			o := &out[i]
			if credit[i] += each[i]; o.Err != nil || credit[i] < 1 {
				continue
			}
			credit[i]--
			begun := time.Now()
			took, err := o.Run(ctx)
			spent[i] += time.Since(begun)
			if ctx.Err() != nil {
				return out
			}
			if err != nil {
				o.Err, o.Took = fmt.Errorf("after %d runs: %w", len(o.Took), err), nil
				continue
			}
			o.Took = append(o.Took, took)
		}
	}
	return out
}

// allot says how often each subject runs, given what one run of each costs,
// so that all together need no more than budget, where least allows it: none has
// more than rounds, and those that have fewer all get the same time.
func allot(costs []time.Duration, rounds, least int, budget time.Duration) []int {
	share := func(each time.Duration) (turns []int, sum time.Duration) {
		for _, c := range costs {
			n := rounds
			if c > 0 {
				n = max(min(rounds, int(each/c)), min(least, rounds))
			}
			turns = append(turns, n)
			sum += c * time.Duration(n)
		}
		return turns, sum
	}
	// What has to be, has to be: the others still get half of the budget.
	_, needed := share(0)
	budget = max(budget, needed+budget/2)
	low, high := time.Duration(0), budget
	for range 40 {
		mid := (low + high) / 2
		if _, sum := share(mid); sum <= budget {
			low = mid
		} else {
			high = mid
		}
	}
	turns, _ := share(low)
	return turns
}
