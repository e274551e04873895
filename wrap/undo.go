package wrap

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/casemate/casemate"
)

// Undo plans to give the file at path back as it was, to the byte. If it was
// changed since, only what wrap did to it is taken back, and Edited is true.
// Profiles that no other wrapped file needs, and that nobody has changed, go.
func (u *User) Undo(path string) (*Plan, error) {
	p, d, err := u.begin(path)
	if err != nil {
		return nil, err
	}
	if err := p.undo(d); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Plan) undo(d *Document) error {
	was := p.record
	if was == nil {
		return &casemate.Error{Op: "wrap", Kind: casemate.Invalid, Err: fmt.Errorf("%s: was not wrapped by this user on this machine, or is unwrapped already", p.File), Fix: "take casemate run --name NAME -- out of its entries by hand"}
	}
	var err error
	ids := p.ours(d, was)
	if sum(d.src) == was.Wrapped {
		if p.content, err = p.store.original(was); err != nil {
			return err
		}
	} else {
		p.content, p.Edited = d.Unwrap(ids, was.Added), true
		if _, err := d.checked(p.File, p.content); err != nil {
			return err
		}
	}
	p.Changes = !bytes.Equal(p.content, d.src)
	p.record, p.undone = nil, was
	for _, s := range d.Servers {
		r := Result{Key: s.Key, Where: s.Where, State: s.State, Name: s.Name, Why: s.Why}
		if s.State == Wrapped {
			r.Command = Redact(s.Argv)
			if ids[s.ID()] {
				r.State, r.New = Plain, true
			}
		}
		p.Results = append(p.Results, r)
	}
	elsewhere, err := p.store.usedElsewhere(p.File)
	if err != nil {
		return err
	}
	for _, name := range slices.Compact(slices.Sorted(maps.Values(was.Names))) {
		w, ours := p.entries[name]
		switch {
		case elsewhere[name]:
			p.Notes = append(p.Notes, "the profile "+name+" stays: another client's server uses it")
			continue
		case !ours:
			continue
		}
		if next, unchanged := p.next.replace(w.Text, ""); unchanged {
			p.next, p.granted = next, true
			p.Removed = append(p.Removed, name)
		} else {
			p.Notes = append(p.Notes, "the profile "+name+" stays: it was changed by hand")
		}
		delete(p.entries, name)
	}
	if p.granted {
		return p.user.Check(p.next.Src)
	}
	return nil
}

// ours are the IDs of the servers that wrap put casemate in front of: those
// of the record, and what is started under one of its names, which the user
// may have renamed or copied since.
func (p *Plan) ours(d *Document, was *record) map[string]bool {
	ids, names, before := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for id, name := range was.Names {
		ids[id], names[name] = true, true
	}
	if src, err := p.store.original(was); err == nil { // where it is damaged, none stood there before
		if d, err := Read(p.File, src); err == nil {
			for _, s := range d.Servers {
				before[s.ID()] = s.State == Wrapped
			}
		}
	}
	for _, s := range d.Servers {
		if s.State == Wrapped && names[s.Name] && !before[s.ID()] {
			ids[s.ID()] = true
		}
	}
	return ids
}
