package sandboxtest

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

// names are all cases, with their groups.
func names() []string {
	var out []string
	for _, g := range groups {
		for n := range g.cases {
			out = append(out, g.name+"/"+n)
		}
	}
	return out
}

// A key that is added to the profile needs a case.
func TestEveryKeyOfAProfileIsCovered(t *testing.T) {
	all, left := names(), maps.Clone(covered)
	for _, f := range reflect.VisibleFields(reflect.TypeFor[casemate.Profile]()) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		by, ok := covered[key]
		delete(left, key)
		if !ok || !slices.Contains(all, by) && !strings.HasPrefix(by, "routing: ") && !strings.HasPrefix(by, "compiling: ") {
			t.Errorf("%s: %q is no case", key, by)
		}
	}
	if len(left) > 0 {
		t.Errorf("no keys of a profile: %v", left)
	}
}

// What the table says of cases and needs is of some, and every lack can be
// shown.
func TestTable(t *testing.T) {
	all := names()
	if len(all) < 80 {
		t.Errorf("only %d cases", len(all))
	}
	used := map[Need]bool{}
	for name, needs := range more {
		if !slices.Contains(all, name) {
			t.Errorf("%s is no case", name)
		}
		for _, n := range needs {
			used[n] = true
		}
	}
	for _, g := range groups {
		for _, n := range g.needs {
			used[n] = true
		}
	}
	for n := range used {
		if shown[n] == nil {
			t.Errorf("nothing shows that a backend lacks %s", n)
		}
	}
	for n := range shown {
		if !used[n] {
			t.Errorf("no case needs %s", n)
		}
	}
}
