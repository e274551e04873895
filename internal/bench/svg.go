package bench

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The drawing's measures, in its own units.
const (
	labels = 330.0 // the width of the names
	plot   = 620.0 // of the axis
	lane   = 26.0  // the height of a row
	top    = 44.0
	bins   = 90
)

// SVG draws how the samples of each row are spread, on a logarithmic axis of
// time: the wider, the more; a tick at the p50 and one at the p99. It stands
// by itself, and follows the reader's choice of dark or light.
func (r *Report) SVG() string {
	low, high := math.Inf(1), 0.0
	for _, x := range r.Rows {
		if n := len(x.Sample); n > 0 {
			low, high = min(low, x.Sample[0]), max(high, x.Sample[n-1])
		}
	}
	if high == 0 {
		low, high = 1, 10
	}
	from := math.Floor(math.Log10(max(low, 0.1)))
	to := max(math.Ceil(math.Log10(high)), from+1)
	at := func(us float64) float64 { return labels + (math.Log10(max(us, 0.1))-from)/(to-from)*plot }
	height := top + lane*float64(len(r.Rows)) + 30
	width := labels + plot + 30
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" font-family="system-ui, sans-serif" font-size="12">
<title>What a call costs, in one run</title>
<style>
.back { fill: #ffffff } .text { fill: #1f2328 } .faint { fill: #59636e } .line { stroke: #d1d9e0 } .ours { fill: #0969da } .other { fill: #8c959f } .mark { stroke: #1f2328 }
@media (prefers-color-scheme: dark) { .back { fill: #0d1117 } .text { fill: #f0f6fc } .faint { fill: #9198a1 } .line { stroke: #3d444d } .ours { fill: #4493f8 } .other { fill: #6e7681 } .mark { stroke: #f0f6fc } }
</style>
<rect class="back" width="100%%" height="100%%"/>
<text class="text" x="12" y="20" font-weight="600">What a call costs: %s, %d cores, Linux %s</text>
`, width, height, width, height, html.EscapeString(r.Machine.CPU), r.Machine.Cores, html.EscapeString(r.Machine.Kernel))
	for e := from; e <= to; e++ {
		us := math.Pow(10, e)
		fmt.Fprintf(&b, `<line class="line" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="faint" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n",
			at(us), at(us), top-8, height-26, at(us), height-10, Duration(us))
	}
	for i, x := range r.Rows {
		y := top + lane*(float64(i)+0.5)
		class := "other"
		if ours(x.Subject) {
			class = "ours"
		}
		fmt.Fprintf(&b, `<text class="text" x="12" y="%.1f">%s <tspan class="faint">%s</tspan></text>`+"\n", y+4, html.EscapeString(x.Subject), html.EscapeString(x.Payload))
		fmt.Fprintf(&b, `<path class="%s" d="%s"/>`+"\n", class, violin(x.Sample, from, to, y))
		fmt.Fprintf(&b, `<line class="mark" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke-width="2"/><line class="mark" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n",
			at(x.P50), at(x.P50), y-9, y+9, at(x.P99), at(x.P99), y-5, y+5)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// violin is the outline of a sample around y: its density, smoothed a little.
func violin(sample []float64, from, to, y float64) string {
	var n [bins + 2]float64
	for _, us := range sample {
		i := int((math.Log10(max(us, 0.1)) - from) / (to - from) * bins)
		n[1+min(bins-1, max(0, i))]++
	}
	var smooth [bins + 2]float64
	most := 0.0
	for i := 1; i <= bins; i++ {
		smooth[i] = n[i-1]/4 + n[i]/2 + n[i+1]/4
		most = max(most, smooth[i])
	}
	if most == 0 {
		return ""
	}
	var up, down []string
	for i := 1; i <= bins; i++ {
		if smooth[i] == 0 && smooth[i-1] == 0 && smooth[i+1] == 0 {
			continue
		}
		x, h := labels+(float64(i)-0.5)/bins*plot, 0.4+smooth[i]/most*(lane/2-3)
		up = append(up, fmt.Sprintf("%.1f %.1f", x, y-h))
		down = append([]string{fmt.Sprintf("%.1f %.1f", x, y+h)}, down...)
	}
	return "M" + strings.Join(append(up, down...), "L") + "Z"
}

// ours says whether a subject is Casemate.
func ours(subject string) bool {
	return subject == "router" || strings.HasPrefix(subject, "process/") || strings.HasPrefix(subject, "mcp/") && subject != "mcp/direct"
}
