package sandboxtest

import (
	"maps"
	"slices"
	"testing"

	"github.com/casemate/casemate"
)

// A Need is what a case asks of a backend beyond what every backend is: one
// program that is called, its arguments and streams, limits, and an end.
type Need string

// The needs.
const (
	Programs  Need = "programs"     // the guest starts programs of its root: a shell, an interpreter, the attacker
	Writes    Need = "write grants" // and commits
	Reads     Need = "read grants"
	Landlock  Need = "Landlock" // around the guest's own program
	Inputs    Need = "inputs"
	Narrowing Need = "late narrowing"
	Freezing  Need = "freezing"
)

// shown are the proofs of what a backend says that it lacks: a reason that has
// ceased to hold fails.
var shown = map[Need]func(*testing.T, Subject){
	Programs:  refuses(shell(casemate.Profile{})),
	Writes:    refusesProgram(grant("/usr", "/g", casemate.Write)),
	Reads:     refusesProgram(grant("/usr", "/g", casemate.Read)),
	Landlock:  func(t *testing.T, s Subject) { enforcesNoLandlock(t, s) },
	Inputs:    func(t *testing.T, s Subject) { hasNot[casemate.Donor](t, s) },
	Narrowing: func(t *testing.T, s Subject) { narrowsNotLate(t, s) },
	Freezing:  func(t *testing.T, s Subject) { hasNot[casemate.Freezer](t, s) },
}

// A group is cases, and what all of them need.
type group struct {
	name  string
	needs []Need
	cases map[string]func(*testing.T, Subject)
}

var groups = []group{
	{"portable", nil, portable},
	{"conformance", []Need{Programs}, conformance},
	{"runners", []Need{Programs}, runners},
	{"powers", []Need{Programs}, powers},
	{"streams", []Need{Programs}, streams},
	{"escape", []Need{Programs}, escapes},
	{"stream escape", []Need{Programs}, streamEscapes},
}

// more is what single cases need beside what their group does.
var more = map[string][]Need{
	"portable/a read grant":  {Reads},
	"portable/a write grant": {Writes},

	"powers/inputs":             {Inputs},
	"powers/narrowed when late": {Narrowing},
	"powers/stands still":       {Freezing},

	"escape/landlock": {Landlock},
}

// needs are those of one case.
func (g group) of(name string) []Need { return append(slices.Clone(g.needs), more[g.name+"/"+name]...) }

// Run runs the whole suite. What does not concern the backend is said with its
// reason, which is proved.
func Run(t *testing.T, s Subject) {
	ran := map[bool]int{}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, name := range slices.Sorted(maps.Keys(g.cases)) {
				t.Run(name, func(t *testing.T) {
					why := s.lacks(g.of(name))
					if ran[why == ""]++; why != "" {
						t.Log("n/a:", why)
						return
					}
					g.cases[name](t, s)
				})
			}
		})
	}
	t.Run("lacks", func(t *testing.T) {
		for _, n := range slices.Sorted(maps.Keys(s.Lacks)) {
			t.Run(string(n), func(t *testing.T) {
				t.Log("n/a:", s.Lacks[n])
				if s.Lacks[n] == "" || shown[n] == nil {
					t.Fatal("nothing says why, or nothing shows it")
				}
				shown[n](t, s)
			})
		}
	})
	t.Logf("%s: %d cases, %d n/a", s.Name, ran[true], ran[false])
}

// lacks says why a case does not concern s; "" where it does.
func (s Subject) lacks(needs []Need) string {
	for _, n := range needs {
		if why, ok := s.Lacks[n]; ok {
			return string(n) + ": " + why
		}
	}
	return ""
}

// narrowsNotLate holds where a backend has no such power, and where it refuses to
// take processes from a guest that is there: then a start with the same words does.
func narrowsNotLate(t *testing.T, s Subject) {
	n, ok := s.start(t, shell(casemate.Profile{Processes: 40})).(casemate.Narrower)
	if !ok {
		return
	}
	if err := n.Narrow(t.Context(), casemate.Grant{Processes: 8}); casemate.KindOf(err) != casemate.Unsupported {
		t.Errorf("it narrows: %v", err)
	}
}

func refuses(tool *casemate.Tool) func(*testing.T, Subject) {
	return func(t *testing.T, s Subject) {
		if _, err := s.Compile(tool); casemate.KindOf(err) != casemate.Unsupported {
			t.Errorf("the tool is not refused: %v", err)
		}
	}
}

func refusesProgram(p casemate.Profile) func(*testing.T, Subject) {
	return func(t *testing.T, s Subject) { refuses(s.program(p, "cwd"))(t, s) }
}

func enforcesNoLandlock(t *testing.T, s Subject) {
	if e := s.start(t, s.program(casemate.Profile{}, "cwd")).Enforced(); e.Landlock != 0 {
		t.Errorf("it has Landlock: %+v", e)
	}
}

func hasNot[T any](t *testing.T, s Subject) {
	if sb := s.start(t, s.program(casemate.Profile{}, "cwd")); implements[T](sb) {
		t.Errorf("%T has it", sb)
	}
}

func implements[T any](v any) bool {
	_, ok := v.(T)
	return ok
}
