package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/casemate/casemate"
)

// The sandboxes of these tests are real processes, /bin/sleep, that the tests
// kill as they like.
type process struct {
	cmd  *exec.Cmd
	tool *casemate.Tool
	gone chan struct{}
	once sync.Once
}

func (p *process) Guest() io.ReadWriteCloser   { return nil }
func (p *process) Enforced() casemate.Enforced { return casemate.Enforced{} }
func (p *process) Close() error {
	p.once.Do(func() { p.cmd.Process.Kill() })
	<-p.gone
	return nil
}

func (p *process) Wait(ctx context.Context) (casemate.Exit, error) {
	select {
	case <-p.gone:
		return casemate.Exit{Signal: 9}, nil
	case <-ctx.Done():
		return casemate.Exit{}, ctx.Err()
	}
}

// works starts processes and knows all of them.
type works struct {
	mu      sync.Mutex
	all     []*process
	at      []time.Time
	now     int // starts in progress
	most    int
	refuse  bool
	dying   bool // each dies at once
	blocked chan struct{}
}

func (w *works) start(ctx context.Context, t *casemate.Tool) (casemate.Sandbox, error) {
	w.mu.Lock()
	w.now++
	w.most = max(w.most, w.now)
	w.at = append(w.at, time.Now())
	refuse, dying, blocked := w.refuse, w.dying, w.blocked
	w.mu.Unlock()
	defer func() { w.mu.Lock(); w.now--; w.mu.Unlock() }()
	if blocked != nil {
		select {
		case <-blocked:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if refuse {
		return nil, errors.New("no room")
	}
	p := &process{cmd: exec.Command("/bin/sleep", "60"), tool: t, gone: make(chan struct{})}
	if dying {
		p.cmd = exec.Command("/bin/sleep", "0")
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.cmd.Wait(); close(p.gone) }()
	w.mu.Lock()
	w.all = append(w.all, p)
	w.mu.Unlock()
	return p, nil
}

func (w *works) starts() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.at) }

func (w *works) alive() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.all {
		select {
		case <-p.gone:
		default:
			n++
		}
	}
	return n
}

func tools(n int) (out []Entry) {
	for i := range n {
		t := &casemate.Tool{Name: casemate.ToolName(fmt.Sprint("t", i)), Parameters: []byte("{}")}
		out = append(out, Entry{t.Digest(), t})
	}
	return out
}

// newPool returns a pool, and checks at the end that closing it leaves nothing
// but what was claimed.
func newPool(t *testing.T, l Limits) (*Pool, *works, func(casemate.Sandbox)) {
	before := runtime.NumGoroutine()
	w := &works{}
	p := New(l, w.start)
	var mu sync.Mutex
	var claimed []casemate.Sandbox
	t.Cleanup(func() {
		p.Close()
		for _, s := range claimed {
			s.Close()
		}
		if n := w.alive(); n != 0 {
			t.Errorf("%d processes are left", n)
		}
		for i := 0; runtime.NumGoroutine() > before; i++ {
			if i == 100 {
				b := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return p, w, func(s casemate.Sandbox) { mu.Lock(); claimed = append(claimed, s); mu.Unlock() }
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func parkedOf(p *Pool) map[casemate.Digest]int {
	out := map[casemate.Digest]int{}
	for _, pl := range p.Places() {
		if len(pl.Parked) > 0 {
			out[pl.Key.Guest] = len(pl.Parked)
		}
	}
	return out
}

func TestOneOfEachIsParkedAndRefilled(t *testing.T) {
	p, w, keep := newPool(t, Limits{})
	es := tools(5)
	p.Want(es)
	until(t, "all are parked", func() bool { return len(parkedOf(p)) == 5 })
	sb, warm, err := p.Claim(t.Context(), es[2].Key, es[2].Tool)
	if err != nil || !warm || sb.(*process).tool != es[2].Tool {
		t.Fatalf("claimed %v, warm %v, %v", sb, warm, err)
	}
	keep(sb)
	until(t, "it is refilled", func() bool { return len(parkedOf(p)) == 5 })
	if w.starts() != 6 || w.alive() != 6 {
		t.Errorf("%d starts, %d alive", w.starts(), w.alive())
	}
	if w.most > 2 {
		t.Errorf("%d started at once", w.most)
	}
}

func TestMaxKeepsTheLastUsed(t *testing.T) {
	p, w, keep := newPool(t, Limits{Max: 2})
	es := tools(4)
	p.Want(es)
	until(t, "two are parked", func() bool { return len(parkedOf(p)) == 2 })
	for _, i := range []int{3, 2, 3} {
		sb, _, err := p.Claim(t.Context(), es[i].Key, es[i].Tool)
		if err != nil {
			t.Fatal(err)
		}
		keep(sb)
	}
	until(t, "the last used are parked", func() bool {
		k := parkedOf(p)
		return len(k) == 2 && k[es[2].Key] == 1 && k[es[3].Key] == 1
	})
	until(t, "the others are gone", func() bool { return w.alive() == 5 })
}

func TestNoneIsParkedWhereMaxIsNegative(t *testing.T) {
	p, w, keep := newPool(t, Limits{Max: -1})
	es := tools(2)
	p.Want(es)
	sb, warm, err := p.Claim(t.Context(), es[0].Key, es[0].Tool)
	if err != nil || warm || w.starts() != 1 {
		t.Fatalf("warm %v, %d starts, %v", warm, w.starts(), err)
	}
	keep(sb)
}

// pool-fallback: an empty pool gives the same tool, cold, or the error of its
// start.
func TestEmptyPoolStartsTheSame(t *testing.T) {
	p, w, keep := newPool(t, Limits{})
	w.blocked = make(chan struct{})
	es := tools(1)
	p.Want(es)
	until(t, "one is starting", func() bool { return w.starts() == 1 })
	w.mu.Lock()
	block := w.blocked
	w.blocked = nil
	w.mu.Unlock()
	sb, warm, err := p.Claim(t.Context(), es[0].Key, es[0].Tool)
	if err != nil || warm || sb.(*process).tool != es[0].Tool {
		t.Fatalf("warm %v, %v", warm, err)
	}
	keep(sb)
	w.mu.Lock()
	w.refuse = true
	w.mu.Unlock()
	if _, _, err := p.Claim(t.Context(), es[0].Key, es[0].Tool); err == nil || err.Error() != "no room" {
		t.Errorf("claimed, %v", err)
	}
	close(block)
}

func TestTheDeadAreReplacedWithBackoff(t *testing.T) {
	p, w, _ := newPool(t, Limits{})
	es := tools(1)
	p.Want(es)
	until(t, "it is parked", func() bool { return len(parkedOf(p)) == 1 })
	w.mu.Lock()
	first := w.all[0]
	w.dying = true
	w.mu.Unlock()
	syscall.Kill(first.cmd.Process.Pid, syscall.SIGKILL)
	time.Sleep(1100 * time.Millisecond)
	// After 100, 200, 400 ms and no more: not a hot loop.
	if n := w.starts(); n < 3 || n > 4 {
		t.Errorf("%d starts in 1.1 s", n)
	}
	if pl := p.Places()[0]; pl.Err == nil {
		t.Error("nothing says why none is parked")
	}
	w.mu.Lock()
	w.dying = false
	w.mu.Unlock()
	until(t, "one is parked again", func() bool { return len(parkedOf(p)) == 1 })
}

func TestAClaimTriesAgainAtOnce(t *testing.T) {
	p, w, keep := newPool(t, Limits{})
	w.refuse = true
	es := tools(1)
	p.Want(es)
	time.Sleep(400 * time.Millisecond) // waits 400 ms now
	w.mu.Lock()
	w.refuse = false
	w.mu.Unlock()
	sb, _, err := p.Claim(t.Context(), es[0].Key, es[0].Tool)
	if err != nil {
		t.Fatal(err)
	}
	keep(sb)
	end := time.Now().Add(200 * time.Millisecond)
	for len(parkedOf(p)) == 0 && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	if len(parkedOf(p)) != 1 {
		t.Error("it was not tried again at once")
	}
}

func TestWantDrains(t *testing.T) {
	p, w, _ := newPool(t, Limits{})
	es := tools(4)
	p.Want(es[:3])
	until(t, "three are parked", func() bool { return len(parkedOf(p)) == 3 })
	p.Want(es[2:])
	until(t, "the new are parked, the old are gone", func() bool {
		k := parkedOf(p)
		return len(k) == 2 && k[es[2].Key] == 1 && k[es[3].Key] == 1 && w.alive() == 2
	})
	if w.starts() != 4 {
		t.Errorf("%d starts: what stays was started again", w.starts())
	}
}

func TestCloseEndsAStartInProgress(t *testing.T) {
	p, w, _ := newPool(t, Limits{})
	w.blocked = make(chan struct{})
	es := tools(3)
	p.Want(es)
	until(t, "two are starting", func() bool { return w.starts() == 2 })
	p.Close()
	p.Close()
	if _, _, err := p.Claim(t.Context(), es[0].Key, es[0].Tool); !errors.Is(err, ErrClosed) {
		t.Errorf("claim of a closed pool: %v", err)
	}
	p.Want(es)
	if w.starts() != 2 {
		t.Error("a closed pool starts")
	}
}

// reused-sandbox: whatever happens, no sandbox is handed out twice, and each
// is of the tool that was asked for.
func TestNoSandboxIsHandedOutTwice(t *testing.T) {
	p, w, keep := newPool(t, Limits{Max: 3})
	es := tools(5)
	p.Want(es)
	var mu sync.Mutex
	seen := map[casemate.Sandbox]bool{}
	var all sync.WaitGroup
	for g := range 4 {
		rnd := rand.New(rand.NewPCG(uint64(g), uint64(os.Getpid())))
		all.Go(func() {
			for range 40 {
				e := es[rnd.IntN(5)]
				switch rnd.IntN(8) {
				case 0:
					p.Want(es[rnd.IntN(3):])
				case 1:
					for _, pl := range p.Places() {
						for _, s := range pl.Parked {
							syscall.Kill(s.(*process).cmd.Process.Pid, syscall.SIGKILL)
						}
					}
				}
				sb, _, err := p.Claim(context.Background(), e.Key, e.Tool)
				if err != nil {
					t.Error(err)
					continue
				}
				mu.Lock()
				if seen[sb] {
					t.Error("a sandbox was handed out twice")
				}
				seen[sb] = true
				mu.Unlock()
				if sb.(*process).tool != e.Tool {
					t.Error("a sandbox of another tool was handed out")
				}
				if rnd.IntN(2) == 0 {
					sb.Close()
				} else {
					keep(sb)
				}
			}
		})
	}
	all.Wait()
	n := 0
	for _, c := range parkedOf(p) {
		n += c
	}
	if n > 3 {
		t.Errorf("%d are parked", n)
	}
	_ = w
}
