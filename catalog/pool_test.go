package catalog

import (
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

// TestPoolsThatTheHostDoesNotHold: what tools keep together may be more than
// the host's bound; that comes first, and is said.
func TestPoolsThatTheHostDoesNotHold(t *testing.T) {
	const tools = "tools:\n  - {name: a, run: {python: {}}, pool: {min: 2}}\n  - {name: b, mcp: {command: [b]}, pool: {min: 2, max: 2}}\n"
	for host, want := range map[string][]string{
		"":                                       nil,
		"host: {pool: {max: 4, memory: 1GiB}}\n": nil,
		"host: {pool: {max: 3}}\n":               {"pool.min of the tools is 4 in all, and host.pool.max 3: the tools that were used last come first"},
	} {
		c, err := Parse("/c/casemate.yaml", []byte("version: 1\n"+host+tools), Options{Operator: true})
		if err != nil || !slices.Equal(c.Warnings, want) {
			t.Errorf("%q: %v %q", host, err, c.Warnings)
		}
	}
}

// TestWhatHasNoEffectOnPools: what a manifest asks for and will not get is said.
func TestWhatHasNoEffectOnPools(t *testing.T) {
	for tool, want := range map[string][]string{
		"run: {python: {}}, pool: {min: 32}":                       nil,
		"run: {python: {}}, pool: {min: 33}":                       {"pool.min of the tools is 33 in all, and host.pool.max 32: the tools that were used last come first"},
		"run: {python: {fork: true}}":                              nil,
		"run: {python: {fork: true}}, security: {scope: session}":  {"tools[0].run.python.fork has no effect: a sandbox of scope session starts an interpreter of its own"},
		"run: {python: {fork: false}}, security: {scope: session}": nil,
	} {
		c, err := Parse("/c/casemate.yaml", []byte("version: 1\ntools:\n  - {name: a, "+tool+"}\n"), Options{})
		if err != nil || !slices.Equal(c.Warnings, want) {
			t.Errorf("%s: %v %q", tool, err, c.Warnings)
		}
	}
}

// TestHostPoolOfAManifest: how much of the host waits is the operator's to say.
func TestHostPoolOfAManifest(t *testing.T) {
	src := "version: 1\nhost: {pool: {max: 4}}\ntools: []\n"
	_, err := Parse("/c/casemate.yaml", []byte(src), Options{})
	if casemate.KindOf(err) != casemate.Invalid || !strings.Contains(err.Error(), "casemate.yaml:2:1: host: belongs to the operator") {
		t.Errorf("%v", err)
	}
}

// TestWhatAPoolPins: a pool may be tuned without trusting its tool again;
// forking is another sandbox.
func TestWhatAPoolPins(t *testing.T) {
	pin := func(run, pool string) casemate.Digest {
		c, err := Parse("/c/casemate.yaml", []byte("version: 1\ntools:\n  - name: a\n    run: "+run+"\n    pool: "+pool+"\n"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return c.pins["a"]
	}
	plain := pin("{python: {}}", "{}")
	if pin("{python: {}}", "{min: 1, max: 4}") != plain || pin("{python: {fork: true}}", "{}") != plain {
		t.Error("another pool is another pin")
	}
	if pin("{python: {fork: false}}", "{}") == plain {
		t.Error("fork: false is no other pin")
	}
	if pin("{node: {fork: false}}", "{}") != pin("{node: {}}", "{}") {
		t.Error("fork: false of Node, which has no other way, is another pin")
	}
	server := "{mcp: {command: [a]}}"
	if pin(server, "{}") != pin(server, "{min: 3}") {
		t.Error("another pool of a server is another pin")
	}
}
