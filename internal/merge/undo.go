package merge

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Undo takes back what the call wrote whose folder is keep, in the granted
// folder host, last first: what it created is removed, what it changed or
// deleted gets its old content. An entry that is no longer as the call left
// it is a conflict and stays. A second Undo finds no journal.
//
// The old file itself comes back where Apply could move it to keep, else a
// copy with its old mode.
func Undo(keep, host int) ([]Change, error) {
	k := openKeep(keep)
	defer k.close()
	recs, err := k.readJournal()
	if err != nil {
		return nil, fail("undo", journalName, err)
	}
	u := &undoer{k: k, host: host}
	done := map[uint64]record{}
	void := map[uint64]bool{}
	for _, r := range recs {
		switch r.kind {
		case recGrant:
			u.at = r.path
		case recDone:
			done[r.n] = r
		case recVoid:
			void[r.n] = true
		}
	}
	for i := len(recs) - 1; i >= 0; i-- {
		if r := recs[i]; r.kind == recIntent && !void[r.n] {
			d, ok := done[r.n]
			u.one(r, d, ok)
		}
	}
	if err := unix.Renameat2(keep, journalName, keep, journalName+".undone", unix.RENAME_NOREPLACE); err != nil {
		return u.changes, fail("undo", journalName, err)
	}
	return u.changes, nil
}

// An undoer takes back the effects of one journal.
type undoer struct {
	k       *keep
	host    int
	at      string
	changes []Change
}

func (u *undoer) say(r record, did, why string) {
	u.changes = append(u.changes, Change{Path: u.at + "/" + r.path, Did: did, Why: why})
}

var errSince = errors.New("changed since the call")

// one takes back one effect; after is its done record, where known says that
// there is one.
func (u *undoer) one(r, after record, known bool) {
	d, err := u.k.sitDown(u.host, r.path)
	if err != nil {
		u.say(r, Conflict, hostWhy(err))
		return
	}
	defer d.leave()
	now, err := statAt(d.fd, d.name)
	if err != nil {
		u.say(r, Conflict, hostWhy(err))
		return
	}
	left := r.now // as the call left it
	if known {
		left.ctime = after.ctime
	}
	did := Changed
	switch r.do {
	case doCreate:
		did = Deleted
		if !known && now.absent() { // killed before it did anything
			return
		}
		err = u.uncreate(d, now, left, known)
	case doChange:
		if !known && r.old.body(now) { // killed before it did anything
			return
		}
		err = u.unchange(d, r, now, left, known)
	case doDelete:
		did = Created
		if !known && r.old.body(now) { // killed before it did anything
			return
		}
		if !now.absent() {
			err = errSince
		} else {
			err = u.undelete(d, r)
		}
	}
	if err != nil {
		u.say(r, Conflict, err.Error())
		return
	}
	u.say(r, did, "")
}

// as reports whether now is what the call left.
func as(left, now entry, known bool) bool {
	return left.body(now) && (!known || left.ctime == now.ctime)
}

func (u *undoer) uncreate(d *desk, now, left entry, known bool) error {
	if left.folder() {
		if !left.body(now) {
			return errSince
		}
		if err := unix.Unlinkat(d.fd, d.name, unix.AT_REMOVEDIR); err == unix.ENOTEMPTY || err == unix.EEXIST {
			return errors.New("holds entries made since the call")
		} else if err != nil {
			return err
		}
		return nil
	}
	if !as(left, now, known) {
		return errSince
	}
	temp := tempName()
	if err := d.rename(d.name, temp); err != nil {
		return err
	}
	if moved, err := statAt(d.fd, temp); err != nil || !left.body(moved) {
		d.rename(temp, d.name)
		return errSince
	}
	return unix.Unlinkat(d.fd, temp, 0)
}

// unchange puts the old file back by one exchange.
func (u *undoer) unchange(d *desk, r record, now, left entry, known bool) error {
	if !as(left, now, known) {
		return errSince
	}
	temp := tempName()
	if err := u.fetch(d, r, temp); err != nil {
		return err
	}
	err := unix.Renameat2(d.fd, temp, d.fd, d.name, unix.RENAME_EXCHANGE)
	if err == unix.EINVAL || err == unix.ENOSYS {
		return unix.Renameat(d.fd, temp, d.fd, d.name)
	}
	if err == nil {
		moved, e := statAt(d.fd, temp)
		if e == nil && left.body(moved) {
			return unix.Unlinkat(d.fd, temp, 0)
		}
		err = unix.Renameat2(d.fd, temp, d.fd, d.name, unix.RENAME_EXCHANGE)
	}
	if e := u.k.moveTo("old", number(r.n), d.fd, temp); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	return errSince
}

func (u *undoer) undelete(d *desk, r record) error {
	temp := tempName()
	if r.old.folder() {
		if err := unix.Mkdirat(d.fd, temp, 0o700); err != nil {
			return err
		}
		if fd, err := openFolder(d.fd, temp); err == nil {
			unix.Fchmod(fd, r.old.mode)
			unix.Close(fd)
		}
	} else if err := u.fetch(d, r, temp); err != nil {
		return err
	}
	err := d.rename(temp, d.name)
	if err != nil {
		if r.old.folder() {
			unix.Unlinkat(d.fd, temp, unix.AT_REMOVEDIR)
		} else {
			u.k.moveTo("old", number(r.n), d.fd, temp)
		}
	}
	return err
}

// fetch brings the old entry under a temporary name beside its place: from
// old/, or from where a killed merge left it.
func (u *undoer) fetch(d *desk, r record, temp string) error {
	old, err := u.k.folder("old")
	if err != nil {
		return err
	}
	defer unix.Close(old)
	e, err := statAt(old, number(r.n))
	if err != nil {
		return err
	}
	if e.absent() {
		if there, err := statAt(d.fd, r.temp); err == nil && r.old.body(there) {
			return d.rename(r.temp, temp)
		}
		if left, err := u.k.folder("left"); err == nil {
			defer unix.Close(left)
			if there, err := statAt(left, r.temp); err == nil && r.old.body(there) {
				return bring(left, r.temp, d.fd, temp, there, r.old.mode&0o777)
			}
		}
		return errors.New("its old content is not here")
	}
	return bring(old, number(r.n), d.fd, temp, e, r.old.mode&0o777)
}

// bring moves an entry, or copies it with the mode and leaves it.
func bring(from int, name string, to int, temp string, e entry, mode uint32) error {
	err := unix.Renameat2(from, name, to, temp, unix.RENAME_NOREPLACE)
	if err == unix.EXDEV || err == unix.EINVAL || err == unix.EACCES || err == unix.EPERM {
		return copyEntry(to, temp, from, name, e, mode)
	}
	return err
}
