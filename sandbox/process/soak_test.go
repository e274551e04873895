package process

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
)

// A life names one process for good: ids come again, start times do not.
type life struct {
	pid   int
	start string
}

func lifeOf(pid int) life {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return life{}
	}
	f := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return life{}
	}
	return life{pid, f[19]}
}

func (l life) over() bool { return l == life{} || lifeOf(l.pid) != l }

// TestSoak makes and kills sandboxes in every way that a process can die, the
// spawner's own death included, and looks that nothing is left: no process,
// no mount, and after the next start no cgroup. CASEMATE_SOAK sets the number
// of cycles.
func TestSoak(t *testing.T) {
	cycles := 1000
	if s := os.Getenv("CASEMATE_SOAK"); s != "" {
		var err error
		if cycles, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	built := testenv.Binaries(t)
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}}
	g, err := Compile(tool, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &plan.Plan{Guests: []plan.Guest{g}}
	if os.Geteuid() != 0 {
		p.Host.AllowDegraded = []string{"memory", "cpu"}
	}
	mounts := mountCount(t)
	var lives []life
	for done := 0; done < cycles; {
		s, err := StartSpawner(built.Init, p)
		if err != nil {
			t.Fatal(err)
		}
		b := New(s.Router)
		lives = append(lives, lifeOf(s.proc.Pid))
		for range min(100, cycles-done) {
			done++
			lives = append(lives, cycle(t, b, tool))
		}
		if rand.IntN(2) == 0 {
			// With sandboxes that run, and one that is being made.
			sb, err := b.Start(t.Context(), casemate.Spec{Tool: tool})
			if err != nil {
				t.Fatal(err)
			}
			lives = append(lives, lifeOf(sb.(*sandbox).pid))
			run(sb, "setsid sleep 300 & sleep 300")
			go b.Start(t.Context(), casemate.Spec{Tool: tool})
			s.proc.Signal(syscall.SIGKILL)
		}
		s.Close()
		<-b.Done()
	}
	for _, l := range lives {
		for end := time.Now().Add(5 * time.Second); !l.over(); time.Sleep(time.Millisecond) {
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
	if s, err := StartSpawner(built.Init, p); err != nil {
		t.Error(err)
	} else {
		if _, err := s.Probe(); err != nil {
			t.Error(err)
		}
		s.Close()
	}
	for _, l := range lives {
		left, _ := filepath.Glob("/sys/fs/cgroup/*/casemate-" + strconv.Itoa(l.pid) + "." + l.start + "*")
		if len(left) > 0 {
			t.Errorf("cgroups are left: %v", left)
		}
	}
}

// cycle makes one sandbox and ends it in one of the ways.
func cycle(t *testing.T, b *Backend, tool *casemate.Tool) life {
	t.Helper()
	sb, err := b.Start(t.Context(), casemate.Spec{Tool: tool})
	if err != nil {
		t.Fatal(err)
	}
	l := lifeOf(sb.(*sandbox).pid)
	switch rand.IntN(4) {
	case 0:
		syscall.Kill(l.pid, syscall.SIGKILL)
	case 1:
		run(sb, "setsid sleep 300 & sleep 300")
	case 2:
		sb.Guest().Close()
	}
	if err := sb.Close(); err != nil {
		t.Fatal(err)
	}
	if !l.over() {
		t.Errorf("close returned, and process %d is there", l.pid)
	}
	return l
}

func run(sb casemate.Sandbox, line string) {
	guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, []guest.Pair{{Key: "command", Value: line}})})
}

func mountCount(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}
