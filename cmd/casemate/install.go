package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/catalog/packages"
	"github.com/casemate/casemate/internal/store"
	"github.com/casemate/casemate/sandbox/process"
)

// Bounds of one installation. What it writes stays in memory until it is
// handed over; npm alone needs about 1 GiB.
const (
	prepareMemory = 6 << 30
	prepareDisk   = 4 << 30
	prepareTime   = 15 * time.Minute
)

// The installers. They write below /tmp, and hand over one archive: the folder
// tree, and meta with what the installer says of it. $@ is the installer and,
// after "--", the packages.
const (
	npmInstall = `set -e
mkdir -p /tmp/p/tree/node_modules /tmp/p/meta
cd /tmp/p/tree # its own prefix stays: the host's npmrc is there
"$@" >&2
cp package-lock.json ../meta/report.json
cd /
rm -rf /tmp/npm
tar -cf /stage/package.tar -C /tmp/p tree meta`

	// The compiled forms hold no time, so that one package is one digest.
	pipInstall = `set -e
mkdir -p /tmp/p/tree /tmp/p/meta
"$@" >&2
"$1" -I -m compileall -q --invalidation-mode unchecked-hash -s /tmp/p/tree -p ` + packageFolder + ` /tmp/p/tree >/dev/null 2>&1 || true
tar -cf /stage/package.tar -C /tmp/p tree meta`
)

// installer is the command that installs what is asked for.
func (p preparation) installer() []string {
	script := pipInstall
	args := []string{"-I", "-m", "pip", "install", "--only-binary=:all:", "--target=/tmp/p/tree", "--report=/tmp/p/meta/report.json",
		"--no-compile", "--no-cache-dir", "--no-input", "--no-warn-script-location", "--disable-pip-version-check", "--progress-bar=off", "--quiet"}
	if p.request.Registry == packages.NPM {
		script = npmInstall
		args = []string{"install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--package-lock", "--save", "--omit=dev", "--omit-lockfile-registry-resolved",
			"--install-links=false", "--loglevel=error", "--cache=/tmp/npm"}
	}
	out := append([]string{"/bin/sh", "-c", script, "sh"}, p.runtime.Argv...)
	out = append(append(out, args...), "--")
	for _, s := range p.request.Specs {
		out = append(out, s.Installed().String(p.request.Registry))
	}
	return out
}

// preparer returns the function that has a package in the store.
func (a *app) preparer(init string, l *loaded) func(context.Context, preparation) (string, error) {
	return func(ctx context.Context, p preparation) (string, error) {
		internal := func(err error) (string, error) {
			return "", &casemate.Error{Op: "prepare", Kind: casemate.Internal, Err: err, Fix: "make room and rights in " + l.state}
		}
		s, err := store.Open(filepath.Join(l.state, "store", "packages"))
		if err != nil {
			return internal(err)
		}
		locked, have, err := lockedPackage(l, p.key)
		if err != nil {
			return "", err
		}
		if have {
			switch err := s.Verify(string(locked.Digest)); {
			case err == nil:
				return s.Path(string(locked.Digest)), nil
			case !errors.Is(err, fs.ErrNotExist):
				return "", &casemate.Error{Op: "prepare", Kind: casemate.Denied, Err: fmt.Errorf("%s: %w", p.key, err),
					Fix: "see who can write in " + filepath.Dir(s.Path(string(locked.Digest))) + "; then remove that folder: it is prepared again, and must be what is locked"}
			}
		}
		unlock, err := s.Lock(ctx.Done())
		if err != nil {
			return internal(err)
		}
		defer unlock()
		if have, tree := again(s, l, p.key); have {
			return tree, nil // another process did it meanwhile
		}
		return a.install(ctx, init, l, s, p, locked, have)
	}
}

// again says whether another process prepared the package while this one
// waited.
func again(s *store.Store, l *loaded, key string) (bool, string) {
	var found string
	l.UpdateLock(func(lock *catalog.Lock) error {
		var p packages.Package
		if json.Unmarshal(lock.Packages[key], &p) == nil && s.Verify(string(p.Digest)) == nil {
			found = s.Path(string(p.Digest))
		}
		return errUnchanged
	})
	return found != "", found
}

var errUnchanged = errors.New("nothing to change")

// lockedPackage returns what the lock has of a package.
func lockedPackage(l *loaded, key string) (p packages.Package, have bool, err error) {
	b, have := l.Lock().Packages[key]
	if !have {
		return p, false, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, false, &casemate.Error{Op: "lock", Kind: casemate.Denied, Err: fmt.Errorf("packages: %s: %w", key, err), Fix: "remove the entry from " + l.LockFile() + ": the package is prepared again"}
	}
	return p, true, nil
}

// install runs the installer and admits what it brought; locked is what the
// lock already has of it.
func (a *app) install(ctx context.Context, init string, l *loaded, s *store.Store, p preparation, locked packages.Package, have bool) (string, error) {
	began := time.Now()
	a.note("preparing %s: installed once, without scripts, in a sandbox that has the network of this host; offline ever after", p.request.Key())
	internal := func(err error) (string, error) {
		return "", &casemate.Error{Op: "prepare", Kind: casemate.Internal, Err: err, Fix: "make room and rights in " + l.state}
	}
	dir, err := s.Staging()
	if err != nil {
		return internal(err)
	}
	defer store.Remove(dir)
	stage, to := filepath.Join(dir, "stage"), filepath.Join(dir, "unpacked")
	if err := errors.Join(os.Mkdir(stage, 0o700), os.Mkdir(to, 0o700)); err != nil {
		return internal(err)
	}
	if err := a.runInstaller(ctx, init, l, p, stage); err != nil {
		return "", err
	}
	f, err := os.OpenFile(filepath.Join(stage, "package.tar"), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return internal(fmt.Errorf("the installer handed nothing over: %w", err))
	}
	err = store.Unpack(to, f)
	f.Close()
	if err != nil {
		return broken(l, err)
	}
	got := packages.Package{Prepared: began.UTC().Format(time.RFC3339)}
	root, err := os.OpenRoot(to)
	if err != nil {
		return internal(err)
	}
	defer root.Close()
	if got.Version, got.Integrity, err = p.request.Received(root.FS(), "meta/report.json"); err != nil {
		return "", err
	}
	tree, err := root.OpenRoot("tree")
	if err != nil {
		return broken(l, err)
	}
	_, err = p.request.Find(tree.FS()) // a package without the program is not kept
	tree.Close()
	if err != nil {
		return "", err
	}
	digest, err := s.Admit(filepath.Join(to, "tree"))
	if err != nil {
		return broken(l, err)
	}
	got.Digest = casemate.Digest(digest)
	if have && got.Digest != locked.Digest {
		return "", &casemate.Error{Op: "prepare", Kind: casemate.Denied,
			Err: fmt.Errorf("%s is not what is locked: version %s (%s), and now %s (%s)", p.key, locked.Version, locked.Digest, got.Version, got.Digest),
			Fix: "name the version that you trust, as PACKAGE@" + locked.Version + "; or remove the entry from " + l.LockFile() + " to take the new one"}
	}
	if !have {
		b, err := json.Marshal(got)
		if err != nil {
			bug("a package does not marshal")
		}
		err = l.UpdateLock(func(lock *catalog.Lock) error {
			if lock.Packages == nil {
				lock.Packages = map[string]json.RawMessage{}
			}
			lock.Packages[p.key] = b
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	a.note("prepared %s %s in %s", p.request.Key(), got.Version, time.Since(began).Round(100*time.Millisecond))
	return s.Path(digest), nil
}

// broken is an error of the package's, or else of the host's: its disk is full.
func broken(l *loaded, err error) (string, error) {
	e := &casemate.Error{Op: "prepare", Kind: casemate.Internal, Err: err, Fix: "make room and rights in " + l.state}
	if errors.Is(err, store.ErrRefused) {
		e.Kind, e.Fix = casemate.Denied, "the package is broken or hostile: name another version of it, or none"
	}
	return "", e
}

// runInstaller runs the installer in a sandbox of its own, which writes
// nothing but stage.
func (a *app) runInstaller(ctx context.Context, init string, l *loaded, p preparation, stage string) error {
	reg, err := registryOf(p.request.Registry, os.Environ(), homeFolder())
	if err != nil {
		return err
	}
	command := p.installer()
	t := &casemate.Tool{
		Name:       "prepare",
		Parameters: json.RawMessage(`{"type":"object","additionalProperties":false}`),
		Run:        casemate.Run{Exec: &casemate.Exec{Command: command}},
		Security: casemate.Profile{
			Filesystem: []casemate.Mount{{Path: stage, At: "/stage", Access: casemate.Write}},
			Env:        reg.env, Processes: 512, Memory: prepareMemory, Disk: prepareDisk, CPU: float64(min(4, runtime.NumCPU())), Timeout: prepareTime, Output: 1 << 20,
		}.WithDefaults(),
	}
	g, err := process.Compile(t, process.Options{Mounts: append(slices.Clone(p.runtime.Mounts), reg.mounts...)})
	if err != nil {
		return err
	}
	g.Env = p.runtime.environ(g.Env)
	g.HostNetwork = true
	o, err := a.alone(ctx, init, l, t, g, "prepared.jsonl")
	if err != nil {
		return err
	}
	if o.Error == nil && (o.Result == nil || !o.Result.IsError) {
		return nil
	}
	if o.Error != nil && o.Error.Kind != casemate.ToolFailed {
		return remote(o.Error)
	}
	text := ""
	if o.Result != nil {
		for _, c := range o.Result.Content {
			text += c.Text + "\n"
		}
	}
	return p.failed(text)
}

// failed says what an installer's last words mean.
func (p preparation) failed(text string) error {
	e := &casemate.Error{Op: "prepare", Kind: casemate.Unsupported, Err: fmt.Errorf("%s was not installed: %s", p.request.Key(), lastWords(text)),
		Fix: "see what the installer says; it has the registry of your own settings, and no other"}
	switch {
	case strings.Contains(text, "No module named pip"):
		e.Fix = "apt install python3-pip (or python -m ensurepip), or name another interpreter by --python"
	case strings.Contains(text, "No matching distribution"):
		e.Fix = "name a version that has a wheel for this system and this Python: nothing is built from source"
	}
	return e
}

// lastWords are the last lines of an installer that say something, on one.
func lastWords(text string) string {
	lines := slices.DeleteFunc(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), func(s string) bool {
		return len(strings.Fields(s)) < 4 || strings.Contains(s, "complete log of this run")
	})
	if len(lines) == 0 {
		return "it says nothing"
	}
	lines = lines[max(0, len(lines)-6):]
	out := strings.Join(lines, "; ")
	return out[max(0, len(out)-800):]
}

func homeFolder() string {
	home, _ := os.UserHomeDir()
	return home
}
