package catalog

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
)

// Wrapped is what casemate wrap recorded of a server of a client's: a name
// gives authority to this command alone.
type Wrapped struct {
	Argv  []string                   `json:"argv"`            // canonical: of the program, the clean path
	Dir   string                     `json:"dir,omitempty"`   // what relative elements are relative to; "" leaves them alone
	Files map[string]casemate.Digest `json:"files,omitempty"` // of every local file that Argv names
}

// maxArgv bounds a command, in elements and in bytes.
const (
	maxArgv      = 1000
	maxArgvBytes = 256 << 10
)

// WrapOf records argv as it is now. Relative elements that name files are
// looked for in dir; "" looks for none. Files in the system's own folders,
// which are the host's to keep, and those in writable, which the server itself
// may change, are left out. An element --option=PATH names PATH too.
func WrapOf(argv []string, dir string, writable []string) (Wrapped, error) {
	w := Wrapped{Argv: slices.Clone(argv), Dir: dir, Files: map[string]casemate.Digest{}}
	size := 0
	for _, a := range argv {
		size += len(a)
		if strings.ContainsRune(a, 0) {
			return w, wrapError("an element of the command holds a NUL byte")
		}
	}
	if len(argv) == 0 || argv[0] == "" || len(argv) > maxArgv || size > maxArgvBytes {
		return w, wrapError("the command is empty or too long")
	}
	if strings.Contains(argv[0], "/") {
		w.Argv[0] = filepath.Clean(argv[0])
		if !strings.Contains(w.Argv[0], "/") { // ./x is no program of PATH
			w.Argv[0] = "./" + w.Argv[0]
		}
	}
	for i, a := range w.Argv {
		names := []string{a}
		if _, v, ok := strings.Cut(a, "="); ok && strings.HasPrefix(a, "-") {
			names = append(names, v)
		}
		for _, p := range names {
			if !filepath.IsAbs(p) {
				if dir == "" || p == "" || i == 0 && !strings.Contains(p, "/") {
					continue // a program of PATH is not one of the folder's
				}
				p = filepath.Join(dir, p)
			}
			p = filepath.Clean(p)
			real := resolveExisting(p)
			if len(p) > maxAt || hosts(real) || slices.ContainsFunc(writable, func(d string) bool { return within(d, real) || within(d, p) }) {
				continue
			}
			if d := contentDigest(p); d != "absent" && !isFolder(p) {
				w.Files[p] = d
			}
		}
	}
	return w, nil
}

func wrapError(why string) error {
	return &casemate.Error{Op: "wrap", Kind: casemate.Invalid, Err: errors.New(why)}
}

// hosts says whether p lies in a folder that belongs to the system.
func hosts(p string) bool {
	return slices.ContainsFunc([]string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sys", "/dev"}, func(d string) bool { return within(d, p) })
}

// Wrapped returns what was recorded of the wrapped server of that name.
func (c *Config) Wrapped(name string) (Wrapped, bool) {
	w, ok := c.lock.Wrapped[name]
	return w, ok
}

// CheckWrapped is nil if argv is the command that was recorded for name, and
// every file that it names is as it was; else an Error of kind Denied that says
// what differs.
func (c *Config) CheckWrapped(name string, argv []string) error {
	denied := func(why string, argv []string) error {
		fix := "casemate tools approve " + quoted(name)
		if argv != nil {
			fix += " --"
			for _, a := range argv {
				fix += " " + quoted(a)
			}
		}
		return &casemate.Error{Op: "run", Tool: casemate.ToolName(visible(name)), Kind: casemate.Denied, Err: errors.New(why), Fix: "if it is meant: " + fix}
	}
	was, ok := c.lock.Wrapped[name]
	if !ok {
		return &casemate.Error{Op: "run", Kind: casemate.Denied, Err: fmt.Errorf("no server %s was wrapped", shown(name)), Fix: "casemate wrap FILE, of the client's configuration"}
	}
	now, err := WrapOf(argv, was.Dir, c.writable(name))
	if err != nil {
		return err
	}
	if !slices.Equal(now.Argv, was.Argv) {
		return denied(fmt.Sprintf("the command is not the one that was recorded: %s", difference(was.Argv, now.Argv)), argv)
	}
	for _, f := range slices.Sorted(maps.Keys(was.Files)) {
		if now.Files[f] != was.Files[f] {
			return denied(visible(f)+" has changed since the server was wrapped or approved", nil)
		}
	}
	for _, f := range slices.Sorted(maps.Keys(now.Files)) {
		if _, ok := was.Files[f]; !ok {
			return denied(visible(f)+" was not there when the server was wrapped or approved", nil)
		}
	}
	return nil
}

// difference names the first element in which two commands differ.
func difference(was, now []string) string {
	for i := range max(len(was), len(now)) {
		switch {
		case i >= len(now):
			return fmt.Sprintf("element %d, %s, is missing", i, shown(was[i]))
		case i >= len(was):
			return fmt.Sprintf("element %d, %s, is new", i, shown(now[i]))
		case was[i] != now[i]:
			return fmt.Sprintf("element %d is %s and was %s", i, shown(now[i]), shown(was[i]))
		}
	}
	return ""
}

// Rewrapped is what WrapOf makes of argv for the server of that name, as
// CheckWrapped will look at it; the recorded command's where argv is nil.
func (c *Config) Rewrapped(name string, argv []string) (Wrapped, error) {
	was := c.lock.Wrapped[name]
	if argv == nil {
		argv = was.Argv
	}
	return WrapOf(argv, was.Dir, c.writable(name))
}

// writable are the host paths that the server of that name may write.
func (c *Config) writable(name string) []string {
	var out []string
	for _, s := range c.servers {
		if string(s.base.Name) != name {
			continue
		}
		for _, p := range s.profiles() {
			for _, m := range p.Filesystem {
				if m.Access == casemate.Write {
					out = append(out, m.Path)
				}
			}
		}
	}
	return out
}
