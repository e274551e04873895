package merge

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// applyMain merges in a process of its own, to be killed: the grant's
// descriptors are 3, 4 and 5.
func applyMain() {
	since, _ := strconv.ParseInt(os.Args[1], 10, 64)
	g := Grant{Upper: 3, Host: 4, Keep: 5, HostPath: "/home/u/work", At: "/work", Since: since}
	steps, err := Plan(g)
	if err == nil {
		os.Stdout.Write([]byte("."))
		_, err = Apply(g, steps)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// killed runs a merge in a process of its own, and kills it after d from when
// it begins to apply.
func (w *world) killed(d time.Duration) {
	w.t.Helper()
	dup := func(fd int) *os.File {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			w.t.Fatal(err)
		}
		return os.NewFile(uintptr(n), "fd")
	}
	cmd := exec.Command(os.Args[0], strconv.FormatInt(w.g.Since, 10))
	cmd.Env = append(os.Environ(), "MERGE_TEST_AS=apply")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{dup(w.g.Upper), dup(w.g.Host), dup(w.g.Keep)}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	out.Read(make([]byte, 1))
	time.Sleep(d)
	cmd.Process.Kill()
	cmd.Wait()
}

// Killed at any moment, each file is old or new; undo from the journal gives
// back every old one, and the next merge finishes what was begun and leaves
// no temporary name.
func TestKilled(t *testing.T) {
	const n, size = 60, 200 << 10
	w := newWorld(t, "")
	text := map[string][]byte{}
	for _, s := range []string{"old", "new"} {
		text[s] = bytes.Repeat([]byte(s[:1]), size)
	}
	for i := range n {
		if i%3 != 0 {
			if err := os.WriteFile(fmt.Sprintf("%s/f%02d", w.host, i), text["old"], 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.claim()
	w.guest(fmt.Sprintf(`python3 -c '
for i in range(%d):
    if i %% 3 == 2: __import__("os").remove("f%%02d" %% i)
    else: open("f%%02d" %% i, "w").write("n" * %d)'`, n, size))
	// state returns how many files are new; each must be one or the other.
	state := func() (changed int) {
		for i := range n {
			b, err := os.ReadFile(fmt.Sprintf("%s/f%02d", w.host, i))
			absent := os.IsNotExist(err)
			isOld, isNew := bytes.Equal(b, text["old"]), bytes.Equal(b, text["new"])
			switch i % 3 {
			case 0:
				isOld = absent
			case 2:
				isNew = absent
			}
			if isOld == isNew {
				t.Fatalf("f%02d is neither old nor new: %d bytes, %v", i, len(b), err)
			}
			if isNew {
				changed++
			}
		}
		return changed
	}
	partly, temps := 0, 0
	for round := range 40 {
		w.claim()
		first := w.g.Keep
		w.killed(time.Duration(rand.IntN(25)) * time.Millisecond)
		if c := state(); 0 < c && c < n {
			partly++
		}
		left, _ := filepath.Glob(w.host + "/" + TempPrefix + "*")
		temps += len(left)
		if round%2 == 1 { // another call, of the same grant
			keep := fmt.Sprintf("%s/keeps/again%d", w.dir, round)
			if err := os.Mkdir(keep, 0o700); err != nil {
				t.Fatal(err)
			}
			w.g.Keep = folderFd(t, keep)
			for _, c := range w.merge() {
				if c.Did == Held || c.Did == Conflict {
					t.Fatal(c)
				}
			}
			if c := state(); c != n {
				t.Fatalf("finished: %d of %d", c, n)
			}
			w.quiet()
			if cs, err := Undo(w.g.Keep, w.g.Host); err != nil && !os.IsNotExist(unwrapped(err)) {
				t.Fatal(cs, err)
			}
			// What the killed one left half done went to the other's left/.
			sh(t, w.dir, fmt.Sprintf(`mkdir -p keeps/%[1]d/left keeps/again%[2]d/left; find keeps/again%[2]d/left -mindepth 1 -exec mv {} keeps/%[1]d/left/ ';'`, w.calls, round))
		}
		if cs, err := Undo(first, w.g.Host); err == nil {
			for _, c := range cs {
				if c.Did == Conflict {
					t.Error("undo: ", c)
				}
			}
		} else if !os.IsNotExist(unwrapped(err)) {
			t.Fatal(err)
		}
		if c := state(); c != 0 {
			t.Fatalf("round %d: %d are new after undo", round, c)
		}
	}
	if partly == 0 {
		t.Error("no merge was killed in the middle: this test showed nothing")
	}
	t.Logf("%d killed in the middle, %d temporary names left", partly, temps)
}

func unwrapped(err error) error {
	if e, ok := err.(*os.PathError); ok {
		return e.Err
	}
	return err
}

// symlink-write: while merges run, a folder of the host's is swapped for a
// link to a folder outside, again and again. Nothing outside changes.
func TestSwapRace(t *testing.T) {
	w := newWorld(t, `mkdir d d/sub; echo 1 >d/canary; echo 1 >d/sub/canary; ln -s ../../outside l`)
	if err := os.Mkdir(w.dir+"/outside/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	w.outside("sub/canary", "outside")
	w.guest(`echo evil >d/evil; echo evil >d/sub/evil; rm d/canary; echo evil >d/sub/canary; mkdir d/more; echo evil >d/more/f; chmod 777 d/more`)
	w.g.Since = math.MaxInt64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	swaps := 0
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if unix.Renameat2(unix.AT_FDCWD, w.host+"/d", unix.AT_FDCWD, w.host+"/l", unix.RENAME_EXCHANGE) == nil {
					swaps++
				}
			}
		}
	})
	written := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		keep, err := os.MkdirTemp(w.dir+"/keeps", "")
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(keep, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.g.Keep = fd
		steps, err := Plan(w.g)
		if err == nil {
			changes, _ := Apply(w.g, steps)
			for _, c := range changes {
				if c.Did == Created || c.Did == Changed || c.Did == Deleted {
					written++
				}
			}
			Undo(fd, w.g.Host)
		}
		unix.Close(fd)
	}
	close(stop)
	wg.Wait()
	sh(t, w.dir, `test "$(find outside | sort | tr '\n' ' ')" = "outside outside/canary outside/sub outside/sub/canary "; test "$(cat outside/canary outside/sub/canary)" = outsideoutside`)
	if written == 0 || swaps < 100 {
		t.Errorf("%d entries written, %d swaps: this test showed nothing", written, swaps)
	}
	t.Logf("%d entries written, %d swaps", written, swaps)
}

// A program on the host that saves the same file again and again, by rename
// as editors do: whichever version a merge displaces is kept.
func TestEditorRace(t *testing.T) {
	w := newWorld(t, `echo 0 >f`)
	w.guest(`echo guest >f`)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	last := 0
	wg.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			os.WriteFile(w.host+"/.f.swp", []byte(strconv.Itoa(i)), 0o644)
			if os.Rename(w.host+"/.f.swp", w.host+"/f") != nil {
				return
			}
			last = i
		}
	})
	lost := 0
	w.g.Since = math.MaxInt64
	for range 300 {
		w.calls++
		keep := fmt.Sprintf("%s/keeps/%d", w.dir, w.calls)
		os.Mkdir(keep, 0o700)
		fd, err := unix.Open(keep, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.g.Keep = fd
		steps, err := Plan(w.g)
		if err != nil {
			t.Fatal(err)
		}
		changes, err := Apply(w.g, steps)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			switch c.Did {
			case Changed: // what it displaced is what was planned on, and is in old/
				var st unix.Stat_t
				if old, _ := filepath.Glob(keep + "/old/*"); len(old) != 1 || unix.Stat(old[0], &st) != nil || st.Ino != steps[0].host.ino {
					lost++
				}
			case Conflict:
			default:
				t.Error(c)
			}
		}
		unix.Close(fd)
	}
	close(stop)
	wg.Wait()
	if lost > 0 || last < 10 {
		t.Errorf("%d lost of %d", lost, last)
	}
	w.quiet()
}
