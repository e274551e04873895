package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/attack"
)

// Attacks that use the host up, with neighbours measured meanwhile.
var probeBombRows = []probeRow{
	{name: "fork-bomb", tried: fmt.Sprintf("start 500 processes where the profile allows %d", probeProcesses),
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			line := "31." + s.place.mark
			out, said, ok := s.beside(ctx, r, "attacker", []string{"fork", "500", line}, []string{"sleep", "1000"})
			if !ok {
				return
			}
			n, err := count(out)
			if err != nil {
				r.failed("%v", err)
				return
			}
			left := hostSees("sleep " + line)
			r.judge(n < 1 || n > probeProcesses || left > 0, "it made %d; when the call was over the host saw %d; %s", n, left, said)
		}},
	{name: "memory-bomb", tried: fmt.Sprintf("take 512 MiB where the profile allows %d", probeMemory>>20),
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.memoryBomb(ctx, r) }},
	{name: "disk-bomb", tried: fmt.Sprintf("write 200 MiB to /tmp, /out, /dev/shm and a write grant where the profile allows %d, and 20,000 empty files", probeDisk>>20),
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			out, said, ok := s.beside(ctx, r, "workshop", words("disk /tmp 200", "disk /out 200", "disk /dev/shm 200", "disk /work 200", "files /tmp 20000")...)
			if !ok {
				return
			}
			bad := len(out) != 5
			var got []string
			for i, o := range out {
				n, err := strconv.Atoi(o.Got)
				bad = bad || o.Through && (err != nil || i < 4 && n > probeDisk>>20 || i == 4 && n >= 20_000)
				got = append(got, o.Got)
			}
			r.judge(bad, "MiB and files that it got: %s; %s", strings.Join(got, ", "), said)
		}},
	{name: "fd-bomb", tried: "open 100,000 descriptors",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.bounded(ctx, r, 100, 4096, "descriptors")
		}},
	{name: "inotify-bomb", tried: "make 200 inotify instances, of which the kernel counts those of a user together",
		na:  map[string]string{"gvisor": "its instances are in gVisor's kernel, and count as its memory alone"},
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.bounded(ctx, r, 1, 16, "watchers") }},
	{name: "output-flood", tried: fmt.Sprintf("print 50 MB where the profile allows %d KiB", probeOutput>>10),
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			_, a, err := s.call(ctx, "attacker", []string{"output", "50000000"})
			switch {
			case err != nil:
				r.failed("%v", err)
			case len(a.text) == 0:
				r.failed("the tool answered nothing")
			default:
				r.judge(len(a.text) > probeOutput+4096, "%d bytes reached the planner", len(a.text))
			}
		}},
	{name: "log-flood", tried: "print 50 MB to standard error, for the host's records to keep",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			before := sizeOf(s.place.path("state"))
			if _, _, err := s.call(ctx, "attacker", []string{"output", "50000000", "2"}); err != nil {
				r.failed("%v", err)
				return
			}
			grew := sizeOf(s.place.path("state")) - before
			r.judge(grew > 1<<20, "what Casemate keeps on the disk grew by %d bytes", grew)
		}},
	{name: "shared-uid-quota", tried: "use up what the kernel counts for a user: descriptors under way, pipe pages, inotify instances, while a neighbour sends a descriptor",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.quota(ctx, r) }},
}

// count is the number that a bomb's first attempt got.
func count(out []attack.Outcome) (int, error) {
	if len(out) == 0 {
		return 0, fmt.Errorf("the attacker said nothing")
	}
	n, err := strconv.Atoi(out[0].Got)
	if err != nil || !out[0].Through {
		return 0, fmt.Errorf("the attacker said %q", short(out[0].Got))
	}
	return n, nil
}

// bounded judges a number that is to lie between least and most.
func (s *probeSite) bounded(ctx context.Context, r *attackRow, least, most int, verb string) {
	out, ok := s.try(ctx, r, "attacker", []string{verb})
	if !ok {
		return
	}
	n, err := count(out)
	if err != nil || n < least {
		r.failed("it got %d: %v", n, err)
		return
	}
	r.judge(n > most, "it got %d, and may have %d", n, most)
}

// beside makes attempts while a neighbour calls a tool of the same server, and
// says how long that took it. A neighbour whose call fails makes the row's
// evidence, and ok false.
func (s *probeSite) beside(ctx context.Context, r *attackRow, tool string, do ...[]string) (out []attack.Outcome, said string, ok bool) {
	alone, err := s.neighbour(ctx, 2)
	if err != nil {
		r.failed("a neighbour's call, before anything: %v", err)
		return nil, "", false
	}
	stop := make(chan struct{})
	var slow []time.Duration
	var nerr error
	var calls sync.WaitGroup
	calls.Go(func() {
		for nerr == nil {
			var took []time.Duration
			took, nerr = s.neighbour(ctx, 1)
			slow = append(slow, took...)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	out, _, err = s.call(ctx, tool, do...)
	close(stop)
	calls.Wait()
	switch {
	case err != nil:
		r.failed("%v", err)
		return nil, "", false
	case nerr != nil:
		r.judge(true, "a neighbour's call failed meanwhile: %v", nerr)
		return nil, "", false
	}
	return out, fmt.Sprintf("%s of a neighbour took at most %d ms meanwhile, and %d ms before", plural(len(slow), "call"), slices.Max(slow).Milliseconds(), slices.Max(alone).Milliseconds()), true
}

// neighbour makes n calls that attack nothing.
func (s *probeSite) neighbour(ctx context.Context, n int) (took []time.Duration, err error) {
	for range n {
		began := time.Now()
		out, a, err := s.call(ctx, "reader", []string{"read", "/shared/doc.txt"})
		if err == nil && (len(out) != 1 || !out[0].Through) {
			err = fmt.Errorf("the tool answered %q", short(a.text))
		}
		if err != nil {
			return took, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

func (s *probeSite) memoryBomb(ctx context.Context, r *attackRow) {
	const bomb = 512
	if slices.Contains(s.degraded, "memory") {
		r.na("this host lets this user limit no memory, as it said, and the configuration allows that; the attack is not made where nothing would hold it")
		return
	}
	if slices.Contains(s.without, "memory") && availableMiB() < 4*bomb {
		r.na("with the wall gone the host must have %d MiB to spare", 4*bomb)
		return
	}
	// The call ends with its sandbox, so that its outcomes may not come.
	var a answer
	out, said, ok := s.besideRaw(ctx, r, &a, []string{"memory", strconv.Itoa(bomb)})
	if !ok {
		return
	}
	through := len(out) > 0 && out[0].Through
	if !through && !a.failed {
		r.failed("the tool answered %q", short(a.text))
		return
	}
	r.judge(through, "the planner got %q; %s", short(a.text), said)
}

// besideRaw is beside with the whole answer.
func (s *probeSite) besideRaw(ctx context.Context, r *attackRow, a *answer, do ...[]string) ([]attack.Outcome, string, bool) {
	out, whole, err := s.call(ctx, "attacker", do...)
	if *a = whole; err != nil {
		r.failed("%v", err)
		return nil, "", false
	}
	took, err := s.neighbour(ctx, 1)
	if err != nil {
		r.judge(true, "a neighbour's call failed after it: %v", err)
		return nil, "", false
	}
	return out, fmt.Sprintf("the next call of a neighbour took %d ms", took[0].Milliseconds()), true
}

// quota has one sandbox hold what the kernel counts for each user while
// another does a little.
func (s *probeSite) quota(ctx context.Context, r *attackRow) {
	if os.Geteuid() != 0 {
		r.na("an ordinary user's sandboxes share that user's number; each has its own only where root makes them")
		return
	}
	var hogs sync.WaitGroup
	began := make(chan struct{}, 3)
	for _, verb := range []string{"inflight", "pipes", "inotify"} {
		hogs.Go(func() {
			began <- struct{}{}
			s.call(ctx, "attacker", []string{verb})
		})
	}
	for range 3 {
		<-began
	}
	var worst []attack.Outcome
	ok := true
	for end := time.Now().Add(3 * time.Second); ok && time.Now().Before(end); { // the hogs hold for as long
		var out []attack.Outcome
		if out, ok = s.try(ctx, r, "reader", words("sendfd", "watchers", "read /shared/doc.txt")...); ok && (worst == nil || !out[0].Through || out[1].Got == "0" || !out[2].Through) {
			worst = out
		}
	}
	hogs.Wait()
	if ok {
		r.judge(!worst[0].Through || worst[1].Got == "0" || !worst[2].Through, "a neighbour sent a descriptor: %s; it made %s inotify instances; it read its file: %s", yesNo(worst[0].Through), worst[1].Got, yesNo(worst[2].Through))
	}
}

// sharedMemory makes a segment that everybody may use.
func (s *probeSite) sharedMemory(ctx context.Context, r *attackRow) {
	key := 0x10000000 + os.Getpid()
	id, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|unix.IPC_EXCL|0o666)
	if err != nil {
		r.na("this host has no shared memory of System V: %v", err)
		return
	}
	defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	s.none(ctx, r, "attacker", []string{"shm", strconv.Itoa(key)})
}

// sizeOf adds up the sizes of the files of a tree.
func sizeOf(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// Attacks on how long a sandbox lasts, and on what two of them share.
var probeScopeRows = []probeRow{
	{name: "orphan", tried: "leave processes behind in sessions of their own when the call is over",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			line := "27." + s.place.mark
			if o, ok := s.one(ctx, r, "attacker", "fork", "3", line); ok {
				left := hostSees("sleep " + line)
				r.judge(left > 0 || o.Got == "0", "of %s that it left the host saw %d when the call was over", o.Got, left)
			}
		}},
	{name: "reused-sandbox", tried: "leave files in /tmp, /out and /dev/shm for the next call",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			if _, ok := s.try(ctx, r, "attacker", words("plant /tmp/left x", "plant /out/left x", "plant /dev/shm/left x")...); ok {
				s.none(ctx, r, "attacker", words("exists /tmp/left", "exists /out/left", "exists /dev/shm/left")...)
			}
		}},
	{name: "clone-rng", tried: "compare the random bytes and identifiers of two sandboxes of one tool",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			var got [2]map[string]string
			for i := range got {
				o, ok := s.one(ctx, r, "attacker", "random")
				if !ok {
					return
				}
				if err := json.Unmarshal([]byte(o.Got), &got[i]); err != nil {
					r.failed("the attacker said %q", short(o.Got))
					return
				}
			}
			r.alike(got)
		}},
}

// alike judges whether two sandboxes have a random value in common.
func (r *attackRow) alike(got [2]map[string]string) {
	var same, seen []string
	for k, v := range got[0] {
		if seen = append(seen, k); v == got[1][k] {
			same = append(same, k)
		}
	}
	slices.Sort(seen)
	r.judge(len(same) > 0 || len(seen) == 0, "of %s the same in both: %s", strings.Join(seen, ", "), orNone(same))
}
