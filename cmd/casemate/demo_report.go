package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/casemate/casemate"
)

// step shows on a terminal what is being done; 0 of 0 takes it away.
func (c *console) step(n, of int, what string) {
	if !c.errTTY {
		return
	}
	fmt.Fprint(c.err, "\r\x1b[K")
	if of > 0 {
		fmt.Fprintf(c.err, "casemate: %d of %d, %s", n, of, escapeLine(what))
	}
}

// errorOf returns the error that casemate call --json printed, if any.
func errorOf(out []byte) *casemate.ErrorJSON {
	var o struct {
		Error *casemate.ErrorJSON `json:"error"`
	}
	if json.Unmarshal(out, &o) != nil {
		return nil
	}
	return o.Error
}

// showDemo prints the report for people.
func (a *app) showDemo(r *demoReport) error {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("%s, %s, user %d", r.Host.Kernel, r.Host.Arch, r.Host.Uid)
	p("")
	p("  honest planner ────MCP──▶ casemate serve ──▶ a sandbox for each call ──✓──▶ the granted folder")
	p("  hijacked planner ──MCP──▶ casemate serve ──▶ a sandbox for each call ──✗    everything else")
	p("")
	p("The honest planner")
	done, held, broken, na, faults := 0, 0, 0, 0, 0
	for _, h := range r.Honest {
		mark := "✗"
		switch h.Verdict {
		case verdictDone:
			mark, done = "✓", done+1
		case verdictAbsent:
			mark = "–"
		}
		p("  %s %-6s  %s: %s", mark, h.Verdict, escapeLine(h.Task), escapeLine(h.Did))
		p("            saw    %s", escapeLine(h.Evidence))
	}
	p("")
	p("The hijacked planner")
	for _, t := range r.Attacks {
		mark := "–"
		switch {
		case t.fault:
			mark, faults = "✗", faults+1
		case t.Verdict == verdictHeld:
			mark, held = "✓", held+1
		case t.Verdict == verdictBroken:
			mark, broken = "✗", broken+1
		default:
			na++
		}
		p("  %s %-6s  %s", mark, t.Verdict, escapeLine(t.Attack))
		p("            tried  %s", escapeLine(t.Tried))
		p("            wall   %s", escapeLine(t.HeldBy))
		p("            saw    %s", escapeLine(t.Evidence))
	}
	p("")
	if e := r.Host.Refused; e != nil {
		p("This host refused: %s", escapeLine(e.Message))
		if e.Fix != "" {
			p("  fix: %s", escapeLine(e.Fix))
		}
		p("The demo went on WITHOUT %s (allow_degraded).", strings.Join(r.Host.Degraded, ", "))
	}
	if r.Host.Unshown != "" {
		p("No server of others was wrapped: %s", escapeLine(r.Host.Unshown))
	}
	if len(r.Host.Without) > 0 {
		p("This was a test WITHOUT %s.", strings.Join(r.Host.Without, ", "))
	}
	p("%d of %d attacks held, %d got through, %d not made, %d not applicable; %d of %s done; %.1f s",
		held, len(r.Attacks), broken, faults, na, done, plural(len(r.Honest), "honest task"), r.Host.Seconds)
	return a.line("%s", strings.TrimSuffix(b.String(), "\n"))
}
