package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// tool builds the tool at n, or the tools that it expands to.
func (b *builder) tool(n *yaml.Node, key string) {
	before := b.count()
	name := casemate.ToolName(str(n, "name"))
	p := b.security(get(n, "security"), key+".security")
	t := &casemate.Tool{Name: name, Description: str(n, "description")}
	b.parking(get(n, "pool"), key+".pool", t)
	run := get(n, "run")
	t.Image = b.image(get(n, "image"), key+".image", str(run, "builtin"))
	if run == nil || run.Content[0].Value == "mcp" {
		b.server(n, key, t, p, before)
		return
	}
	params := b.parameters(get(n, "parameters"), key+".parameters")
	b.complete(p)
	kind := run.Content[0].Value
	at := join(key+".run", kind)
	switch r := get(run, kind); kind {
	case "exec":
		t.Run.Exec = b.exec(r, at, params, key)
	case "python", "node":
		s := &casemate.Script{Preload: texts(get(r, "preload")), Interpreter: b.interpreter(get(r, "interpreter"), at+".interpreter", t.Image)}
		if t.Run.Python = s; kind == "node" {
			t.Run.Python, t.Run.Node = nil, s
		}
		b.fork(get(r, "fork"), at+".fork", kind, p.Scope, s)
		b.only(params, "code", "The "+map[string]string{"python": "Python 3", "node": "JavaScript"}[kind]+" code to run.", kind, key)
	case "shell":
		t.Run.Shell = &casemate.Shell{}
		b.only(params, "command", "The command line, run by /bin/sh -c.", kind, key)
	case "wasm":
		t.Run.Wasm = b.wasm(r, at, params, key)
	case "js":
		t.Run.JS = &casemate.JS{Deterministic: yes(get(r, "deterministic"))}
		b.only(params, "code", "The JavaScript code to run.", kind, key)
	case "builtin":
		if params.node != nil {
			b.add(getKey(n, "parameters"), key+".parameters", "a built-in tool has parameters of its own; take these away")
		}
		if f := get(n, "flow"); f != nil && get(f, "args") != nil {
			b.add(getKey(f, "args"), key+".flow.args", "a built-in tool knows its arguments; take these away")
		}
	default:
		p.beyond = append(p.beyond, kind+": as a kind of tool")
		p.fix = "use exec, python, node, shell, wasm, js, builtin or mcp"
	}
	if kind != "builtin" {
		t.Parameters = params.json
		t.Roles = b.flow(get(n, "flow"), key+".flow", params)
	} else {
		b.flow(get(n, "flow"), key+".flow", nil)
	}
	if b.count() > before {
		b.claim(name, get(n, "name"), key)
		return
	}
	t.Security = p.Profile
	p.module = str(get(run, kind), "module")
	expanded := []*casemate.Tool{t}
	if kind == "builtin" {
		expanded = b.builtin(t, get(run, kind), at, p)
	}
	for _, t := range expanded {
		b.claim(t.Name, get(n, "name"), key)
		if len(p.beyond) > 0 {
			b.unsupported(t.Name, strings.Join(p.beyond, ", "), p.fix)
			continue
		}
		refs := b.references(t)
		b.config.own = append(b.config.own, t)
		b.trusted(string(t.Name), t.Security)
		b.config.pins[t.Name] = b.pin(t, p, str(get(run, kind), "interpreter"), refs)
		b.config.grants = append(b.config.grants, summary(t, p))
	}
}

// trusted adds the grants of a profile to what trust is given to.
func (b *builder) trusted(name string, p casemate.Profile) {
	for _, m := range p.Filesystem {
		b.config.trusts = append(b.config.trusts, fmt.Sprintf("grant %q %q %q", name, m.At, m.Path))
	}
}

// namedProfile is the profile of that name for whoever uses it as it is.
func (b *builder) namedProfile(name string) NamedProfile {
	p := b.profiles[name]
	b.trusted("profile "+name, p.Profile)
	out := NamedProfile{Profile: p.Profile, Timed: p.timed}
	fail := func(what, fix string) {
		out.Unsupported = &casemate.Error{Op: "load", Kind: casemate.Unsupported, Err: errors.New("profile " + name + ": " + what), Fix: fix}
	}
	if len(p.unset) > 0 {
		fail(p.unset[0].why(), "set it")
	}
	if len(p.beyond) > 0 {
		fail("this version of Casemate cannot enforce "+strings.Join(p.beyond, ", "), p.fix)
	}
	return out
}

// claim takes a name, which no other tool may have.
func (b *builder) claim(name casemate.ToolName, n *yaml.Node, key string) {
	if first := b.named[name]; first != nil {
		b.add(n, key+".name", "the name %s is taken by the tool at line %d", shown(string(name)), first.Line)
		return
	}
	b.named[name] = n
	if len(b.named) > maxTools {
		b.add(n, key, "more than %d tools", maxTools)
	}
}

// security is the profile at n, or the one that n names.
func (b *builder) security(n *yaml.Node, key string) *profile {
	if n == nil || n.Kind == yaml.MappingNode {
		return b.profile(n, key)
	}
	if p := b.profiles[n.Value]; p != nil {
		return p.clone()
	}
	var names []string
	for k := range b.profiles {
		names = append(names, k)
	}
	slices.Sort(names)
	b.add(n, key, "there is no profile %s under profiles%s", shown(n.Value), maybe(n.Value, names))
	return b.profile(nil, key)
}

// image is the reference at n; what it means is found out by whoever fetches
// it. A digest in it is what the tool is pinned by; without one, the lock says.
func (b *builder) image(n *yaml.Node, key, builtin string) *casemate.Image {
	if n == nil {
		return nil
	}
	if builtin != "" {
		b.add(n, key, "a built-in tool is a part of Casemate, and of no image; take it away")
	}
	i := &casemate.Image{Reference: n.Value}
	if _, d, ok := strings.Cut(n.Value, "@"); ok {
		if i.Digest = casemate.Digest(d); !imageDigest.MatchString(d) {
			b.add(n, key, "%s is no digest; write sha256: and 64 lower-case hexadecimal digits after the @", shown(d))
		}
	}
	return i
}

// interpreter makes the path of an interpreter absolute. Its links stay: a
// virtual environment is known by the folder of its link. One of an image is a
// path in that, and no file of the host.
func (b *builder) interpreter(n *yaml.Node, key string, in *casemate.Image) string {
	if n == nil {
		return ""
	}
	if in != nil {
		if !path.IsAbs(n.Value) || path.Clean(n.Value) != n.Value {
			b.add(n, key, "%s is not a clean absolute path in the image", shown(n.Value))
		}
		return n.Value
	}
	p := b.path(n, key)
	if p != "" {
		b.programs = append(b.programs, program{n, key, p})
		if real := b.resolve(p); real != p {
			b.programs = append(b.programs, program{n, key, real})
		}
	}
	return p
}

func (b *builder) resolve(p string) string {
	if b.opt.ResolveMounts {
		return resolveExisting(p)
	}
	return p
}

// pin is the digest of t as it is written: the same wherever the
// configuration's folder lies, and without the values of variables that are
// passed on, which are the caller's and may be secret. How many sandboxes wait
// is no authority: it may be tuned without pinning the tool again.
func (b *builder) pin(t *casemate.Tool, p *profile, interpreter string, refs []string) casemate.Digest {
	w := *t
	w.Pool = casemate.Parking{}
	w.Security.Filesystem = slices.Clone(t.Security.Filesystem)
	for i := range w.Security.Filesystem {
		w.Security.Filesystem[i].Path = p.stated[slices.IndexFunc(p.Filesystem, func(m casemate.Mount) bool {
			return m.At == w.Security.Filesystem[i].At
		})]
	}
	w.Security.Env, w.Security.Pass = map[string]string{}, nil
	for k, v := range t.Security.Env {
		if !slices.Contains(p.passed, k) {
			w.Security.Env[k] = v
		}
	}
	for _, s := range []**casemate.Script{&w.Run.Python, &w.Run.Node} {
		if *s != nil {
			written := **s
			written.Interpreter = interpreter
			*s = &written
		}
	}
	if w.Run.Wasm != nil {
		written := *w.Run.Wasm
		written.Module = p.module
		w.Run.Wasm = &written
	}
	files := map[string]casemate.Digest{}
	for _, f := range refs {
		rel, err := filepath.Rel(b.config.Dir, f)
		if err != nil {
			rel = f
		}
		files[rel] = b.contents[f]
	}
	j, err := json.Marshal(struct {
		Tool   casemate.Tool              `json:"tool"`
		Passed []string                   `json:"passed,omitempty"`
		Files  map[string]casemate.Digest `json:"files,omitempty"`
	}{w, p.passed, files})
	if err != nil { // a Tool that Parse built always marshals
		panic("catalog: bug: " + err.Error())
	}
	return digest(j)
}
