// Package sandboxtest is the contract of a backend: one suite of conformance
// cases and of the escape corpus that every backend passes, as root and as an
// ordinary user, and the benchmarks of all. A backend's own test file opens it
// and is a few lines.
//
// A backend that lacks something says so once, by its Need and with the reason:
// the cases that need it are then n/a, which the test prints, and the reason is
// tested too. Nothing is skipped. The portable cases need nothing: they run one
// program, of the same source on every backend.
//
// The corpus is the program in attacker, run inside a sandbox against victims
// that the test made. A case looks at its victim, not only at what the
// attacker says of itself.
package sandboxtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

// A Subject is one backend under test.
type Subject struct {
	Name     string // the backend's
	Attacker string // the static attacker, in a folder of its own
	Program  string // the static program of the portable cases, in a folder of its own
	Module   string // instead: the same as a WASI module, where the backend runs nothing else

	// Compile is what the operator does with a tool before anything runs.
	Compile func(*casemate.Tool) (plan.Guest, error)
	// Start returns a backend of a plan; it is closed by t.Cleanup.
	Start func(testing.TB, *plan.Plan) casemate.Backend

	// Lacks is what the backend does not have, and why not: what is then n/a.
	Lacks map[Need]string
}

// Open returns a backend that has the tools. As an ordinary user memory and cpu
// may be missing where the host does not delegate cgroups; the cases then look
// that the record says so.
func (s Subject) Open(t testing.TB, tools ...*casemate.Tool) casemate.Backend {
	t.Helper()
	p := &plan.Plan{Host: plan.Host{Store: filepath.Join(t.TempDir(), "store")}}
	if os.Geteuid() != 0 {
		p.Host.AllowDegraded = []string{"memory", "cpu"}
	}
	for _, tool := range tools {
		g, err := s.Compile(tool)
		if err != nil {
			t.Fatalf("compile: %v (%s)", err, fixOf(err))
		}
		p.Guests = append(p.Guests, g)
	}
	return s.Start(t, p)
}

// A done is one call, over.
type done struct {
	Stdout, Stderr, Value, Failure string
	Status                         int
	Answered                       bool // the guest said that it was done
	Exit                           casemate.Exit
	Enforced                       casemate.Enforced
	Changes                        []casemate.Change
	Files                          map[string]string // of /out
}

const patience = 20 * time.Second

// start opens the backend for one tool and starts one sandbox whose guest
// waits.
func (s Subject) start(t testing.TB, tool *casemate.Tool) casemate.Sandbox {
	t.Helper()
	return park(t, s.Open(t, tool), tool)
}

func park(t testing.TB, b casemate.Backend, tool *casemate.Tool) casemate.Sandbox {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sb, err := b.Start(ctx, casemate.Spec{Tool: tool})
	if err != nil {
		t.Fatalf("start: %v (%s)", err, fixOf(err))
	}
	t.Cleanup(func() { sb.Close() })
	f, err := guest.Read(sb.Guest(), guest.MaxReply)
	if err != nil || f.Type != guest.Ready {
		t.Fatalf("the guest is not ready: %c %v", f.Type, err)
	}
	return framed(sb)
}

func fixOf(err error) string {
	if e, ok := errors.AsType[*casemate.Error](err); ok {
		return e.Fix
	}
	return ""
}

// call makes one call and collects what comes back, up to 4 MiB.
func call(t testing.TB, sb casemate.Sandbox, number uint32, args ...guest.Pair) done {
	t.Helper()
	if err := guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: number, Body: guest.AppendPairs(nil, args)}); err != nil {
		t.Fatal(err)
	}
	return collect(t, sb)
}

func collect(t testing.TB, sb casemate.Sandbox) done {
	t.Helper()
	d := done{Enforced: sb.Enforced(), Files: map[string]string{}}
	over := time.AfterFunc(patience, func() { sb.Close() })
	defer over.Stop()
	for total := 0; total < 4<<20; {
		f, err := guest.Read(sb.Guest(), guest.MaxReply)
		if err != nil {
			if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) && !strings.Contains(err.Error(), "reset") {
				t.Logf("guest: %v", err)
			}
			break
		}
		total += len(f.Body)
		switch f.Type {
		case guest.Stdout:
			d.Stdout += string(f.Body)
		case guest.Stderr:
			d.Stderr += string(f.Body)
		case guest.Value:
			d.Value += string(f.Body)
		case guest.Failure:
			d.Failure += string(f.Body)
		case guest.File:
			ps, err := guest.ParsePairs(f.Body)
			if err != nil {
				t.Errorf("a file: %v", err)
			}
			name, _ := guest.Get(ps, "name")
			data, _ := guest.Get(ps, "data")
			d.Files[name] = data
		case guest.Done:
			d.Answered, d.Status = true, int(f.Body[3])
			return d
		}
	}
	return d
}

// once starts a sandbox, makes one call, commits what it wrote, and ends it.
func (s Subject) once(t testing.TB, tool *casemate.Tool, args ...guest.Pair) done {
	t.Helper()
	sb := s.start(t, tool)
	d := call(t, sb, 1, args...)
	if c, ok := sb.(casemate.Committer); ok && d.Answered {
		cs, err := c.Commit(t.Context(), callID())
		if err != nil {
			t.Fatalf("commit: %v", err)
		}
		d.Changes = cs
	}
	if err := sb.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	var err error
	if d.Exit, err = sb.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

func callID() casemate.CallID {
	return casemate.CallID("c_" + strings.ReplaceAll(time.Now().Format("20060102150405.000000000"), ".", ""))
}

// shell is a tool that runs one command line; its profile is p.
func shell(p casemate.Profile) *casemate.Tool {
	return &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}, Security: p}
}

// program is a tool that runs the portable program under p, with these
// arguments; one that is "{text}" is filled by the call.
func (s Subject) program(p casemate.Profile, args ...string) *casemate.Tool {
	tool := &casemate.Tool{Name: "program", Security: p}
	if s.Module != "" {
		text, err := os.ReadFile(s.Module)
		if err != nil {
			panic(err) // the test built it
		}
		sum := sha256.Sum256(text)
		tool.Run.Wasm = &casemate.Wasm{Module: s.Module, Digest: casemate.Digest("sha256:" + hex.EncodeToString(sum[:])), Args: args}
		return tool
	}
	tool.Run.Exec = &casemate.Exec{Command: append([]string{"/program/" + filepath.Base(s.Program)}, args...)}
	tool.Security.Filesystem = append(slices.Clone(p.Filesystem), casemate.Mount{Path: filepath.Dir(s.Program), At: "/program", Access: casemate.Read, Execute: true})
	return tool
}

// does runs the portable program once under p.
func (s Subject) does(t testing.TB, p casemate.Profile, args ...string) done {
	t.Helper()
	return s.once(t, s.program(p, args...))
}

func command(line string) guest.Pair { return guest.Pair{Key: "command", Value: line} }

// sh runs one command line under p.
func (s Subject) sh(t testing.TB, p casemate.Profile, line string) done {
	t.Helper()
	return s.once(t, shell(p), command(line))
}

// An attempt is what the attacker printed.
type attempt struct {
	Tried   string `json:"tried"`
	Through bool   `json:"through"`
	Got     string `json:"got"`
}

// attack runs the attacker under p, once for each command line in one
// sandbox, and returns what it says of each.
func (s Subject) attack(t testing.TB, p casemate.Profile, lines ...string) ([]attempt, done) {
	t.Helper()
	p.Filesystem = append(slices.Clone(p.Filesystem), casemate.Mount{Path: filepath.Dir(s.Attacker), At: "/attacker", Access: casemate.Read, Execute: true})
	var script strings.Builder
	for _, l := range lines {
		script.WriteString("/attacker/" + filepath.Base(s.Attacker) + " " + l + "\n")
	}
	d := s.sh(t, p, script.String())
	var out []attempt
	for line := range strings.Lines(d.Stdout) {
		var a attempt
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("the attacker said %q", line)
		}
		out = append(out, a)
	}
	if len(out) != len(lines) {
		t.Fatalf("%d of %d attempts were made; stderr %q", len(out), len(lines), d.Stderr)
	}
	return out, d
}

// held fails the test for every attempt that got through.
func (s Subject) held(t testing.TB, p casemate.Profile, lines ...string) {
	t.Helper()
	got, _ := s.attack(t, p, lines...)
	for _, a := range got {
		if a.Through {
			t.Errorf("%s got through: %s", a.Tried, a.Got)
		}
	}
}

// folder makes a folder that the sandbox's user may use, with those files.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "grant")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// socketFolder is an empty folder whose path is short enough for a socket's.
func socketFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	return dir
}

func grant(path, at string, access casemate.Access) casemate.Profile {
	return casemate.Profile{Filesystem: []casemate.Mount{{Path: path, At: at, Access: access}}}
}

func contents(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return string(b)
}

func absent(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); err == nil {
		t.Errorf("%s is on the host", path)
	}
}
