package bench

import (
	"fmt"
	"regexp"
	"strings"
)

// The sentences of the page: they hold whatever the numbers are.
const (
	pageHead = `# Performance

Written by ` + "`casemate bench --markdown`" + ` (` + "`make performance`" + `); nothing here is typed by hand. All numbers are of one run, in which the subjects took turns, in another order each round. Times are worth something only beside each other: what compares between machines are the ratios.
`
	pageRows = `
## What one call costs

Each subject starts a program, or asks a guest that waits, and the time is taken until the payload's exit, or its first byte, is seen. The ratio is of the p50 to ` + "`bwrap --unshare-all … true`" + ` in the same run; what stands in brackets holds the percentile with 95 of 100, by bootstrap. A p99 of fewer than 100 samples, marked ~, is only the slowest that was seen.

- ` + "`process/cold`" + ` makes the sandbox, with every wall: namespaces, mounts, Landlock, seccomp, a cgroup, a user of its own; bwrap has the namespaces and the mounts alone. ` + "`process/pooled`" + ` calls a guest that was made before; ` + "`process/forked`" + ` forks it from a template for the call.
- ` + "`oci`" + `, ` + "`gvisor`" + ` and ` + "`wasm`" + ` are the same sandbox with another wall in it: a container of runc or crun, gVisor's kernel, a module in its engine. Their ` + "`…/routed`" + ` is the whole call of a router whose pool has one that waits.
- ` + "`mcp/stdio`" + ` and ` + "`mcp/http`" + ` are a client's whole ` + "`tools/call`" + ` to a real ` + "`casemate serve`" + `, with its pool, its router and its records.
- ` + "`router`" + ` alone has a backend and a recorder that answer at once; nothing else here does.
- Peers run with settings that deny network and files, as far as they can; where they cannot, it is said. All are started in the same way, by the same process.
`
	pageRates = `
## Throughput

Calls a second on all cores, with as many workers as cores, and twice as many where a server works for them. The ratio is to the first subject of its payload.
`
	pageMemory = `
## Memory of guests that wait

What is nobody else's (` + "`Private_*`" + ` of ` + "`/proc/PID/smaps_rollup`" + `), of every process that belongs to a guest. The first has with it what is needed once.
`
	pageGrowth = `
## Growth

A call of a Python tool, each in a fresh sandbox, at the same rate for each size. The servers of all sizes run at once.
`
	pageBounds = `
## What bounds them

The kernel's own floor is this program, compiled and run in the same run, in turns with the rest; ` + "`floor/fork`" + ` is ` + "`os.fork`" + ` of a warm Python, and ` + "`floor/warm`" + ` the code in one, both without any sandbox.
`
	pageCalls = `
The system calls of one run, of all its processes, as ` + "`strace -f -c`" + ` counts them, but for those that wait (futex, nanosleep and the like); of ours what one more run adds to those before. ` + "`process/parked`" + ` is a guest that is made and ended, and ` + "`process/pooled`" + ` what its call adds.
`
	pageTargets = `
## Targets

What Casemate sets itself. Where the kernel alone needs a good part of it, that stands beside it.
`
	pageFailed = `
## Not measured
`
)

// bounds are what a time of ours cannot fall below, and by which subjects that
// is measured: the sum of their p50.
var bounds = [...]struct {
	subject, payload string
	floors           [][2]string
	why              string
}{
	{"process/cold", "true", [][2]string{{FloorAll, "nothing"}, {"posix_spawn", "true"}}, "namespaces, of which the network's is made by one process at a time; mounts; one fork and execve"},
	{"process/forked", "python", [][2]string{{FloorShared, "nothing"}, {FloorFork, "python"}}, "a fork of the interpreter with its page tables, and the namespaces but the network's"},
	{"process/pooled", "first byte", [][2]string{{FloorSwitch, "nothing"}}, "two switches between processes, and the open and read of a file"},
	{"process/pooled", "python", [][2]string{{FloorWarm, "python"}}, "two switches between processes, and the interpreter's own work for the code"},
	{"process/pooled", "static true", [][2]string{{FloorSwitch, "nothing"}, {"posix_spawn", "static true"}}, "two switches between processes; one fork and execve"},
	{"process/pooled", "true", [][2]string{{FloorSwitch, "nothing"}, {"posix_spawn", "true"}}, "the same, and the libraries of the program"},
	{"mcp/stdio", "echo", [][2]string{{"mcp/direct", "echo"}}, "the switches between the processes that a call passes, and two records"},
	{"mcp/stdio", "python", [][2]string{{"mcp/direct", "echo"}, {FloorWarm, "python"}}, "those, and the interpreter's work"},
}

// Markdown is the report as a page.
func (r *Report) Markdown() string {
	var b strings.Builder
	m := r.Machine
	b.WriteString(pageHead)
	fmt.Fprintf(&b, "\nThe machine: %s, %d cores (%s), %s of memory, Linux %s, %s; load %s before.", m.CPU, m.Cores, m.Arch, gibibytes(m.Memory), m.Kernel, who(m.Root), m.Load)
	if m.Python != "" {
		fmt.Fprintf(&b, " The interpreter of all subjects is %s.", m.Python)
	}
	if len(m.Degraded) > 0 {
		fmt.Fprintf(&b, " It gives no limit of %s; ours ran without.", strings.Join(m.Degraded, " and "))
	}
	fmt.Fprintf(&b, " The run took %.0f s%s.\n", r.Took, map[bool]string{true: ", with `--quick`"}[r.Quick])
	if r.Drawing != "" {
		fmt.Fprintf(&b, "\n![How the times of each subject are spread, on a logarithmic axis](%s)\n", r.Drawing)
	}
	table := func(text string, heads []string, rows [][]string) {
		if len(rows) == 0 {
			return
		}
		b.WriteString(text + "\n| " + strings.Join(heads, " | ") + " |\n|" + strings.Repeat("---|", len(heads)) + "\n")
		for _, row := range rows {
			for i, c := range row {
				row[i] = cell(c)
			}
			b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		}
	}
	var rows [][]string
	for _, t := range r.Targets {
		measured := t.Measured
		if t.Missing != "" {
			measured = "(without " + t.Missing + ")"
		}
		rows = append(rows, []string{t.What, t.Want, measured, held(t), t.Floor})
	}
	table(pageTargets, []string{"what", "target", "measured", "held", "the kernel alone"}, rows)
	rows = nil
	for _, x := range r.Rows {
		rows = append(rows, []string{x.Subject, x.Payload, Duration(x.P50) + in(x.In50), Duration(x.P90), p99(x) + in(x.In99), fmt.Sprint(x.N), ratio(x.Ratio), x.Note})
	}
	table(pageRows, []string{"subject", "payload", "p50", "p90", "p99", "n", "of bwrap", ""}, rows)
	rows = nil
	for _, x := range r.Rates {
		rows = append(rows, []string{x.Subject, x.Payload, fmt.Sprint(x.Workers), short(x.PerSecond), ratio(x.Ratio), x.Note})
	}
	table(pageRates, []string{"subject", "payload", "workers", "a second", "ratio", ""}, rows)
	rows = nil
	for _, x := range r.Memory {
		rows = append(rows, []string{x.Subject, mebibytes(float64(x.First)), mebibytes(x.Further), fmt.Sprint(x.Guests), noted(x)})
	}
	table(pageMemory, []string{"guest", "the first", "each further one", "guests", ""}, rows)
	for i, g := range r.Growth {
		rows = nil
		for _, x := range g.Points {
			rows = append(rows, []string{fmt.Sprint(x.Size), Duration(x.P50), Duration(x.P99) + in(x.In99), fmt.Sprint(x.N)})
		}
		text := fmt.Sprintf("\n%s calls a second for each number of %s:\n", short(g.Rate), g.What)
		if i == 0 {
			text = pageGrowth + text
		}
		table(text, []string{g.What, "p50", "p99", "n"}, rows)
	}
	r.bounded(&b, table)
	if len(r.Failed)+len(r.Absent) > 0 {
		b.WriteString(pageFailed)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "\n- %s: %s", cell(strings.TrimSpace(f.Subject+" "+f.Payload)), cell(f.Why))
	}
	if len(r.Absent) > 0 {
		fmt.Fprintf(&b, "\n- Not on this machine: %s.", strings.Join(r.Absent, ", "))
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// bounded says of ours what bounds it, and how far it is from that.
func (r *Report) bounded(b *strings.Builder, table func(string, []string, [][]string)) {
	text := pageBounds
	if r.Floor != "" {
		text += "\n```c\n" + r.Floor + "```\n"
	}
	var rows [][]string
	for _, x := range bounds {
		row := r.Row(x.subject, x.payload)
		sum, by := 0.0, []string{}
		for _, f := range x.floors {
			if floor := r.Row(f[0], f[1]); floor != nil {
				sum += floor.P50
				by = append(by, f[0]+" ("+f[1]+")")
			}
		}
		if row != nil && len(by) == len(x.floors) {
			rows = append(rows, []string{x.subject, x.payload, x.why, strings.Join(by, " + "), Duration(sum), of(row.P50, sum)})
		}
	}
	table(text, []string{"subject", "payload", "bounded by", "measured by", "p50", "we take"}, rows)
	rows = nil
	for _, c := range r.Calls {
		rows = append(rows, []string{c.Subject, c.Payload, short(c.Total), counts(c.Most, len(c.Most))})
	}
	table(pageCalls, []string{"subject", "payload", "in all", "of them"}, rows)
}

func in(i Interval) string { return fmt.Sprintf(" (%s … %s)", Duration(i.Low), Duration(i.High)) }

// path is an absolute path: the page holds none of the machine's.
var path = regexp.MustCompile(`(^|[^\w/.])(/+[\w.+@-]+)(/[\w.+@-]*)+`)

// cell is text that a table may hold, with no path of this machine.
func cell(s string) string {
	s = path.ReplaceAllString(s, "$1…")
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "`", "'").Replace(s)
}
