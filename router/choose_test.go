package router

import (
	"reflect"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

// here are the capabilities of a host where everything works; each change makes
// it another host.
func here(changes ...func(map[string]casemate.Capabilities)) map[string]casemate.Capabilities {
	caps := map[string]casemate.Capabilities{}
	for _, b := range Isolations() {
		if !absent(b.Name) {
			caps[b.Name] = casemate.Capabilities{Name: b.Name, Available: true, Assurance: b.Assurance, Controls: []casemate.Control{{Name: "seccomp", State: "on"}}}
		}
	}
	for _, change := range changes {
		change(caps)
	}
	return caps
}

// without is a host that lacks a backend.
func without(backend, why, fix string) func(map[string]casemate.Capabilities) {
	return func(caps map[string]casemate.Capabilities) {
		caps[backend] = casemate.Capabilities{Name: backend, Fix: fix, Controls: []casemate.Control{{Name: "runtime", State: "missing", Why: why, Fix: fix}}}
	}
}

// weaker is a host on which a backend gives less.
func weaker(backend string, a casemate.Assurance, control string) func(map[string]casemate.Capabilities) {
	return func(caps map[string]casemate.Capabilities) {
		c := caps[backend]
		c.Assurance = a
		c.Controls = append(c.Controls, casemate.Control{Name: control, State: "degraded", Fix: "get " + control})
		caps[backend] = c
	}
}

func untold(backends ...string) func(map[string]casemate.Capabilities) {
	return func(caps map[string]casemate.Capabilities) {
		for _, b := range backends {
			delete(caps, b)
		}
	}
}

func choosing(run, image, isolation string, a casemate.Assurance) *casemate.Tool {
	t := &casemate.Tool{Name: "x", Security: casemate.Profile{Isolation: isolation, Assurance: a}}
	switch run {
	case "exec":
		t.Run.Exec = &casemate.Exec{Command: []string{"/bin/true"}}
	case "mcp":
		t.Run.MCP = &casemate.MCP{Server: "x", Command: []string{"/bin/true"}}
	case "wasm":
		t.Run.Wasm = &casemate.Wasm{Module: "/w.wasm"}
	case "js":
		t.Run.JS = &casemate.JS{}
	}
	if image != "" {
		t.Image = &casemate.Image{Reference: image}
	}
	return t
}

func TestChoose(t *testing.T) {
	noRunsc := without("gvisor", "there is no runsc", "make runsc")
	noRunc := without("oci", "there is no runc", "apt install runc")
	for _, c := range []struct {
		name  string
		tool  *casemate.Tool
		caps  map[string]casemate.Capabilities
		want  string // the backend; "?NAME": what has to be asked first; "": refused
		why   string // of a refusal, in part
		fix   string // of a refusal
		lacks map[string]string
	}{
		{"nothing asked", choosing("exec", "", "", ""), here(), "process", "", "", map[string]string{"wasm": "programs", "oci": "", "gvisor": "", "microvm": "a place in this version"}},
		{"nothing asked, nothing known", choosing("exec", "", "auto", "weak"), nil, "process", "", "", nil},
		{"auto, weak, and no runtime here", choosing("mcp", "", "auto", "weak"), here(noRunc, noRunsc), "process", "", "", map[string]string{"oci": "there is no runc"}},
		{"moderate", choosing("exec", "", "auto", "moderate"), here(), "process", "", "", nil},
		{"moderate is asked of the host", choosing("exec", "", "auto", "moderate"), nil, "?process", "", "", nil},
		{"moderate of a user", choosing("exec", "", "auto", "moderate"), here(weaker("process", "weak", "own uid")), "oci", "", "", map[string]string{"process": "moderate assurance: it gives weak here"}},
		{"strong", choosing("exec", "", "auto", "strong"), here(), "gvisor", "", "", map[string]string{"process": "it gives moderate at most", "oci": "it gives moderate at most"}},
		{"strong is asked of gvisor alone", choosing("exec", "", "auto", "strong"), nil, "?gvisor", "", "", nil},
		{"strong, and no runsc here", choosing("exec", "", "auto", "strong"), here(noRunsc), "", "gvisor lacks runtime (there is no runsc)", "make runsc", nil},
		{"very strong", choosing("exec", "", "auto", "very-strong"), here(), "", "gvisor lacks very-strong assurance: it gives strong at most", "ask for less", nil},
		{"gvisor that gives less", choosing("exec", "", "auto", "strong"), here(weaker("gvisor", "moderate", "seccomp of the Sentry")), "", "gvisor lacks strong assurance: it gives moderate here", "get seccomp of the Sentry", nil},

		{"image", choosing("exec", "oci:x", "auto", "weak"), here(), "oci", "", "", map[string]string{"process": "images", "gvisor": ""}},
		{"image is asked of oci", choosing("exec", "oci:x", "auto", "weak"), nil, "?oci", "", "", nil},
		{"image, and no runc here", choosing("exec", "oci:x", "auto", "weak"), here(noRunc), "gvisor", "", "", map[string]string{"oci": "there is no runc"}},
		{"image, and no runc here, and of runsc nothing known", choosing("exec", "oci:x", "auto", "weak"), here(noRunc, untold("gvisor")), "?gvisor", "", "", nil},
		{"image, strong", choosing("exec", "oci:x", "auto", "strong"), here(), "gvisor", "", "", nil},
		{"image, and no runtime here", choosing("exec", "oci:x", "auto", "weak"), here(noRunc, noRunsc), "", "oci lacks runtime (there is no runc)", "apt install runc", nil},
		{"image on process", choosing("exec", "oci:x", "process", "weak"), here(), "", "isolation: process lacks images", "set security.isolation to oci, or auto", nil},

		{"module", choosing("wasm", "", "auto", "weak"), here(), "wasm", "", "", map[string]string{"process": "an engine", "oci": "an engine", "gvisor": "an engine"}},
		{"JavaScript, strong", choosing("js", "", "auto", "strong"), here(), "wasm", "", "", nil},
		{"module is asked of wasm", choosing("wasm", "", "wasm", "weak"), nil, "?wasm", "", "", nil},
		{"module on oci", choosing("wasm", "", "oci", "weak"), here(), "", "isolation: oci lacks an engine for WebAssembly modules", "set security.isolation to wasm, or auto", nil},
		{"module of an image", choosing("wasm", "oci:x", "auto", "weak"), here(), "", "wasm lacks images", "ask for less", nil},
		{"module with a network", func() *casemate.Tool {
			t := choosing("wasm", "", "auto", "weak")
			t.Security.Network = casemate.NetworkLoopback
			return t
		}(), here(), "", "wasm lacks a network", "ask for less", nil},
		{"program on wasm", choosing("exec", "", "wasm", "weak"), here(), "", "isolation: wasm lacks programs", "set security.isolation to process, or auto", nil},

		{"oci by name", choosing("exec", "", "oci", "weak"), here(), "oci", "", "", map[string]string{"process": ""}},
		{"oci by name is asked of the host", choosing("exec", "", "oci", "weak"), here(untold("oci", "gvisor")), "?oci", "", "", nil},
		{"oci by name, strong", choosing("exec", "", "oci", "strong"), here(), "", "isolation: oci lacks strong assurance: it gives moderate at most", "set security.isolation to gvisor, or auto", nil},
		{"gvisor by name, and no runsc here", choosing("exec", "", "gvisor", "weak"), here(noRunsc), "", "isolation: gvisor lacks runtime", "make runsc", nil},
		{"microvm by name", choosing("exec", "", "microvm", "weak"), here(), "", "isolation: microvm lacks a place in this version", "set security.isolation to process, or auto", nil},
		{"kube by name", choosing("exec", "", "kube", "very-strong"), here(), "", "isolation: kube lacks a place in this version", "ask for less", nil},
		{"a backend that nobody knows", choosing("exec", "", "docker", "weak"), here(), "", `no backend "docker"`, "set security.isolation", nil},
		{"an assurance that nobody knows", choosing("exec", "", "auto", "perfect"), here(), "", `no assurance is called "perfect"`, "set security.assurance", nil},
		{"a control that is missing", choosing("exec", "", "auto", "moderate"), here(func(caps map[string]casemate.Capabilities) {
			caps["process"] = casemate.Capabilities{Assurance: casemate.Moderate, Controls: []casemate.Control{{Name: "memory limit", State: "missing", Fix: "delegate a cgroup"}}}
		}, noRunc, noRunsc), "", "process lacks memory limit", "delegate a cgroup", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := *c.tool
			got := Choose(c.tool, c.caps)
			if !reflect.DeepEqual(*c.tool, before) {
				t.Error("it changed the tool")
			}
			is := got.Backend
			if got.Ask != "" {
				is = "?" + got.Ask
			}
			if is != c.want || (got.Refused == nil) != (c.want != "") {
				t.Fatalf("chose %q (%v), want %q", is, got.Refused, c.want)
			}
			if e := got.Refused; e != nil && (e.Kind != casemate.Unsupported || e.Tool != "x" || !strings.Contains(e.Err.Error(), c.why) || !strings.Contains(e.Fix, c.fix)) {
				t.Errorf("refused: %v\n    fix: %s", e, e.Fix)
			}
			if got.Backend != "" && (got.Reason == "" || len(got.Others) != len(Isolations())-1) {
				t.Errorf("reason %q, others %+v", got.Reason, got.Others)
			}
			for _, a := range got.Others {
				if want, ok := c.lacks[a.Backend]; ok && (want == "" && len(a.Lacks) > 0 || !strings.Contains(strings.Join(a.Lacks, "; "), want)) {
					t.Errorf("%s lacks %q, want %q", a.Backend, a.Lacks, want)
				}
			}
		})
	}
}

// No host and no tool get a backend that gives less than is asked.
func TestChooseNeverWeaker(t *testing.T) {
	most := map[string]casemate.Assurance{}
	for _, b := range Isolations() {
		most[b.Name] = b.Assurance
	}
	order := func(a casemate.Assurance) int {
		for i, x := range assurances {
			if x == a {
				return i
			}
		}
		return -1
	}
	for _, isolation := range []string{"auto", "wasm", "process", "oci", "gvisor", "microvm", "kube"} {
		for _, a := range assurances {
			for _, image := range []string{"", "oci:x"} {
				for _, run := range []string{"exec", "wasm", "js", "mcp"} {
					for bits := range 1 << 4 { // which backends work here
						caps := here()
						for i, b := range []string{"wasm", "process", "oci", "gvisor"} {
							if bits&(1<<i) == 0 {
								without(b, "not here", "get it")(caps)
							}
						}
						tool := choosing(run, image, isolation, a)
						c := Choose(tool, caps)
						switch {
						case c.Ask != "":
							t.Fatalf("asks for %s, which is known", c.Ask)
						case c.Backend == "" && (c.Refused == nil || c.Refused.Fix == ""):
							t.Fatalf("%s %s %s %s %b: neither a backend nor a refusal", isolation, a, image, run, bits)
						case c.Backend == "":
							continue
						}
						if isolation != "auto" && c.Backend != isolation || order(most[c.Backend]) < order(a) || !caps[c.Backend].Available ||
							(run == "wasm" || run == "js") != (c.Backend == "wasm") || image != "" && (c.Backend == "process" || c.Backend == "wasm") {
							t.Fatalf("%s %s %q %s %b: chose %s", isolation, a, image, run, bits, c.Backend)
						}
					}
				}
			}
		}
	}
}
