package catalog

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// maxProblems is how many mistakes are reported at once.
const maxProblems = 20

// A problem is one mistake and its place.
type problem struct {
	line, column int
	path, what   string
}

// problems collects the mistakes of one file.
type problems struct {
	file string // base name
	list []problem
	more int
}

// add records a mistake at n, which stands at path. A name or value that is
// quoted in what comes from the file and must be escaped (%q).
func (p *problems) add(n *yaml.Node, path, format string, args ...any) {
	if len(p.list) >= maxProblems {
		p.more++
		return
	}
	q := problem{path: path, what: fmt.Sprintf(format, args...)}
	if n != nil {
		q.line, q.column = n.Line, n.Column
	}
	p.list = append(p.list, q)
}

func (p *problems) count() int { return len(p.list) + p.more }

// err is nil, or one Error with every mistake on a line of its own.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b problem) int {
		if a.line != b.line {
			return a.line - b.line
		}
		return a.column - b.column
	})
	var lines []string
	for _, q := range p.list {
		s := fmt.Sprintf("%s:%d:%d: ", p.file, max(q.line, 1), max(q.column, 1))
		if q.path != "" {
			s += q.path + ": "
		}
		if s += q.what; !slices.Contains(lines, s) { // an alias shows a mistake twice
			lines = append(lines, s)
		}
	}
	if p.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", p.more))
	}
	return &casemate.Error{Op: "load", Kind: casemate.Invalid, Err: errors.New(strings.Join(lines, "\n")),
		Fix: "correct the file; \"casemate schema\" prints every key"}
}

func baseName(file string) string { return visible(filepath.Base(file)) }

// join appends a key to a path: tools[0].security, and keys that are not
// plain words are quoted.
func join(path, key string) string {
	if !plainKey(key) {
		key = fmt.Sprintf("%q", key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func plainKey(s string) bool {
	for _, c := range s {
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// shown is s quoted and cut, for messages.
func shown(s string) string {
	if r := []rune(s); len(r) > 60 {
		return fmt.Sprintf("%q…", string(r[:60]))
	}
	return fmt.Sprintf("%q", s)
}

// visible is s with every control, format and bidirectional character
// escaped: fit for a terminal.
func visible(s string) string {
	q := fmt.Sprintf("%q", s)
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(q[1 : len(q)-1])
}

// nearest is the candidate with the smallest edit distance to s, or "" if
// none is near.
func nearest(s string, candidates []string) string {
	if len(s) > 64 {
		return ""
	}
	best, at := "", 3
	for _, c := range candidates {
		limit := min(2, max(1, len(c)/3))
		d := distance(strings.ToLower(s), c)
		if d <= limit && d < at && d < len(c) {
			best, at = c, d
		}
	}
	return best
}

// maybe is `; did you mean "x"?`, or nothing.
func maybe(s string, candidates []string) string {
	if n := nearest(s, candidates); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}

// distance is the edit distance of Damerau (a swap of neighbours counts one).
func distance(a, b string) int {
	prev2, prev, cur := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if prev2 != nil && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, make([]int, len(b)+1)
	}
	return prev[len(b)]
}
