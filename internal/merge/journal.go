package merge

import (
	"encoding/binary"

	"github.com/casemate/casemate/internal/codec"
	"golang.org/x/sys/unix"
)

// The journal says what a merge did: a record before each effect, with what
// is needed to recognise it even if the merge was killed right after, and one
// afterwards. Each record has its length before it; a cut one at the end is
// as if it were not there.

const (
	journalName = "journal"
	maxRecord   = 16 << 10
	maxJournal  = 256 << 20
)

// The kinds of records.
const (
	recGrant  = 1 // the first
	recIntent = 2
	recDone   = 3
	recVoid   = 4 // the effect did not happen, or was taken back
)

// A record is one line of the journal.
type record struct {
	kind uint64
	n    uint64 // of the step, what ties done and void to their intent
	path string // of recGrant: Grant.At

	// Of recIntent.
	do   string
	temp string // what stood, or may stand, there in the same folder
	now  entry  // what the merge puts there
	old  entry  // what was there

	// Of recDone: the entry afterwards.
	ino   uint64
	ctime int64
}

func (e entry) encode(w *codec.Writer) {
	for _, v := range []uint64{uint64(e.kind), uint64(e.mode), e.dev, e.ino, uint64(e.size), uint64(e.ctime), uint64(e.mtime)} {
		w.Uint(v)
	}
}

func decodeEntry(r *codec.Reader) (e entry) {
	e.kind, e.mode = uint32(r.Uint()), uint32(r.Uint())
	e.dev, e.ino = r.Uint(), r.Uint()
	e.size, e.ctime, e.mtime = int64(r.Uint()), int64(r.Uint()), int64(r.Uint())
	return e
}

func (rec record) encode() []byte {
	var w codec.Writer
	w.Uint(rec.kind)
	w.Uint(rec.n)
	w.String(rec.path)
	switch rec.kind {
	case recIntent:
		w.String(rec.do)
		w.String(rec.temp)
		rec.now.encode(&w)
		rec.old.encode(&w)
	case recDone:
		w.Uint(rec.ino)
		w.Uint(uint64(rec.ctime))
	}
	return w.B
}

func decodeRecord(b []byte) (rec record, err error) {
	r := &codec.Reader{B: b}
	rec.kind, rec.n, rec.path = r.Uint(), r.Uint(), r.String()
	switch rec.kind {
	case recGrant, recVoid:
	case recIntent:
		rec.do, rec.temp = r.String(), r.String()
		rec.now, rec.old = decodeEntry(r), decodeEntry(r)
	case recDone:
		rec.ino, rec.ctime = r.Uint(), int64(r.Uint())
	default:
		return rec, codec.ErrMalformed
	}
	return rec, r.End()
}

// begin makes the journal; it fails if the folder has one.
func (k *keep) begin(at string) (err error) {
	k.journal, err = open(k.fd, journalName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	return k.note(record{kind: recGrant, path: at})
}

// note appends one record, by one write.
func (k *keep) note(rec record) error {
	body := rec.encode()
	b := append(binary.AppendUvarint(nil, uint64(len(body))), body...)
	for {
		n, err := unix.Write(k.journal, b)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n < len(b) {
			err = unix.ENOSPC
		}
		return err
	}
}

// readJournal returns the records of the folder's journal.
func (k *keep) readJournal() ([]record, error) {
	fd, err := open(k.fd, journalName, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	st, err := statFd(fd)
	if err != nil {
		return nil, err
	}
	if !st.regular() || st.size > maxJournal {
		return nil, unix.EFBIG
	}
	b := make([]byte, st.size)
	if !full(fd, b, 0) {
		return nil, unix.EIO
	}
	return decodeJournal(b)
}

// decodeJournal returns no record at all of a merge killed before its first.
func decodeJournal(b []byte) ([]record, error) {
	var recs []record
	for len(b) > 0 {
		n, used := binary.Uvarint(b)
		if used < 0 || n > maxRecord {
			return nil, codec.ErrMalformed
		}
		if used == 0 || n > uint64(len(b)-used) {
			break // cut by a kill
		}
		rec, err := decodeRecord(b[used : used+int(n)])
		if err != nil {
			return nil, err
		}
		recs, b = append(recs, rec), b[used+int(n):]
	}
	if len(recs) > 0 && recs[0].kind != recGrant {
		return nil, codec.ErrMalformed
	}
	return recs, nil
}
