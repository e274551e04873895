package pool

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/casemate/casemate"
)

// TestSchedules runs random schedules of claims, deaths, reloads, failing and
// hanging starts, hang-ups, pressure and a close, and holds after each step what
// the package promises: nothing is given twice, none is given stale, dead by the
// pool's own hand or of another key, every limit holds, claims of a session are
// served in their order, all of them in bounded time, and nothing is left.
func TestSchedules(t *testing.T) {
	n := 300
	if testing.Short() {
		n = 50
	}
	first := rand.Uint64()
	for i := range n {
		seed := first + uint64(i)
		if !t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { schedule(t, seed) })
		}) {
			return
		}
	}
}

// TestSchedule runs one again: go test -run TestSchedule$ -args SEED.
func TestSchedule(t *testing.T) {
	var seed uint64 = 1
	if a := flag.Arg(0); a != "" {
		seed, _ = strconv.ParseUint(a, 10, 64)
	}
	synctest.Test(t, func(t *testing.T) { schedule(t, seed) })
}

// A random is the pool under a random schedule.
type random struct {
	*testing.T
	draw  *rand.Rand
	w     *works
	p     *Pool
	l     Limits
	kinds []*Kind

	mu      sync.Mutex
	claims  []*claim
	failed  map[casemate.Digest]int // of kinds: 1 fails, 2 hangs
	waiting sync.WaitGroup
	faults  []string
}

// A claim is one that was made, in order.
type claim struct {
	key     Key
	session casemate.SessionID
	made    time.Time
	over    time.Time
	age     int // of its guest, when it was made
	cancel  context.CancelFunc
	left    bool
	err     error
	box     *box
}

func schedule(t *testing.T, seed uint64) {
	draw := rand.New(rand.NewPCG(seed, 0))
	r := &random{T: t, draw: draw, w: &works{ages: map[casemate.Digest]int{}}, failed: map[casemate.Digest]int{}}
	r.l = Limits{Max: draw.IntN(8) - 1, Memory: 1 + draw.Int64N(12), Starts: 1 + draw.IntN(3), Waiting: 1 + draw.IntN(30)}
	r.p = New(r.l)
	r.l = r.p.limits
	for i := range 4 {
		r.kinds = append(r.kinds, r.kind(i))
	}
	r.p.Want(r.kinds[:3]) // the last is never listed
	steps := []struct {
		often int
		f     func()
	}{
		{20, r.claim}, {10, func() { r.claim(); r.claim(); r.claim(); r.claim() }}, {5, r.hangUp}, {5, r.kill}, {2, r.reload},
		{3, r.stale}, {4, r.breakStarts}, {1, r.p.Pressure},
		{20, func() { time.Sleep(time.Duration(1+draw.IntN(200)) * time.Millisecond) }},
		{2, func() { time.Sleep(time.Duration(1+draw.IntN(1000)) * time.Second) }},
	}
	var all []func()
	for _, s := range steps {
		for range s.often {
			all = append(all, s.f)
		}
	}
	for range 100 {
		all[draw.IntN(len(all))]()
		if r.check(); t.Failed() {
			break
		}
	}
	r.end()
}

func (r *random) kind(i int) *Kind {
	k := &Kind{Key: Key{Guest: casemate.Digest(fmt.Sprint("k", i))}, Name: casemate.ToolName(fmt.Sprint("k", i)),
		Bytes: int64(1 + i), Early: i == 0, Min: i % 2, Max: i % 3}
	k.Start = func(ctx context.Context) (casemate.Sandbox, error) {
		r.mu.Lock()
		how := r.failed[k.Key.Guest]
		r.mu.Unlock()
		w := &works{takes: time.Duration(5+i) * time.Millisecond, hang: how == 2, ages: r.ages()}
		if how == 1 {
			w.fail = errors.New("no room")
		}
		if how == 2 {
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // as every start
			defer cancel()
			return w.start(ctx, k)
		}
		r.w.set(func() { r.w.now++; r.w.most = max(r.w.most, r.w.now) })
		defer r.w.set(func() { r.w.now-- })
		sb, err := w.start(ctx, k)
		r.w.set(func() { r.w.all = append(r.w.all, w.all...) })
		return sb, err
	}
	if i == 2 {
		k.Park = func(ctx context.Context, sb casemate.Sandbox) (casemate.Sandbox, error) {
			time.Sleep(time.Millisecond)
			return sb, nil
		}
	}
	return k
}

func (r *random) ages() map[casemate.Digest]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[casemate.Digest]int{}
	for k, v := range r.w.ages {
		out[k] = v
	}
	return out
}

func (r *random) claim() {
	k := r.kinds[r.draw.IntN(len(r.kinds))]
	ctx, cancel := context.WithCancel(context.Background())
	c := &claim{key: k.Key, session: casemate.SessionID(fmt.Sprint("s", r.draw.IntN(3))), made: time.Now(), age: r.ages()[k.Key.Guest], cancel: cancel}
	r.mu.Lock()
	r.claims = append(r.claims, c)
	r.mu.Unlock()
	r.waiting.Go(func() {
		defer cancel()
		sb, _, err := r.p.Claim(ctx, c.session, k)
		r.mu.Lock()
		defer r.mu.Unlock()
		c.over, c.err = time.Now(), err
		if err != nil {
			if e, typed := errors.AsType[*casemate.Error](err); !typed && !errors.Is(err, context.Canceled) && err.Error() != "no room" && !errors.Is(err, context.DeadlineExceeded) {
				r.fault("claimed: %v", err)
			} else if typed && e.Kind != casemate.Busy && e.Kind != casemate.Gone {
				r.fault("claimed: %v", err)
			}
			return
		}
		c.box = sb.(*box)
		c.box.mu.Lock()
		defer c.box.mu.Unlock()
		if c.box.taken++; c.box.taken > 1 {
			r.fault("a sandbox was given twice")
		}
		if c.box.closed {
			r.fault("a sandbox was given that the pool had ended")
		}
		if c.box.kind.Key != c.key {
			r.fault("%v was given for %v", c.box.kind.Key, c.key)
		}
		if c.box.age < c.age {
			r.fault("a stale sandbox was given")
		}
	})
	synctest.Wait()
}

func (r *random) fault(format string, a ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, a...))
}

func (r *random) hangUp() {
	r.mu.Lock()
	var open []*claim
	for _, c := range r.claims {
		if c.over.IsZero() && !c.left {
			open = append(open, c)
		}
	}
	r.mu.Unlock()
	if len(open) == 0 {
		return
	}
	c := open[r.draw.IntN(len(open))]
	c.left = true
	c.cancel()
}

func (r *random) kill() {
	var parked []*box
	for _, pl := range r.p.Places() {
		for _, sb := range pl.Parked {
			parked = append(parked, sb.(*box))
		}
	}
	if len(parked) == 0 {
		return
	}
	if r.draw.IntN(2) == 0 {
		for _, b := range parked {
			b.die()
		}
		return
	}
	parked[r.draw.IntN(len(parked))].die()
}

func (r *random) reload() {
	var kinds []*Kind
	for i := range 3 {
		if r.draw.IntN(2) == 0 {
			kinds = append(kinds, r.kinds[i])
		}
	}
	r.p.Want(kinds)
}

func (r *random) stale() {
	g := r.kinds[r.draw.IntN(len(r.kinds))].Key.Guest
	r.mu.Lock()
	r.w.ages[g]++
	r.mu.Unlock()
	r.p.Stale(g)
}

func (r *random) breakStarts() {
	g, how := r.kinds[r.draw.IntN(len(r.kinds))].Key.Guest, r.draw.IntN(3)
	r.mu.Lock()
	r.failed[g] = how
	r.mu.Unlock()
}

// check holds the limits, at every step.
func (r *random) check() {
	synctest.Wait()
	n, bytes := 0, int64(0)
	for _, pl := range r.p.Places() {
		n += len(pl.Parked)
		for _, sb := range pl.Parked {
			b := sb.(*box)
			bytes += b.kind.Bytes
			if m := b.kind.Max; m > 0 && len(pl.Parked) > m {
				r.Errorf("%d of %v are parked", len(pl.Parked), pl.Key)
			}
			b.mu.Lock()
			closed := b.closed
			b.mu.Unlock()
			if closed || b.age != r.w.ages[pl.Key.Guest] {
				r.Errorf("parked: closed %v, of age %d", closed, b.age)
			}
		}
	}
	if n > r.l.Max || bytes > r.l.Memory {
		r.Errorf("%d parked of %d bytes, limits %+v", n, bytes, r.l)
	}
	r.w.set(func() {
		if r.w.most > r.l.Starts { // those that hang are not counted
			r.Errorf("%d started at once, limits %+v", r.w.most, r.l)
		}
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.faults) > 0 {
		r.Error(r.faults)
	}
	type line struct {
		Key
		casemate.SessionID
	}
	open := map[line]bool{} // an earlier claim waits
	for _, c := range r.claims {
		l := line{c.key, c.session}
		switch {
		case c.left: // it gave its turn up
		case c.over.IsZero():
			open[l] = true
			if time.Since(c.made) > maxWait {
				r.Errorf("a claim waits for %s", time.Since(c.made))
			}
		case open[l] && casemate.KindOf(c.err) != casemate.Busy && c.err == nil:
			r.Errorf("a later claim of %v was served first", l)
		}
	}
}

// end closes the pool, and looks for what is left.
func (r *random) end() {
	r.p.Close()
	synctest.Wait()
	r.waiting.Wait()
	claimed := 0
	for _, c := range r.claims {
		if c.box != nil {
			claimed++
		}
	}
	if n := r.w.open(); n != claimed {
		r.Errorf("%d sandboxes are left, %d are claimed", n, claimed)
	}
	if p := r.p; p.waiting != 0 || p.working != 0 || p.slow != 0 || len(p.holding) != 0 || len(p.slots) != 0 || p.unlisted != 0 || len(p.hungry) != 0 || p.order.Len() != 0 || p.timer != nil {
		r.Errorf("left: %+v", p)
	}
	if len(r.faults) > 0 {
		r.Error(r.faults)
	}
}
