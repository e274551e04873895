package process

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/testenv"
)

// narrowable is a shell with two folders, whose profile is not the default.
func narrowable(t testing.TB) *casemate.Tool {
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	for _, name := range []string{"docs", "work"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name, "f"), []byte(name), 0o644))
	}
	return &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}, Security: casemate.Profile{
		Memory: 256 << 20, Processes: 40, CPU: 1, Disk: 64 << 20,
		Filesystem: []casemate.Mount{{Path: dir + "/docs", At: "/docs", Access: casemate.Read}, {Path: dir + "/work", At: "/work", Access: casemate.Write}}}}
}

// What a sandbox is given late it is held to, and says so.
func TestNarrowLate(t *testing.T) { narrowLate(t) }

func TestNarrowLateAsUser(t *testing.T) {
	subject(t)
	testenv.AsUser(t, narrowLate)
}

func narrowLate(t *testing.T) {
	sb := parkedWith(t, narrowable(t), casemate.Grant{})
	before := sb.Enforced()
	grant := casemate.Grant{Memory: 64 << 20, Processes: 8, CPU: 0.25}
	must(t, sb.(casemate.Narrower).Narrow(t.Context(), grant))
	e := sb.Enforced()
	if e.Processes.Limit != 8 || before.Processes.Limit != 40 {
		t.Errorf("%+v", e.Processes)
	}
	if l := e.Memory; l != nil && (l.Limit != 64<<20 || seenFromHost(t, sb, "memory", "memory.limit_in_bytes", "memory.max") != strconv.Itoa(64<<20)) {
		t.Errorf("%+v", l)
	}
	if l := e.CPU; l != nil && (l.Limit != 250 || !strings.HasPrefix(seenFromHost(t, sb, "cpu", "cpu.cfs_quota_us", "cpu.max"), "25000")) {
		t.Errorf("%+v", l)
	}
	if err := sb.(casemate.Narrower).Narrow(t.Context(), casemate.Grant{Memory: 32 << 20}); casemate.KindOf(err) != casemate.Conflict {
		t.Errorf("a second time: %v", err)
	}
	run(sb, `cat /docs/f; (for i in $(seq 60); do sleep 5 & done) 2>/dev/null; set -- /proc/[0-9]*; echo " $#"`)
	name, count, _ := strings.Cut(strings.TrimSpace(finished(t, sb)), " ")
	if n, err := strconv.Atoi(count); err != nil || name != "docs" || n < 4 || n > 1+8 { // and the sandbox's first process
		t.Errorf("%q %q", name, count)
	}
}

// A late grant never asks for more, and what cannot be taken late is refused
// while the sandbox is as it was.
func TestNarrowLateRefuses(t *testing.T) {
	tool := narrowable(t)
	for name, x := range map[string]struct {
		grant casemate.Grant
		kind  casemate.Kind
	}{
		"more memory":    {casemate.Grant{Memory: 512 << 20}, casemate.Denied},
		"more processes": {casemate.Grant{Processes: 41}, casemate.Denied},
		"more cpu":       {casemate.Grant{CPU: 1.5}, casemate.Denied},
		"more disk":      {casemate.Grant{Disk: 65 << 20}, casemate.Denied},
		"no such mount":  {casemate.Grant{Without: []string{"/doc"}}, casemate.Denied},
		"another tool":   {casemate.Grant{Tool: "sha256:x"}, casemate.Denied},
		"less disk":      {casemate.Grant{Disk: 1 << 20}, casemate.Unsupported},
	} {
		sb := parkedWith(t, tool, casemate.Grant{})
		if err := sb.(casemate.Narrower).Narrow(t.Context(), x.grant); casemate.KindOf(err) != x.kind {
			t.Errorf("%s: %v", name, err)
		}
		run(sb, "cat /docs/f /work/f")
		if out := finished(t, sb); out != "docswork" {
			t.Errorf("%s: %q", name, out)
		}
		if err := sb.(casemate.Narrower).Narrow(t.Context(), casemate.Grant{Memory: 64 << 20}); casemate.KindOf(err) != casemate.Conflict {
			t.Errorf("%s: after a call: %v", name, err)
		}
	}
}

// A mount that is left out late is gone, for the guest and for what is carried
// to the host, as if it had never been there.
func TestNarrowLateWithout(t *testing.T) {
	tool := narrowable(t)
	for _, at := range []string{"/docs", "/work"} {
		sb := parkedWith(t, tool, casemate.Grant{})
		must(t, sb.(casemate.Freezer).Freeze(t.Context())) // which it may be
		err := sb.(casemate.Narrower).Narrow(t.Context(), casemate.Grant{Without: []string{at}})
		if os.Geteuid() != 0 {
			if casemate.KindOf(err) != casemate.Unsupported {
				t.Error(err)
			}
			continue
		}
		must(t, err)
		must(t, sb.(casemate.Freezer).Thaw(t.Context()))
		run(sb, "ls "+at+"; cat "+at+"/f; stat "+at+"/f; grep "+at+" /proc/self/mountinfo; cd /docs && cat f; cd /work && cat f && echo new >/work/new; exec 2>&1; echo x > "+at+"/f")
		out := finished(t, sb)
		if strings.Contains(out, at[1:]) && !strings.Contains(out, "Read-only") || strings.Contains(out, at+" rw") {
			t.Errorf("%s: %q", at, out)
		}
		cs, err := sb.(casemate.Committer).Commit(t.Context(), "c_without")
		if err != nil || len(cs) != map[string]int{"/docs": 1, "/work": 0}[at] {
			t.Errorf("%s: %+v %v", at, cs, err)
		}
		must(t, sb.Close())
		if b, err := os.ReadFile(tool.Security.Filesystem[1].Path + "/f"); string(b) != "work" || err != nil {
			t.Errorf("%q %v", b, err)
		}
		os.Remove(tool.Security.Filesystem[1].Path + "/new")
	}
}

func TestNarrowLateWithoutAsUser(t *testing.T) {
	subject(t)
	testenv.AsUser(t, TestNarrowLateWithout)
}

// What runs already is not told late what it may not have.
func TestNarrowLateServer(t *testing.T) {
	tool := narrowable(t)
	tool.Run = casemate.Run{MCP: &casemate.MCP{Server: "s", Command: []string{"/bin/sh", "-c", "exec 3</docs/f; sleep 60"}}}
	for _, g := range []casemate.Grant{{Processes: 8}, {Without: []string{"/docs"}}} {
		if err := parkedWith(t, tool, casemate.Grant{}).(casemate.Narrower).Narrow(t.Context(), g); casemate.KindOf(err) != casemate.Unsupported {
			t.Errorf("%+v: %v", g, err)
		}
	}
	must(t, parkedWith(t, tool, casemate.Grant{}).(casemate.Narrower).Narrow(t.Context(), casemate.Grant{CPU: 0.5}))
}

// seenFromHost reads a file of the sandbox's cgroup: the first that there is.
func seenFromHost(t testing.TB, sb casemate.Sandbox, controller string, files ...string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(sb.(*sandbox).Pid()) + "/cgroup")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		at := "/sys/fs/cgroup" + f[2]
		if f[1] == controller {
			at = "/sys/fs/cgroup/" + controller + f[2]
		} else if f[1] != "" {
			continue
		}
		for _, name := range files {
			if b, err := os.ReadFile(filepath.Join(at, name)); err == nil {
				return strings.TrimSpace(string(b))
			}
		}
	}
	t.Fatal(errors.Join(errors.New("no file of "+controller), errors.New(string(b))))
	return ""
}
