package merge

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// An applier carries out the steps of one plan.
type applier struct {
	g       Grant
	k       *keep
	changes []Change
	made    map[string]uint64 // inodes of the folders that this merge made, by path
	plain   bool              // the file system cannot exchange two names
}

// Apply carries out steps, which Plan made of the same grant, and says for
// each but the silent ones what came of it. What the host changed since Plan
// is a conflict. It blocks for as long as copying takes. The error is of what
// could neither be carried nor kept; the changes are complete all the same.
func Apply(g Grant, steps []Step) ([]Change, error) {
	a := &applier{g: g, k: openKeep(g.Keep), made: map[string]uint64{}}
	defer a.k.close()
	var err error
	if slices.ContainsFunc(steps, func(s Step) bool { return s.Do != doHold && s.Do != doSettle }) {
		if err = a.k.begin(g.At); err != nil {
			return nil, fail("keep", g.At, err)
		}
	}
	for i, s := range steps {
		err = errors.Join(err, a.step(uint64(i), s))
	}
	return a.changes, err
}

func (a *applier) step(n uint64, s Step) error {
	switch s.Do {
	case doHold:
		a.say(s, Held, s.Why)
	case doConflict:
		return a.conflict(s, s.Why)
	case doSettle:
		a.remember(s, s.host)
	case doFinish:
		return a.finish(s)
	case doCreate, doChange, doDelete:
		d, err := a.k.sitDown(a.g.Host, s.Path)
		if err != nil {
			return a.conflict(s, hostWhy(err))
		}
		defer d.leave()
		if s.Do == doDelete {
			return a.delete(d, n, s)
		}
		return a.put(d, n, s)
	}
	return nil
}

func (a *applier) say(s Step, did, why string) {
	a.changes = append(a.changes, Change{Path: a.g.At + "/" + s.Path, Did: did, Why: why})
	if did == Held {
		a.remember(s, s.host)
	}
}

// conflict keeps the guest's version aside.
func (a *applier) conflict(s Step, why string) error {
	kept, err := a.k.keepAside(a.g.Upper, s)
	if err != nil {
		kept = ""
		why += "; and no copy could be kept: " + err.Error()
		err = fail("keep", a.g.At+"/"+s.Path, err)
	}
	a.changes = append(a.changes, Change{a.g.At + "/" + s.Path, Conflict, why, kept})
	a.remember(s, s.host)
	return err
}

// remember settles the entry for later merges of the session: now is what the
// host has there. A deletion that was not carried is not settled: it is tried
// again, and reported again.
func (a *applier) remember(s Step, now entry) {
	if a.g.Known == nil || s.upper.absent() && !now.absent() || s.upper.folder() && s.Do == doHold {
		return
	}
	a.g.Known[s.Path] = Stamp{Ino: now.ino, Ctime: now.ctime, UpperIno: s.upper.ino, UpperCtime: s.upper.ctime}
}

const meanwhile = "changed on the host meanwhile"

// still reports whether the host has at the desk's name what was planned on.
func (d *desk) still(e entry) bool {
	now, err := statAt(d.fd, d.name)
	return err == nil && (e.absent() && now.absent() || e.untouched(now))
}

// put creates or changes what the step says.
func (a *applier) put(d *desk, n uint64, s Step) error {
	if !d.still(s.host) {
		return a.conflict(s, meanwhile)
	}
	temp := tempName()
	if err := a.make(d, temp, s); err != nil {
		a.say(s, Held, "cannot be written: "+err.Error())
		return nil
	}
	made, err := statAt(d.fd, temp)
	if err == nil {
		err = a.k.note(record{kind: recIntent, n: n, path: s.Path, do: s.Do, temp: temp, now: made, old: s.host})
	}
	if err != nil {
		d.drop(temp, made)
		a.say(s, Held, "cannot be noted for undo: "+err.Error())
		return nil
	}
	conflict, err := a.place(d, n, temp, made, s)
	if conflict || err != nil {
		d.drop(temp, made)
		if e := a.k.note(record{kind: recVoid, n: n}); e != nil {
			return fail("journal", a.g.At+"/"+s.Path, e)
		}
		if conflict {
			return a.conflict(s, meanwhile)
		}
		a.say(s, Held, "cannot be written: "+err.Error())
		return nil
	}
	now, err := statAt(d.fd, d.name)
	if err != nil || now.ino != made.ino { // taken away at once by another
		now = made
	}
	did := Changed
	if s.Do == doCreate {
		did = Created
	}
	if made.folder() {
		a.made[s.Path] = made.ino
	}
	a.say(s, did, "")
	a.remember(s, now)
	return a.done(n, s, now)
}

func (a *applier) done(n uint64, s Step, now entry) error {
	if err := a.k.note(record{kind: recDone, n: n, ino: now.ino, ctime: now.ctime}); err != nil {
		return fail("journal", a.g.At+"/"+s.Path, err)
	}
	return nil
}

// make makes the guest's entry under a temporary name.
func (a *applier) make(d *desk, temp string, s Step) error {
	switch {
	case s.upper.folder():
		return unix.Mkdirat(d.fd, temp, 0o700)
	case s.upper.link():
		return unix.Symlinkat(s.target, d.fd, temp)
	}
	from, name, err := openParent(a.g.Upper, s.Path)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return copyEntry(d.fd, temp, from, name, s.upper, s.upper.mode&0o777)
}

// drop removes the temporary entry, if it is still the one that was made.
func (d *desk) drop(temp string, made entry) {
	if now, err := statAt(d.fd, temp); err != nil || now.ino != made.ino {
		return
	}
	flags := 0
	if made.folder() {
		flags = unix.AT_REMOVEDIR
	}
	unix.Unlinkat(d.fd, temp, flags)
}

// place gives the temporary entry its name, and moves what was there to old/.
// conflict says that the host has something else there than was planned on.
func (a *applier) place(d *desk, n uint64, temp string, made entry, s Step) (conflict bool, err error) {
	if !d.still(s.host) {
		return true, nil
	}
	if s.Do == doCreate {
		err := d.rename(temp, d.name)
		return err == unix.EEXIST, err
	}
	if a.plain {
		return a.over(d, n, temp, s)
	}
	switch err := unix.Renameat2(d.fd, temp, d.fd, d.name, unix.RENAME_EXCHANGE); err {
	case nil:
	case unix.ENOENT:
		return true, nil
	case unix.EINVAL, unix.ENOSYS:
		a.plain = true
		return a.over(d, n, temp, s)
	default:
		return false, err
	}
	old, err := statAt(d.fd, temp)
	if err == nil && s.host.body(old) {
		if err = a.k.moveTo("old", number(n), d.fd, temp); err == nil {
			return false, nil
		}
		if conflict = err == unix.EBUSY; conflict {
			err = nil
		}
	} else {
		conflict = true
	}
	raced, e := a.putBack(d, temp, made)
	return conflict || raced, errors.Join(err, e)
}

// putBack takes an exchange back: what stands at the temporary name gets its
// place again. Another program that keeps replacing the file meanwhile wins
// with its last version; an earlier one of its own goes to left/, and then
// raced is true.
func (a *applier) putBack(d *desk, temp string, made entry) (raced bool, err error) {
	placed := made
	for range 16 {
		theirs, err := statAt(d.fd, temp)
		if err != nil {
			return false, err
		}
		err = unix.Renameat2(d.fd, temp, d.fd, d.name, unix.RENAME_EXCHANGE)
		if err == unix.ENOENT { // they deleted it: so it stays
			break
		}
		if err != nil {
			return false, err
		}
		got, err := statAt(d.fd, temp)
		if err != nil {
			return false, err
		}
		if got.ino == placed.ino {
			if placed.ino == made.ino {
				return false, nil
			}
			break
		}
		placed = theirs
	}
	return true, a.k.moveTo("left", temp, d.fd, temp)
}

// rename gives from the name to, which must not exist.
func (d *desk) rename(from, to string) error {
	err := unix.Renameat2(d.fd, from, d.fd, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// A file system without it: a link does not replace either.
	if err := unix.Linkat(d.fd, from, d.fd, to, 0); err != nil {
		return err
	}
	return unix.Unlinkat(d.fd, from, 0)
}

// over is the exchange where the file system has none: a second name for what
// is there, or a copy, then a rename over it.
func (a *applier) over(d *desk, n uint64, temp string, s Step) (conflict bool, err error) {
	old, err := a.k.folder("old")
	if err != nil {
		return false, err
	}
	defer unix.Close(old)
	if err := copyEntry(old, number(n), d.fd, d.name, s.host, 0o600); err != nil {
		return err == unix.EBUSY, err
	}
	if !d.still(s.host) {
		unix.Unlinkat(old, number(n), 0)
		return true, nil
	}
	return false, unix.Renameat(d.fd, temp, d.fd, d.name)
}

// delete takes the host's entry away.
func (a *applier) delete(d *desk, n uint64, s Step) error {
	if !d.same(s.host) {
		if now, err := statAt(d.fd, d.name); err == nil && now.absent() { // deleted there as well
			a.remember(s, now)
			return nil
		}
		return a.conflict(s, meanwhile)
	}
	temp := tempName()
	if err := a.k.note(record{kind: recIntent, n: n, path: s.Path, do: s.Do, temp: temp, old: s.host}); err != nil {
		a.say(s, Held, "cannot be noted for undo: "+err.Error())
		return nil
	}
	why, conflict := a.takeAway(d, n, temp, s)
	if why == "" {
		a.say(s, Deleted, "")
		a.remember(s, entry{})
		return a.done(n, s, entry{})
	}
	if err := a.k.note(record{kind: recVoid, n: n}); err != nil {
		return fail("journal", a.g.At+"/"+s.Path, err)
	}
	if conflict {
		return a.conflict(s, why)
	}
	a.say(s, Held, why)
	return nil
}

// same is still for what is deleted: a folder may have changed in what it
// holds.
func (d *desk) same(e entry) bool {
	now, err := statAt(d.fd, d.name)
	return err == nil && (e.folder() && e.body(now) || e.untouched(now))
}

// takeAway removes a folder that is empty, or moves another entry to old/. It
// returns why it could not.
func (a *applier) takeAway(d *desk, n uint64, temp string, s Step) (why string, conflict bool) {
	if s.host.folder() {
		switch err := unix.Unlinkat(d.fd, d.name, unix.AT_REMOVEDIR); err {
		case nil:
			return "", false
		case unix.ENOTEMPTY, unix.EEXIST:
			return "holds entries that stay", false
		default:
			return "cannot be deleted: " + err.Error(), false
		}
	}
	switch err := d.rename(d.name, temp); err {
	case nil:
	case unix.ENOENT:
		return meanwhile, true
	default:
		return "cannot be deleted: " + err.Error(), false
	}
	moved, err := statAt(d.fd, temp)
	if err == nil && s.host.body(moved) {
		if err = a.k.moveTo("old", number(n), d.fd, temp); err == nil {
			return "", false
		}
		why = "cannot be kept for undo: " + err.Error()
	} else {
		why, conflict = meanwhile, true
	}
	if e := d.rename(temp, d.name); e != nil { // made anew in these microseconds
		if e = a.k.moveTo("left", temp, d.fd, temp); e != nil {
			why += "; " + e.Error()
		}
	}
	return why, conflict
}

// finish gives a folder that this merge made its mode.
func (a *applier) finish(s Step) error {
	ino, made := a.made[s.Path]
	if !made {
		return nil
	}
	fd, err := openFolder(a.g.Host, s.Path)
	if err != nil {
		return nil // moved by the owner since: theirs
	}
	defer unix.Close(fd)
	e, err := statFd(fd)
	if err != nil || e.ino != ino {
		return nil
	}
	if err := unix.Fchmod(fd, e.mode&^0o777|s.upper.mode&0o777); err != nil {
		a.say(s, Held, "its mode cannot be set: "+err.Error())
	}
	return nil
}
