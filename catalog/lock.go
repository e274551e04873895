package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/casemate/casemate"
)

// A Lock pins tools: casemate.lock. A pin is over the tool as it is written
// and the content of the files of the configuration's folder that it runs, so
// that it holds on every machine; variables that are passed on count by name.
type Lock struct {
	Version int                                   `json:"version"`
	Tools   map[casemate.ToolName]casemate.Digest `json:"tools"`
}

// LockFile is the path of the lock: casemate.lock beside the file.
func (c *Config) LockFile() string {
	base := filepath.Base(c.File)
	return filepath.Join(c.Dir, strings.TrimSuffix(base, filepath.Ext(base))+".lock")
}

// Lock is the lock that c as it is now would write.
func (c *Config) Lock() Lock { return Lock{1, c.pins} }

// WriteLock pins every tool as it is now.
func (c *Config) WriteLock() error {
	j, err := json.MarshalIndent(c.Lock(), "", "  ")
	if err == nil {
		err = replace(c.LockFile(), append(j, '\n'), 0o644)
	}
	if err != nil {
		return &casemate.Error{Op: "lock", Kind: casemate.Internal, Err: err, Fix: "make sure that " + visible(c.Dir) + " can be written"}
	}
	return nil
}

// CheckLock compares the tools with the lock. Without a lock it is nil:
// nothing was pinned. With one, the first tool that is not in it or is
// another is an Error of kind Denied (rug-pull); so is a lock that cannot be
// read.
func (c *Config) CheckLock() error {
	file := c.LockFile()
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	denied := func(tool casemate.ToolName, why string) error {
		return &casemate.Error{Op: "lock", Tool: tool, Kind: casemate.Denied, Err: errors.New(why), Fix: "see what changed, then: casemate trust " + quoted(c.File)}
	}
	_, j, err := openOwned(file, maxSource)
	if err != nil {
		return err
	}
	var l Lock
	d := json.NewDecoder(bytes.NewReader(j))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil || l.Version != 1 {
		return denied("", visible(file)+" is not a lock of this version")
	}
	for _, t := range c.Tools {
		switch want, ok := l.Tools[t.Name]; {
		case !ok:
			return denied(t.Name, "is not pinned in "+visible(file))
		case want != c.pins[t.Name]:
			return denied(t.Name, "has changed since it was pinned in "+visible(file))
		}
	}
	return nil
}
