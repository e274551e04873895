package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/internal/store"
	"github.com/casemate/casemate/sandbox/process"
)

// A benchPlace is a folder of its own with what the subjects of a bench need:
// configurations, and the servers' state. Nothing outside it is written.
type benchPlace struct {
	dir    string   // 0755: as root the router is a user of its own
	self   string   // this binary
	init   string   // and its casemate-init
	lacks  []string // limits that this host does not give
	token  string   // of the servers: whoever is on this machine reaches their port
	static string   // a static program that ends at once: busybox; "" where there is none
}

// The payloads that all subjects run alike.
const (
	payloadTrue   = "true"        // the system's own, with its libraries
	payloadStatic = "static true" // busybox
	payloadPython = "python"      // python3 -I -S -c
	payloadByte   = "first byte"  // of a guest that waits, until it answers
	payloadEcho   = "echo"        // a tool of an MCP server that runs
)

// pythonCode is what the payload python runs, and prints.
const (
	pythonCode   = "print(6*7)"
	pythonPrints = "42\n"
)

func newBenchPlace(ctx context.Context) (p *benchPlace, err error) {
	p = &benchPlace{token: rand.Text()}
	if p.self, err = os.Executable(); err == nil {
		p.self, err = filepath.EvalSymlinks(p.self)
	}
	if err != nil {
		return nil, err
	}
	if p.init, err = initPath(); err != nil {
		return nil, err
	}
	caps, err := process.Probe(ctx, p.init)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"memory", "cpu"} {
		if caps.Lookup(name+" limit").State == "missing" {
			p.lacks = append(p.lacks, name)
		}
	}
	if found, err := exec.LookPath("busybox"); err == nil {
		if found, err = filepath.EvalSymlinks(found); err == nil && within(systemFolders, found) {
			p.static = found
		}
	}
	if p.dir, err = os.MkdirTemp("", "casemate-bench-"); err != nil {
		return nil, err
	}
	fail := func(err error) (*benchPlace, error) { return nil, errors.Join(err, p.remove()) }
	if p.dir, err = filepath.EvalSymlinks(p.dir); err != nil {
		return fail(err)
	}
	if err := os.Chmod(p.dir, 0o755); err != nil {
		return fail(err)
	}
	for _, d := range []string{"grant", "server"} {
		err = errors.Join(err, os.Mkdir(p.path(d), 0o755))
	}
	for _, d := range []string{"state", "run", "config", "home"} {
		err = errors.Join(err, os.Mkdir(p.path(d), 0o700))
	}
	if err = errors.Join(err, os.WriteFile(p.path("grant/a"), []byte("alpha"), 0o644)); err != nil {
		return fail(err)
	}
	return p, nil
}

func (p *benchPlace) remove() error           { return store.Remove(p.dir) }
func (p *benchPlace) path(name string) string { return filepath.Join(p.dir, name) }

// environ is that of the servers: of this process, with folders of the place.
func (p *benchPlace) environ(config string) []string {
	return append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "CASEMATE_") || strings.HasPrefix(kv, "XDG_") || strings.HasPrefix(kv, "HOME=")
	}), "CASEMATE_CONFIG="+config, "HOME="+p.path("home"), "XDG_STATE_HOME="+p.path("state"), "XDG_CONFIG_HOME="+p.path("config"), "XDG_RUNTIME_DIR="+p.path("run"))
}

// configure writes a configuration with these tools and returns its path.
func (p *benchPlace) configure(name, host string, tools ...string) (string, error) {
	var b strings.Builder
	b.WriteString("version: 1\n")
	if len(p.lacks) > 0 {
		host += fmt.Sprintf("  allow_degraded: [%s]\n", strings.Join(p.lacks, ", "))
	}
	if host != "" {
		b.WriteString("host:\n" + host)
	}
	b.WriteString("tools:\n")
	for _, t := range tools {
		b.WriteString(t)
	}
	file := p.path(name + ".yaml")
	return file, os.WriteFile(file, []byte(b.String()), 0o600)
}

// The tools of the configurations, as an operator would write them: the walls
// and limits are the defaults.
func benchTool(name, run, argument, security string) string {
	parameters := ""
	if argument != "" {
		parameters = fmt.Sprintf("properties: {%s: {type: string}}, required: [%s], ", argument, argument)
	}
	return fmt.Sprintf("  - name: %q\n    description: A payload.\n    parameters: {type: object, %sadditionalProperties: false}\n    run: %s\n    security: {%s}\n", name, parameters, run, security)
}

func benchPython(name string) string { return benchTool(name, "{python: {}}", "code", "") }

// own loads a configuration of the place as one that this process answers for.
func (p *benchPlace) own(a *app, file string) (*loaded, error) {
	c, err := catalog.Load(file, a.options(p.path("state"), true))
	if err != nil {
		return nil, err
	}
	return &loaded{Config: c, state: p.path("state")}, nil
}
