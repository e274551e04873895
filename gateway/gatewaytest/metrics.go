package gatewaytest

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Metrics are the samples of a page, by their series as they are written:
// name{label="value",…}.
type Metrics map[string]float64

// A family is what a page said of one metric.
type family struct {
	kind   string
	bounds map[string]bucket // of a histogram: the last bucket of each series
}

type bucket struct{ le, count float64 }

var (
	familyLine = regexp.MustCompile(`^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^\\"\n]|\\\\|\\"|\\n)*)"`)
)

// ParseMetrics reads a page of Prometheus's text format more strictly than
// Prometheus does: each family has HELP, then TYPE, then all of its samples;
// none begins twice, no series stands twice, counters end with _total and are
// no less than 0, and the buckets of a histogram grow up to +Inf, which is its
// count.
func ParseMetrics(page string) (Metrics, error) {
	out, families := Metrics{}, map[string]*family{}
	if !strings.HasSuffix(page, "\n") || strings.ContainsAny(page, "\r\x00") || !utf8.ValidString(page) {
		return nil, fmt.Errorf("not text of whole lines")
	}
	helped, current := "", ""
	for i, line := range strings.Split(strings.TrimSuffix(page, "\n"), "\n") {
		bad := func(format string, a ...any) (Metrics, error) {
			return nil, fmt.Errorf("line %d, %q: %s", i+1, line, fmt.Sprintf(format, a...))
		}
		if m := familyLine.FindStringSubmatch(line); m != nil {
			switch {
			case families[m[2]] != nil:
				return bad("the family began already")
			case m[1] == "HELP":
				helped = m[2]
			case helped != m[2]:
				return bad("TYPE without HELP before it")
			case m[3] != "gauge" && m[3] != "counter" && m[3] != "histogram":
				return bad("no type of ours")
			case (m[3] == "counter") != strings.HasSuffix(m[2], "_total"):
				return bad("counters, and they alone, end with _total")
			default:
				current, families[m[2]] = m[2], &family{kind: m[3], bounds: map[string]bucket{}}
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			return bad("no sample")
		}
		v, err := strconv.ParseFloat(m[3], 64)
		labels, le, ok := labelsOf(m[2])
		switch {
		case err != nil || math.IsNaN(v) || v < 0:
			return bad("the value")
		case !ok:
			return bad("the labels")
		}
		series := m[1] + m[2]
		if _, twice := out[series]; twice {
			return bad("the series stands twice")
		}
		out[series] = v
		f := families[current]
		part, isPart := strings.CutPrefix(m[1], current+"_")
		switch {
		case f == nil || m[1] != current && !(f.kind == "histogram" && isPart):
			return bad("not beneath its TYPE")
		case f.kind != "histogram":
			if le != "" {
				return bad("le is of histograms")
			}
			continue
		}
		last, seen := f.bounds[labels]
		switch part {
		case "bucket":
			bound, err := strconv.ParseFloat(le, 64)
			if err != nil || seen && (bound <= last.le || v < last.count) {
				return bad("buckets do not grow")
			}
			f.bounds[labels] = bucket{bound, v}
		case "sum":
		case "count":
			if !math.IsInf(last.le, 1) || last.count != v {
				return bad("the last bucket is not +Inf and the count")
			}
			delete(f.bounds, labels)
		default:
			return bad("no part of a histogram")
		}
	}
	for name, f := range families {
		if len(f.bounds) > 0 {
			return nil, fmt.Errorf("%s has buckets and no count", name)
		}
	}
	return out, nil
}

// labelsOf checks the labels of one sample; it returns them without le, and le.
func labelsOf(s string) (labels, le string, ok bool) {
	if s == "" {
		return "", "", true
	}
	rest, seen := s[1:], map[string]bool{}
	for {
		m := labelPair.FindStringSubmatch(rest)
		if m == nil || seen[m[1]] || strings.HasPrefix(m[1], "__") {
			return "", "", false
		}
		seen[m[1]] = true
		if m[1] == "le" {
			le = m[2]
		} else {
			labels += m[0] + ","
		}
		switch rest = rest[len(m[0]):]; {
		case rest == "}":
			return labels, le, true
		case !strings.HasPrefix(rest, ","):
			return "", "", false
		}
		rest = rest[1:]
	}
}
