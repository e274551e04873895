package contain

import (
	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/codec"
	"github.com/casemate/casemate/internal/plan"
)

// The descriptors of a sandbox's first process, beside its standard ones.
const (
	SetupFD = 3 // to the spawner: Setup comes, Ready or Failed goes; its end is the sandbox's
	GuestFD = 4 // the guest's end of its pipe
)

// MaxGrants bounds the mounts of a guest: the kernel takes so many descriptors
// with one message (SCM_MAX_FD).
const MaxGrants = 253

// A Setup is what the spawner tells the first process. One descriptor comes
// with it for each mount of its guest.
type Setup struct {
	Guest    plan.Guest // its limits narrowed to the grant
	Steps    []Step
	Rules    []Rule
	Detached bool   // the grants' descriptors are mounts; else they only say which file is meant
	Filter   string // the seccomp program, as linux.Filter has its bytes
	More     bool   // another follows, with the guest; of this one only the steps count
	Inner    string // of a contained guest: the Setup of the container's first process
}

// Encode returns the canonical form of s.
func (s *Setup) Encode() []byte {
	w := &codec.Writer{}
	w.String(string(plan.EncodeGuest(s.Guest)))
	codec.List(w, s.Steps, func(s Step) {
		w.String(string(s.Kind))
		w.String(s.Path)
		w.String(s.Text)
		w.Int(s.N)
		w.Int(s.Size)
		w.Bool(s.Exec)
	})
	codec.List(w, s.Rules, func(r Rule) { w.String(r.Path); w.String(r.Access) })
	w.Bool(s.Detached)
	w.String(s.Filter)
	w.Bool(s.More)
	w.String(s.Inner)
	return w.B
}

// DecodeSetup is the inverse of Encode.
func DecodeSetup(b []byte) (*Setup, error) {
	r := &codec.Reader{B: b}
	g, err := plan.DecodeGuest([]byte(r.String()))
	if err != nil {
		return nil, err
	}
	s := &Setup{Guest: g}
	s.Steps = codec.ReadList(r, func() Step {
		return Step{Kind(r.String()), r.String(), r.String(), r.Int(), r.Int(), r.Bool()}
	})
	s.Rules = codec.ReadList(r, func() Rule { return Rule{r.String(), r.String()} })
	s.Detached = r.Bool()
	s.Filter = r.String()
	s.More = r.Bool()
	s.Inner = r.String()
	return s, r.End()
}

// A Report is what the first process answers: everything is on and the guest
// waits, or the step that failed. The descriptors of the upper folders of
// the write grants come with it, in the order of the grants.
type Report struct {
	Step     string // that failed; "" is success
	What     string
	Errno    int64
	Spaces   []string // the namespaces that it is in, as /proc/self/ns has them
	Seccomp  string
	Landlock int64
}

// Encode returns the canonical form of r.
func (r *Report) Encode() []byte {
	w := &codec.Writer{}
	w.String(r.Step)
	w.String(r.What)
	w.Int(r.Errno)
	w.Strings(r.Spaces)
	w.String(r.Seccomp)
	w.Int(r.Landlock)
	return w.B
}

// DecodeReport is the inverse of Encode.
func DecodeReport(b []byte) (*Report, error) {
	r := &codec.Reader{B: b}
	out := &Report{r.String(), r.String(), r.Int(), r.Strings(), r.String(), r.Int()}
	return out, r.End()
}

// The words on the setup connection once the guest waits.
const (
	Stop    = "stop"    // spawner: stop every process of the guest
	Stopped = "stopped" // answer, when none of them runs
	Go      = "go"      // spawner: let them run
)

// Spaces returns the namespaces of this process, such as "user:[4026531837]".
func Spaces() (out []string) { return SpacesOf("self") }

// SpacesOf returns the namespaces of a process, by its number, as far as this
// process may see them.
func SpacesOf(pid string) (out []string) {
	dir, err := unix.Open("/proc/"+pid+"/ns", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(dir)
	var b [64]byte
	for _, n := range [...]string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"} {
		if l, err := unix.Readlinkat(dir, n, b[:]); err == nil && l < len(b) {
			out = append(out, string(b[:l]))
		}
	}
	return out
}
