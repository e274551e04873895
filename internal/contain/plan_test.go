package contain

import (
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files")

// facts is a host as Debian is.
var facts = Facts{
	System: []Entry{{Path: "/usr", Folder: true}, {Path: "/bin", Target: "usr/bin"}, {Path: "/lib64", Target: "usr/lib64"},
		{Path: "/etc/ld.so.cache"}, {Path: "/etc/alternatives", Folder: true}, {Path: "/etc/ssl/certs", Folder: true}, {Path: "/etc/localtime", Target: "/usr/share/zoneinfo/Etc/UTC"}},
	Masks: []string{"/proc/cmdline", "/proc/tty"}, TTY: true, Resolv: "nameserver 192.0.2.1\n", Hosts: "192.0.2.2 registry\n",
}

func TestPlan(t *testing.T) {
	for name, g := range map[string]plan.Guest{
		"nothing":      {Runner: "shell", Disk: 1 << 30, Processes: 64},
		"host-network": {Runner: "exec", Disk: 1 << 30, Processes: 64, HostNetwork: true, Loopback: true},
		"mcp":          {Runner: "mcp", Disk: 1 << 30, Processes: 64, Session: true, Mounts: []plan.Mount{{Source: "/s/pkg", At: "/s/pkg", Execute: true}}},
		"wasm":         {Runner: "wasm", Disk: 1 << 20, Processes: 32, Mounts: []plan.Mount{{Source: "/h/docs", At: "/docs"}, {Source: "/h/worker", At: "/.casemate/wasm", Execute: true, Prefix: true}}},
		"container": {Backend: "oci", Runtime: "/usr/sbin/runc", Version: "runc 1.1.5", Bundle: "{}", Runner: "shell", Disk: 1 << 30, Processes: 64, Inputs: true, Loopback: true,
			Mounts: []plan.Mount{{Source: "/h/work", At: "/deep/work", Write: true}}},
		"image": {Backend: "oci", Runtime: "/usr/sbin/runc", Version: "runc 1.1.5", Bundle: "{}", Layers: []string{"/store/a", "/store/b"}, Runner: "python", Interpreter: "/usr/bin/python3", Disk: 1 << 30, Processes: 64,
			Mounts: []plan.Mount{{Source: "/h/work", At: "/deep/work", Write: true}, {Source: "/h/docs", At: "/docs"}}},
		"python": {Runner: "python", Interpreter: "/opt/py/bin/python3", Disk: 1 << 20, Processes: 8, Loopback: true, Memory: 1 << 20,
			Mounts: []plan.Mount{{Source: "/h/docs", At: "/docs"}, {Source: "/h/work", At: "/deep/work", Write: true, Execute: true}, {Source: "/opt/py", At: "/opt/py", Execute: true, Prefix: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			steps, rules := Plan(g, facts, nil)
			var b strings.Builder
			for _, s := range steps {
				b.WriteString(s.String() + "\n")
			}
			if Contained(g) {
				for _, s := range Inner(g, nil) {
					b.WriteString("inner " + s.String() + "\n")
				}
			}
			for _, r := range rules {
				b.WriteString("allow " + r.Path + " " + r.Access + "\n")
			}
			file := "testdata/" + name + ".golden"
			if *update {
				os.MkdirAll("testdata", 0o755)
				os.WriteFile(file, []byte(b.String()), 0o644)
			}
			want, err := os.ReadFile(file)
			if err != nil || string(want) != b.String() {
				t.Errorf("the plan is not %s (go test -update writes it): %v\n%s", file, err, b.String())
			}
		})
	}
}

// A wall that is taken away is gone, and no other.
func TestLeaveOut(t *testing.T) {
	g := plan.Guest{Runner: "shell"}
	all, _ := Plan(g, facts, nil)
	for _, wall := range []Kind{Seccomp, Landlock, Caps, Privs} {
		some, _ := Plan(g, facts, []string{string(wall)})
		if len(some) != len(all)-1 {
			t.Errorf("without %s: %d of %d steps", wall, len(some), len(all))
		}
		for _, s := range some {
			if s.Kind == wall {
				t.Errorf("%s is still there", wall)
			}
		}
	}
}

// The steps that only the sandbox's own powers allow come before those powers
// are dropped, and the filter is last: nothing runs unconfined after it.
func TestOrder(t *testing.T) {
	steps, _ := Plan(plan.Guest{Runner: "shell", Loopback: true}, facts, nil)
	at := map[Kind]int{}
	for i, s := range steps {
		at[s.Kind] = i
	}
	for _, o := range [][2]Kind{{Seal, Pivot}, {Pivot, Landlock}, {Loopback, Caps}, {Privs, Landlock}, {Privs, Seccomp}, {Landlock, Caps}, {Caps, Seccomp}} {
		if at[o[0]] >= at[o[1]] {
			t.Errorf("%s comes after %s", o[0], o[1])
		}
	}
	if steps[len(steps)-1].Kind != Seccomp {
		t.Errorf("%s is last", steps[len(steps)-1].Kind)
	}
}

func TestSetupRoundTrip(t *testing.T) {
	steps, rules := Plan(plan.Guest{Runner: "python", Mounts: []plan.Mount{{Source: "/a", At: "/b"}}}, facts, nil)
	s := &Setup{Guest: plan.Guest{Tool: "t"}, Steps: steps, Rules: rules, Detached: true, Filter: "\x01\x00", More: true}
	got, err := DecodeSetup(s.Encode())
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%v %+v", err, got)
	}
	r := &Report{"s", "w", 1, []string{"user:[1]"}, "sha256:x", 7}
	back, err := DecodeReport(r.Encode())
	if err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("%v %+v", err, back)
	}
}

// The kernel's facts of one host never name a path that is granted by none.
func TestReadFacts(t *testing.T) {
	for _, e := range ReadFacts().System {
		for _, private := range []string{"/home", "/root", "/var", "/run", "/opt", "/etc/shadow", "/etc/ssl/private", "/sys"} {
			if e.Path == private || strings.HasPrefix(e.Path, private+"/") {
				t.Errorf("%s is shown to every sandbox", e.Path)
			}
		}
	}
}

// mask-swap and console-symlink (CVE-2025-31133, CVE-2025-52565): a device is
// what the kernel says it is, not what lies at its path.
func TestDeviceIsVerified(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(dir+"/null", nil, 0o666)
	os.Symlink("/dev/null", dir+"/link")
	for _, path := range []string{dir + "/null", dir + "/link"} {
		deviceNumbersOf := deviceNumbers["/dev/null"]
		if fd, err := openNumbered(unix.AT_FDCWD, path, deviceNumbersOf); err == nil {
			t.Errorf("%s passed for /dev/null as %d", path, fd)
		}
	}
	if _, err := openDevice("/dev/null"); err != nil {
		t.Error(err)
	}
	if _, err := openDevice("/dev/ptmx"); err == nil {
		t.Error("a device that is not listed was opened")
	}
}

// proc-redirect (CVE-2025-52881): what is masked, made read-only or written
// beneath /proc is on procfs, whatever somebody put at its path.
func TestProcIsVerified(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(dir+"/proc/sys/user", 0o755)
	os.WriteFile(dir+"/proc/cmdline", []byte("x"), 0o644)
	os.WriteFile(dir+"/proc/sys/user/max_inotify_instances", []byte("x"), 0o644)
	os.Symlink("/proc/self", dir+"/proc/link")
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	in := &Inside{root: int(root.Fd())}
	for name, err := range map[string]error{
		"mask": in.mask("proc/cmdline"), "read-only": in.readOnly("proc/sys"), "a link": in.mask("proc/link/status"),
		"count": in.count("proc/sys/user/max_inotify_instances", 1),
	} {
		if err == nil {
			t.Errorf("%s: what is not procfs was taken for it", name)
		}
	}
	if b, _ := os.ReadFile(dir + "/proc/sys/user/max_inotify_instances"); string(b) != "x" {
		t.Errorf("it was written: %q", b)
	}
}

// What a sandbox did before its guest is known is the same for every guest.
func TestBase(t *testing.T) {
	base := Base(facts, nil)
	for _, g := range []plan.Guest{{Runner: "shell"}, {Runner: "python", Interpreter: "/opt/py/bin/python3", Loopback: true, Disk: 1, Processes: 2,
		Mounts: []plan.Mount{{Source: "/a", At: "/b", Write: true}}}, {Runner: "mcp", Session: true}} {
		steps, _ := Plan(g, facts, nil)
		if len(steps) < len(base) || !reflect.DeepEqual(steps[:len(base)], base) {
			t.Errorf("the plan of %s does not begin with the base", g.Runner)
		}
	}
	for _, s := range base {
		switch s.Kind {
		case Grants, Grant, Scratch, Seal, Pivot, Limits, Landlock, Caps, Seccomp:
			t.Errorf("%s is done before the guest is known", s.Kind)
		}
	}
}
