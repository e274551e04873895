package spawner

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// What each control of a probe is called, and the step that makes it.
var controls = []struct {
	name string
	kind contain.Kind
}{
	{"user namespace", contain.Private}, {"mount namespace", contain.Private}, {"pid namespace", contain.Private}, {"network namespace", contain.Private},
	{"ipc namespace", contain.Private}, {"uts namespace", contain.Private}, {"cgroup namespace", contain.Private}, {"time namespace", contain.Private},
	{"private root", contain.Pivot}, {"private /proc", contain.Proc}, {"private /dev", contain.Device}, {"disk limit", contain.Scratch}, {"overlay grants", contain.Grant},
	{"no_new_privs", contain.Privs}, {"landlock", contain.Landlock}, {"no capabilities", contain.Caps}, {"seccomp", contain.Seccomp}, {"keyring", contain.Keyring},
}

func (s *server) probed(c *spawn.Conn, m *spawn.Message) {
	rows, err := s.probe(m.Line)
	if err != nil {
		s.reply(c, m, err)
		return
	}
	c.Send(&spawn.Message{Op: spawn.OpProbed, Seq: m.Seq, Probed: rows})
}

// probe makes a real sandbox with a grant of each kind, asks what was on, and
// ends it. Of a backend with a container it is one that a tool of the plan has.
func (s *server) probe(backend string) ([]spawn.Control, error) {
	g := plan.Guest{Runner: "hold", Cwd: "/", Memory: 64 << 20, MilliCPU: 1000, Disk: 16 << 20, Processes: 8,
		Mounts: []plan.Mount{{Source: "/usr/share", At: "/probe", Write: true}}}
	s.mu.Lock()
	host, guests := s.plan.Host, s.plan.Guests
	s.mu.Unlock()
	rows := controls
	if contain.Contained(plan.Guest{Backend: backend}) {
		i := slices.IndexFunc(guests, func(g plan.Guest) bool { return g.Backend == backend })
		if i < 0 {
			return nil, refuse("invalid", "no tool of the plan has the backend "+backend)
		}
		like := guests[i]
		g.Backend, g.Runtime, g.Version, g.File, g.Bundle, g.Layers = like.Backend, like.Runtime, like.Version, like.File, like.Bundle, like.Layers
		rows = append(slices.Clone(controls), struct {
			name string
			kind contain.Kind
		}{"container", contain.Runtime})
	}
	var out []spawn.Control
	err := s.tryOut(g)
	f, _ := err.(*spawn.Failed)
	steps, _ := contain.Plan(g, s.facts, nil)
	if contain.Contained(g) {
		steps = append(steps, contain.Inner(g, nil)...)
	}
	position := func(k string) int {
		return slices.IndexFunc(steps, func(st contain.Step) bool { return string(st.Kind) == k })
	}
	for _, c := range rows {
		row := spawn.Control{Name: c.name, State: "on"}
		switch {
		case err == nil:
		case f == nil:
			row.State, row.Why, row.Fix = "missing", err.Error(), "see the operations manual"
		case f.Control == "user namespace" || position(f.Control) >= 0 && position(f.Control) <= position(string(c.kind)):
			row.State, row.Why, row.Fix = "missing", f.What, f.Fix
			if row.Fix == "" {
				row.Fix = userNamespaceFix()
			}
		}
		out = append(out, row)
	}
	for _, name := range []string{"memory", "cpu", "processes"} {
		state, why, fix := s.cg.Control(name)
		row := spawn.Control{Name: name + " limit", State: state, Why: why, Fix: fix}
		if state == "missing" && slices.Contains(host.AllowDegraded, name) {
			row.State, row.Why = "degraded", "allowed by host.allow_degraded; "+why
		}
		if name == "processes" && state != "on" {
			row = spawn.Control{Name: "processes limit", State: "on", Why: "by rlimit"} // counted per user namespace
		}
		out = append(out, row)
	}
	row := spawn.Control{Name: "own uid", State: "on"}
	if !s.own {
		row = spawn.Control{Name: "own uid", State: "degraded", Why: "a user's sandboxes run under the user's own uid, each in a user namespace of its own", Fix: "run Casemate as root"}
	}
	return append(out, row), nil
}

// tryOut starts a sandbox of g, whose cgroup may be missing, and ends it.
func (s *server) tryOut(g plan.Guest) error {
	b, guest, _, err := s.make(g, plan.Host{AllowDegraded: []string{"memory", "cpu"}})
	if err != nil {
		return err
	}
	unix.Close(guest)
	s.forget(b)
	return nil
}
