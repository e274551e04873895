package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/casemate/casemate/pool"
)

// A poolView is what there is to show of all servers at one moment.
type poolView struct {
	servers int
	pools   []poolRow
	calls   []callRow
}

// A sheet is what a view is drawn on.
type sheet struct {
	width  int // columns; 0 is no bound
	height int // lines; 0 is no bound, and then every tool is shown
	bars   bool
	ascii  bool // the terminal shows no other bars
	now    time.Time
}

// A column of the table. Where the terminal is too narrow, those of the
// smallest keep go first; 0 stays.
type column struct {
	head string
	left bool // of numbers the right edge is even
	keep int
	cell func(poolRow) string
}

func (v poolView) columns(s sheet) []column {
	number := func(head string, keep int, of func(poolRow) uint64) column {
		return column{head, false, keep, func(p poolRow) string { return fmt.Sprint(of(p)) }}
	}
	cs := []column{
		{"TOOL", true, 0, func(p poolRow) string { return escapeLine(string(p.Tool)) }},
		{"BACKEND", true, 2, func(p poolRow) string { return escapeLine(p.Backend) }},
		{"PARKED", true, 0, func(p poolRow) string {
			return s.bar(p.Parked, p.Wanted) + fmt.Sprintf("%d/%d", p.Parked, p.Wanted)
		}},
		number("BUSY", 0, func(p poolRow) uint64 { return uint64(p.Busy) }),
		number("STARTING", 4, func(p poolRow) uint64 { return uint64(p.Starting) }),
		number("WAITING", 1, func(p poolRow) uint64 { return uint64(p.Waiting) }),
		number("CLAIMED", 10, func(p poolRow) uint64 { return p.Claimed }),
		number("COLD", 8, func(p poolRow) uint64 { return p.Cold }),
		number("REFUSED", 7, func(p poolRow) uint64 { return p.Refused }),
		number("FAILED", 3, func(p poolRow) uint64 { return p.Failed }),
		{"START p50 p99", false, 6, func(p poolRow) string { return percentiles(p.Start) }},
		{"CLAIM p50 p99", false, 9, func(p poolRow) string { return percentiles(p.Claim) }},
		{"MEMORY", false, 5, func(p poolRow) string { return size(p.Bytes) }},
	}
	if v.servers > 1 {
		cs = append([]column{{"SERVER", false, 11, func(p poolRow) string { return fmt.Sprint(p.Server) }}}, cs...)
	}
	return cs
}

// lines are the whole view. Nothing in them drives a terminal, and none is
// wider than the sheet, so that each is one line there.
func (v poolView) lines(s sheet) []string {
	var out []string
	s.bars = s.bars && (s.width == 0 || s.width >= narrow) // numbers come before bars
	rows, quiet := v.pools, 0
	if s.height > 0 {
		rows = slices.DeleteFunc(slices.Clone(rows), func(p poolRow) bool {
			still := p.Parked+p.Wanted+p.Busy+p.Starting == 0 && p.Claimed+p.Failed+p.Refused == 0 && p.Error == ""
			if still {
				quiet++
			}
			return still
		})
	}
	out = append(out, table(v.columns(s), rows, s.width)...)
	if quiet > 0 {
		out = append(out, plural(quiet, "other tool")+" of which nothing waits and nothing was called")
	}
	var calls []string
	for _, x := range v.calls {
		age := x.Since.Local().Format("since 15:04:05")
		if !s.now.IsZero() {
			age = fmt.Sprintf("for %s", max(s.now.Sub(x.Since), 0).Round(100*time.Millisecond))
		}
		calls = append(calls, fmt.Sprintf("%s  %s  %s", escapeLine(string(x.Call)), escapeLine(string(x.Tool)), age))
	}
	if len(calls) > 0 {
		calls = append([]string{"", plural(len(calls), "call") + " in flight"}, calls...)
	}
	if s.height > 0 {
		calls = bounded(calls, max(s.height/3, s.height-len(out)))
		out = bounded(out, s.height-len(calls))
	}
	out = append(out, calls...)
	for i := range out {
		out[i] = fitted(out[i], s.width)
	}
	return out
}

// String is the row on a line of its own.
func (p poolRow) String() string {
	s := fmt.Sprintf("%d: %d of %d parked, %d busy; %d claimed, %d cold, %d refused, %d failed", p.Server, p.Parked, p.Wanted, p.Busy, p.Claimed, p.Cold, p.Refused, p.Failed)
	for _, h := range []struct {
		what string
		took pool.Histogram
	}{{"start", p.Start}, {"claim", p.Claim}} {
		if h.took.Count > 0 {
			s += fmt.Sprintf("; %s p50 %s, p99 %s", h.what, quantile(h.took, 0.5), quantile(h.took, 0.99))
		}
	}
	return s
}

// bounded is most lines of ls at most; the last says how many are left out.
func bounded(ls []string, most int) []string {
	if len(ls) <= most {
		return ls
	}
	most = max(most, 1)
	return append(slices.Clone(ls[:most-1]), fmt.Sprintf("… and %d more lines", len(ls)-most+1))
}

// table is a heading and a line for each row; beneath it, why its last start
// failed.
func table(cs []column, rows []poolRow, width int) []string {
	cells := make([][]string, len(rows)+1)
	widths := make([]int, len(cs))
	for i, c := range cs {
		for r := range cells {
			text := c.head
			if r > 0 {
				text = c.cell(rows[r-1])
			}
			if c.head == "TOOL" && r > 0 && width > 0 {
				text = fitted(text, max(width/4, 12))
			}
			cells[r] = append(cells[r], text)
			widths[i] = max(widths[i], columnsOf(text))
		}
	}
	shown := fits(cs, widths, width)
	var out []string
	for r := range cells {
		var line []string
		for i, c := range cs {
			if !shown[i] {
				continue
			}
			pad := strings.Repeat(" ", widths[i]-columnsOf(cells[r][i]))
			if c.left {
				line = append(line, cells[r][i]+pad)
			} else {
				line = append(line, pad+cells[r][i])
			}
		}
		out = append(out, strings.TrimRight(strings.Join(line, "  "), " "))
		if r > 0 && rows[r-1].Error != "" {
			out = append(out, "    last failure: "+escapeLine(rows[r-1].Error))
		}
	}
	return out
}

// fits says which columns are shown in that width.
func fits(cs []column, widths []int, width int) []bool {
	shown, all := make([]bool, len(cs)), -2
	for i := range cs {
		shown[i], all = true, all+widths[i]+2
	}
	for width > 0 && all > width {
		least := -1
		for i, c := range cs {
			if shown[i] && c.keep > 0 && (least < 0 || c.keep < cs[least].keep) {
				least = i
			}
		}
		if least < 0 {
			break
		}
		shown[least], all = false, all-widths[least]-2
	}
	return shown
}

const (
	barWidth = 10
	narrow   = 40 // columns, below which there is no room for bars
)

// bar shows how many of those that are wanted are there.
func (s sheet) bar(have, want int) string {
	if !s.bars {
		return ""
	}
	full, empty := "█", "░"
	if s.ascii {
		full, empty = "#", "."
	}
	n := 0
	if most := max(have, want); most > 0 {
		n = (have*barWidth + most/2) / most
	}
	if max(have, want) == 0 {
		empty = " "
	}
	return strings.Repeat(full, n) + strings.Repeat(empty, barWidth-n) + " "
}

func percentiles(h pool.Histogram) string {
	if h.Count == 0 {
		return "-"
	}
	return quantile(h, 0.5) + " " + quantile(h, 0.99)
}

// quantile estimates a quantile as Prometheus does, evenly within its bucket;
// where all are in one, their mean is nearer.
func quantile(h pool.Histogram, q float64) string {
	rank, below, low := q*float64(h.Count), 0.0, 0.0
	bounds := pool.Bounds()
	for i, high := range bounds {
		n := float64(h.Counts[i])
		if n-below == float64(h.Count) {
			return seconds(h.Sum / n)
		}
		if n >= rank {
			return seconds(low + (high-low)*(rank-below)/max(n-below, 1))
		}
		below, low = n, high
	}
	return ">" + seconds(low)
}

// seconds is a number of seconds with two digits that count.
func seconds(s float64) string {
	unit := "s"
	switch {
	case s < 1e-3:
		s, unit = s*1e6, "µs"
	case s < 1:
		s, unit = s*1e3, "ms"
	}
	if s < 9.95 {
		return fmt.Sprintf("%.1f%s", s, unit)
	}
	return fmt.Sprintf("%.0f%s", s, unit)
}

// columnsOf is how many columns of a terminal s takes, or more: every character
// that may be a wide one counts as two.
func columnsOf(s string) (n int) {
	for _, r := range s {
		n++
		if r >= 0x1100 && (r < 0x2500 || r > 0x259f) && r != '…' {
			n++
		}
	}
	return n
}

// fitted is s, cut where it is wider than width; 0 is no bound.
func fitted(s string, width int) string {
	if width <= 0 || columnsOf(s) <= width {
		return s
	}
	for columnsOf(s) > width-1 && s != "" {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s + "…"
}
