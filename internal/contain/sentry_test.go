package contain

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate/internal/plan"
)

type mounted struct {
	Destination, Type, Source string
	Options                   []string
}

func bundled(t *testing.T, g plan.Guest) map[string]mounted {
	t.Helper()
	g.Backend, g.Bundle = "gvisor", `{"mounts": [{"destination": "/proc"}, `+MountsMark+`]}`
	var spec struct{ Mounts []mounted }
	if err := json.Unmarshal([]byte(bundle(g)), &spec); err != nil {
		t.Fatalf("%v in %s", err, bundle(g))
	}
	out := map[string]mounted{}
	for i, m := range spec.Mounts {
		for _, before := range spec.Mounts[:i] {
			if before.Destination == m.Destination || strings.HasPrefix(before.Destination, m.Destination+"/") {
				t.Errorf("%s comes after %s", m.Destination, before.Destination)
			}
		}
		out[m.Destination] = m
	}
	return out
}

func TestSentryMounts(t *testing.T) {
	got := bundled(t, plan.Guest{Inputs: true, Mounts: []plan.Mount{
		{At: "/w/deep", Write: true, Execute: true}, {At: "/w"}, {At: "/opt/python", Prefix: true}, {At: `/o"d\d` + "\n\x01"}, {At: "/tmp/in", Write: true},
	}})
	for at, want := range map[string]struct{ write, exec bool }{
		"/tmp": {true, false}, "/out": {true, false}, "/dev/shm": {true, false}, "/in": {}, "/w": {}, "/w/deep": {true, true}, "/opt/python": {false, true},
		`/o"d\d` + "\n\x01": {}, "/tmp/in": {true, false},
	} {
		m, ok := got[at]
		if !ok || m.Type != "bind" || m.Source != RootPath+at {
			t.Errorf("%q: %+v", at, m)
		}
		if has := slices.Contains(m.Options, "ro"); has == want.write {
			t.Errorf("%q: read-only %v", at, has)
		}
		if has := slices.Contains(m.Options, "noexec"); has == want.exec {
			t.Errorf("%q: noexec %v", at, has)
		}
		for _, o := range []string{"nosuid", "nodev"} {
			if !slices.Contains(m.Options, o) {
				t.Errorf("%q: not %s", at, o)
			}
		}
	}
	if len(got) != 10 { // and /proc
		t.Errorf("%d mounts", len(got))
	}
}

// A grant that was left out has no mount, and no guest has inputs unasked.
func TestSentryMountsOfNothing(t *testing.T) {
	if got := bundled(t, plan.Guest{}); len(got) != 4 {
		t.Errorf("%v", got)
	}
	if g := (plan.Guest{Backend: "oci", Bundle: MountsMark}); bundle(g) != MountsMark {
		t.Error("the specification of another backend is changed")
	}
}

// The walls of a guest of gvisor are those of any other but for what its kernel
// does not have.
func TestSentryWalls(t *testing.T) {
	kinds := func(g plan.Guest) (out []Kind) {
		for _, s := range Inner(g, nil) {
			out = append(out, s.Kind)
		}
		return out
	}
	want := slices.DeleteFunc(kinds(plan.Guest{Backend: "oci"}), func(k Kind) bool { return k == Landlock || k == Keyring })
	if got := kinds(plan.Guest{Backend: "gvisor"}); !slices.Equal(got, want) || !slices.Contains(got, Seccomp) || !slices.Contains(got, Caps) {
		t.Errorf("%v, want %v", got, want)
	}
}

// What the Sentry mounts lies on a folder of ours, whatever an image has there.
func TestSentryMountPoints(t *testing.T) {
	steps, _ := Plan(plan.Guest{Backend: "gvisor", Runner: "shell", Layers: []string{"/layer"}}, Facts{}, nil)
	image := slices.IndexFunc(steps, func(s Step) bool { return s.Kind == Image })
	for _, path := range []string{"proc", "dev", "sys", "tmp", "out", "dev/shm"} {
		if i := slices.IndexFunc(steps, func(s Step) bool { return s.Kind == Dir && s.Path == path }); i < 0 || i > image {
			t.Errorf("/%s is the image's: step %d, and the image's is %d", path, i, image)
		}
	}
}
