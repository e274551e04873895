package contain

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/linux"
)

// An Inside is the first process of a sandbox while it confines itself.
type Inside struct {
	*Setup
	Runner func(name string) []byte // the program of runner python or node

	Passed  []int // the descriptors that came with the setup, of its grants
	Carried []int // and of what else is mounted

	grants []grant
	root   int // the tmpfs that becomes the root
	dev    int // its /dev/null, once it was opened
	uppers []int
	report Report

	imaged bool // the root is read-only, and has every mount point

	self, selfPath int // this program, opened to read, and to be mounted
}

type grant struct {
	fd     int // a detached mount
	folder bool
}

// Run carries the steps of the setup out, in order, and stops at the first that
// fails. It returns what is on, and the descriptors of the upper folders. Where
// the setup says that another follows, it is called again with that.
func (in *Inside) Run() (Report, []int) {
	if in.report.Spaces == nil { // before the host's /proc is hidden
		in.report.Spaces = Spaces()
	}
	if in.Inner != "" && in.self == 0 {
		if err := in.openSelf(); err != nil {
			return failed(Step{Kind: Init}, err), nil
		}
	}
	for _, s := range in.Steps {
		if err := in.step(s); err != nil {
			return failed(s, err), nil
		}
	}
	return in.report, in.uppers
}

func failed(s Step, err error) Report {
	if s.Kind == Bind && s.N > 0 {
		s.Kind = Runtime // which is what is not there
	}
	r := Report{Step: string(s.Kind), What: err.Error()}
	if s.Path != "" {
		r.What = "/" + s.Path + ": " + r.What
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		r.Errno = int64(errno)
	}
	return r
}

func (in *Inside) step(s Step) error {
	switch s.Kind {
	case Private:
		return in.private()
	case Grants:
		return in.openGrants()
	case Stage:
		return in.stage()
	case Dir:
		return in.mkdir(s.Path)
	case File:
		return in.file(s.Path, s.Text)
	case Link:
		return os.NewSyscallError("symlinkat", unix.Symlinkat(s.Text, in.root, s.Path))
	case Bind:
		return in.bind(s)
	case Device:
		return in.device(s)
	case Scratch:
		return in.scratch(s.Size)
	case Sub:
		return in.sub(s.Path, s.Text)
	case Input:
		return in.input(s.Path, s.Text)
	case Grant:
		return in.grant(s)
	case Place:
		return in.place(s)
	case Pts:
		return in.mountNew("devpts", s.Path, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, "newinstance", "", "ptmxmode", "0666", "mode", "0600")
	case Proc:
		return in.mountNew("proc", s.Path, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	case Count:
		return in.count(s.Path, s.Size)
	case Mask:
		return in.mask(s.Path)
	case ReadOnly:
		return in.readOnly(s.Path)
	case Seal:
		return in.seal()
	case Pivot:
		return in.pivot()
	case Groups:
		return in.mountNew("cgroup2", s.Path, readOnly)
	case Point:
		return in.point(s)
	case Image:
		return in.image(s)
	case Init:
		return in.program(s.Path)
	case Runtime:
		return in.runtime(s.Path)
	case Name:
		return in.name(s.Text)
	case Loopback:
		return loopbackUp()
	case Keyring:
		return keyring()
	case Limits:
		return limits(s.Size, FileSize(in.Guest))
	case Privs:
		return linux.NoNewPrivs()
	case Landlock:
		return in.landlock()
	case Caps:
		return linux.DropCapabilities()
	case Dump:
		return linux.NotDumpable()
	case Seccomp:
		return in.seccomp()
	}
	return errors.New("unknown step " + strconv.Quote(string(s.Kind)))
}
