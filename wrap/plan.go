package wrap

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// A User is whose clients are wrapped.
type User struct {
	Host
	State    string             // folder of wrap's own records, closed to others
	Manifest string             // the user's casemate.yaml
	Shim     string             // how the clients start casemate
	Check    func([]byte) error // whether the manifest's new text is one
}

// A Result is what becomes of one server.
type Result struct {
	Key     string   `json:"key"`
	Where   string   `json:"where"`
	State   State    `json:"state"` // after the change
	New     bool     `json:"new"`   // it was changed just now
	Name    string   `json:"name,omitempty"`
	Command []string `json:"command,omitempty"` // for people: what may be secret is hidden
	Read    []string `json:"read,omitempty"`
	Write   []string `json:"write,omitempty"`
	Env     []string `json:"env,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	Why     string   `json:"why,omitempty"`
}

// A Recorded is a command that a name stands for from now on.
type Recorded struct {
	Name     string
	Argv     []string
	Dir      string   // what its relative elements are relative to; "" leaves them alone
	Writable []string // what the server may change by itself
	Keep     bool     // leave a record alone that is there already
}

// A Plan is what will be done to one file. Nothing is, until Grant, and then
// Apply, are called; whoever applies it records the commands between the two.
type Plan struct {
	File     string // real path
	Client   string
	Results  []Result
	Recorded []Recorded // of wrap
	Removed  []string   // of undo: names that stand for nothing any more
	Notes    []string
	Changes  bool // the file will be another
	Edited   bool // of undo: the file had changed since, and our part alone is taken back

	user     *User
	store    *store
	file     *File
	content  []byte
	manifest *File // nil: it is to be made
	next     *Manifest
	granted  bool // the manifest changes
	entries  map[string]written
	record   *record // what is done; of undo, nil
	undone   *record // of undo: what was
	original []byte
	release  func()
}

// Close ends the plan, and lets others begin.
func (p *Plan) Close() {
	if p.release != nil {
		p.release()
		p.release = nil
	}
}

// begin reads the files that a plan is about.
func (u *User) begin(path string) (p *Plan, d *Document, err error) {
	p = &Plan{user: u, store: &store{u.State}}
	if p.file, err = Open(path); err != nil {
		return nil, nil, err
	}
	p.File = p.file.Path
	if p.release, err = p.store.lock(); err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*Plan, *Document, error) {
		p.Close()
		return nil, nil, err
	}
	if d, err = Read(p.File, p.file.Content); err != nil {
		return fail(err)
	}
	p.Client = d.Client
	if p.record, err = p.store.record(p.File); err != nil {
		return fail(err)
	}
	if p.entries, err = p.store.entries(); err != nil {
		return fail(err)
	}
	var src []byte
	real := u.Manifest
	if to, err := filepath.EvalSymlinks(real); err == nil {
		real = to
	}
	if p.manifest, err = Open(real); errors.Is(err, fs.ErrNotExist) {
		p.manifest = nil
	} else if err != nil {
		return fail(err)
	} else {
		src = p.manifest.Content
	}
	if p.next, err = ReadManifest(u.Manifest, src); err != nil {
		return fail(err)
	}
	return p, d, nil
}

// Wrap plans to put casemate in front of every server of the file at path
// that can be, and a profile for each into the manifest.
func (u *User) Wrap(path string) (*Plan, error) {
	p, d, err := u.begin(path)
	if err != nil {
		return nil, err
	}
	if err := p.wrap(d); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Plan) wrap(d *Document) error {
	all, err := catalogue()
	if err != nil {
		return err
	}
	names, added := map[string]string{}, map[string]bool{}
	for _, s := range d.Servers {
		r := Result{Key: s.Key, Where: s.Where, State: s.State, Why: s.Why}
		if s.State == Plain || s.State == Wrapped {
			if err := p.server(d, s, &r, all); err != nil {
				return err
			}
		}
		if s.State == Plain && r.Name != "" {
			names[s.ID()] = r.Name
			added[s.ID()] = s.args == nil && !s.command.isList()
			r.State, r.New = Wrapped, true
		}
		p.Results = append(p.Results, r)
	}
	if p.granted {
		if err := p.user.Check(p.next.Src); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return nil
	}
	p.content = d.Wrap(p.user.Shim, names)
	if _, err := d.checked(p.File, p.content); err != nil {
		return err
	}
	p.Changes = true
	p.original = d.src
	if was := p.record; was != nil {
		if was.Wrapped == sum(d.src) {
			if p.original, err = p.store.original(was); err != nil {
				return err
			}
		} else {
			p.original = d.Unwrap(p.ours(d, was), was.Added)
			if _, err := d.checked(p.File, p.original); err != nil {
				return err
			}
		}
		maps.Copy(names, was.Names)
		maps.Copy(added, was.Added)
	}
	p.record = &record{File: p.File, Wrapped: sum(p.content), Names: names, Added: added}
	return nil
}

// server chooses the name of one server and puts its profile into the
// manifest, where that has none.
func (p *Plan) server(d *Document, s *Server, r *Result, all map[string]*known) error {
	expanded := *s
	expanded.Argv = slices.Clone(s.Argv)
	for i, a := range s.Argv {
		expanded.Argv[i] = d.expand(a, p.user.Home, s.Base)
	}
	profile := p.user.propose(&expanded, all)
	has, err := p.next.entries()
	if err != nil {
		return err
	}
	dir := ""
	if slices.ContainsFunc(expanded.Argv, func(a string) bool { return relativeFile(s.Base, a) }) {
		dir = s.Base
	}
	r.Command, r.Notes = Redact(s.Argv), profile.Notes
	same := func(name string) bool {
		e := has[name]
		w, ours := p.entries[name]
		switch {
		case !e.server || !slices.Equal(e.command, expanded.Argv):
			return false
		case ours:
			return slices.Equal(w.Env, s.Env) && w.Dir == dir
		}
		return e.named || slices.Equal(e.env, profile.Env)
	}
	name := s.Name
	for n := 1; name == ""; n++ {
		if try := nameOf(s.Key, n); same(try) || !taken(has, try) {
			name = try
		}
	}
	r.Name = name
	indent, newline, brackets := p.next.layout()
	text := profile.text(name, p.File, indent, newline, brackets)
	was, ours := p.entries[name]
	switch {
	case taken(has, name) && !same(name):
		r.Notes = append(r.Notes, "the entry "+name+" of "+p.user.Manifest+" is of another command, or of other variables: it is refused when it starts")
		return nil
	case !taken(has, name):
		p.next, err = p.next.add(text)
		p.granted = true
	case ours && sameButFrom(was.Text, text):
		text = was.Text
	case ours:
		next, unchanged := p.next.replace(was.Text, text)
		if unchanged {
			p.next, p.granted = next, true
		} else {
			r.Notes = append(r.Notes, "its entry was changed by hand, and is left as it is")
			text = was.Text
		}
	}
	if err != nil {
		return err
	}
	if ours || !taken(has, name) {
		p.entries[name] = written{text, s.Env, dir}
	}
	p.Recorded = append(p.Recorded, Recorded{Name: name, Argv: expanded.Argv, Dir: dir, Writable: profile.Writable(), Keep: taken(has, name)})
	for _, m := range profile.Mounts {
		if m.Write {
			r.Write = append(r.Write, m.At)
		} else {
			r.Read = append(r.Read, m.At)
		}
	}
	r.Env = profile.Env
	return nil
}

// relativeFile says whether an element names a file or folder in dir.
func relativeFile(dir, element string) bool {
	if dir == "" || element == "" || filepath.IsAbs(element) || len(element) > 4095 {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, element))
	return err == nil
}

func taken(has map[string]entry, name string) bool { _, ok := has[name]; return ok }

// sameButFrom says whether two texts of an entry differ in their first line
// alone, which says what file it was first found in.
func sameButFrom(a, b string) bool {
	cut := func(s string) string {
		if i := bytes.IndexByte([]byte(s), '\n'); i >= 0 && !bytes.HasPrefix([]byte(s), []byte("{")) {
			return s[i:]
		}
		return s
	}
	return cut(a) == cut(b)
}

// Grant writes the manifest.
func (p *Plan) Grant() error {
	if p.granted {
		if p.manifest != nil {
			p.manifest.closeAs(p.file)
			if err := p.manifest.Replace(p.next.Src); err != nil {
				return err
			}
		} else {
			dir := filepath.Dir(p.user.Manifest)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return cannot(dir, err)
			}
			if err := writeNew(p.user.Manifest, p.next.Src); err != nil {
				return cannot(p.user.Manifest, err)
			}
		}
	}
	return p.store.write(p.store.entriesFile(), p.entries)
}

// Apply changes the file: first the copy of what it was, then it.
func (p *Plan) Apply() error {
	if p.Changes && p.record != nil {
		if err := p.store.keep(p.record, p.original); err != nil {
			return err
		}
	}
	if p.Changes {
		if err := p.file.Replace(p.content); err != nil {
			return err
		}
	}
	if p.undone == nil {
		return nil
	}
	if p.Edited {
		return p.store.forget(p.File, "")
	}
	return p.store.forget(p.File, p.undone.Original)
}
