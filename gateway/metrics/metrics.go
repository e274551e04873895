// Package metrics shows an operator's monitoring what a router counts, in the
// text format of Prometheus (version 0.0.4).
//
// # What is there
//
//	casemate_build_info                    1, with the version and that of Go
//	casemate_start_time_seconds            when the router began
//	casemate_sessions                      live ones
//	casemate_calls_in_flight               calls that run or wait
//	casemate_calls_total                   by tool and outcome: done, or the kind of the error
//	casemate_call_seconds                  by tool: from the request to the outcome
//	casemate_pool_parked, _busy, _wanted,
//	  _starting, _waiting                  sandboxes, and claims that wait for one
//	casemate_pool_memory_bytes             that the parked ones hold
//	casemate_pool_claims_total             sandboxes handed out
//	casemate_pool_cold_starts_total        of them, those that were not parked
//	casemate_pool_refused_total            claims that were told busy
//	casemate_pool_failed_starts_total      starts that failed
//	casemate_pool_discarded_total          sandboxes that nobody claimed, ended
//	casemate_pool_start_seconds            how long starts took
//	casemate_pool_claim_seconds            how long claims took
//
// Those of the pool have the labels tool and backend; the tools of an MCP
// server that share a sandbox stand under its name. Counts begin with the
// router, and those of a tool anew where a reload changed it.
//
// # Who reads it
//
// It names the tools of all callers and how often they are used, which is none
// of a caller's business: the operator's own token alone reads it, or whoever
// reaches the operator's own unix socket.
//
// # Limits
//
// Label values are names of the configuration, of backends and of kinds of
// errors, so that no caller and no tool makes a series; what names no tool is
// counted under the tool "". Histograms stand there from the first thing that
// they count on. Each request costs a look at every tool under the router's
// lock: scrape every few seconds, not every few milliseconds.
package metrics

import (
	"cmp"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/router"
)

// Handler serves what status says now. It stands behind the door of package
// gateway, which knows the caller.
func Handler(status func() router.Status, version string) http.Handler {
	began := time.Now()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := gateway.CredentialOf(r.Context()); c.Name != gateway.DefaultCaller || !c.All() {
			http.Error(w, "metrics are the operator's: ask with the token of casemate serve", http.StatusForbidden)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Write(Text(status(), version, began)) // an error means that the client is gone
	})
}

// Text is the whole page: what a router that began then says now.
func Text(s router.Status, version string, began time.Time) []byte {
	p := &page{}
	p.family("casemate_build_info", gauge, "The version that runs.")
	p.sample("casemate_build_info", 1, label{"version", version}, label{"goversion", runtime.Version()})
	p.family("casemate_start_time_seconds", gauge, "When the router began, in seconds since 1970.")
	p.sample("casemate_start_time_seconds", float64(began.UnixMilli())/1e3)
	p.family("casemate_sessions", gauge, "Sessions that live, one of the operator's own among them.")
	p.sample("casemate_sessions", float64(s.Sessions))
	p.family("casemate_calls_in_flight", gauge, "Calls that run or wait.")
	p.sample("casemate_calls_in_flight", float64(len(s.Calls)))
	p.calls(s.Tallies)
	p.pools(together(s.Pools))
	return p.b
}

func (p *page) calls(ts []router.Tally) {
	p.family("casemate_calls_total", counter, "Calls that ended, by how: done, or the kind of the error.")
	for _, t := range ts {
		var how []string
		for h := range t.Ended {
			how = append(how, h)
		}
		slices.Sort(how)
		for _, h := range how {
			p.sample("casemate_calls_total", float64(t.Ended[h]), label{"tool", string(t.Tool)}, label{"outcome", h})
		}
	}
	p.family("casemate_call_seconds", histogram, "How long calls took, from the request to the outcome.")
	for _, t := range ts {
		p.histogram("casemate_call_seconds", t.Took, label{"tool", string(t.Tool)})
	}
}

func (p *page) pools(rows []router.PoolStatus) {
	of := func(s router.PoolStatus) []label {
		return []label{{"tool", string(s.Tool)}, {"backend", s.Backend}}
	}
	for _, m := range []struct {
		name, kind, help string
		of               func(router.PoolStatus) float64
	}{
		{"parked", gauge, "Sandboxes that wait for a call.", func(s router.PoolStatus) float64 { return float64(s.Parked) }},
		{"busy", gauge, "Sandboxes that serve a call or a session.", func(s router.PoolStatus) float64 { return float64(s.Busy) }},
		{"wanted", gauge, "Parked sandboxes that the demand asks for, within every bound.", func(s router.PoolStatus) float64 { return float64(s.Wanted) }},
		{"starting", gauge, "Starts in progress.", func(s router.PoolStatus) float64 { return float64(s.Starting) }},
		{"waiting", gauge, "Claims that wait for a start.", func(s router.PoolStatus) float64 { return float64(s.Waiting) }},
		{"memory_bytes", gauge, "What the parked sandboxes hold.", func(s router.PoolStatus) float64 { return float64(s.Bytes) }},
		{"claims_total", counter, "Sandboxes that were handed out.", func(s router.PoolStatus) float64 { return float64(s.Claimed) }},
		{"cold_starts_total", counter, "Sandboxes that were handed out and had not been parked.", func(s router.PoolStatus) float64 { return float64(s.Cold) }},
		{"refused_total", counter, "Claims that were told busy.", func(s router.PoolStatus) float64 { return float64(s.Refused) }},
		{"failed_starts_total", counter, "Starts that failed.", func(s router.PoolStatus) float64 { return float64(s.Failed) }},
		{"discarded_total", counter, "Sandboxes that were ended without a claim: dead, stale, idle or in the way.", func(s router.PoolStatus) float64 { return float64(s.Thrown) }},
	} {
		p.family("casemate_pool_"+m.name, m.kind, m.help)
		for _, s := range rows {
			p.sample("casemate_pool_"+m.name, m.of(s), of(s)...)
		}
	}
	p.family("casemate_pool_start_seconds", histogram, "How long starts took that did not fail.")
	for _, s := range rows {
		p.histogram("casemate_pool_start_seconds", s.Start, of(s)...)
	}
	p.family("casemate_pool_claim_seconds", histogram, "How long claims took that got a sandbox.")
	for _, s := range rows {
		p.histogram("casemate_pool_claim_seconds", s.Claim, of(s)...)
	}
}

// together adds up the pools that have the same labels, such as those of a tool
// before and after a reload: a series stands once. It returns them by name.
func together(rows []router.PoolStatus) []router.PoolStatus {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b router.PoolStatus) int {
		return cmp.Or(cmp.Compare(a.Tool, b.Tool), cmp.Compare(a.Backend, b.Backend))
	})
	var out []router.PoolStatus
	for _, s := range rows {
		if n := len(out); n == 0 || out[n-1].Tool != s.Tool || out[n-1].Backend != s.Backend {
			out = append(out, s)
			continue
		}
		t := &out[len(out)-1]
		t.Parked, t.Busy, t.Wanted, t.Starting, t.Waiting, t.Bytes = t.Parked+s.Parked, t.Busy+s.Busy, t.Wanted+s.Wanted, t.Starting+s.Starting, t.Waiting+s.Waiting, t.Bytes+s.Bytes
		t.Totals.Add(s.Totals)
	}
	return out
}
