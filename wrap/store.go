package wrap

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/casemate/casemate"
	"golang.org/x/sys/unix"
)

// A store keeps what wrap did, in a folder of the user's own: of each file
// the content before it was wrapped, and of each entry of casemate.yaml the
// text as wrap wrote it.
type store struct{ dir string }

// A record is what was done to one file.
type record struct {
	File     string            `json:"file"`
	Wrapped  string            `json:"wrapped"`  // SHA-256 of the content that wrap wrote
	Original string            `json:"original"` // SHA-256 of what stood there before, and the name of its copy
	Names    map[string]string `json:"names"`    // of the servers that were wrapped, by ID
	Added    map[string]bool   `json:"added"`    // servers whose list of arguments wrap made
}

// written is an entry of casemate.yaml that wrap made.
type written struct {
	Text string   `json:"text"`
	Env  []string `json:"env,omitempty"` // as the client's entry names them
	Dir  string   `json:"dir,omitempty"` // what relative arguments are relative to
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// lock keeps other wraps of this user out until release.
func (s *store) lock() (release func(), err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, s.wrong(err)
	}
	fd, err := unix.Open(filepath.Join(s.dir, "busy"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, s.wrong(err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		return nil, &casemate.Error{Op: "wrap", Kind: casemate.Busy, Err: errors.New("another casemate wrap of yours is at work"), Fix: "try again when it is done"}
	}
	return func() { unix.Close(fd) }, nil
}

func (s *store) wrong(err error) error {
	return &casemate.Error{Op: "wrap", Kind: casemate.Internal, Err: fmt.Errorf("the state folder: %w", err), Fix: "make sure that " + s.dir + " can be written"}
}

func (s *store) of(file string) string { return filepath.Join(s.dir, sum([]byte(file))) }

// record returns what was done to a file; nil where nothing was.
func (s *store) record(file string) (*record, error) {
	var r record
	ok, err := s.read(filepath.Join(s.of(file), "record.json"), &r)
	if err != nil || !ok {
		return nil, err
	}
	if r.File != file {
		return nil, s.wrong(fmt.Errorf("the record of %s is of another file", file))
	}
	return &r, nil
}

// original is the content that a file had before.
func (s *store) original(r *record) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(s.of(r.File), r.Original))
	if err != nil {
		return nil, s.wrong(err)
	}
	if sum(b) != r.Original {
		return nil, s.wrong(fmt.Errorf("the copy of %s is damaged", r.File))
	}
	return b, nil
}

// keep writes the original content and then the record, so that both last
// before the file itself is touched.
func (s *store) keep(r *record, original []byte) error {
	dir := s.of(r.File)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s.wrong(err)
	}
	r.Original = sum(original)
	if err := writeNew(filepath.Join(dir, r.Original), original); err != nil {
		return s.wrong(err)
	}
	if err := s.write(filepath.Join(dir, "record.json"), r); err != nil {
		return err
	}
	return syncFolder(s.dir)
}

// forget ends the record of a file. The copy of what it was stays where the
// file is not that again.
func (s *store) forget(file string, original string) error {
	for _, name := range []string{"record.json", original} {
		if name == "" {
			continue
		}
		if err := os.Remove(filepath.Join(s.of(file), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.wrong(err)
		}
	}
	os.Remove(s.of(file)) // if nothing else is in it
	return nil
}

// usedElsewhere lists the names that other files' wrapped servers have.
func (s *store) usedElsewhere(file string) (map[string]bool, error) {
	dirs, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, s.wrong(err)
	}
	out := map[string]bool{}
	for _, d := range dirs {
		var r record
		ok, err := s.read(filepath.Join(s.dir, d.Name(), "record.json"), &r)
		if err != nil {
			return nil, err
		}
		if !ok || r.File == file {
			continue
		}
		for _, n := range r.Names {
			out[n] = true
		}
	}
	return out, nil
}

func (s *store) entriesFile() string { return filepath.Join(s.dir, "entries.json") }

func (s *store) entries() (map[string]written, error) {
	out := map[string]written{}
	_, err := s.read(s.entriesFile(), &out)
	return out, err
}

func (s *store) read(file string, v any) (bool, error) {
	j, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(j))
		d.DisallowUnknownFields()
		err = d.Decode(v)
	}
	if err != nil {
		return false, s.wrong(fmt.Errorf("%s: %w", file, err))
	}
	return true, nil
}

func (s *store) write(file string, v any) error {
	j, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = writeNew(file, append(j, '\n'))
	}
	if err != nil {
		return s.wrong(err)
	}
	return nil
}

// writeNew makes or replaces a file of the user's alone, whole or not at all,
// and returns when it will last.
func writeNew(file string, content []byte) error {
	tmp := filepath.Join(filepath.Dir(file), ".casemate-"+rand.Text())
	fd, err := unix.Open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: tmp, Err: err}
	}
	h := os.NewFile(uintptr(fd), tmp)
	_, err = h.Write(content)
	if err = errors.Join(err, h.Sync(), h.Close()); err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncFolder(filepath.Dir(file))
}
