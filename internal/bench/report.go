package bench

import (
	"slices"
	"time"
)

// Base is the subject that ratios are to, with the payload true.
const Base = "bwrap"

// A Report is one run.
type Report struct {
	Machine Machine   `json:"machine"`
	Quick   bool      `json:"quick"`
	Took    float64   `json:"took_s"`
	Rows    []Row     `json:"rows"`
	Failed  []Failure `json:"failed"` // what is there and could not be measured
	Absent  []string  `json:"absent"` // programs that are not on this machine
	Rates   []Rate    `json:"throughput"`
	Memory  []Memory  `json:"memory"`
	Growth  []Growth  `json:"growth"`
	Calls   []Calls   `json:"system_calls"`
	Floor   string    `json:"-"` // the program that shows the kernel's own floor
	Drawing string    `json:"-"` // the name of the drawing's file, beside the page; "": none
	Targets []Target  `json:"targets"`
}

// A Row is the time of one subject with one payload, in microseconds.
type Row struct {
	Subject string   `json:"subject"`
	Payload string   `json:"payload"`
	P50     float64  `json:"p50_us"`
	P90     float64  `json:"p90_us"`
	P99     float64  `json:"p99_us"`
	N       int      `json:"n"`
	Ratio   *float64 `json:"ratio"` // of the p50 to bwrap's with true; null where there is none
	In50    Interval `json:"p50_in_us"`
	In99    Interval `json:"p99_in_us"`
	Note    string   `json:"note,omitempty"`

	Sample []float64 `json:"-"` // sorted
}

// A Failure is a subject that was not measured, and why.
type Failure struct {
	Subject string `json:"subject"`
	Payload string `json:"payload,omitempty"`
	Why     string `json:"why"`
}

// NewRow reduces a sample.
func NewRow(subject, payload, note string, took []time.Duration) Row {
	us := microseconds(took)
	in := Bootstrap(us, 50, 99)
	return Row{Subject: subject, Payload: payload, Note: note, N: len(us), Sample: us,
		P50: Percentile(us, 50), P90: Percentile(us, 90), P99: Percentile(us, 99), In50: in[0], In99: in[1]}
}

// Add puts results into the report, in their order, and their ratios.
func (r *Report) Add(results []Result) {
	for _, o := range results {
		switch {
		case o.Err != nil:
			r.Failed = append(r.Failed, Failure{o.Name, o.Payload, o.Err.Error()})
		case len(o.Took) > 0:
			r.Rows = append(r.Rows, NewRow(o.Name, o.Payload, o.Note, o.Took))
		}
	}
	base := r.Row(Base, "true")
	if base == nil {
		return
	}
	for i := range r.Rows {
		ratio := r.Rows[i].P50 / base.P50
		r.Rows[i].Ratio = &ratio
	}
}

// Row returns the row of that subject and payload, or nil.
func (r *Report) Row(subject, payload string) *Row {
	i := slices.IndexFunc(r.Rows, func(x Row) bool { return x.Subject == subject && x.Payload == payload })
	if i < 0 {
		return nil
	}
	return &r.Rows[i]
}
