package bench

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// few is the number of samples below which the 99th percentile is only the
// slowest that was seen.
const few = 100

// Table is the report for a terminal.
func (r *Report) Table() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "%s, %d cores, %s of memory, Linux %s, %s, load %s\n", m.CPU, m.Cores, gibibytes(m.Memory), m.Kernel, who(m.Root), m.Load)
	if len(m.Degraded) > 0 {
		fmt.Fprintf(&b, "this host gives no limit of %s: ours ran without\n", strings.Join(m.Degraded, " and "))
	}
	section := func(heading string, lines func(w *tabwriter.Writer)) {
		b.WriteString("\n")
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, heading)
		lines(w)
		w.Flush()
	}
	if len(r.Rows) > 0 {
		section("SUBJECT\tPAYLOAD\tP50\tP90\tP99\tN\tOF BWRAP\t", func(w *tabwriter.Writer) {
			for _, x := range r.Rows {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", x.Subject, x.Payload, Duration(x.P50), Duration(x.P90), p99(x), x.N, ratio(x.Ratio), x.Note)
			}
		})
		if hasFew(r.Rows) {
			fmt.Fprintf(&b, "~ of fewer than %d: the slowest that was seen\n", few)
		}
	}
	if len(r.Rates) > 0 {
		section("THROUGHPUT\tPAYLOAD\tWORKERS\tA SECOND\tRATIO\t", func(w *tabwriter.Writer) {
			for _, x := range r.Rates {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", x.Subject, x.Payload, x.Workers, short(x.PerSecond), ratio(x.Ratio), x.Note)
			}
		})
	}
	if len(r.Memory) > 0 {
		section("MEMORY OF A PARKED GUEST\tFIRST\tEACH FURTHER\tGUESTS\t", func(w *tabwriter.Writer) {
			for _, x := range r.Memory {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", x.Subject, mebibytes(float64(x.First)), mebibytes(x.Further), x.Guests, noted(x))
			}
		})
	}
	for _, g := range r.Growth {
		section("WITH MORE "+strings.ToUpper(g.What)+"\tP50\tP99\tN\t", func(w *tabwriter.Writer) {
			for _, x := range g.Points {
				fmt.Fprintf(w, "%d\t%s\t%s\t%d\t\n", x.Size, Duration(x.P50), Duration(x.P99), x.N)
			}
		})
	}
	if len(r.Calls) > 0 {
		section("SYSTEM CALLS OF ONE\tPAYLOAD\tIN ALL\t", func(w *tabwriter.Writer) {
			for _, x := range r.Calls {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.Subject, x.Payload, short(x.Total), counts(x.Most, 8))
			}
		})
	}
	known := slices.DeleteFunc(slices.Clone(r.Targets), func(x Target) bool { return x.Held == nil })
	if len(known) > 0 {
		section("TARGET\tWANTED\tMEASURED\tHELD\tKERNEL ALONE\t", func(w *tabwriter.Writer) {
			for _, x := range known {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", x.What, x.Want, x.Measured, held(x), x.Floor)
			}
		})
	}
	b.WriteString("\n")
	if unknown := len(r.Targets) - len(known); unknown > 0 {
		fmt.Fprintf(&b, "%d targets need what this run does not have; --json says what\n", unknown)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "not measured: %s: %s\n", strings.TrimSpace(f.Subject+" "+f.Payload), strings.ReplaceAll(f.Why, "\n", " "))
	}
	if len(r.Absent) > 0 {
		fmt.Fprintf(&b, "not on this machine: %s\n", strings.Join(r.Absent, ", "))
	}
	fmt.Fprintf(&b, "%.0f s; only the ratios compare between machines\n", r.Took)
	return b.String()
}

func p99(x Row) string {
	if x.N < few {
		return "~" + Duration(x.P99)
	}
	return Duration(x.P99)
}

func hasFew(rows []Row) bool {
	for _, x := range rows {
		if x.N < few {
			return true
		}
	}
	return false
}

func ratio(r *float64) string {
	if r == nil {
		return ""
	}
	return of(*r, 1)
}

func held(t Target) string {
	switch {
	case t.Held == nil:
		return "not measured"
	case *t.Held:
		return "yes"
	}
	return "no"
}

func noted(m Memory) string {
	if m.Unread == 0 {
		return m.Note
	}
	return strings.TrimPrefix(fmt.Sprintf("%s; %d processes could not be read", m.Note, m.Unread), "; ")
}

func counts(all []CallCount, n int) string {
	var out []string
	for _, c := range all[:min(n, len(all))] {
		out = append(out, c.Name+" "+short(c.Each))
	}
	return strings.Join(out, ", ")
}

func who(root bool) string {
	if root {
		return "as root"
	}
	return "as an ordinary user"
}

func gibibytes(b int64) string { return short(float64(b)/(1<<30)) + " GiB" }
