package process

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
	"github.com/casemate/casemate/internal/testenv"
)

// A router that asks and does not read waits: the spawner holds a bounded
// number of its requests. When it reads, each is answered.
func TestRequestFlood(t *testing.T) {
	s, err := StartSpawner(testenv.Binaries(t).Init, &plan.Plan{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const requests = 8000
	router := spawn.NewConn(s.Router)
	var sent atomic.Int64
	go func() {
		for range requests {
			if router.Send(&spawn.Message{Op: spawn.OpStart, Seq: 1, Start: spawn.Start{Digest: "none"}}) != nil {
				return
			}
			sent.Add(1)
		}
	}()
	for last := int64(-1); last != sent.Load(); time.Sleep(300 * time.Millisecond) {
		last = sent.Load()
	}
	if n := sent.Load(); n > requests/2 {
		t.Errorf("the spawner took %d requests of a router that does not read", n)
	}
	over := time.AfterFunc(20*time.Second, func() { router.Close() })
	defer over.Stop()
	for i := range requests {
		if m, _, err := router.Recv(); err != nil || m.Op != spawn.OpFailed {
			t.Fatalf("answer %d: %+v %v", i, m, err)
		}
	}
}
