package catalog

import (
	"errors"
	"path/filepath"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// wasm is what runs a module: a command, whose arguments and standard input are
// templates as those of exec are, or a function, which has all arguments as JSON.
func (b *builder) wasm(n *yaml.Node, key string, p *parameters, tool string) *casemate.Wasm {
	w := &casemate.Wasm{Stdin: str(n, "stdin"), Result: str(n, "result"), Function: str(n, "function"), Deterministic: yes(get(n, "deterministic"))}
	if w.Function == "" {
		w.Args = b.template(n, "args", key, p, tool)
	} else {
		for _, f := range []string{"args", "stdin", "result"} {
			if get(n, f) != nil {
				b.add(getKey(n, f), join(key, f), "is of a command, and a function has all arguments as JSON; take it, or function, away")
			}
		}
	}
	w.Module, w.Digest = b.module(get(n, "module"), key+".module")
	return w
}

// module is the path of a module, every link resolved, and the digest of its
// bytes. Where nothing may be looked at yet it is the path as it is written.
func (b *builder) module(n *yaml.Node, key string) (string, casemate.Digest) {
	p := b.path(n, key)
	if p == "" || !b.opt.ResolveMounts {
		return p, ""
	}
	real, err := filepath.EvalSymlinks(p)
	if err != nil {
		b.add(n, key, "%s %s; build it, or correct the path", shown(n.Value), cannot(err))
		return "", ""
	}
	d := contentDigest(real)
	if d == "absent" || d == "unreadable" {
		b.add(n, key, "%s %s", shown(n.Value), cannot(errors.New("it is no regular file of at most 256 MiB that can be read")))
	}
	b.programs = append(b.programs, program{n, key, p})
	if real != p {
		b.programs = append(b.programs, program{n, key, real})
	}
	return real, d
}
