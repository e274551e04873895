package oci

import (
	"encoding/json"
	"flag"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files")

func TestSpecGolden(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		return // the calls of another processor are others
	}
	for name, g := range map[string]plan.Guest{
		"runc":  {Backend: Name, Runner: "shell", Memory: 256 << 20, Disk: 1 << 30, Processes: 64},
		"runsc": {Backend: Sentry, Runner: "shell", Memory: 1 << 30, Disk: 64 << 20, Processes: 64},
	} {
		b, err := Spec(g)
		if err != nil {
			t.Fatal(err)
		}
		file := "testdata/" + name + ".golden"
		if *update {
			os.MkdirAll("testdata", 0o755)
			os.WriteFile(file, append(b, '\n'), 0o644)
		}
		want, err := os.ReadFile(file)
		if err != nil || string(want) != string(b)+"\n" {
			t.Errorf("the specification is not %s (go test -update writes it): %v\n%s", file, err, b)
		}
	}
}

// Whatever a tool is, its container has every namespace, one user, no capability,
// and what else makes it one.
func TestSpecHolds(t *testing.T) {
	for _, g := range []plan.Guest{
		{Backend: Name}, {Backend: Name, Runner: "mcp", Session: true, Loopback: true, HostNetwork: true, Inputs: true, Fork: true},
		{Backend: Name, Runner: "python", Layers: []string{"/a"}, Env: []string{"LD_PRELOAD=/x"}, Cwd: "/x", Mounts: []plan.Mount{{Source: "/", At: "/x", Write: true, Execute: true}}, DenySyscalls: []string{"read"}},
	} {
		b, err := Spec(g)
		if err != nil {
			t.Fatal(err)
		}
		var s spec
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatal(err)
		}
		var spaces []string
		for _, n := range s.Linux.Namespaces {
			spaces = append(spaces, n.Type)
			if (n.Path != "") != (n.Type == "network") {
				t.Errorf("namespace %+v", n)
			}
		}
		if !slices.Equal(spaces, []string{"user", "mount", "pid", "ipc", "uts", "cgroup", "network"}) {
			t.Errorf("%q", spaces)
		}
		c := s.Process.Capabilities
		if len(c.Bounding)+len(c.Effective)+len(c.Inheritable)+len(c.Permitted)+len(c.Ambient) != 0 || !s.Process.NoNewPrivs || !s.Root.Readonly {
			t.Errorf("%+v", s.Process)
		}
		for _, m := range [][]idMapping{s.Linux.UIDMappings, s.Linux.GIDMappings} {
			if len(m) != 1 || m[0].Size != 1 || m[0].HostID == 0 {
				t.Errorf("%+v", m)
			}
		}
		if !slices.Contains(s.Linux.MaskedPaths, "/proc/kcore") || !slices.Contains(s.Linux.ReadonlyPaths, "/proc/sys") || s.Linux.Seccomp.DefaultAction != "SCMP_ACT_ERRNO" {
			t.Errorf("%+v", s.Linux)
		}
		for _, not := range []string{"mount", "bpf", "keyctl2", "ptrace", "unshare", "setns", "clone3", "io_uring_setup", "add_key"} {
			if slices.Contains(s.Linux.Seccomp.Syscalls[0].Names, not) {
				t.Errorf("%s is let through", not)
			}
		}
		if strings.Contains(string(b), "LD_PRELOAD") || strings.Contains(string(b), `"/x"`) {
			t.Errorf("what is the guest's is told to the runtime: %s", b)
		}
	}
}
