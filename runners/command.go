package runners

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

// A command is one process to start.
type command struct {
	argv   []string
	stdin  string
	feed   bool          // stdin is given; else it is empty
	size   *unix.Winsize // of its terminal, or nil: it has pipes
	socket int           // descriptor 3 of the process, or 0
	std    []int         // its standard descriptors, or nil: they are made
}

// maxElement is MAX_ARG_STRLEN of Linux (32 pages), the closing NUL included.
const maxElement = 128 << 10

// command makes the command of a call.
func (s *server) command(args []guest.Pair) (command, error) {
	if s.guest.Runner == "shell" {
		script, ok := guest.Get(args, "command")
		if !ok {
			return command{}, invalid("the argument command is missing")
		}
		if err := element("command", script); err != nil {
			return command{}, err
		}
		return command{argv: []string{"/bin/sh", "-c", script}}, nil
	}
	argv, err := argv(s.guest, args)
	if err != nil {
		return command{}, err
	}
	c := command{argv: argv}
	if s.guest.Stdin != "" {
		c.stdin, c.feed = guest.Get(args, s.guest.Stdin)
	}
	return c, nil
}

// argv fills g's template. An argument fills exactly one element, whatever
// it holds; an argument that the call leaves out leaves its element out. A
// value that begins with "-" is refused, lest it be read as an option, unless
// the template has "--" before it or the operator gave it the role of one.
func argv(g plan.Guest, args []guest.Pair) ([]string, error) {
	var out []string
	ended := false
	for i, a := range g.Command {
		if a.Name == "" {
			ended = ended || i > 0 && a.Text == "--"
			out = append(out, a.Text)
			continue
		}
		v, ok := guest.Get(args, a.Name)
		switch {
		case !ok && i == 0:
			return nil, invalid("the argument " + a.Name + " is missing: it names the program")
		case !ok:
			continue
		case strings.HasPrefix(v, "-") && !ended && !contains(g.Options, a.Name):
			return nil, invalid("the argument " + a.Name + ` begins with "-" and would be read as an option; put "--" before {` + a.Name + "} in the tool's command, or give it the role option")
		}
		if err := element(a.Name, v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	if len(out) == 0 || out[0] == "" {
		return nil, invalid("the tool's command is empty")
	}
	return out, nil
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// element says whether the kernel can take v as an element of argv.
func element(name, v string) error {
	if strings.IndexByte(v, 0) >= 0 {
		return invalid("the argument " + name + " holds a NUL byte, which no argument of a program can")
	}
	if len(v) >= maxElement {
		return invalid("the argument " + name + " has " + strconv.Itoa(len(v)) + " bytes, and Linux takes less than " + strconv.Itoa(maxElement) + " in an argument of a program; pass it as standard input")
	}
	return nil
}

// A failure is an error with the exit status that a shell would give.
type failure struct {
	status int
	text   string
}

func (f failure) Error() string { return f.text }

func invalid(text string) error { return failure{2, text} }

func exitStatus(err error) int {
	var f failure
	if errors.As(err, &f) {
		return f.status
	}
	return 1
}

// status is the exit status of a shell for ws.
func status(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// find returns the path of the program name, by the PATH of the guest's
// environment where it has no slash. The working folder is never searched.
func find(name string, env []string) (string, error) {
	if strings.IndexByte(name, '/') >= 0 {
		return name, nil
	}
	path := "/usr/local/bin:/usr/bin:/bin"
	for _, kv := range env {
		if p, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = p
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		if p := dir + "/" + name; strings.HasPrefix(dir, "/") && unix.Access(p, unix.X_OK) == nil {
			return p, nil
		}
	}
	return "", failure{127, name + ": not found in the sandbox's PATH (" + path + "); name the program by its whole path, and grant its folder with execute: true"}
}

// explain says why the program at path did not start.
func explain(path, cwd string, err error) error {
	st, statErr := os.Stat(path)
	switch {
	case errors.Is(err, unix.ENOENT) && !folder(cwd):
		return failure{126, cwd + ": the working folder is not in the sandbox; set cwd to one that is"}
	case errors.Is(err, unix.ENOENT) && statErr == nil:
		return failure{127, path + ": the interpreter that it names is not in the sandbox; grant its folder with execute: true"}
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return failure{127, path + ": not found in the sandbox; grant its folder with access: read and execute: true"}
	case errors.Is(err, unix.EACCES) && statErr == nil && st.Mode()&0o111 != 0 && !st.IsDir():
		return failure{126, path + ": may not be executed in the sandbox; set execute: true on the grant that it lies in"}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return failure{126, path + ": is not an executable file"}
	case errors.Is(err, unix.ENOEXEC):
		return failure{126, path + `: is no program of this machine, and does not begin with "#!"`}
	case errors.Is(err, unix.E2BIG):
		return failure{126, path + ": the arguments and the environment are longer than Linux takes; pass the long ones as standard input"}
	case errors.Is(err, unix.EAGAIN):
		return failure{126, path + ": no process is left; raise processes"}
	}
	return failure{126, path + ": " + err.Error()}
}

func folder(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
