package router

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
)

// A Tally says how the calls of one tool ended since the router began, those
// too that were turned away. What is not of a tool of the configuration is
// counted together, so that no caller makes one more.
type Tally struct {
	Tool  casemate.ToolName `json:"tool"`  // mcp:NAME is an MCP server itself; "" all that named no tool
	Ended map[string]uint64 `json:"ended"` // by "done", or the kind of the error
	Took  pool.Histogram    `json:"took"`  // from the request to the outcome, waiting included
}

// done is how a call ended that has no error.
const done = "done"

// tally counts the outcome of a call; r.mu is held.
func (r *Router) tally(k *call) {
	name := k.Tool
	if k.Method != "" {
		name = serverName(name)
	}
	t := &r.strangers
	if c := r.counts[name]; c != nil {
		t = &c.tally
	}
	how := done
	if k.out.Error != nil {
		how = string(k.out.Error.Kind)
	}
	if t.Ended == nil {
		t.Ended = map[string]uint64{}
	}
	t.Ended[how]++
	t.Took.Add(time.Since(k.since))
}

// tallies are those of every tool that was called, by name; r.mu is held.
func (r *Router) tallies() []Tally {
	out := []Tally{}
	add := func(name casemate.ToolName, t Tally) {
		if len(t.Ended) > 0 {
			t.Tool = name
			t.Ended = maps.Clone(t.Ended)
			out = append(out, t)
		}
	}
	add("", r.strangers)
	for name, c := range r.counts {
		add(name, c.tally)
	}
	slices.SortFunc(out, func(a, b Tally) int { return strings.Compare(string(a.Tool), string(b.Tool)) })
	return out
}
