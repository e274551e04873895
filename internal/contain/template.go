package contain

import (
	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/plan"
)

// Template returns the steps that confine the template of g, whose runner is
// "template": those of Plan that make a root every child has with it, without
// the walls that each child makes for itself (late_child.go). The template
// runs nothing that a tool or a planner wrote: the interpreter, and the modules
// that the operator named. It keeps the capabilities of its own user namespace,
// in which no file of the host but what is granted can be reached.
func Template(g plan.Guest, f Facts, without []string) []Step {
	all, _ := Plan(g, f, without)
	var out []Step
	for _, s := range all {
		switch s.Kind {
		case Scratch:
			s.Size = templateScratch
		case Sub:
			if s.Path != "tmp" {
				continue
			}
		case Grant:
			if !g.Mounts[s.N].Prefix {
				s.Kind = Place
			}
		case Pts, Count, Mask, ReadOnly, Loopback, Limits, Landlock, Caps, Dump:
			continue
		}
		out = append(out, s)
	}
	return out
}

// templateScratch is the room for what modules write while they are imported,
// in bytes.
const templateScratch = 64 << 20

// place makes the mount point of a grant of the children. Where they do not
// get the grant as a descriptor, it is mounted here, out of sight of programs.
func (in *Inside) place(s Step) error {
	i := int(s.N)
	g := in.grants[i]
	defer unix.Close(g.fd)
	make := in.mkdir
	if !g.folder {
		make = func(path string) error { return in.file(path, "") }
	}
	if err := make(s.Path); err != nil {
		return err
	}
	if err := make(lowerPath(i)); err != nil {
		return err
	}
	if in.Detached {
		return nil
	}
	return in.attachTo(g.fd, lowerPath(i))
}

// lowerGoes says whether a lower layer was mounted for grant i that nobody
// needs once the root is made. The children of a template need it that have no
// descriptors of their own.
func (in *Inside) lowerGoes(i int) bool {
	if in.Guest.Runner != TemplateRunner {
		return in.grants[i].folder
	}
	return in.Detached && in.Guest.Mounts[i].Prefix
}

// TemplateRunner is the runner of a template's own guest.
const TemplateRunner = "template"

// TemplatePath is where the program of a template lies; RunnerPath is that of
// its children.
const TemplatePath = "/.casemate/template"

// LatePath is where the machine code lies that carries a Program out, empty
// where there is none for this processor.
const LatePath = "/.casemate/late"
