package metrics

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/casemate/casemate/pool"
)

// The types of metrics that stand on a page.
const (
	gauge     = "gauge"
	counter   = "counter"
	histogram = "histogram"
)

// A page is text in the exposition format of Prometheus, version 0.0.4: of each
// family its HELP and TYPE, then every sample of it, in lines that end with \n.
type page struct{ b []byte }

type label struct{ name, value string }

func (p *page) add(s ...string) {
	for _, x := range s {
		p.b = append(p.b, x...)
	}
}

// family begins one; a family begins once, and its samples follow at once.
func (p *page) family(name, kind, help string) {
	p.add("# HELP ", name, " ", helpText(help), "\n# TYPE ", name, " ", kind, "\n")
}

func (p *page) sample(name string, v float64, ls ...label) {
	p.add(name)
	for i, l := range ls {
		p.add(map[bool]string{true: "{", false: ","}[i == 0], l.name, `="`, labelText(l.value), `"`)
	}
	if len(ls) > 0 {
		p.add("}")
	}
	p.add(" ", number(v), "\n")
}

// histogram adds one that has counted something.
func (p *page) histogram(name string, h pool.Histogram, ls ...label) {
	if h.Count == 0 {
		return
	}
	ls = ls[:len(ls):len(ls)]
	for i, bound := range pool.Bounds() {
		p.sample(name+"_bucket", float64(h.Counts[i]), append(ls, label{"le", number(bound)})...)
	}
	p.sample(name+"_bucket", float64(h.Count), append(ls, label{"le", "+Inf"})...)
	p.sample(name+"_sum", h.Sum, ls...)
	p.sample(name+"_count", float64(h.Count), ls...)
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// labelText is a value between double quotes. What is no UTF-8 is replaced, for
// a reader would refuse the whole page, and so are control characters.
func labelText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
}

func helpText(s string) string { return strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(s) }
