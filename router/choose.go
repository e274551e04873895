package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/casemate/casemate"
)

// A Choice is the backend of one tool, or why none can have it.
type Choice struct {
	Backend string        `json:"backend,omitempty"` // "": it is refused, or Ask says what is not known
	Reason  string        `json:"reason,omitempty"`  // of Backend
	Others  []Alternative `json:"others,omitempty"`  // every other backend, cheapest first

	// Ask is the backend on whose capabilities the choice hangs, and which are not
	// among those that were given.
	Ask string `json:"-"`

	Refused *casemate.Error `json:"-"`
}

// An Alternative is a backend that a tool does not get.
type Alternative struct {
	Backend string   `json:"backend"`
	Lacks   []string `json:"lacks,omitempty"`   // of what is asked; none: it would do as well, and costs more
	Fix     string   `json:"fix,omitempty"`     // of what it lacks on this host
	Untried bool     `json:"untried,omitempty"` // what it can do on this host was not asked
}

// Isolations are the backends by their cost, cheapest first, and of each the
// assurance that it can give at most, whatever the host.
func Isolations() []casemate.Capabilities {
	return []casemate.Capabilities{
		{Name: "wasm", Assurance: casemate.Strong},
		{Name: "process", Assurance: casemate.Moderate},
		{Name: "oci", Assurance: casemate.Moderate},
		{Name: "gvisor", Assurance: casemate.Strong},
		{Name: "microvm", Assurance: casemate.VeryStrong},
		{Name: "kube", Assurance: casemate.VeryStrong},
	}
}

// Choose returns the cheapest backend that gives all that t asks for at the
// assurance that it asks for; where t names a backend, that one or none. It is
// pure: what this host can do is in caps, by the names of backends. A backend is
// tried only where the answer hangs on it; one that caps does not know is then in
// Choice.Ask, and the choice is to be made again.
//
// A process sandbox at weak assurance is never asked about: every other backend
// stands inside one, so that where there is none, there is no other either, and
// its Start refuses what it cannot enforce.
func Choose(t *casemate.Tool, caps map[string]casemate.Capabilities) Choice {
	p := t.Security.WithDefaults()
	asked := slices.Index(assurances, p.Assurance)
	if asked < 0 {
		return refuse(t, Choice{}, fmt.Sprintf("no assurance is called %s", quote(string(p.Assurance))), "set security.assurance to weak, moderate, strong or very-strong")
	}
	names := p.Isolation != "auto"
	known := false
	var c Choice
	for _, b := range Isolations() {
		meant := !names || b.Name == p.Isolation
		known = known || b.Name == p.Isolation
		a := Alternative{Backend: b.Name, Lacks: cannot(b.Name, t)}
		if most := slices.Index(assurances, b.Assurance); most < asked && !absent(b.Name) {
			a.Lacks = append(a.Lacks, fmt.Sprintf("%s assurance: it gives %s at most", p.Assurance, b.Assurance))
		}
		if len(a.Lacks) == 0 {
			got, tried := caps[b.Name]
			needless := b.Name == "process" && asked == 0
			switch {
			case tried:
				a.Lacks, a.Fix = missing(got, p.Assurance)
			case !meant || needless || c.Backend != "":
				a.Untried = true
			default:
				return Choice{Ask: b.Name}
			}
		}
		if meant && len(a.Lacks) == 0 && c.Backend == "" {
			c.Backend = b.Name
			if c.Reason = "it is the cheapest that gives everything asked at " + string(p.Assurance) + " assurance"; names {
				c.Reason = "security.isolation names it"
			}
			continue
		}
		c.Others = append(c.Others, a)
	}
	switch {
	case c.Backend != "":
		return c
	case names && !known:
		return refuse(t, c, fmt.Sprintf("isolation: no backend %s is there", quote(p.Isolation)), "set security.isolation to auto, process, oci, gvisor or wasm")
	case names:
		i := slices.IndexFunc(c.Others, func(a Alternative) bool { return a.Backend == p.Isolation })
		a := c.Others[i]
		return refuse(t, c, fmt.Sprintf("isolation: %s lacks %s", a.Backend, strings.Join(a.Lacks, "; ")), fixOf(c, a))
	}
	var why []string
	for _, a := range c.Others {
		why = append(why, a.Backend+" lacks "+strings.Join(a.Lacks, ", "))
	}
	return refuse(t, c, fmt.Sprintf("no backend gives it %s assurance here: %s", p.Assurance, strings.Join(why, "; ")), fixOf(c, c.Others...))
}

func refuse(t *casemate.Tool, c Choice, why, fix string) Choice {
	c.Refused = &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Unsupported, Err: errors.New(why), Fix: fix}
	return c
}

// fixOf is how to get one of the backends that lack something on this host, or,
// where no host could give it, which of the others would do.
func fixOf(c Choice, meant ...Alternative) string {
	for _, a := range meant {
		if a.Fix != "" {
			return a.Fix
		}
	}
	for _, a := range c.Others {
		if len(a.Lacks) == 0 {
			return "set security.isolation to " + a.Backend + ", or auto"
		}
	}
	return "ask for less in security, or run casemate doctor for what this host can enforce, and what it needs"
}

// absent says whether this version has no such backend.
func absent(backend string) bool { return backend == "microvm" || backend == "kube" }

// cannot says what of t a backend does not give on any host.
func cannot(backend string, t *casemate.Tool) (lacks []string) {
	if absent(backend) {
		return []string{"a place in this version of Casemate"}
	}
	module := t.Run.Wasm != nil || t.Run.JS != nil
	if backend == "wasm" {
		if !module {
			lacks = append(lacks, "programs: it runs modules (run: wasm) and JavaScript (run: js) alone")
		}
		if p := t.Security; p.Network == casemate.NetworkLoopback {
			lacks = append(lacks, "a network, its own loopback too")
		}
	} else if module {
		lacks = append(lacks, "an engine for WebAssembly modules")
	}
	if t.Image != nil && (backend == "wasm" || backend == "process") {
		lacks = append(lacks, "images: its root is the host's system folders")
	}
	return lacks
}

// missing says what a backend that was tried does not give on this host, and how
// to get the first of it.
func missing(c casemate.Capabilities, asked casemate.Assurance) (lacks []string, fix string) {
	for _, x := range c.Controls {
		if x.State != "missing" {
			continue
		}
		what := x.Name
		if x.Why != "" {
			what += " (" + x.Why + ")"
		}
		lacks = append(lacks, what)
		if fix == "" {
			fix = x.Fix
		}
	}
	if !c.Available && len(lacks) == 0 {
		lacks = append(lacks, "something on this host: it is not available")
	}
	if len(lacks) == 0 && slices.Index(assurances, c.Assurance) < slices.Index(assurances, asked) {
		lacks = append(lacks, fmt.Sprintf("%s assurance: it gives %s here", asked, c.Assurance))
		for _, x := range c.Controls {
			if x.State != "on" && fix == "" {
				fix = x.Fix
			}
		}
	}
	if fix == "" && len(lacks) > 0 {
		fix = c.Fix
	}
	return lacks, fix
}
