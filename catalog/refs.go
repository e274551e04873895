package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"golang.org/x/sys/unix"
)

// maxReference bounds a file whose content a configuration is trusted with.
const maxReference = 256 << 20

// references are the files of the configuration's folder that t runs: the
// interpreter, and each literal element of a command that a grant maps to a
// file of that folder. They are hashed, so that trust and pin cover them.
func (b *builder) references(t *casemate.Tool) []string {
	if !b.opt.ResolveMounts {
		return nil
	}
	var found []string
	add := func(p string) {
		if real := resolveExisting(p); within(b.config.Dir, real) && real != b.config.Dir {
			found = append(found, real)
		}
		if within(b.config.Dir, p) && p != b.config.Dir && !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	for _, s := range []*casemate.Script{t.Run.Python, t.Run.Node} {
		if s != nil && s.Interpreter != "" && t.Image == nil {
			add(s.Interpreter)
		}
	}
	if t.Run.Wasm != nil {
		add(t.Run.Wasm.Module)
	}
	var literal []string // of a command
	if t.Run.Exec != nil {
		for _, e := range t.Run.Exec.Command {
			if arg, text := casemate.Element(e); arg == "" {
				literal = append(literal, text)
			}
		}
	}
	if t.Run.MCP != nil {
		literal = t.Run.MCP.Command
		if p := literal[0]; t.Image == nil && filepath.IsAbs(p) && within(b.config.Dir, filepath.Clean(p)) && isFile(p) {
			add(filepath.Clean(p)) // a program of the host's, which is granted by being named
		}
	}
	for _, text := range literal {
		if !strings.ContainsRune(text, 0) && len(text) <= maxAt {
			if !filepath.IsAbs(text) {
				text = filepath.Join(t.Security.Cwd, text)
			}
			text = filepath.Clean(text)
			for _, m := range t.Security.Filesystem {
				if within(m.At, text) {
					p := m.Path + strings.TrimPrefix(text, m.At)
					if isFile(p) {
						add(p)
					}
				}
			}
		}
	}
	for _, f := range found {
		if _, ok := b.contents[f]; !ok {
			b.contents[f] = contentDigest(f)
			b.config.refs = append(b.config.refs, f)
		}
	}
	slices.Sort(b.config.refs)
	return found
}

func isFile(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.Mode().IsRegular()
}

func isFolder(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.IsDir()
}

// contentDigest is the digest of a file's content, "absent" if there is none,
// and "unreadable" if it cannot be read; all three are part of what is
// trusted.
func contentDigest(p string) casemate.Digest {
	fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENOENT) {
		return "absent"
	}
	if err != nil {
		return "unreadable"
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxReference {
		return "unreadable"
	}
	h := sha256.New()
	if n, err := io.Copy(h, io.LimitReader(f, maxReference+1)); err != nil || n > maxReference {
		return "unreadable"
	}
	return casemate.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
}
