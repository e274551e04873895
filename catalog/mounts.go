package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// maxAt bounds a path, as the kernel does.
const maxAt = 4095

// system holds what every sandbox has of its own; nothing is mounted over it.
var system = []string{"/proc", "/dev", "/sys", "/etc", "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/out"}

// mounts builds the grants at n. Each link of a path is followed once, here,
// and what it led to is recorded: from then on nothing on the way may be one.
func (b *builder) mounts(p *profile, n *yaml.Node, key string) {
	for i, m := range n.Content {
		at := fmt.Sprintf("%s[%d]", key, i)
		g := casemate.Mount{At: str(m, "at"), Access: casemate.Access(str(m, "access")), Names: texts(get(m, "names"))}
		if g.Access == "" {
			g.Access = casemate.Read
		}
		if e := get(m, "execute"); e != nil {
			g.Execute = strings.EqualFold(e.Value, "true")
		}
		for j, name := range g.Names {
			if !filepath.IsLocal(name) || name == "." || path.Clean(name) != name {
				b.add(get(m, "names").Content[j], at+".names", "%s is not the name of a file or a path in the grant", shown(name))
			}
			if g.Access == casemate.Read {
				b.add(getKey(m, "names"), at+".names", "names are for a grant with access: write")
				break
			}
		}
		b.target(p, get(m, "at"), at+".at", n)
		source := get(m, "path")
		g.Path = b.source(source, at+".path")
		if g.Path != "" && g.Access == casemate.Write {
			b.grants = append(b.grants, grant{g.Path, source.Line})
		}
		p.Filesystem = append(p.Filesystem, g)
		p.stated = append(p.stated, source.Value)
	}
}

// target checks where a grant appears in the sandbox.
func (b *builder) target(p *profile, n *yaml.Node, key string, all *yaml.Node) {
	at := n.Value
	switch {
	case path.Clean(at) != at:
		b.add(n, key, "%s is not a clean path; write %s", shown(at), shown(path.Clean(at)))
		return
	case len(at) > maxAt:
		b.add(n, key, "is too long")
		return
	case at == "/" || at == "/tmp" || strings.HasPrefix(at, "/."):
		b.add(n, key, "%s is the sandbox's own; choose a folder such as /work", shown(at))
		return
	}
	for _, s := range system {
		if within(s, at) {
			b.add(n, key, "%s lies in %s, which is the sandbox's own; choose a folder such as /work", shown(at), s)
			return
		}
	}
	for i, m := range p.Filesystem {
		switch first := get(all.Content[i], "at"); {
		case m.At == at:
			b.add(n, key, "%s is granted twice; first at line %d", shown(at), first.Line)
		case within(m.At, at) || within(at, m.At):
			b.add(n, key, "%s and %s of line %d lie in each other", shown(at), shown(m.At), first.Line)
		}
	}
}

// path makes the path at n absolute, by its text alone; "" after a problem.
func (b *builder) path(n *yaml.Node, key string) string {
	s := n.Value
	switch {
	case strings.ContainsRune(s, 0):
		b.add(n, key, "holds a NUL byte")
		return ""
	case s == "~" || strings.HasPrefix(s, "~/"):
		if !filepath.IsAbs(b.opt.Home) {
			b.add(n, key, "there is no home folder that %s could stand for; write an absolute path", shown(s))
			return ""
		}
		return filepath.Join(b.opt.Home, s[1:])
	case strings.HasPrefix(s, "~"):
		b.add(n, key, "%s: only ~ and ~/… are known; write an absolute path", shown(s))
		return ""
	case filepath.IsAbs(s):
		return filepath.Clean(s)
	case !filepath.IsLocal(s):
		b.add(n, key, "%s leaves the folder of the configuration; write an absolute path if it is meant", shown(s))
		return ""
	}
	return filepath.Join(b.config.Dir, s)
}

// source checks what a grant gives, and follows its links.
func (b *builder) source(n *yaml.Node, key string) string {
	abs := b.path(n, key)
	if abs == "" {
		return ""
	}
	real := abs
	if b.opt.ResolveMounts {
		var err error
		if real, err = filepath.EvalSymlinks(abs); err != nil {
			b.add(n, key, "%s %s; make it, or take the grant away", shown(n.Value), cannot(err))
			return ""
		}
		info, err := os.Lstat(real)
		switch {
		case err != nil:
			b.add(n, key, "%s %s", shown(n.Value), cannot(err))
			return ""
		case !info.IsDir() && !info.Mode().IsRegular():
			b.add(n, key, "%s is neither a folder nor a regular file", shown(n.Value))
			return ""
		}
		if !filepath.IsAbs(n.Value) && !strings.HasPrefix(n.Value, "~") {
			if dir, err := filepath.EvalSymlinks(b.config.Dir); err != nil || !within(dir, real) {
				b.add(n, key, "%s is a link that leaves the folder of the configuration, to %s; write that path if it is meant", shown(n.Value), shown(real))
				return ""
			}
		}
	}
	switch {
	case real == "/":
		b.add(n, key, "the whole file system is never granted; name the folders that are needed")
		return ""
	}
	for _, s := range b.states {
		if within(s, real) || within(real, s) {
			b.add(n, key, "%s holds or lies in Casemate's own state (%s), which is never granted", shown(n.Value), shown(s))
			return ""
		}
	}
	for _, s := range []string{"/proc", "/sys", "/dev"} {
		if within(s, real) {
			b.add(n, key, "%s lies in %s, which is never granted", shown(n.Value), s)
			return ""
		}
	}
	return real
}

// state finds the folders of Casemate's own state, as far as they exist.
func (b *builder) state() {
	for _, dir := range []string{b.opt.State, b.config.Host.State} {
		if dir == "" {
			continue
		}
		if dir = filepath.Clean(dir); b.opt.ResolveMounts {
			dir = resolveExisting(dir)
		}
		b.states = append(b.states, dir)
	}
}

// resolveExisting follows the links of as much of an absolute path as there is.
func resolveExisting(p string) string {
	if real, err := filepath.EvalSymlinks(p); err == nil || p == "/" {
		return real
	}
	return filepath.Join(resolveExisting(filepath.Dir(p)), filepath.Base(p))
}

// within says whether p is dir or lies in it, by component.
func within(dir, p string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// cannot is why a file cannot be used, without its name.
func cannot(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "cannot be reached: permission denied"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return "cannot be used: " + visible(err.Error())
}
