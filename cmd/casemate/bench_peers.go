package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/casemate/casemate/internal/bench"
)

// A benchPeer is another sandbox that may be on this machine. Its command line denies
// network and files as far as it can; where it cannot, note says so.
type benchPeer struct {
	name string
	note string

	// argv is what runs the payload, given the paths of the peer and of the
	// payload's program. It may prepare files in the place, once.
	argv func(path string, payload []string) ([]string, error)
}

// benchPeers finds the peers and knows what they need.
type benchPeers struct {
	place  *benchPlace
	spawn  *benchSpawn
	python string   // the interpreter that ours use too
	read   []string // folders that payloads need, real and existing
	links  [][2]string
	ends   []func()
	seq    int
	image  string // that docker has of us
}

// A benchPayload is a program that all peers run alike.
type benchPayload struct {
	name string
	argv []string
	want string
}

// newBenchPeers is for peers that run the interpreter that a compiled guest
// has, with its folders.
func newBenchPeers(p *benchPlace, python string, prefixes []string) (*benchPeers, error) {
	s, err := newBenchSpawn([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.path("home"), "XDG_RUNTIME_DIR=" + p.path("run"), "LANG=C.UTF-8"})
	if err != nil {
		return nil, err
	}
	b := &benchPeers{place: p, spawn: s, python: python, read: []string{"/usr"}}
	for _, d := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64"} {
		if to, err := os.Readlink(d); err == nil {
			b.links = append(b.links, [2]string{to, d})
		} else if _, err := os.Stat(d); err == nil {
			b.read = append(b.read, d)
		}
	}
	for _, d := range prefixes {
		if !within(b.read, d) {
			b.read = append(b.read, d)
		}
	}
	return b, nil
}

func (b *benchPeers) close() {
	for _, f := range slices.Backward(b.ends) {
		f()
	}
	b.spawn.close()
}

func (b *benchPeers) payloads() []benchPayload {
	var out []benchPayload
	if p, err := exec.LookPath("true"); err == nil {
		out = append(out, benchPayload{name: payloadTrue, argv: []string{p}})
	}
	if b.place.static != "" {
		out = append(out, benchPayload{name: payloadStatic, argv: []string{b.place.static, "true"}})
	}
	if b.python != "" {
		out = append(out, benchPayload{payloadPython, []string{b.python, "-I", "-S", "-c", pythonCode}, pythonPrints})
	}
	return out
}

// subjects are the peers that are wanted and on this machine, with each
// payload; absent are the names of those that are not, and failed those that
// cannot be prepared.
func (b *benchPeers) subjects(wanted func(string) bool) (out []bench.Subject, absent []string, failed []bench.Failure) {
	for _, p := range b.payloads() {
		out = append(out, bench.Subject{Name: "posix_spawn", Payload: p.name, Note: "no sandbox: the floor", Run: b.runs(p.argv, p.want)})
	}
	for _, x := range b.peers() {
		if !wanted(x.name) && x.name != bench.Base {
			continue
		}
		path, err := peerPath(x.name)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			absent = append(absent, x.name)
			continue
		}
		for _, p := range b.payloads() {
			if p.name == payloadStatic && x.name != bench.Base {
				continue
			}
			argv, err := x.argv(path, p.argv)
			if err != nil {
				failed = append(failed, bench.Failure{Subject: x.name, Payload: p.name, Why: err.Error()})
				continue
			}
			out = append(out, bench.Subject{Name: x.name, Payload: p.name, Note: x.note, Run: b.runs(argv, p.want)})
		}
	}
	return out, absent, failed
}

// found is the command line of the peer of that name.
func (b *benchPeers) found(name string, p benchPayload) ([]string, error) {
	for _, x := range b.peers() {
		if x.name == name {
			path, err := peerPath(name)
			if err != nil {
				return nil, err
			}
			return x.argv(path, p.argv)
		}
	}
	return nil, exec.ErrNotFound
}

func (b *benchPeers) runs(argv []string, want string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) { return b.spawn.run(ctx, argv, want) }
}

// each repeats words before every folder that payloads need.
func (b *benchPeers) each(words func(dir string) []string) (out []string) {
	for _, d := range b.read {
		out = append(out, words(d)...)
	}
	return out
}

// folder makes an empty folder in the place.
func (b *benchPeers) folder(name string) (string, error) {
	dir := b.place.path(fmt.Sprintf("%s-%d", name, b.seq))
	b.seq++
	return dir, os.Mkdir(dir, 0o755)
}
