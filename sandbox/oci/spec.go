// Package oci puts a guest into a container: it says what a runtime (runc or
// crun) is to make of it, and finds the runtime.
//
// A container of Casemate stands in a sandbox of the process backend, which has
// everything that it has elsewhere: its own users, namespaces, groups, limits and
// grants. What the runtime adds is a second set of namespaces, a user namespace
// of one user above all, with other code and other people's tests behind them,
// and the files of an image in place of the host's own. The last walls, those
// of system calls and files, the guest's first process puts on itself, and they
// are those of the process backend.
//
// The guest is user 0 of its user namespace, which is the sandbox's own user
// outside, and has no capability there or anywhere. What an image says of its
// user, entry point, environment, volumes and ports is not read here at all: the
// profile alone says what a guest has.
//
// The specification holds no limit of memory, processor or processes: the groups
// of the sandbox hold those for everything in it, of either version, and a
// runtime in a sandbox sees no group.
package oci

import (
	"encoding/json"
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/plan"
)

// Name is the backend's.
const Name = "oci"

// The specification, as far as a guest needs it; see
// github.com/opencontainers/runtime-spec. A field that is not here has a
// default that gives the guest nothing.
type spec struct {
	Version  string  `json:"ociVersion"`
	Process  process `json:"process"`
	Root     root    `json:"root"`
	Hostname string  `json:"hostname"`
	Mounts   []any   `json:"mounts"` // of mount
	Linux    kernel  `json:"linux"`
}

type process struct {
	Terminal     bool         `json:"terminal"`
	User         user         `json:"user"`
	Args         []string     `json:"args"`
	Env          []string     `json:"env"`
	Cwd          string       `json:"cwd"`
	Capabilities capabilities `json:"capabilities"`
	Rlimits      []rlimit     `json:"rlimits"`
	NoNewPrivs   bool         `json:"noNewPrivileges"`
}

type user struct {
	UID   int `json:"uid"`
	GID   int `json:"gid"`
	Umask int `json:"umask"`
}

type capabilities struct {
	Bounding    []string `json:"bounding"`
	Effective   []string `json:"effective"`
	Inheritable []string `json:"inheritable"`
	Permitted   []string `json:"permitted"`
	Ambient     []string `json:"ambient"`
}

type rlimit struct {
	Type string `json:"type"`
	Hard int64  `json:"hard"`
	Soft int64  `json:"soft"`
}

type root struct {
	Path     string `json:"path"`
	Readonly bool   `json:"readonly"`
}

type mount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

type kernel struct {
	UIDMappings       []idMapping `json:"uidMappings"`
	GIDMappings       []idMapping `json:"gidMappings"`
	Namespaces        []namespace `json:"namespaces"`
	MaskedPaths       []string    `json:"maskedPaths"`
	ReadonlyPaths     []string    `json:"readonlyPaths"`
	RootfsPropagation string      `json:"rootfsPropagation"`
	Seccomp           *seccomp    `json:"seccomp,omitempty"`
}

type seccomp struct {
	DefaultAction string   `json:"defaultAction"`
	DefaultErrno  int      `json:"defaultErrnoRet"`
	Architectures []string `json:"architectures"`
	Syscalls      []calls  `json:"syscalls"`
}

type calls struct {
	Names  []string `json:"names"`
	Action string   `json:"action"`
}

type idMapping struct {
	ContainerID int `json:"containerID"`
	HostID      int `json:"hostID"`
	Size        int `json:"size"`
}

type namespace struct {
	Type string `json:"type"`
	Path string `json:"path,omitempty"`
}

// Spec returns the configuration (config.json) of the container of g. It depends
// on nothing else: not on the host, and not on an image.
func Spec(g plan.Guest) ([]byte, error) {
	if g.Backend == Sentry {
		return sentrySpec(g)
	}
	names, err := seccompCalls()
	if err != nil {
		return nil, err
	}
	s := base(g)
	// By name alone: the guest's first process adds the filter that looks at
	// arguments, and takes away what the profile denies.
	s.Linux.Seccomp = &seccomp{DefaultAction: "SCMP_ACT_ERRNO", DefaultErrno: int(unix.ENOSYS), Architectures: architectures(), Syscalls: []calls{{names, "SCMP_ACT_ALLOW"}}}
	return json.MarshalIndent(s, "", "\t")
}

func base(g plan.Guest) spec {
	none := []string{}
	one := []idMapping{{ContainerID: 0, HostID: contain.InsideUID, Size: 1}}
	return spec{
		Version: "1.0.2",
		Process: process{
			User: user{Umask: 0o022},
			Args: []string{contain.InnerPath, "inner"},
			Env:  []string{"GOMAXPROCS=2"}, // for its runtime alone; the guest's environment comes later
			Cwd:  "/",
			Capabilities: capabilities{
				Bounding: none, Effective: none, Inheritable: none, Permitted: none, Ambient: none,
			},
			Rlimits:    []rlimit{{Type: "RLIMIT_CORE"}, {"RLIMIT_FSIZE", contain.FileSize(g), contain.FileSize(g)}, {"RLIMIT_NOFILE", 4096, 4096}},
			NoNewPrivs: true,
		},
		Root:     root{Path: contain.RootPath, Readonly: true},
		Hostname: "sandbox",
		Mounts: []any{
			mount{"/proc", "proc", "proc", []string{"nosuid", "nodev", "noexec"}},
			// With what lies in it, as it was mounted: the devices, terminals and memory
			// that the sandbox made for this guest.
			mount{"/dev", "bind", contain.RootPath + "/dev", []string{"rbind"}},
		},
		Linux: kernel{
			UIDMappings: one, GIDMappings: one,
			Namespaces: []namespace{
				{Type: "user"}, {Type: "mount"}, {Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "cgroup"},
				// The sandbox's own, in which the guest has no say, and whose loopback is
				// up where the profile asks for it. A runtime raises that of a new one.
				{Type: "network", Path: "/proc/self/ns/net"},
			},
			MaskedPaths:       contain.Masks(),
			ReadonlyPaths:     []string{"/proc/sys"},
			RootfsPropagation: "private",
		},
	}
}

// seccompCalls are what a guest may call, with some arguments at least, and
// keyctl, by which its first process looks at its keyring before it is the guest's.
func seccompCalls() ([]string, error) {
	calls, err := linux.GuestCalls()
	names := slices.Sorted(maps.Values(calls))
	return append(names, "keyctl"), err
}

// architectures is the one that programs of this build are of: a call by any other
// ends its process.
func architectures() []string {
	if runtime.GOARCH == "arm64" {
		return []string{"SCMP_ARCH_AARCH64"}
	}
	return []string{"SCMP_ARCH_X86_64"}
}
