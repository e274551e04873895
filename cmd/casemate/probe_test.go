package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate/internal/testenv"
)

// runProbe runs casemate probe --json, which must leave nothing behind.
func runProbe(t *testing.T, args ...string) (r probeReport, code int) {
	t.Helper()
	built := testenv.Binaries(t)
	work, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(work, 0o755)
	if err := makeFolders(work); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(built.Casemate, append([]string{"probe", "--json"}, args...)...)
	cmd.Dir, cmd.Env = work, append(scriptEnv(t, work), runscHere(t))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || len(r.Rows) == 0 {
		t.Fatalf("exit status %d: %v\n%s\n%s", code, err, out.String(), errs.String())
	}
	for _, l := range r.Rows {
		for b, v := range l.Verdicts {
			if !slices.Contains([]string{verdictHeld, verdictNA, verdictBroken}, v.Verdict) || v.Why == "" || l.Tried == "" || strings.HasPrefix(v.Why, notMade) {
				t.Errorf("%s on %s: %+v", l.Name, b, v)
			}
		}
	}
	for _, d := range []string{"tmp", "home", "config", "run"} {
		if left, _ := os.ReadDir(filepath.Join(work, d)); len(left) > 0 {
			t.Errorf("it left %v in %s", left, d)
		}
	}
	return r, code
}

// named returns the rows that have a verdict on a backend.
func (r *probeReport) named(backend, verdict string) (out []string) {
	for _, l := range r.Rows {
		if l.Verdicts[backend].Verdict == verdict {
			out = append(out, l.Name)
		}
	}
	return out
}

// proves looks at one whole column.
func proves(t *testing.T, backend string, held int) {
	t.Helper()
	r, code := runProbe(t, "--backend", backend)
	if why := r.Host.Absent[backend]; why != "" {
		testenv.Require(t, backend, &testenv.Unsupported{What: backend, Why: why})
	}
	if broken := r.named(backend, verdictBroken); code != 0 || len(broken) > 0 || len(r.named(backend, verdictHeld)) < held {
		t.Errorf("exit status %d, %s", code, r.count(backend))
		for _, l := range r.Rows {
			if v := l.Verdicts[backend]; v.Verdict == verdictBroken {
				t.Errorf("%s: %s", l.Name, v.Why)
			}
		}
	}
}

func TestProbeProcess(t *testing.T) { proves(t, "process", 55) }

func TestProbeProcessAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, func(t *testing.T) { proves(t, "process", 50) })
}

func TestProbeOCI(t *testing.T)    { proves(t, "oci", 50) }
func TestProbeGVisor(t *testing.T) { proves(t, "gvisor", 24) }
func TestProbeWasm(t *testing.T)   { proves(t, "wasm", 12) }

// Nothing is held where nothing was attacked.
func TestProbeOfNothing(t *testing.T) {
	t.Setenv("CASEMATE_RUNSC", "/nonexistent")
	if r, code := runProbe(t, "--backend", "gvisor", "--row", "tcp"); code != 1 || r.Host.Absent["gvisor"] == "" {
		t.Errorf("exit status %d: %+v", code, r.Host)
	}
}

// TestProbeNotices: each wall that is taken away turns the rows that it holds
// alone, and those only of the ones that are tried.
func TestProbeNotices(t *testing.T) {
	control := []string{"host-files", "leaked-fd", "capabilities", "clone-rng"}
	for _, c := range []struct {
		without string
		broken  []string
		held    []string // by another wall as well
	}{
		{"seccomp", []string{"setuid-own", "kernel-surface", "syscall-surface", "socket-families", "keyring", "seccomp", "nested-loosening"}, []string{"landlock", "user-namespace", "tcp"}},
		{"landlock", []string{"landlock"}, []string{"tcp", "abstract-socket", "writable-paths"}},
		{"capabilities", []string{"first-process", "capabilities", "nested-loosening"}, []string{"seccomp"}},
		{"limits", []string{"fork-bomb", "fd-bomb"}, nil},
		{"memory", []string{"memory-bomb"}, nil},
		{"mask", []string{"proc-doors", "mask-swap"}, []string{"proc-sys"}},
		{"readonly", []string{"proc-sys"}, []string{"writable-paths"}},
		{"count", []string{"namespace-count", "inotify-bomb"}, []string{"user-namespace"}},
		{"name", []string{"host-name"}, nil},
		{"dumpable", []string{"first-process"}, nil},
		{"seal", []string{"writable-paths"}, nil},
		{"namespace-net", []string{"namespaces", "dns-tunnel", "tcp", "metadata-api"}, []string{"abstract-socket"}},
		{"namespace-net,landlock", []string{"namespaces", "dns-tunnel", "tcp", "metadata-api", "abstract-socket"}, nil},
		{"namespace-ipc", []string{"namespaces", "shared-memory"}, nil},
		{"namespace-cgroup", []string{"namespaces"}, nil},
	} {
		t.Run(c.without, func(t *testing.T) {
			rows := slices.Concat(control, c.broken, c.held)
			r, code := runProbe(t, "--backend", "process", "--test-without", c.without, "--row", strings.Join(rows, ","))
			if why := r.Host.Absent["process"]; why != "" {
				t.Fatal(why)
			}
			got, want := r.named("process", verdictBroken), slices.Clone(c.broken)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) || code != 1 || !slices.Equal(r.Host.Without, strings.Split(c.without, ",")) {
				t.Errorf("exit status %d, broken %q, not %q", code, got, want)
			}
		})
	}
}

// TestProbeIsAskedWell: it refuses what is no backend and no row, and its
// attacker refuses to stand outside a sandbox.
func TestProbeIsAskedWell(t *testing.T) {
	p := newPlace(t)
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"probe", "--backend", "docker"}, "choose of process"},
		{[]string{"probe", "--row", "luck"}, "no row"},
		{[]string{"attacker", "-"}, "no sandbox"},
	} {
		cmd := p.command(c.args...)
		cmd.Stdin = strings.NewReader(`{"do":[["kill","1"]]}`)
		out, err := cmd.CombinedOutput()
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 2 || !bytes.Contains(out, []byte(c.says)) {
			t.Errorf("%q: %v %s", c.args, err, out)
		}
	}
}

// TestProbeShows: a person sees the table and the reasons, and Markdown is as
// docs/matrix.md has it.
func TestProbeShows(t *testing.T) {
	r := &probeReport{Rows: []probeLine{
		{"one", "try | this", map[string]probeVerdict{"process": {verdictHeld, "w"}, "oci": {verdictNA, "no runtime"}}},
		{"two", "try\x1b[31m that", map[string]probeVerdict{"process": {verdictBroken, "it got\x1b[2J through"}, "oci": {verdictNA, "no runtime"}}},
	}, Host: probeHost{Kernel: "Linux 1", Arch: "amd64", Version: "v", Backends: nil, Absent: map[string]string{"process": "x", "oci": "no runtime"}}}
	if got := r.count("process"); got != "1 held, 0 n/a, 1 BROKEN" {
		t.Error(got)
	}
	if got := r.reasons(); !slices.Equal(got, []string{"oci: no runtime"}) {
		t.Errorf("%q", got)
	}
	text := r.markdown()
	if !strings.Contains(text, "| one | try \\| this | held | n/a |") || strings.Contains(text, "\x1b") || r.broken() != 1 {
		t.Error(text)
	}
}
