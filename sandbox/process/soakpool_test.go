package process

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/router"
)

// TestSoakPool claims sandboxes of a real router while parked guests, busy ones,
// templates and spawners are killed at random, and looks that each claim ends as
// it may, that calls work afterwards, and that nothing is left. CASEMATE_SOAK
// sets the number of claims.
func TestSoakPool(t *testing.T) {
	claims := 400
	if s := os.Getenv("CASEMATE_SOAK"); s != "" {
		var err error
		if claims, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	forked := asks(t, "forked", func(t *casemate.Tool) { t.Pool = casemate.Parking{Min: 2, Max: 4} })
	alone := asks(t, "alone", func(t *casemate.Tool) {
		t.Run.Python.NoFork = true
		t.Pool = casemate.Parking{Min: 1, Max: 2}
	})
	tools := []*casemate.Tool{forked, forked, forked, alone} // of the one more often
	p := siteOf(t, Options{}, forked, alone)
	r := routed(t, p, router.Config{}, forked, alone)
	mounts := mountCount(t)
	seen := map[life]bool{}
	spawners := []life{lifeOf(p.s.proc.Pid)}

	var done, failed atomic.Int64
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for done.Add(1) <= int64(claims) {
				code := []string{"print(6*7)", "import time\ntime.sleep(0.02)\nprint(6*7)", "import subprocess\nsubprocess.Popen(['sleep', '300'], start_new_session=True)\nprint(6*7)"}[rand.IntN(3)]
				o := ask(t.Context(), r, "", tools[rand.IntN(len(tools))], code)
				switch {
				case o.Error == nil && printed(o) == "42\n":
				case o.Error != nil && (o.Error.Kind == casemate.ToolFailed || o.Error.Kind == casemate.Internal || o.Error.Kind == casemate.Busy):
					failed.Add(1)
				default:
					t.Error(printed(o))
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { workers.Wait(); close(over) }()
	kills := 0
	for busy := true; busy; {
		select {
		case <-over:
			busy = false
		case <-time.After(time.Duration(rand.IntN(150)) * time.Millisecond):
		}
		all := descendants(p.s.proc.Pid)
		for _, pid := range all {
			seen[lifeOf(pid)] = true
		}
		switch {
		case !busy:
		case rand.IntN(30) == 0:
			p.s.proc.Signal(syscall.SIGKILL)
			p.s.Close()
			s, err := StartSpawner(p.init, p.plan)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			p.s = s
			spawners = append(spawners, lifeOf(s.proc.Pid))
			p.Reconnect(s.Router)
		case len(all) > 0:
			unix.Kill(all[rand.IntN(len(all))], unix.SIGKILL)
			kills++
		}
	}
	for _, tool := range []*casemate.Tool{forked, alone} {
		for i := range 6 { // those that were parked are dead, perhaps
			if out := printed(ask(t.Context(), r, "", tool, "print(6*7)")); out != "42\n" && (i == 5 || !killedWhileParked(out)) {
				t.Error(out)
			}
		}
	}
	t.Logf("%d claims, %d processes and %d spawners killed, %d claims failed", claims, kills, len(spawners)-1, failed.Load())
	if failed.Load() > int64(claims)/2 {
		t.Errorf("%d of %d claims failed", failed.Load(), claims)
	}
	if err := r.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	p.s.Close()
	for l := range seen {
		for end := time.Now().Add(10 * time.Second); !l.over(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("process %d is left", l.pid)
				break
			}
		}
	}
	if now := mountCount(t); now != mounts {
		t.Errorf("%d mounts before, %d after", mounts, now)
	}
	// A new spawner sweeps what a killed one could not.
	s, err := StartSpawner(p.init, p.plan)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Probe(); err != nil {
		t.Error(err)
	}
	for _, l := range spawners {
		if left, _ := filepath.Glob("/sys/fs/cgroup/*/casemate-" + strconv.Itoa(l.pid) + "." + l.start + "*"); len(left) > 0 {
			t.Errorf("cgroups are left: %v", left)
		}
	}
}
