// Command speed measures what casemate bench does not: the time of a tools/call
// of a small running server through other proxies, and through another build,
// beside ours; and the memory that a large result takes on its way.
// It is no test: a number is worth something only beside the others of its run,
// on a machine that does nothing else. See make bench-mcp.
//
// All ways are open at once, and their calls take turns, so that whatever else
// the machine does slows each of them alike. A proxy that is not installed
// (proxies.sh) is left out, and named.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/casemate/casemate/internal/bench"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "server" {
		if err := bench.Serve(os.Stdin, os.Stdout, len(os.Args) > 2 && os.Args[2] == "last"); err != nil {
			fmt.Fprintln(os.Stderr, "speed:", err)
			os.Exit(1)
		}
		return
	}
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "speed:", err)
		os.Exit(1)
	}
}

func measure() error {
	bin := flag.String("bin", "bin", "the `FOLDER` of casemate and casemate-init")
	other := flag.String("other", "", "the `FOLDER` of another build, to compare with")
	proxies := flag.String("proxies", ".cache/speed", "the `FOLDER` that proxies.sh filled")
	calls := flag.Int("calls", 3000, "of each way")
	bulk := flag.Int("bulk", 100, "MiB of the large result; 0: none")
	only := flag.String("only", "", "the one way to measure beside the direct one")
	flag.Parse()

	p, err := newPlace(*bin)
	defer p.close()
	if err != nil {
		return err
	}
	all, left := p.ways(*proxies, *only)
	if *other != "" {
		o, err := newPlace(*other)
		defer o.close()
		if err != nil {
			return err
		}
		more, without := o.ways("", *only)
		for _, w := range more[1:] {
			w.name += " (other)"
			all = append(all, w)
		}
		left = append(left, without...)
	}
	defer func() {
		for _, w := range all {
			w.close()
		}
	}()
	fmt.Printf("%d cores, %s, load %s\n\n", runtime.NumCPU(), runtime.Version(), load())
	if err := latencies(all, *calls); err != nil {
		return err
	}
	for _, l := range left {
		fmt.Println("left out:", l)
	}
	if *bulk == 0 {
		return nil
	}
	fmt.Printf("\na result of %d MiB\n", *bulk)
	for _, w := range all {
		if w.pids == nil {
			continue
		}
		if err := large(w, *bulk); err != nil {
			fmt.Printf("%-28s %v\n", w.name, err)
		}
	}
	return nil
}

const (
	turn = 25  // calls of one way in a row
	warm = 100 // calls that do not count
)

// latencies prints the table of times.
func latencies(all []*way, calls int) error {
	took := make([][]time.Duration, len(all))
	for n := -warm; n < calls; n += turn {
		for i, w := range all {
			for range turn {
				begin := time.Now()
				if err := w.echo(); err != nil {
					return fmt.Errorf("%s: %w", w.name, err)
				}
				if n >= 0 {
					took[i] = append(took[i], time.Since(begin))
				}
			}
		}
	}
	fmt.Printf("%-28s %9s %9s %12s\n", "tools/call", "p50 ms", "p90 ms", "added p50")
	for i, w := range all {
		slices.Sort(took[i])
		at := func(of []time.Duration, p int) float64 { return of[len(of)*p/100].Seconds() * 1e3 }
		fmt.Printf("%-28s %9.3f %9.3f %+12.3f\n", w.name, at(took[i], 50), at(took[i], 90), at(took[i], 50)-at(took[0], 50))
	}
	return nil
}

// large prints what the processes of a way needed at most for one large result,
// more than when nothing ran.
func large(w *way, mib int) error {
	before, err := resident(w.pids())
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := w.bulk(mib << 20); err != nil {
		return err
	}
	took := time.Since(begin)
	after, err := resident(w.pids())
	if err != nil {
		return err
	}
	total := 0
	var parts string
	for pid, now := range after {
		more := now.peak - before[pid].now
		total += more
		parts += fmt.Sprintf("  %s %+.1f", now.name, float64(more)/1024)
	}
	fmt.Printf("%-28s %+8.1f MiB in %.2f s (%s )\n", w.name, float64(total)/1024, took.Seconds(), parts)
	return nil
}

func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil || len(b) < 4 {
		return "?"
	}
	return string(b[:4])
}

// self is the path of this program.
func self() string {
	p, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return p
}

// copied copies a program into dir, so that its processes are told from others.
func copied(dir, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, filepath.Base(file)), b, 0o755)
}

// there says whether a program is.
func there(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}
