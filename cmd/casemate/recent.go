package main

import (
	"time"

	"github.com/casemate/casemate"
)

// recentBytes bounds what is read of the record file for the rates: of more
// calls than that a day, the latest count.
const recentBytes = 64 << 20

// recent returns when the calls of the last day were allowed, of the tools
// that have a rate of a minute or of a day: a bound on calls holds across
// the commands and servers that share a state folder one after the other.
func recent(file string, tools []*casemate.Tool, now time.Time) (map[casemate.ToolName][]time.Time, error) {
	rated := map[casemate.ToolName]bool{}
	for _, t := range tools {
		if r := t.Security.Rate; r.PerMinute > 0 || r.PerDay > 0 {
			rated[t.Name] = true
		}
	}
	if len(rated) == 0 {
		return nil, nil
	}
	out := map[casemate.ToolName][]time.Time{}
	err := recordsFrom(file, recentBytes, func(_ []byte, r *casemate.Receipt) error {
		if r.Event == "intent" && rated[r.Tool] && now.Sub(r.Time) < 24*time.Hour && r.Decision != nil && r.Decision.Effect == "allow" {
			out[r.Tool] = append(out[r.Tool], r.Time)
		}
		return nil
	}, func(int) {})
	return out, err
}
