package catalog

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
	"strings"

	"github.com/casemate/casemate"
	"golang.org/x/sys/unix"
)

// Trust is the folder in which is recorded what the user has agreed to: a
// file for each configuration, by the digest of its real path.
type Trust struct{ Dir string }

// An agreement is what one file of the folder holds.
type agreement struct {
	File   string          `json:"file"`
	Source casemate.Digest `json:"source"` // of the text
	Digest casemate.Digest `json:"digest"` // of it and of what it refers to
}

// Load loads a configuration that merely lies somewhere. Until its text is
// known to be trusted nothing that it names is looked at: no path of it is
// resolved, no variable read. An untrusted one gives an Error of kind Denied
// with a summary of what it would grant.
func (t Trust) Load(path string, opt Options) (*Config, error) {
	opt.Operator = false
	text := opt
	text.ResolveMounts, text.Getenv = false, nil
	c, err := Load(path, text)
	if err != nil {
		return nil, err
	}
	if err := t.Check(c); err != nil {
		return nil, err
	}
	opt.ResolveMounts = true
	if c, err = Load(path, opt); err != nil {
		return nil, err
	}
	return c, t.Check(c)
}

// Add records that the user trusts c, which was loaded with ResolveMounts, as
// it is now.
func (t Trust) Add(c *Config) error {
	if !c.resolved {
		return t.fail(errors.New("the configuration was read without what it refers to"))
	}
	if err := os.MkdirAll(filepath.Dir(t.Dir), 0o700); err != nil {
		return t.fail(err)
	}
	if err := os.Mkdir(t.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return t.fail(err)
	}
	if err := t.private(); err != nil {
		return err
	}
	j, err := json.MarshalIndent(agreement{c.File, c.source, c.Digest}, "", "  ")
	if err != nil {
		return t.fail(err)
	}
	if err := replace(t.file(c), append(j, '\n'), 0o600); err != nil {
		return t.fail(err)
	}
	return nil
}

// Check is nil if c is what the user trusted; else an Error of kind Denied.
// Of a c that was loaded without ResolveMounts it compares the text alone.
func (t Trust) Check(c *Config) error {
	if _, err := os.Lstat(t.Dir); errors.Is(err, fs.ErrNotExist) {
		return c.untrusted("is not trusted")
	}
	if err := t.private(); err != nil {
		return err
	}
	_, j, err := openOwned(t.file(c), 64<<10)
	if err != nil {
		if _, missing := os.Lstat(t.file(c)); errors.Is(missing, fs.ErrNotExist) {
			return c.untrusted("is not trusted")
		}
		return err
	}
	var a agreement
	d := json.NewDecoder(bytes.NewReader(j))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil || a.File != c.File {
		return c.untrusted("has a damaged record of trust")
	}
	switch {
	case a.Source != c.source:
		return c.untrusted("has changed since it was trusted")
	case c.resolved && a.Digest != c.Digest:
		return c.untrusted("is as it was trusted, but a folder that it grants or a program that it runs is another")
	}
	return nil
}

func (c *Config) untrusted(why string) error {
	lines := []string{visible(c.File) + " " + why + "; it would grant:"}
	for _, s := range c.Summary() {
		lines = append(lines, "  "+s)
	}
	return &casemate.Error{Op: "trust", Kind: casemate.Denied, Err: errors.New(strings.Join(lines, "\n")),
		Fix: "read it, then: casemate trust " + quoted(c.File)}
}

func (t Trust) file(c *Config) string {
	sum := sha256.Sum256([]byte(c.File))
	return filepath.Join(t.Dir, hex.EncodeToString(sum[:])+".json")
}

// private refuses a folder that is not the caller's alone.
func (t Trust) private() error {
	var st unix.Stat_t
	if err := unix.Lstat(t.Dir, &st); err != nil {
		return t.fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != unix.Geteuid() || st.Mode&0o077 != 0 {
		return &casemate.Error{Op: "trust", Kind: casemate.Denied, Err: fmt.Errorf("%s is not a folder of yours alone (uid %d, mode %04o)", visible(t.Dir), st.Uid, st.Mode&0o7777),
			Fix: "chmod 700 " + quoted(t.Dir)}
	}
	return nil
}

func (t Trust) fail(err error) error {
	return &casemate.Error{Op: "trust", Kind: casemate.Internal, Err: err, Fix: "make sure that " + visible(t.Dir) + " can be written"}
}

// replace writes a file so that a reader sees the old or the new one: a
// temporary file that no planted name or link can stand in for (O_EXCL and a
// random name), then a rename, which follows no link.
func replace(path string, content []byte, mode fs.FileMode) error {
	tmp := filepath.Join(filepath.Dir(path), ".casemate-"+rand.Text())
	fd, err := unix.Open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(mode))
	if err != nil {
		return &fs.PathError{Op: "create", Path: tmp, Err: err}
	}
	f := os.NewFile(uintptr(fd), tmp)
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}
