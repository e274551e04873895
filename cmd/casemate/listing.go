package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/casemate/casemate/catalog"
)

// A listingChange is what changed of one tool of a server's list.
type listingChange struct {
	Name   string   `json:"name"`
	Change string   `json:"change"` // added, removed, changed
	Lines  []string `json:"lines"`  // that begin with + or -
}

// compareListings says in what a server lists itself and its tools otherwise.
func compareListings(was, now catalog.Listing) (server []string, tools []listingChange) {
	server = lineDiff(readable(was.Initialize), readable(now.Initialize))
	old, current := byName(was.Tools), byName(now.Tools)
	for _, name := range slices.Sorted(maps.Keys(merge(old, current))) {
		before, had := old[name]
		after, has := current[name]
		switch {
		case !has:
			tools = append(tools, listingChange{name, "removed", lineDiff(before, nil)})
		case !had:
			tools = append(tools, listingChange{name, "added", lineDiff(nil, after)})
		case !slices.Equal(before, after):
			tools = append(tools, listingChange{name, "changed", lineDiff(before, after)})
		}
	}
	return server, tools
}

func merge(a, b map[string][]string) map[string][]string {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// byName are the readable lines of tools by their names; of a name that stands
// twice, all of them.
func byName(tools []json.RawMessage) map[string][]string {
	out := map[string][]string{}
	for _, raw := range tools {
		var m map[string]json.RawMessage
		var name string
		if json.Unmarshal(raw, &m) != nil || json.Unmarshal(m["name"], &name) != nil {
			name = "without a name"
		}
		out[name] = append(out[name], readable(raw)...)
	}
	return out
}

// readable is a JSON value as lines, each with its whole path, in an order that
// does not depend on the writing; of text each line stands on its own.
func readable(raw json.RawMessage) []string {
	if len(raw) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return []string{"no JSON"}
	}
	return flatten(nil, "", v)
}

func flatten(out []string, path string, v any) []string {
	at := func(key string) string {
		if path == "" {
			return key
		}
		return path + "." + key
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			return append(out, path+": {}")
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = flatten(out, at(k), v[k])
		}
	case []any:
		if len(v) == 0 {
			return append(out, path+": []")
		}
		for i, x := range v {
			out = flatten(out, fmt.Sprintf("%s[%d]", path, i), x)
		}
	case string:
		lines := strings.Split(v, "\n")
		if len(lines) == 1 {
			return append(out, fmt.Sprintf("%s: \"%s\"", path, v))
		}
		for _, s := range lines {
			out = append(out, path+" | "+s)
		}
	case nil:
		out = append(out, path+": null")
	default: // a number as it is written, true or false
		out = append(out, fmt.Sprintf("%s: %v", path, v))
	}
	return out
}

// maxDiff bounds the work of one comparison: lines times lines.
const maxDiff = 4 << 20

// lineDiff are the lines that are only in was, after "- ", and only in now,
// after "+ ", in their order.
func lineDiff(was, now []string) []string {
	for len(was) > 0 && len(now) > 0 && was[0] == now[0] {
		was, now = was[1:], now[1:]
	}
	for len(was) > 0 && len(now) > 0 && was[len(was)-1] == now[len(now)-1] {
		was, now = was[:len(was)-1], now[:len(now)-1]
	}
	var out []string
	minus := func(s string) { out = append(out, "- "+s) }
	plus := func(s string) { out = append(out, "+ "+s) }
	if (len(was)+1)*(len(now)+1) > maxDiff {
		for _, s := range was {
			minus(s)
		}
		for _, s := range now {
			plus(s)
		}
		return out
	}
	// common[i][j] is the length of the longest sequence that was[i:] and
	// now[j:] have in common.
	common := make([][]int32, len(was)+1)
	for i := range common {
		common[i] = make([]int32, len(now)+1)
	}
	for i := len(was) - 1; i >= 0; i-- {
		for j := len(now) - 1; j >= 0; j-- {
			if was[i] == now[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(was) || j < len(now) {
		switch {
		case i < len(was) && j < len(now) && was[i] == now[j]:
			i, j = i+1, j+1
		case i < len(was) && (j == len(now) || common[i+1][j] >= common[i][j+1]):
			minus(was[i])
			i++
		default:
			plus(now[j])
			j++
		}
	}
	return out
}
