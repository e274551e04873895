package oci_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
	"github.com/casemate/casemate/sandbox/oci"
	"github.com/casemate/casemate/sandbox/process"
)

func TestBadRuntimes(t *testing.T) { badRuntimes(t) }

func TestBadRuntimesAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, badRuntimes)
}

// What makes no container is refused with what it said, whatever it did, and
// nothing of the sandbox stays.
func badRuntimes(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
	for name, c := range map[string]struct{ script, says string }{
		"fails":   {"echo 'no \x1b[31mcontainers here' >&2; exit 1", "no  [31mcontainers here"},
		"silent":  {"exit 7", "the runtime said nothing"},
		"lies":    {"exit 0", "ended before its guest was ready"},
		"signals": {"kill -9 $$", "the runtime said nothing"},
		"babbles": {"i=0; while [ $i -lt 3000 ]; do echo xxxxxxxxxxxxxxxxxxxxxxxxxx >&2; i=$((i+1)); done; exit 1", "xxxx"},
		"talks":   {"echo hello >&3; exit 1", "the runtime said nothing"},
		"reports": {"echo hello >&3; exit 0", "cannot make a container: "},
		"another": {"exit 7", "was changed since it was tried"},
		"no such": {"", "no such file"},
		"no exec": {"#", "format error"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			switch name {
			case "no such":
			case "no exec":
				must(t, os.WriteFile(path, []byte("\x7fELF nothing"), 0o755))
			default:
				must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+c.script+"\n"), 0o755))
			}
			tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}}
			g, err := process.Compile(tool, process.Options{})
			must(t, err)
			file, _ := contain.FileID(path)
			if name == "another" {
				must(t, os.WriteFile(path, []byte("#!/bin/sh\nexit 0\n"), 0o755))
			}
			g, err = oci.Contain(g, oci.Runtime{Path: path, Version: "runc 9.9", File: file}, nil)
			must(t, err)
			host := plan.Host{}
			if os.Geteuid() != 0 {
				host.AllowDegraded = []string{"memory", "cpu"}
			}
			s, err := process.StartSpawner(testenv.Binaries(t).Init, &plan.Plan{Host: host, Guests: []plan.Guest{g}})
			must(t, err)
			defer s.Close()
			b := process.New(s.Router).As(oci.Name)
			sb, err := b.Start(t.Context(), casemate.Spec{Tool: tool})
			if err == nil {
				sb.Close()
				t.Fatal("it was started")
			}
			e, _ := err.(*casemate.Error)
			if e == nil || e.Kind != casemate.Unsupported || e.Fix == "" || !strings.Contains(e.Error(), c.says) || len(e.Error()) > 8<<10 || strings.ContainsRune(e.Error(), 0x1b) {
				t.Errorf("%v", err)
			}
			caps, err := b.Probe(t.Context())
			if err != nil || caps.Available || caps.Fix == "" || caps.Name != oci.Name {
				t.Errorf("%+v %v", caps, err)
			}
		})
	}
}

// The probe of a backend makes a sandbox of it, and says so where no tool has one.
func TestProbe(t *testing.T) {
	s := subject(t)
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}}
	c, err := s.Open(t, tool).Probe(t.Context())
	if err != nil || !c.Available && os.Geteuid() == 0 || c.Controls[len(c.Controls)-1].State == "" {
		t.Errorf("%+v %v", c, err)
	}
	names := ""
	for _, x := range c.Controls {
		names += x.Name + ","
	}
	if !strings.Contains(names, ",container,") {
		t.Errorf("%s", names)
	}
	if _, err := s.Open(t).Probe(t.Context()); casemate.KindOf(err) != casemate.Invalid {
		t.Errorf("%v", err)
	}
}
