package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/testenv"
)

// workFolder is a folder for commands of one test.
func workFolder(t *testing.T) string {
	t.Helper()
	work := t.TempDir()
	if err := makeFolders(work); err != nil {
		t.Fatal(err)
	}
	return work
}

// doctored runs casemate doctor --json in work, with these arguments and variables
// more.
func doctored(t *testing.T, work string, more []string, env ...string) map[string]casemate.Capabilities {
	t.Helper()
	cmd := exec.Command(filepath.Join(testenv.Binaries(t).Dir, "casemate"), append(more, "doctor", "--json")...)
	cmd.Dir, cmd.Env = work, append(scriptEnv(t, work), env...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("doctor: %v\n%s", err, said.String())
	}
	var got struct{ Backends []casemate.Capabilities }
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	all := map[string]casemate.Capabilities{}
	for _, b := range got.Backends {
		all[b.Name] = b
	}
	if len(all) != 4 {
		t.Fatalf("backends %s", out)
	}
	return all
}

// runscHere is the variable by which doctor finds the runsc of who runs the tests.
func runscHere(t *testing.T) string {
	if p := os.Getenv("CASEMATE_RUNSC"); p != "" {
		return "CASEMATE_RUNSC=" + p
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return "XDG_CACHE_HOME=" + cache
}

// A wall that is taken away is not shown as on, whatever the backend: each line
// is what a sandbox was seen to have.
func TestDoctorSeesMissingWalls(t *testing.T) {
	work := workFolder(t)
	whole := doctored(t, work, nil, runscHere(t))
	walls := []struct {
		wall, row string
		backends  []string
	}{
		{"seccomp", "seccomp", []string{"process", "oci", "gvisor", "wasm"}},
		{"landlock", "landlock", []string{"process", "oci", "wasm"}},
		{"capabilities", "no capabilities", []string{"process"}},
	}
	for _, w := range walls {
		without := doctored(t, work, []string{"--test-without=" + w.wall}, runscHere(t))
		for _, b := range w.backends {
			if !whole[b].Available {
				testenv.Require(t, b, &testenv.Unsupported{What: b, Why: whole[b].Fix})
			}
			if got := whole[b].Lookup(w.row); got.State != "on" {
				t.Errorf("%s with all walls: %+v", b, got)
			}
			if got := without[b].Lookup(w.row); got.State == "on" || got.Why == "" || got.Fix == "" {
				t.Errorf("%s without %s: %+v", b, w.wall, got)
			}
			if c := without[b]; c.Available && c.Assurance != casemate.Weak {
				t.Errorf("%s without %s is available at %s assurance", b, w.wall, c.Assurance)
			}
		}
	}
}

// Runtimes that are not there, or are none, are said to be missing, with the fix.
func TestDoctorWithoutRuntimes(t *testing.T) {
	work, fake := workFolder(t), t.TempDir()
	for name, text := range map[string]string{
		"runc":  "#!/bin/sh\necho runc version 1.9.9\nexit 0\n", // which makes no container
		"runsc": "#!/bin/sh\necho runsc version release-20200101.0\n",
	} {
		if err := os.WriteFile(filepath.Join(fake, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	planted, ran := t.TempDir(), filepath.Join(t.TempDir(), "ran")
	for name, version := range map[string]string{"runc": "1.9.9", "runsc": "release-20991231.0"} {
		text := "#!/bin/sh\n(: > " + ran + ") 2>/dev/null\necho " + name + " version " + version + "\n"
		if err := os.WriteFile(filepath.Join(planted, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, path  string
		oci, sentry string
	}{
		{"programs that a tool planted", planted, "runc 1.9.9", "runsc release-20991231.0"},
		{"nothing on PATH", "/nonexistent", "there is no runc", "no runsc"},
		{"programs that lie", fake, "runc 1.9.9", "too old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := doctored(t, work, nil, "PATH="+c.path, "CASEMATE_RUNSC=", "XDG_CACHE_HOME="+t.TempDir())
			for name, why := range map[string]string{"oci": c.oci, "gvisor": c.sentry} {
				b := got[name]
				if x := b.Lookup("runtime"); b.Available || b.Fix == "" || b.Assurance != "" || x.State != "missing" || !strings.Contains(x.Why, why) {
					t.Errorf("%s: %+v", name, b)
				}
			}
			if !got["process"].Available {
				t.Errorf("process: %+v", got["process"])
			}
			if _, err := os.Stat(ran); err == nil {
				t.Error("a program from PATH was run outside of every sandbox")
			}
		})
	}
}

// A tool that names a backend runs on it, or not at all.
func TestIsolation(t *testing.T) {
	work := workFolder(t)
	whole := doctored(t, work, nil, runscHere(t))
	tool := func(name, security string) string {
		return "  - name: " + name + "\n    run: {exec: {command: [/bin/cat, /proc/version]}}\n    security: {" + security + "}\n"
	}
	config := "version: 1\ntools:\n" + tool("plain", "memory: 64MiB") + tool("process", "isolation: process") + tool("oci", "isolation: oci") +
		tool("gvisor", "isolation: gvisor") + tool("strong", "assurance: strong") + tool("perfect", "assurance: very-strong") +
		tool("vm", "isolation: microvm") + tool("module", "isolation: wasm")
	file := filepath.Join(work, "casemate.yaml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, int) {
		t.Helper()
		cmd := exec.Command(filepath.Join(testenv.Binaries(t).Dir, "casemate"), args...)
		cmd.Dir, cmd.Env = work, append(scriptEnv(t, work), runscHere(t), "CASEMATE_CONFIG="+file)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, c := range []struct{ tool, backend string }{{"plain", "process"}, {"process", "process"}, {"oci", "oci"}, {"gvisor", "gvisor"}, {"strong", "gvisor"}} {
		t.Run(c.tool, func(t *testing.T) {
			if !whole[c.backend].Available {
				testenv.Require(t, c.backend, &testenv.Unsupported{What: c.backend, Why: whole[c.backend].Fix})
			}
			out, status := run("call", "--json", c.tool)
			var o casemate.Outcome
			if err := json.Unmarshal([]byte(out), &o); err != nil || status != 0 || o.Backend != c.backend {
				t.Fatalf("exit %d, %v: %s", status, err, out)
			}
			if other := otherKernel(o.Result.Content[0].Text); other != (c.backend == "gvisor") {
				t.Errorf("it saw the kernel %q", o.Result.Content[0].Text)
			}
			out, status = run("log", "--json", string(o.Call))
			if status == 0 && !strings.Contains(out, `"backend":"`+c.backend+`"`) {
				t.Errorf("its record: %s", out)
			}
			if out, status = run("why", c.tool); status != 0 || !strings.Contains(out, "backend "+c.backend+": ") || !strings.Contains(out, "wasm lacks programs") {
				t.Errorf("why: exit %d: %s", status, out)
			}
		})
	}
	for name, why := range map[string]string{"perfect": "very-strong assurance", "vm": "microvm lacks a place in this version", "module": "wasm lacks programs"} {
		t.Run(name, func(t *testing.T) {
			out, status := run("call", name)
			if status != 4 || !strings.Contains(out, why) || !strings.Contains(out, "fix: ") || strings.Contains(out, "Linux version") {
				t.Errorf("exit %d: %s", status, out)
			}
			if out, status = run("why", "--json", name); status != 4 || !strings.Contains(out, `"lacks":[`) {
				t.Errorf("why: exit %d: %s", status, out)
			}
		})
	}
	out, status := run("tools", "--json")
	var listed struct{ Tools []toolRow }
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &listed); err != nil || status != 0 {
		t.Fatalf("tools: exit %d: %v: %s", status, err, out)
	}
	i := slices.IndexFunc(listed.Tools, func(r toolRow) bool { return r.Name == "perfect" })
	if i < 0 || listed.Tools[i].Error == nil || listed.Tools[i].Choice == nil || len(listed.Tools[i].Choice.Others) != 6 {
		t.Errorf("tools does not say what of perfect is missing: %s", out)
	}
}

// casemate tools is to the point: of a module what its worker's sandbox has, of a
// refused tool no empty reason, and of a bad image the key that names it.
func TestToolsSaysWhatIsThere(t *testing.T) {
	p := newPlace(t, "\n  - name: js\n    run: {js: {}}", "\n  - name: vm\n    run: {shell: {}}\n    security: {isolation: microvm}",
		"\n  - name: nowhere\n    run: {shell: {}}\n    image: python:3", lenient)
	whole := doctored(t, p.dir, nil)
	out, err := p.command("tools").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := string(out)
	if strings.Contains(s, "  ; ") {
		t.Errorf("an empty reason: %s", s)
	}
	if whole["oci"].Lookup("runtime").State == "on" && !strings.Contains(s, `image: "python:3" names no registry`) {
		t.Errorf("the key is not named: %s", s)
	}
	_, js, _ := strings.Cut(s, "js  (wasm)")
	js, _, _ = strings.Cut(js, "\nnowhere")
	if !strings.Contains(js, "worker, ") || !strings.Contains(js, "seccomp") || !strings.Contains(js, "memory limit") {
		t.Errorf("of JavaScript: %s", js)
	}
}
