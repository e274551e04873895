package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// columns are the backends of a report in the order of the matrix.
func (r *probeReport) columns() []string {
	return slices.DeleteFunc(slices.Clone(probed), func(b string) bool {
		_, had := r.Host.Backends[b]
		_, absent := r.Host.Absent[b]
		return !had && !absent
	})
}

// count says how many cells of a column have each verdict.
func (r *probeReport) count(backend string) string {
	n := map[string]int{}
	for _, l := range r.Rows {
		n[l.Verdicts[backend].Verdict]++
	}
	return fmt.Sprintf("%d held, %d n/a, %d BROKEN", n[verdictHeld], n[verdictNA], n[verdictBroken])
}

// showProbe prints the matrix for people: the table first, then what was seen
// of what did not hold, and why what is not applicable is not.
func (a *app) showProbe(r *probeReport) error {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	columns := r.columns()
	width := 0
	for _, l := range r.Rows {
		width = max(width, len(l.Name))
	}
	p("%s, %s, user %d, casemate %s", r.Host.Kernel, r.Host.Arch, r.Host.Uid, r.Host.Version)
	p("")
	head := strings.Repeat(" ", width+2)
	for _, c := range columns {
		head += fmt.Sprintf("%-9s", c)
	}
	p("%s", strings.TrimRight(head, " "))
	for _, l := range r.Rows {
		line := fmt.Sprintf("  %-*s", width, l.Name)
		for _, c := range columns {
			line += fmt.Sprintf("%-9s", " "+map[string]string{verdictHeld: "✓ held", verdictBroken: "✗ BROKEN"}[l.Verdicts[c].Verdict]+map[bool]string{true: "– n/a"}[l.Verdicts[c].Verdict == verdictNA])
		}
		p("%s", strings.TrimRight(line, " "))
	}
	p("")
	for _, l := range r.Rows {
		for _, c := range columns {
			if v := l.Verdicts[c]; v.Verdict == verdictBroken || strings.HasPrefix(v.Why, notMade) {
				p("  ✗ %s on %s", l.Name, c)
				p("      tried  %s", escapeLine(l.Tried))
				p("      saw    %s", escapeLine(v.Why))
			}
		}
	}
	for _, why := range r.reasons() {
		p("  n/a %s", escapeLine(why))
	}
	for _, c := range columns {
		p("%-8s %s", c, r.count(c))
	}
	if len(r.Host.Degraded) > 0 {
		p("This host does not limit %s (allow_degraded).", strings.Join(r.Host.Degraded, ", "))
	}
	if len(r.Host.Without) > 0 {
		p("This was a test WITHOUT %s.", strings.Join(r.Host.Without, ", "))
	}
	return a.line("%s", strings.TrimSuffix(b.String(), "\n"))
}

// reasons lists why cells are not applicable, each reason once with its rows.
func (r *probeReport) reasons() (out []string) {
	rows := map[string][]string{}
	for _, l := range r.Rows {
		for b, v := range l.Verdicts {
			if v.Verdict == verdictNA && !strings.HasPrefix(v.Why, notMade) {
				key := b + ": " + v.Why
				rows[key] = append(rows[key], l.Name)
			}
		}
	}
	for _, why := range slices.Sorted(maps.Keys(rows)) {
		names := rows[why]
		if len(names) == len(r.Rows) {
			out = append(out, why)
		} else {
			out = append(out, why+" — "+strings.Join(names, ", "))
		}
	}
	return out
}

// markdown is the report as docs/matrix.md has it.
func (r *probeReport) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	cell := func(s string) string {
		return strings.NewReplacer("|", "\\|", "<", "&lt;", "*", "\\*", "_", "\\_", "`", "'").Replace(escapeLine(s))
	}
	columns := r.columns()
	p("# What holds on which backend")
	p("")
	p("Written by `casemate probe --markdown` on one host: run `casemate probe` on yours. Each row is an attack that a program makes from inside a sandbox, on victims that the probe made; where there is a victim, the verdict rests on what its side saw, and elsewhere on what the kernel answered the program. `n/a` has its reason below the table. What each wall is, `security-model.md` says.")
	p("")
	p("Host: %s, %s, user %d; casemate %s; %.0f s.", cell(r.Host.Kernel), r.Host.Arch, r.Host.Uid, cell(r.Host.Version), r.Host.Seconds)
	p("")
	for _, c := range columns {
		if e := r.Host.Backends[c]; e != nil {
			on := []string{"namespaces " + strings.Join(e.Namespaces, ", ")}
			if e.Seccomp != "" {
				on = append(on, "seccomp "+string(e.Seccomp[:min(len(e.Seccomp), 19)])+"…")
			}
			if e.Landlock > 0 {
				on = append(on, fmt.Sprintf("Landlock ABI %d", e.Landlock))
			}
			if e.Runtime != "" {
				on = append(on, e.Runtime)
			}
			p("- **%s**: %s. %s.", c, r.count(c), cell(strings.Join(on, "; ")))
		} else {
			p("- **%s** is not available on this host: %s", c, cell(r.Host.Absent[c]))
		}
	}
	p("")
	p("| attack | tried | %s |", strings.Join(columns, " | "))
	p("|---|---|%s", strings.Repeat("---|", len(columns)))
	for _, l := range r.Rows {
		line := "| " + l.Name + " | " + cell(l.Tried) + " |"
		for _, c := range columns {
			line += " " + l.Verdicts[c].Verdict + " |"
		}
		p("%s", line)
	}
	if why := r.reasons(); len(why) > 0 {
		p("")
		p("## Not applicable")
		p("")
		for _, w := range why {
			p("- %s", cell(w))
		}
	}
	return b.String()
}
