package merge

import (
	"slices"
	"strings"
	"sync"
)

// A pattern is one protected name, folded, by component.
type pattern struct {
	name  string
	parts []string
}

// patterns are protectedNames by their first component. Computed once, on
// first use: not every process that holds this package merges.
var patterns = sync.OnceValue(func() map[string][]pattern {
	m := make(map[string][]pattern, len(protectedNames))
	for _, n := range protectedNames {
		p := pattern{n, components(n)}
		m[p.parts[0]] = append(m[p.parts[0]], p)
	}
	return m
})

// components splits a path and folds each component. A backslash splits too:
// some file systems take it for a slash.
func components(path string) []string {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' })
	for i, p := range parts {
		parts[i] = fold(p)
	}
	return parts
}

// Protected says whether the file at an absolute host path is protected, and
// by which name: the first that is not among granted, the names that the
// operator grants all the same, each of which lifts itself only. A path that
// ends in .git is taken for a file; Plan, which sees what is there, lets a
// folder of that name be made.
func Protected(hostPath string, granted []string) (name string, yes bool) {
	name = newLifted(granted).protected(components(hostPath), false)
	return name, name != ""
}

// lifted is the set of protected names that a grant lifts, folded.
type lifted map[string]bool

func newLifted(granted []string) lifted {
	l := make(lifted, len(granted))
	for _, n := range granted {
		l[strings.Join(components(n), "/")] = true
	}
	return l
}

func (l lifted) has(name string) bool { return l[strings.Join(components(name), "/")] }

// protected returns the first name, not lifted, that protects the entry at
// comps (folded); folder says that the entry is one, "" that none does.
func (l lifted) protected(comps []string, folder bool) string {
	for i, c := range comps {
		if same(c, gitName) {
			name := gitName
			if rest := comps[i+1:]; len(rest) > 0 {
				name = gitProtected(rest)
			} else if folder {
				name = ""
			}
			if name != "" && !l.has(name) {
				return name
			}
		}
		for _, p := range candidates(c) {
			if begins(comps[i:], p.parts) && !l.has(p.name) {
				return p.name
			}
		}
	}
	return ""
}

// leads returns a protected name, not lifted, that the entry at comps
// (folded) is a folder of: a link there would give what lies elsewhere that
// name.
func (l lifted) leads(comps []string) string {
	for i, c := range comps {
		for _, p := range candidates(c) {
			if len(comps)-i < len(p.parts) && begins(p.parts, comps[i:]) && !l.has(p.name) {
				return p.name
			}
		}
	}
	return ""
}

// candidates returns the patterns whose first component c may be.
func candidates(c string) []pattern {
	found := patterns()[c]
	if strings.IndexByte(c, '~') < 0 {
		return found
	}
	found = slices.Clone(found)
	for first, ps := range patterns() {
		if shortOf(c, first) {
			found = append(found, ps...)
		}
	}
	slices.SortFunc(found, func(a, b pattern) int { return strings.Compare(a.name, b.name) })
	return found
}

// begins reports whether comps begins with parts.
func begins(comps, parts []string) bool {
	if len(comps) < len(parts) {
		return false
	}
	for i, p := range parts {
		if !same(comps[i], p) && !same(p, comps[i]) {
			return false
		}
	}
	return true
}

// same reports whether the folded name c is, or is a short name of, long.
func same(c, long string) bool { return c == long || shortOf(c, long) }
