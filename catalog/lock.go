package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"golang.org/x/sys/unix"
)

// A Lock is casemate.lock: what was trusted, approved or fetched once and has
// to be the same ever after.
type Lock struct {
	Version int `json:"version"`

	// Tools pins tools and servers as they are written, with the content of the
	// files of the configuration's folder that they run, so that a pin holds on
	// every machine; variables that are passed on count by name. Nil pins nothing.
	Tools map[casemate.ToolName]casemate.Digest `json:"tools,omitzero"`

	Servers  map[string]Listing         `json:"servers,omitempty"`  // approved listings of MCP servers
	Wrapped  map[string]Wrapped         `json:"wrapped,omitempty"`  // what casemate wrap recorded
	Packages map[string]json.RawMessage `json:"packages,omitempty"` // what was prepared, and its integrity
}

// maxLock bounds a lock, in bytes; maxEntries, what it holds of each kind.
const (
	maxLock    = 32 << 20
	maxEntries = 4096
)

// LockFile is the path of the lock: casemate.lock beside the file.
func (c *Config) LockFile() string {
	base := filepath.Base(c.File)
	return filepath.Join(c.Dir, strings.TrimSuffix(base, filepath.Ext(base))+".lock")
}

// stateLock is where the lock lies of a configuration whose folder cannot be
// written; "" where there is no folder of state.
func (c *Config) stateLock() string {
	if c.state == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(c.File))
	return filepath.Join(c.state, "locks", hex.EncodeToString(sum[:])+".lock")
}

// Lock is what is locked of c: its listings and records as they were read, its
// tools as they are now.
func (c *Config) Lock() Lock {
	l := c.lock
	l.Version, l.Tools = 1, c.pins
	return l
}

// WriteLock pins every tool as it is now; listings and records stay. A lock
// that cannot be read is replaced: what it holds is worth nothing.
func (c *Config) WriteLock() error {
	return c.update(true, func(l *Lock) error { l.Tools = maps.Clone(c.pins); return nil })
}

// UpdateLock reads the lock, changes it and writes it, whole or not at all,
// while no other Casemate of this user does so; c has the change at once. The
// lock lies beside the file, or, where that folder cannot be written, in the
// folder of state; see readLocks.
func (c *Config) UpdateLock(change func(*Lock) error) error { return c.update(false, change) }

func (c *Config) update(replaces bool, change func(*Lock) error) error {
	release, err := c.exclusive()
	if err != nil {
		return lockError(err, c.state)
	}
	defer release()
	l, err := c.readLocks()
	if err != nil && !replaces {
		return err
	}
	if err := change(&l); err != nil {
		return err
	}
	l.Version = 1
	if err := c.writeLocks(l); err != nil {
		return lockError(err, c.Dir)
	}
	c.adopt(l)
	return nil
}

// writeLocks writes l to where readLocks reads it from.
func (c *Config) writeLocks(l Lock) error {
	beside, file := l, c.stateLock()
	if !c.operator && file != "" {
		theirs, _ := c.readLock(c.LockFile()) // what cannot be read is replaced
		beside.Servers, beside.Wrapped = theirs.Servers, theirs.Wrapped
		if err := writeLock(file, Lock{Version: 1, Servers: l.Servers, Wrapped: l.Wrapped}, 0o600); err != nil {
			return err
		}
		if was, err := encodeLock(theirs); err == nil {
			if is, err := encodeLock(beside); err == nil && bytes.Equal(was, is) || theirs.Version == 0 && beside.Tools == nil && len(beside.Packages) == 0 {
				return nil
			}
		}
	}
	mode := fs.FileMode(0o644)
	if len(beside.Wrapped) > 0 { // an argument may be a secret
		mode = 0o600
	}
	err := writeLock(c.LockFile(), beside, mode)
	if file != "" && (errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)) {
		err = writeLock(file, l, 0o600)
	}
	return err
}

func writeLock(file string, l Lock, mode fs.FileMode) error {
	j, err := encodeLock(l)
	if err != nil {
		return err
	}
	return replace(file, j, mode)
}

func lockError(err error, dir string) error {
	return &casemate.Error{Op: "lock", Kind: casemate.Internal, Err: err, Fix: "make sure that " + visible(dir) + " can be written"}
}

// exclusive makes every other UpdateLock of this configuration wait.
func (c *Config) exclusive() (release func(), err error) {
	file := c.stateLock()
	if file == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	fd, err := unix.Open(file+".busy", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: file + ".busy", Err: err}
	}
	for {
		if err = unix.Flock(fd, unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return func() { unix.Close(fd) }, nil
}

// CheckLock reads the lock and compares the tools with it: one that is not in
// it or is another is an Error of kind Denied (rug-pull), and so is a lock that
// cannot be read. Without one nothing was pinned. The tools of the servers whose
// listing is approved are in c.Tools from here on.
func (c *Config) CheckLock() error {
	l, err := c.readLocks()
	if err != nil {
		return err
	}
	if l.Tools != nil {
		for _, t := range slices.Concat(c.own, c.Servers) {
			switch want, ok := l.Tools[t.Name]; {
			case !ok:
				return c.deniedLock(t.Name, "is not pinned in "+visible(c.LockFile()))
			case want != c.pins[t.Name]:
				return c.deniedLock(t.Name, "has changed since it was pinned in "+visible(c.LockFile()))
			}
		}
	}
	c.adopt(l)
	return nil
}

func (c *Config) deniedLock(tool casemate.ToolName, why string) error {
	return &casemate.Error{Op: "lock", Tool: tool, Kind: casemate.Denied, Err: errors.New(why), Fix: "see what changed, then: casemate trust " + quoted(c.File)}
}

// readLocks reads the lock beside the file and that in the folder of state,
// which says what the former does not. Of a configuration that merely lies in a
// folder, what was approved is in the latter alone: a repository approves
// nothing for whoever has it.
func (c *Config) readLocks() (Lock, error) {
	l, err := c.readLock(c.LockFile())
	if err != nil {
		return l, err
	}
	file := c.stateLock()
	if file == "" {
		return l, nil
	}
	if !c.operator {
		l.Servers, l.Wrapped = nil, nil
	}
	more, err := c.readLock(file)
	if err != nil {
		return l, err
	}
	if l.Tools == nil {
		l.Tools = more.Tools
	}
	l.Servers = merged(l.Servers, more.Servers)
	l.Wrapped = merged(l.Wrapped, more.Wrapped)
	l.Packages = merged(l.Packages, more.Packages)
	return l, nil
}

func merged[V any](first, more map[string]V) map[string]V {
	out := map[string]V{}
	maps.Copy(out, more)
	maps.Copy(out, first)
	return out
}

func (c *Config) readLock(file string) (Lock, error) {
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return Lock{}, nil
	}
	_, j, err := openOwned(file, maxLock)
	if err != nil {
		return Lock{}, err
	}
	l, err := decodeLock(j)
	if err != nil {
		return Lock{}, c.deniedLock("", visible(file)+" is not a lock of this version: "+visible(err.Error()))
	}
	return l, nil
}

// decodeLock reads a lock, strictly: each of its parts has one reading.
func decodeLock(j []byte) (Lock, error) {
	if err := strictJSON(j, maxLock); err != nil {
		return Lock{}, err
	}
	var l Lock
	d := json.NewDecoder(bytes.NewReader(j))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return Lock{}, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Lock{}, errors.New("something follows it")
	}
	switch {
	case l.Version != 1:
		return Lock{}, errors.New("its version is not 1")
	case max(len(l.Tools), len(l.Servers), len(l.Wrapped), len(l.Packages)) > maxEntries:
		return Lock{}, errors.New("it has too many entries")
	}
	for name, s := range l.Servers {
		if err := s.check(); err != nil {
			return Lock{}, errors.New("servers." + name + ": " + err.Error())
		}
		l.Servers[name] = s
	}
	return l, nil
}

// encodeLock writes what servers said as they said it, white space aside.
func encodeLock(l Lock) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(l)
	if err == nil && b.Len() > maxLock {
		err = errors.New("the lock would be larger than 32 MiB")
	}
	return b.Bytes(), err
}
