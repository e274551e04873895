package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/casemate/casemate"
)

// These tests run on a clock of their own (testing/synctest): a wait costs
// nothing, and a goroutine that is left makes the test fail.

// A box is a sandbox that does nothing, and knows what was done to it.
type box struct {
	w    *works
	kind *Kind
	age  int // of its guest, when its start began
	gone chan struct{}

	mu     sync.Mutex
	taken  int
	closed bool
}

func (b *box) Guest() io.ReadWriteCloser   { return nil }
func (b *box) Enforced() casemate.Enforced { return casemate.Enforced{} }

func (b *box) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.dieLocked()
	return nil
}

func (b *box) die() { b.mu.Lock(); defer b.mu.Unlock(); b.dieLocked() }

func (b *box) dieLocked() {
	select {
	case <-b.gone:
	default:
		close(b.gone)
	}
}

func (b *box) Wait(ctx context.Context) (casemate.Exit, error) {
	select {
	case <-b.gone:
		return casemate.Exit{Signal: 9}, nil
	case <-ctx.Done():
		return casemate.Exit{}, ctx.Err()
	}
}

// works makes boxes, and knows all of them.
type works struct {
	mu    sync.Mutex
	all   []*box
	at    []time.Time // of starts
	now   int         // starts in progress
	most  int
	takes time.Duration
	fail  error
	hang  bool
	dying bool // each dies at once
	ages  map[casemate.Digest]int
}

func (w *works) kind(guest string, set ...func(*Kind)) *Kind {
	k := &Kind{Key: Key{Guest: casemate.Digest(guest)}, Name: casemate.ToolName(guest), Bytes: 1, Early: true}
	k.Start = func(ctx context.Context) (casemate.Sandbox, error) { return w.start(ctx, k) }
	for _, f := range set {
		f(k)
	}
	return k
}

func (w *works) start(ctx context.Context, k *Kind) (casemate.Sandbox, error) {
	w.mu.Lock()
	w.now++
	w.most = max(w.most, w.now)
	w.at = append(w.at, time.Now())
	takes, fail, hang, dying, age := w.takes, w.fail, w.hang, w.dying, w.ages[k.Key.Guest]
	w.mu.Unlock()
	defer func() { w.mu.Lock(); w.now--; w.mu.Unlock() }()
	if hang {
		takes = time.Hour
	}
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail != nil {
		return nil, fail
	}
	b := &box{w: w, kind: k, age: age, gone: make(chan struct{})}
	w.mu.Lock()
	w.all = append(w.all, b)
	w.mu.Unlock()
	if dying {
		b.die()
	}
	return b, nil
}

func (w *works) set(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }

func (w *works) starts() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.at) }

func (w *works) open() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.all {
		b.mu.Lock()
		if !b.closed {
			n++
		}
		b.mu.Unlock()
	}
	return n
}

// world is a pool and what its claims got.
type world struct {
	*Pool
	*works
	t  testing.TB
	mu sync.Mutex
	kd []*Kind

	claimed []*box
}

// with runs f in a pool of n kinds, and checks that closing it leaves nothing
// but what was claimed.
func with(t *testing.T, l Limits, n int, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{Pool: New(l), works: &works{takes: 10 * time.Millisecond, ages: map[casemate.Digest]int{}}, t: t}
		for i := range n {
			w.kd = append(w.kd, w.kind(fmt.Sprint("t", i)))
		}
		w.Want(w.kd)
		f(w)
		w.Close()
		if n := w.open(); n != len(w.claimed) {
			t.Errorf("%d sandboxes are left, %d are claimed", n, len(w.claimed))
		}
	})
}

func (w *world) settle(d time.Duration) { time.Sleep(d); synctest.Wait() }

func (w *world) take(k *Kind, s casemate.SessionID) (*box, bool, error) {
	sb, warm, err := w.Claim(w.t.Context(), s, k)
	if err != nil {
		return nil, warm, err
	}
	b := sb.(*box)
	if b.kind.Key != k.Key {
		w.t.Errorf("claimed %v, got %v", k.Key, b.kind.Key)
	}
	if b.taken++; b.taken > 1 || b.closed {
		w.t.Errorf("claimed %d times, closed %v", b.taken, b.closed)
	}
	w.mu.Lock()
	w.claimed = append(w.claimed, b)
	w.mu.Unlock()
	return b, warm, nil
}

func (w *world) must(i int) (warm bool) {
	w.t.Helper()
	_, warm, err := w.take(w.kd[i], "")
	if err != nil {
		w.t.Fatal(err)
	}
	return warm
}

// parkedOf is how many are parked of each key that has some.
func (w *world) parkedOf() string {
	var out []string
	for _, pl := range w.Places() {
		if len(pl.Parked) > 0 {
			out = append(out, fmt.Sprintf("%s:%d", pl.Key.Guest, len(pl.Parked)))
		}
	}
	return strings.Join(out, " ")
}

func (w *world) wants(parked string) {
	w.t.Helper()
	if got := w.parkedOf(); got != parked {
		w.t.Errorf("parked %q, want %q", got, parked)
	}
}

func TestTheFirstFewAreParkedAndRefilled(t *testing.T) {
	with(t, Limits{Starts: 2}, few+2, func(w *world) {
		w.settle(time.Second)
		w.wants("t0:1 t1:1 t2:1 t3:1 t4:1 t5:1 t6:1 t7:1")
		if w.most != 2 {
			t.Errorf("%d started at once", w.most)
		}
		if !w.must(2) || w.must(few) {
			t.Error("not as parked")
		}
		w.settle(time.Second)
		w.wants("t0:1 t1:1 t2:1 t3:1 t4:1 t5:1 t6:1 t7:1 t8:1")
	})
}

func TestMaxKeepsTheLastUsed(t *testing.T) {
	with(t, Limits{Max: 2}, 4, func(w *world) {
		w.settle(time.Second)
		w.wants("t0:1 t1:1")
		for _, i := range []int{3, 2, 3} {
			w.must(i)
			w.settle(time.Second)
		}
		w.wants("t2:1 t3:1")
		if n := w.open(); n != 5 {
			t.Errorf("%d are open", n)
		}
	})
}

func TestMemoryBounds(t *testing.T) {
	with(t, Limits{Max: 10, Memory: 5}, 0, func(w *world) {
		small, large := w.kind("small"), w.kind("large", func(k *Kind) { k.Bytes = 4 })
		w.Want([]*Kind{large, small, w.kind("other"), w.kind("huge", func(k *Kind) { k.Bytes = 6 })})
		w.settle(time.Second)
		w.wants("large:1 small:1")
	})
}

func TestMinAndMaxOfAKind(t *testing.T) {
	with(t, Limits{Max: 5}, 0, func(w *world) {
		lazy := func(k *Kind) { k.Early = false }
		kept := w.kind("kept", lazy, func(k *Kind) { k.Min = 3 })
		little := w.kind("little", lazy, func(k *Kind) { k.Max = 1 })
		w.Want([]*Kind{kept, little, w.kind("never", lazy)})
		w.settle(time.Hour)
		w.wants("kept:3")
		w.settle(0)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { w.take(little, "") })
		}
		all.Wait()
		w.settle(time.Second)
		w.wants("kept:3 little:1")
	})
}

func TestNoneIsParkedWhereMaxIsNegative(t *testing.T) {
	with(t, Limits{Max: -1}, 2, func(w *world) {
		if w.must(0) || w.starts() != 1 {
			t.Errorf("%d starts", w.starts())
		}
		w.settle(time.Hour)
		w.wants("")
		if w.starts() != 1 {
			t.Errorf("%d starts", w.starts())
		}
	})
}

// pool-fallback: an empty pool gives the same tool, cold, or the error of its
// start.
func TestEmptyPoolStartsTheSame(t *testing.T) {
	with(t, Limits{}, 1, func(w *world) {
		if w.must(0) {
			t.Error("warm")
		}
		w.settle(time.Second)
		w.Pressure()
		w.set(func() { w.fail = errors.New("no room") })
		if _, _, err := w.take(w.kd[0], ""); err == nil || err.Error() != "no room" {
			t.Errorf("claimed, %v", err)
		}
	})
}

func TestTheDeadAreReplacedWithBackoff(t *testing.T) {
	with(t, Limits{}, 1, func(w *world) {
		w.settle(time.Second)
		w.set(func() { w.dying, w.takes = true, 0 })
		w.all[0].die()
		w.settle(time.Hour)
		// After 100, 200, … ms and then every minute: not a hot loop.
		if n := w.starts(); n < 60 || n > 72 {
			t.Errorf("%d starts in an hour", n)
		}
		if w.Places()[0].Err == nil {
			t.Error("nothing says why none is parked")
		}
		w.set(func() { w.dying = false })
		w.settle(time.Minute)
		w.wants("t0:1")
		if w.Places()[0].Err != nil {
			t.Error("an error is shown that is over")
		}
	})
}

func TestAClaimTriesAgainAtOnce(t *testing.T) {
	with(t, Limits{}, 1, func(w *world) {
		w.set(func() { w.fail = errors.New("no room") })
		w.settle(time.Hour)
		w.set(func() { w.fail = nil })
		w.must(0)
		w.settle(100 * time.Millisecond)
		if w.parkedOf() == "" {
			t.Error("none is parked")
		}
	})
}

func TestDemandGrowsAndFades(t *testing.T) {
	with(t, Limits{Starts: 2}, 1, func(w *world) {
		w.settle(time.Second)
		for range 300 { // 100 a second, each start takes 10 ms
			w.must(0)
			w.settle(10 * time.Millisecond)
		}
		n := w.Places()[0].Wanted
		if n < 2 || n > 6 {
			t.Errorf("%d are wanted at a steady rate", n)
		}
		for range 10 {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() { w.take(w.kd[0], "") })
			}
			all.Wait()
			w.settle(500 * time.Millisecond)
		}
		if n := w.Places()[0].Wanted; n < 8 {
			t.Errorf("%d are wanted for bursts of 8", n)
		}
		cold := w.Places()[0].Cold
		for range 8 {
			w.must(0)
		}
		if now := w.Places()[0].Cold; now != cold {
			t.Errorf("%d of a burst were cold", now-cold)
		}
		w.settle(5 * time.Minute)
		w.wants("t0:1")
		starts := w.starts()
		w.settle(24 * time.Hour)
		if w.starts() != starts || w.timer != nil {
			t.Errorf("%d starts while idle, timer %v", w.starts()-starts, w.timer)
		}
	})
}

// What is used once is thrown away when nobody comes back, with its timer.
func TestUnusedFadesAway(t *testing.T) {
	with(t, Limits{}, 0, func(w *world) {
		k := w.kind("variant", func(k *Kind) { k.Early = false })
		w.take(k, "")
		w.settle(time.Minute)
		w.wants("variant:1")
		if _, warm, _ := w.take(k, ""); !warm {
			t.Error("cold")
		}
		w.settle(time.Hour)
		w.wants("")
		if len(w.Places()) != 0 || w.timer != nil {
			t.Errorf("%d places, timer %v", len(w.Places()), w.timer)
		}
	})
}

// First come first served in a session, sessions in turn: one claim of another
// session does not wait for a hundred of the first.
func TestTurns(t *testing.T) {
	with(t, Limits{Max: -1, Starts: 1}, 1, func(w *world) {
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		claim := func(s, name string) {
			all.Go(func() {
				if _, _, err := w.take(w.kd[0], casemate.SessionID(s)); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
			})
			synctest.Wait()
		}
		for i := range 100 {
			claim("a", fmt.Sprint("a", i))
		}
		claim("b", "b0")
		claim("b", "b1")
		all.Wait()
		if i := slices.Index(order, "b0"); i > 2 {
			t.Errorf("b0 came as number %d", i)
		}
		if i := slices.Index(order, "b1"); i > 4 {
			t.Errorf("b1 came as number %d", i)
		}
		order = slices.DeleteFunc(order, func(s string) bool { return s[0] == 'b' })
		for i, name := range order {
			if name != fmt.Sprint("a", i) {
				t.Fatalf("number %d is %s", i, name)
			}
		}
		if w.most != 1 {
			t.Errorf("%d started at once", w.most)
		}
	})
}

// Starts that hang hold up their own claims alone.
func TestHangingStarts(t *testing.T) {
	with(t, Limits{Max: -1, Starts: 2}, 0, func(w *world) {
		hung, good := w.kind("hung"), w.kind("good")
		w.set(func() { w.hang = true })
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		for range 40 {
			all.Go(func() {
				if _, _, err := w.Claim(ctx, "a", hung); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		w.settle(30 * time.Second)
		if w.now != maxSlow {
			t.Errorf("%d starts hang", w.now)
		}
		w.set(func() { w.hang = false })
		begun := time.Now()
		if _, _, err := w.take(good, "b"); err != nil || time.Since(begun) > time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		cancel()
		all.Wait()
		if w.waiting != 0 || len(w.hungry) != 0 {
			t.Errorf("%d wait, %d keys", w.waiting, len(w.hungry))
		}
	})
}

func TestBusy(t *testing.T) {
	with(t, Limits{Max: 2, Starts: 2, Waiting: 10}, 1, func(w *world) {
		w.set(func() { w.takes = 3 * time.Second })
		var ok, busy int
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				_, _, err := w.take(w.kd[0], "")
				w.mu.Lock()
				defer w.mu.Unlock()
				switch e, _ := errors.AsType[*casemate.Error](err); {
				case err == nil:
					ok++
				case e != nil && e.Kind == casemate.Busy && strings.HasPrefix(e.Fix, "try again in "):
					busy++
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if ok != 10 || busy != 90 || w.Places()[0].Refused != 90 {
			t.Errorf("%d ok, %d busy", ok, busy)
		}
		w.set(func() { w.takes = 40 * time.Second })
		w.Pressure()
		for range 5 {
			all.Go(func() {
				_, _, err := w.take(w.kd[0], "")
				if err != nil && casemate.KindOf(err) != casemate.Busy {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

func TestStaleServesNobody(t *testing.T) {
	with(t, Limits{Starts: 2}, 2, func(w *world) {
		w.settle(time.Second)
		w.set(func() { w.ages["t0"] = 1; w.takes = time.Second })
		w.Stale("t0")
		w.settle(0)
		w.wants("t1:1")
		w.set(func() { w.ages["t0"] = 2 })
		var all sync.WaitGroup
		all.Go(func() { // waits for a start that is stale before it is over
			b, _, err := w.take(w.kd[0], "")
			if err != nil || b.age != 3 {
				t.Errorf("%v: of age %d", err, b.age)
			}
		})
		w.settle(500 * time.Millisecond)
		w.set(func() { w.ages["t0"] = 3 })
		w.Stale("t0")
		all.Wait()
		w.settle(time.Minute)
		for _, p := range w.Places()[0].Parked {
			if b := p.(*box); b.age != 3 {
				t.Errorf("parked of age %d", b.age)
			}
		}
	})
}

func TestPressureDrains(t *testing.T) {
	with(t, Limits{}, 3, func(w *world) {
		w.settle(time.Second)
		w.Pressure()
		synctest.Wait()
		w.wants("")
		if w.open() != 0 || w.must(0) {
			t.Error("something is parked")
		}
		w.settle(pressed / 2)
		w.wants("")
		w.Pressure()
		w.settle(pressed - time.Second)
		w.wants("")
		w.settle(2 * time.Second)
		w.wants("t0:1 t1:1 t2:1")
	})
}

func TestWantEndsWhatIsGone(t *testing.T) {
	with(t, Limits{Starts: 2}, 3, func(w *world) {
		w.settle(time.Second)
		w.set(func() { w.takes = time.Minute / 2 })
		w.must(0)
		var all sync.WaitGroup
		all.Go(func() {
			if _, _, err := w.take(w.kd[0], ""); casemate.KindOf(err) != casemate.Gone {
				t.Error(err)
			}
		})
		synctest.Wait()
		w.Want(w.kd[1:2])
		all.Wait()
		w.settle(time.Minute)
		w.wants("t1:1")
		if n := w.open(); n != 2 {
			t.Errorf("%d are open", n)
		}
	})
}

func TestParkPreparesWhatWaits(t *testing.T) {
	with(t, Limits{}, 0, func(w *world) {
		var fail error
		prepared := 0
		k := w.kind("server", func(k *Kind) {
			k.Park = func(_ context.Context, sb casemate.Sandbox) (casemate.Sandbox, error) {
				if prepared++; fail != nil {
					sb.Close()
					return nil, fail
				}
				return sb, nil
			}
		})
		w.Want([]*Kind{k})
		w.settle(time.Second)
		w.wants("server:1")
		fail = fmt.Errorf("%w: no freezer", ErrNoPark)
		w.take(k, "")
		w.settle(time.Hour)
		w.wants("")
		if prepared != 2 || w.Places()[0].Err == nil {
			t.Errorf("prepared %d times, %v", prepared, w.Places()[0].Err)
		}
		if _, warm, err := w.take(k, ""); warm || err != nil {
			t.Errorf("warm %v, %v", warm, err)
		}
	})
}

// TestClaimWhileParkingFails: who comes while a sandbox is made ready to wait,
// which then fails, gets one that was started for the claim.
func TestClaimWhileParkingFails(t *testing.T) {
	for _, fail := range []error{ErrNoPark, errors.New("it lists no tools")} {
		with(t, Limits{Starts: 1}, 0, func(w *world) {
			claimed := make(chan error, 1)
			k := w.kind("server", func(*Kind) {})
			k.Park = func(_ context.Context, sb casemate.Sandbox) (casemate.Sandbox, error) {
				if len(claimed) == 0 { // the first
					go func() {
						_, warm, err := w.take(k, "")
						if warm {
							err = errors.New("it was parked")
						}
						claimed <- err
					}()
					time.Sleep(leastSlow / 2) // of the bubble: the claim waits by then, and for this start
				}
				sb.Close()
				return nil, fmt.Errorf("%w: no", fail)
			}
			w.Want([]*Kind{k})
			w.settle(2 * time.Second)
			if err := <-claimed; err != nil {
				t.Errorf("%v: the claim got %v", fail, err)
			}
		})
	}
}

func TestClosedPool(t *testing.T) {
	with(t, Limits{Max: -1}, 1, func(w *world) {
		w.set(func() { w.hang = true })
		var all sync.WaitGroup
		all.Go(func() {
			if _, _, err := w.take(w.kd[0], ""); !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
		synctest.Wait()
		w.Close()
		all.Wait()
		if _, _, err := w.take(w.kd[0], ""); !errors.Is(err, ErrClosed) || casemate.KindOf(err) != casemate.Busy {
			t.Error(err)
		}
	})
}

func TestUnlistedAreBounded(t *testing.T) {
	with(t, Limits{}, 1, func(w *world) {
		for i := range 2 * maxUnlisted {
			w.take(w.kind(fmt.Sprint("v", i)), "")
		}
		if n := len(w.Places()); n > maxUnlisted+1 || w.unlisted > maxUnlisted {
			t.Errorf("%d places", n)
		}
		w.Forget(casemate.Digest(fmt.Sprint("v", 2*maxUnlisted-1)))
		for _, pl := range w.Places() {
			if pl.Key.Guest == casemate.Digest(fmt.Sprint("v", 2*maxUnlisted-1)) {
				t.Error("it is not forgotten")
			}
		}
	})
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{10 * time.Microsecond, 20 * time.Microsecond, 30 * time.Microsecond, time.Minute} {
		h.Add(d)
	}
	if h.Count != 4 || h.Counts[0] != 2 || h.Counts[1] != 3 || h.Counts[buckets-1] != 3 || h.Sum < 60 {
		t.Errorf("%+v", h)
	}
}
