// Package contain confines a guest of the process backend. What will be done
// is computed first, as data: Plan turns one guest of the operator's plan and
// the facts of the host into an ordered list of named steps. The first
// process of the sandbox then carries them out in one loop (Run), each kind
// of step in the file of its kernel facility, and ends the sandbox at the
// first that fails: there is no weaker way on.
//
// One kind of guest shares the host's network, which prepares a package by
// the operator's word (plan.Guest.HostNetwork). It has everything else, and of
// the network IPv4 and IPv6, TCP and UDP, to connect and send: whatever the
// host reaches it does, the services of its own loopback and of its private
// networks included. It cannot listen by TCP (Landlock, Linux 6.7), makes no
// unix socket but pairs, so that no abstract name of the host is in reach, has
// the host's names (/etc/resolv.conf, /etc/hosts), and no word of a planner
// ever reaches it.
package contain

import (
	"strconv"
	"strings"

	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/wasm"
)

// A Kind is what a step does.
type Kind string

// The steps, in the order in which a plan has them.
const (
	Private  Kind = "private"  // cut the mount namespace from the host's
	Stage    Kind = "stage"    // the tmpfs that becomes the root
	Dir      Kind = "dir"      //
	File     Kind = "file"     // with Text
	Link     Kind = "link"     // to Text
	Bind     Kind = "bind"     // host path Text, read-only
	Device   Kind = "device"   // host device Text, checked by its number
	Grants   Kind = "grants"   // open what is granted
	Scratch  Kind = "scratch"  // the one tmpfs of everything that the guest writes, Size bytes
	Sub      Kind = "sub"      // folder Text of the scratch at Path
	Grant    Kind = "grant"    // grant N at Path
	Input    Kind = "input"    // folder Text of the scratch at Path, read-only; another way to it goes out with the report
	Place    Kind = "place"    // where grant N of a template's children will be, at Path
	Pts      Kind = "pts"      //
	Proc     Kind = "proc"     //
	Count    Kind = "count"    // at most Size of what Path of /proc/sys/user counts
	Mask     Kind = "mask"     // hide Path of /proc
	ReadOnly Kind = "readonly" // Path of /proc
	Seal     Kind = "seal"     // put the staging folders away and make the root read-only
	Pivot    Kind = "pivot"    // and let the host's tree go
	Groups   Kind = "groups"   // the control groups as the sandbox's namespace has them, read-only
	Point    Kind = "point"    // the mount points of grant N, at Path
	Image    Kind = "image"    // the root is Size layers of an image, carried from N on, below what was staged
	Init     Kind = "init"     // this program at Path
	Runtime  Kind = "runtime"  // stage another root, of a container's runtime, with this one at Path
	Name     Kind = "name"     // host name
	Loopback Kind = "loopback" //
	Keyring  Kind = "keyring"  // an empty one
	Limits   Kind = "limits"   // rlimits; Size is the bound of processes
	Privs    Kind = "no-new-privs"
	Landlock Kind = "landlock" //
	Caps     Kind = "capabilities"
	Dump     Kind = "dumpable" // this process is not
	Seccomp  Kind = "seccomp"  // last: it takes away what the others need
)

// A Step is one thing that is done.
type Step struct {
	Kind Kind
	Path string // in the sandbox, without the leading slash
	Text string
	N    int64
	Size int64
	Exec bool // programs may be run from it
}

// String is the step as golden files have it.
func (s Step) String() string {
	out := string(s.Kind)
	for _, part := range []string{s.Path, strconv.Quote(s.Text), num("n", s.N), num("size", s.Size)} {
		if part != "" && part != `""` {
			out += " " + part
		}
	}
	if s.Exec {
		out += " exec"
	}
	return out
}

func num(name string, n int64) string {
	if n == 0 {
		return ""
	}
	return name + "=" + strconv.FormatInt(n, 10)
}

// Facts is what the plan depends on of the host, read once.
type Facts struct {
	System  []Entry // the system folders at the root, and the files of /etc that exist here
	Masks   []string
	Folders []string // of them
	TTY     bool     // there is /dev/tty: whatever terminal controls the process that opens it

	Resolv, Hosts string // the files of /etc, for a guest with the host's network
}

// An Entry is a path of the host: a link to Target, or a file or folder.
type Entry struct {
	Path   string
	Target string
	Folder bool
}

// A Rule is one Landlock rule: what may be done beneath Path.
type Rule struct {
	Path   string
	Access string // list, read, exec, write, write-exec, device
}

// Plan returns the steps that confine g, and the Landlock rules of the last.
// It begins with Base, unless g has the host's network.
func Plan(g plan.Guest, f Facts, without []string) ([]Step, []Rule) {
	p := &planner{}
	if Contained(g) {
		p.contained(g, f)
		return leaveOut(p.steps, without), p.rules
	}
	p.base(f, g.HostNetwork)
	if wasm.Is(g) {
		p.rules = workerRules()
	}
	p.writable(g, f)
	p.add(Step{Kind: Seal}, Step{Kind: Pivot}, Step{Kind: Name, Text: "sandbox"})
	if g.Loopback && !g.HostNetwork {
		p.add(Step{Kind: Loopback})
	}
	p.add(walls(g)...)
	return leaveOut(p.steps, without), p.rules
}

// workerRules take the place of those for what every sandbox has: the worker of a
// module starts no program, and reads nothing of the system's, of /etc or of
// /proc, where it could write its own memory. It and its modules see the grants,
// and the kernel roots the worker in them, too.
func workerRules() []Rule { return []Rule{{"/", "list"}, {"/dev/null", "device"}} }

// writable adds what a guest has of its own: its grants, and where it writes.
func (p *planner) writable(g plan.Guest, f Facts) {
	p.add(Step{Kind: Grants})
	p.terminal(f.TTY && (g.Runner == "exec" || g.Runner == "shell")) // which alone may have one
	p.add(Step{Kind: Scratch, Size: g.Disk})
	for _, d := range [...]struct{ sub, at string }{{"tmp", "tmp"}, {"out", "out"}, {"shm", "dev/shm"}} {
		p.add(Step{Kind: Sub, Path: d.at, Text: d.sub})
		p.allow("/"+d.at, "write")
	}
	p.grants(g)
	p.inputs(g)
	p.runner(g)
}

// Base returns the steps with which the plan of every guest begins that has a
// network of its own: a sandbox may have carried them out before its guest is
// known.
func Base(f Facts, without []string) []Step {
	p := &planner{}
	p.base(f, false)
	return leaveOut(p.steps, without)
}

func (p *planner) base(f Facts, hostNetwork bool) {
	p.add(Step{Kind: Private}, Step{Kind: Stage})
	p.allow("/", "list")
	p.system(f, hostNetwork)
	p.devices()
	p.add(Step{Kind: Proc, Path: "proc"})
	for _, c := range counts {
		p.add(Step{Kind: Count, Path: "proc/sys/user/" + c.name, Size: c.most})
	}
	p.add(Step{Kind: ReadOnly, Path: "proc/sys"})
	p.allow("/proc", "read")
	for _, m := range f.Masks {
		p.add(Step{Kind: Mask, Path: m[1:]})
	}
}

// What a sandbox may have in its user namespace of what the kernel counts for
// the user outside too, whom a user's sandboxes share; and no namespace.
var counts = [...]struct {
	name string
	most int64
}{{"max_inotify_instances", 16}, {"max_inotify_watches", 8192}, {"max_user_namespaces", 0}}

// leaveOut takes walls away for the attacks of demo and probe, which must
// notice it.
func leaveOut(steps []Step, without []string) []Step {
	var out []Step
	for _, s := range steps {
		gone := false
		for _, w := range without {
			gone = gone || w == string(s.Kind)
		}
		if !gone {
			out = append(out, s)
		}
	}
	return out
}

type planner struct {
	steps []Step
	rules []Rule
	dirs  map[string]bool
}

func (p *planner) add(s ...Step)             { p.steps = append(p.steps, s...) }
func (p *planner) allow(path, access string) { p.rules = append(p.rules, Rule{path, access}) }

// dir adds a folder of the root and those above it, once.
func (p *planner) dir(path string) {
	if p.dirs == nil {
		p.dirs = map[string]bool{}
	}
	for i := 1; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			if d := path[:i]; !p.dirs[d] {
				p.dirs[d] = true
				p.add(Step{Kind: Dir, Path: d})
			}
		}
	}
}

// parent makes the folder that path lies in.
func (p *planner) parent(path string) {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '/' {
			p.dir(path[:i])
			return
		}
	}
}

func (p *planner) system(f Facts, hostNetwork bool) {
	p.dir("etc")
	for _, e := range f.System {
		rel := e.Path[1:]
		p.parent(rel)
		switch {
		case e.Target != "":
			p.add(Step{Kind: Link, Path: rel, Text: e.Target})
			continue
		case e.Folder:
			p.dir(rel)
		default:
			p.add(Step{Kind: File, Path: rel})
		}
		etc := len(rel) > 4 && rel[:4] == "etc/"
		p.add(Step{Kind: Bind, Path: rel, Text: e.Path, Exec: !etc})
		if !etc {
			p.allow(e.Path, "exec")
		}
	}
	for _, e := range etcFiles {
		text := e[1]
		if hostNetwork {
			switch e[0] {
			case "resolv.conf":
				text = f.Resolv
			case "hosts":
				text = f.Hosts
			case "nsswitch.conf":
				text = nsswitch("files dns")
			}
		}
		p.add(Step{Kind: File, Path: "etc/" + e[0], Text: text})
	}
	p.allow("/etc", "read")
}

// The files of /etc that are ours and not the host's. The guest is user 1000
// inside, whoever it is outside.
var etcFiles = [...][2]string{
	{"passwd", "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nsandbox:x:1000:1000:sandbox:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
	{"group", "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n"},
	{"hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"},
	{"hostname", "sandbox\n"},
	{"resolv.conf", "# no name server: a name is resolved outside, or not at all\n"},
	{"nsswitch.conf", nsswitch("files")},
	{"machine-id", "00000000000000000000000000000000\n"},
}

func nsswitch(hosts string) string {
	return "passwd: files\ngroup: files\nhosts: " + hosts + "\nservices: files\nprotocols: files\n"
}

var devices = [...]string{"null", "zero", "full", "random", "urandom"}

func (p *planner) devices() {
	for _, d := range []string{"dev", "dev/shm", "dev/pts", "tmp", "out", "proc"} {
		p.dir(d)
	}
	for _, d := range devices {
		p.device(d)
	}
	p.add(Step{Kind: Pts, Path: "dev/pts"})
	p.allow("/dev/pts", "device")
	for _, l := range [...][2]string{{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"}} {
		p.add(Step{Kind: Link, Path: "dev/" + l[0], Text: l[1]})
	}
}

func (p *planner) device(name string) {
	p.add(Step{Kind: File, Path: "dev/" + name}, Step{Kind: Device, Path: "dev/" + name, Text: "/dev/" + name})
	p.allow("/dev/"+name, "device")
}

func (p *planner) terminal(tty bool) {
	if tty {
		p.device("tty")
	}
}

func (p *planner) grants(g plan.Guest) {
	for i, m := range g.Mounts {
		// The mount point is made by the step, which knows whether the grant is
		// a folder or a file.
		p.parent(m.At[1:])
		p.add(Step{Kind: Grant, Path: m.At[1:], N: int64(i), Exec: m.Execute})
		access := "read"
		switch {
		case m.Write && m.Execute:
			access = "write-exec"
		case m.Write:
			access = "write"
		case m.Execute:
			access = "exec"
		}
		p.allow(m.At, access)
	}
}

// InputPath is where the inputs of a call lie.
const InputPath = "/in"

// inputs makes the folder of inputs, which is empty where there are none. The
// spawner puts them there, from outside: the guest has no way to write it.
func (p *planner) inputs(g plan.Guest) {
	for _, m := range g.Mounts {
		if Within(m.At, InputPath) || Within(InputPath, m.At) {
			return // and no such sandbox is made with inputs
		}
	}
	p.dir(InputPath[1:])
	if g.Inputs {
		p.add(Step{Kind: Input, Path: InputPath[1:], Text: "in"})
		p.allow(InputPath, "read")
	}
}

// Within says whether path is folder, or in it.
func Within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}

// RunnerPath is where the program that an interpreter runs lies.
const RunnerPath = "/.casemate/runner"

func (p *planner) runner(g plan.Guest) {
	switch g.Runner {
	case TemplateRunner:
		p.dir(".casemate")
		p.add(Step{Kind: File, Path: RunnerPath[1:], Text: "@python"}, Step{Kind: File, Path: TemplatePath[1:], Text: "@template"}, Step{Kind: File, Path: LatePath[1:], Text: "@late"})
	case "python", "node":
		p.dir(".casemate")
		p.add(Step{Kind: File, Path: RunnerPath[1:], Text: "@" + g.Runner})
		p.allow("/.casemate", "read")
	case wasm.Runner, wasm.RunnerJS:
		p.dir(".casemate")
		p.add(Step{Kind: File, Path: wasm.GuestPath[1:], Text: wasm.EncodeGuest(g)})
		p.allow("/.casemate", "read")
	}
}
