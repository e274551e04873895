package catalog

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/nearest"
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

// maybe is `; did you mean "x"?`, or nothing.
func maybe(s string, candidates []string) string {
	if n := nearest.To(s, candidates); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}
