package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/sandbox/process"
)

// A trial is a sandbox of one backend that is made, looked at from inside, and
// thrown away. What it found is what doctor shows; nothing is taken from a
// version.

// trialDisk is what the sandbox of a trial may write, in bytes; it tries twice
// as much.
const trialDisk = 8 << 20

// trialParts are what is looked at, in the order in which it is printed.
var trialParts = [...]struct{ name, command string }{
	{"status", "cat /proc/self/status"},
	{"users", "cat /proc/self/uid_map"},
	{"root", "ls -A /; ls -A /root /home 2>/dev/null"},
	{"kernel", "cat /proc/version"},
	{"processes", "cd /proc && echo [0-9]*"},
	{"devices", "cat /proc/net/dev"},
	{"unshare", "unshare -U true && echo through"},
	{"mount", "mount -t tmpfs none /tmp && echo through"},
	{"disk", fmt.Sprintf("dd if=/dev/zero of=/tmp/trial bs=%d count=2 2>/dev/null && echo through", trialDisk)},
	{"spaces", "for n in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done"},
}

// seen is what a trial saw.
type seen struct {
	parts    map[string]string
	canary   bool // it read a file of the host's
	enforced casemate.Enforced
}

// lenient is the configuration of trials: a limit that the host cannot hold is
// found to be missing, and keeps nobody from looking at the rest.
func (b *backends) lenient() *loaded {
	c := *b.loaded.Config
	c.Host.AllowDegraded = []string{"memory", "cpu"}
	return &loaded{&c, b.loaded.state}
}

// limit is the row of a limit, as the sandbox had it or, where it did not, as the
// spawner says why.
func (b *backends) limit(ctx context.Context, name string, l *casemate.Limit) casemate.Control {
	if l != nil {
		return casemate.Control{Name: name + " limit", State: "on", Why: "by " + l.By}
	}
	if _, known := b.caps["process"]; !known {
		b.ask(ctx, "process")
	}
	x := b.caps["process"].Lookup(name + " limit")
	if x.State == "on" {
		x.State, x.Why, x.Fix = "missing", "the sandbox has none", report
	}
	return x
}

// look makes a sandbox and looks.
func (b *backends) look(ctx context.Context, run enclosing) (*seen, error) {
	canary, err := os.CreateTemp(b.loaded.state, "trial-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(canary.Name())
	token := hex.EncodeToString([]byte(filepath.Base(canary.Name())))
	_, err = canary.WriteString(token)
	if err = errors.Join(err, canary.Chmod(0o444), canary.Close()); err != nil {
		return nil, err
	}
	mark := "= " + token + " "
	script := "exec 2>/dev/null\n"
	for _, p := range trialParts {
		script += fmt.Sprintf("echo '%s%s'\n(%s)\n", mark, p.name, p.command)
	}
	script += fmt.Sprintf("echo '%scanary'\ncat '%s'\nexit 0\n", mark, strings.ReplaceAll(canary.Name(), "'", `'\''`))
	t := &casemate.Tool{
		Name:       "trial",
		Parameters: json.RawMessage(`{"type":"object","additionalProperties":false}`),
		Run:        casemate.Run{Exec: &casemate.Exec{Command: []string{"/bin/sh", "-c", script}}},
		Security:   casemate.Profile{Memory: 128 << 20, Processes: 32, Disk: trialDisk, Timeout: 20 * time.Second, Output: 256 << 10}.WithDefaults(),
	}
	g, err := process.Compile(t, process.Options{})
	if err == nil {
		g, err = run(g, nil)
	}
	if err != nil {
		return nil, err
	}
	o, err := b.alone(ctx, b.init, b.lenient(), t, g, "trials.jsonl")
	if err != nil {
		return nil, err
	}
	if o.Error != nil {
		return nil, remote(o.Error)
	}
	if o.Result == nil || o.Enforced == nil {
		return nil, errors.New("it gave no result")
	}
	text := ""
	for _, c := range o.Result.Content {
		text += c.Text
	}
	s := &seen{parts: map[string]string{}, enforced: *o.Enforced}
	for _, part := range strings.Split("\n"+text, "\n"+mark)[1:] {
		name, value, _ := strings.Cut(part, "\n")
		s.parts[name] = value
	}
	s.canary = strings.Contains(s.parts["canary"], token)
	if _, whole := s.parts["canary"]; !whole {
		return nil, errors.New("the shell of the trial did not come to its end")
	}
	return s, nil
}

// try makes a sandbox of a backend that is not process, and says what was on.
func (b *backends) try(ctx context.Context, name, version string, run enclosing) casemate.Capabilities {
	s, err := b.look(ctx, run)
	if err != nil {
		c := unavailable("runtime", err)
		c.Controls[0].Why = version + ": " + c.Controls[0].Why
		return c
	}
	c := casemate.Capabilities{Available: true, Controls: append([]casemate.Control{{Name: "runtime", State: "on", Why: version}}, b.controls(ctx, name, s)...)}
	c.Assurance = assurance(name, c.Controls)
	return c
}

// assurance is what a backend gives that has these controls. A bug of the kernel
// that a guest of gvisor or wasm cannot reach by itself costs no more where the uid
// is the caller's, or a limit is not held.
func assurance(backend string, controls []casemate.Control) casemate.Assurance {
	most, apart := casemate.Moderate, backend == "gvisor" || backend == "wasm"
	if apart {
		most = casemate.Strong
	}
	for _, x := range controls {
		if x.State != "on" && !(apart && (x.Name == "own uid" || strings.HasSuffix(x.Name, " limit"))) {
			return casemate.Weak
		}
	}
	return most
}

// report is what to do about what nobody foresaw.
const report = "report it: a sandbox that was made lacks a wall"

// controls are what was on.
func (b *backends) controls(ctx context.Context, backend string, s *seen) (out []casemate.Control) {
	row := func(name string, on bool, why, fix string) {
		if on {
			out = append(out, casemate.Control{Name: name, State: "on"})
		} else {
			out = append(out, casemate.Control{Name: name, State: "missing", Why: why, Fix: fix})
		}
	}
	theirs := strings.Fields(s.parts["spaces"])
	own := func(of string) bool { // the namespace in which the guest stands is not ours
		if backend == "gvisor" {
			return true // the Sentry's names say nothing of the host
		}
		link, err := os.Readlink("/proc/self/ns/" + of)
		return err == nil && !slices.Contains(theirs, link)
	}
	for _, n := range [...]struct{ name, of string }{{"user", "user"}, {"mount", "mnt"}, {"pid", "pid"}, {"network", "net"}, {"ipc", "ipc"}, {"uts", "uts"}, {"cgroup", "cgroup"}} {
		row(n.name+" namespace", slices.Contains(s.enforced.Namespaces, n.name) && own(n.of), "the guest is in one of the host's", report)
	}
	if backend == "gvisor" {
		row("own kernel", otherKernel(s.parts["kernel"]), "the guest sees the host's kernel: "+strings.TrimSpace(s.parts["kernel"]), report)
	} else {
		row("one user", oneUser.MatchString(s.parts["users"]), "its user namespace has more than one user", report)
	}
	row("private root", !s.canary && !regexp.MustCompile(`(?m)^(root|home|boot|srv|mnt|media)$`).MatchString(s.parts["root"]), "the guest sees files of the host's", report)
	row("private /proc", len(strings.Fields(s.parts["processes"])) < 16 && s.parts["processes"] != "", "the guest sees processes of the host's", report)
	row("no network", !foreignDevice.MatchString(s.parts["devices"]), "the guest has a network device beside its loopback", report)
	row("no_new_privs", s.enforced.NoNewPrivs && s.status("NoNewPrivs", "1"), "it is not set", report)
	row("no capabilities", s.status("CapEff", zeroCaps) && s.status("CapPrm", zeroCaps) && !strings.Contains(s.parts["mount"], "through"), "the guest has some", report)
	row("seccomp", s.enforced.Seccomp != "" && (backend == "gvisor" || s.status("Seccomp", "2")) && !strings.Contains(s.parts["unshare"], "through"), "a system call went through that the list refuses", report)
	if backend != "gvisor" {
		x := casemate.Control{Name: "landlock", State: "on"}
		if s.enforced.Landlock == 0 {
			x = casemate.Control{Name: "landlock", State: "degraded", Why: "the kernel has no Landlock", Fix: "boot with lsm=landlock,… or Linux 5.13 or newer"}
		}
		out = append(out, x)
	}
	row("disk limit", s.enforced.Disk != nil && !strings.Contains(s.parts["disk"], "through"), "the guest wrote more than its limit", report)
	out = append(out, b.limit(ctx, "memory", s.enforced.Memory), b.limit(ctx, "cpu", s.enforced.CPU), b.limit(ctx, "processes", s.enforced.Processes))
	x := casemate.Control{Name: "own uid", State: "on"}
	if s.enforced.Uid != "own" {
		x = casemate.Control{Name: "own uid", State: "degraded", Why: "a user's sandboxes run under the user's own uid", Fix: "run Casemate as root"}
	}
	return append(out, x)
}

const zeroCaps = "0000000000000000"

var (
	oneUser       = regexp.MustCompile(`^\s*\d+\s+\d+\s+1\s*$`)
	foreignDevice = regexp.MustCompile(`(?m)^\s*(?:[a-km-z][A-Za-z0-9_.-]*|l[a-np-z0-9][A-Za-z0-9_.-]*|lo[A-Za-z0-9_.-]+):`)
)

// status says whether a line of /proc/self/status has that value.
func (s *seen) status(key, value string) bool {
	for line := range strings.Lines(s.parts["status"]) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == key {
			return strings.TrimSpace(v) == value
		}
	}
	return false
}

// otherKernel says whether a guest's /proc/version is not that of this kernel.
func otherKernel(version string) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil || version == "" {
		return false
	}
	return !strings.Contains(version, unix.ByteSliceToString(u.Release[:]))
}

// wasm has the worker run a line of JavaScript. Without afresh, for a module that
// is compiled takes seconds, it looks whether the worker is there, and what the
// backend process has, whose sandboxes its own are.
func (b *backends) wasm(ctx context.Context) casemate.Capabilities {
	if _, err := wasmPath(); err != nil {
		return unavailable("worker", err)
	}
	c := casemate.Capabilities{Available: true, Controls: []casemate.Control{{Name: "worker", State: "on"}}}
	if !b.afresh {
		if _, known := b.caps["process"]; !known {
			b.ask(ctx, "process")
		}
		c.Controls = append(c.Controls, b.caps["process"].Controls...)
		c.Assurance = assurance("wasm", c.Controls)
		return c
	}
	t := &casemate.Tool{
		Name:       "trial",
		Parameters: json.RawMessage(`{"type":"object","properties":{"code":{"type":"string"}},"required":["code"],"additionalProperties":false}`),
		Run:        casemate.Run{JS: &casemate.JS{}},
		Security:   casemate.Profile{Memory: 128 << 20, Disk: trialDisk, Timeout: 20 * time.Second, Output: 64 << 10}.WithDefaults(),
	}
	m, err := b.moduler(b.init, b.lenient())(ctx, t)
	if err != nil {
		return unavailable("engine", err)
	}
	g, err := process.Compile(t, process.Options{Worker: m.worker, Module: m.folder})
	if err != nil {
		return unavailable("engine", err)
	}
	o, err := b.aloneWith(ctx, b.init, b.lenient(), t, g, "trials.jsonl", []byte(`{"code":"console.log(6*7)"}`))
	if err == nil && o.Error != nil {
		err = remote(o.Error)
	}
	if err == nil && (o.Result == nil || len(o.Result.Content) == 0 || !strings.Contains(o.Result.Content[0].Text, strconv.Itoa(6*7)) || o.Enforced == nil) {
		err = errors.New("a line of JavaScript did not give what it should")
	}
	if err != nil {
		return unavailable("engine", err)
	}
	c.Controls = append(c.Controls, casemate.Control{Name: "engine", State: "on", Why: o.Enforced.Runtime})
	e := o.Enforced
	for _, x := range []casemate.Control{
		{Name: "namespaces", State: onIf(len(e.Namespaces) >= 7)}, {Name: "no_new_privs", State: onIf(e.NoNewPrivs)}, {Name: "seccomp", State: onIf(e.Seccomp != "")},
		{Name: "landlock", State: onIf(e.Landlock > 0)}, {Name: "disk limit", State: onIf(e.Disk != nil)},
	} {
		if x.State != "on" {
			x.Why, x.Fix = "the sandbox of its worker does not have it", "see what the backend process lacks"
			if x.Name == "landlock" { // a host without it has the other walls
				x.State = "degraded"
			}
		}
		c.Controls = append(c.Controls, x)
	}
	c.Controls = append(c.Controls, b.limit(ctx, "memory", e.Memory), b.limit(ctx, "cpu", e.CPU), b.limit(ctx, "processes", e.Processes))
	c.Assurance = assurance("wasm", c.Controls)
	return c
}

func onIf(on bool) string {
	if on {
		return "on"
	}
	return "missing"
}
