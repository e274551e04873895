package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/casemate/casemate"
)

// An entry is a header, and the content of a regular file.
type entry struct {
	tar.Header
	content string
}

func dir(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}

func link(name, to string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}, ""}
}

func hard(name, to string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}, ""}
}

func mode(e entry, m int64) entry { e.Mode = m; return e }

// pack makes the tar archive of a layer.
func pack(t testing.TB, es ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range es {
		e.Size = int64(len(e.content))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstandard(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

// streamOf is what Store.Pull would write of layers.
func streamOf(t testing.TB, l Limits, layers ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	for n, layer := range layers {
		s := step{Diff: digestOf(layer), Size: int64(len(layer))}
		if n == 0 {
			s.Limits = l
		}
		if err := writeStep(&b, s); err != nil {
			t.Fatal(err)
		}
		b.Write(layer)
	}
	if err := writeStep(&b, step{Limits: l, Last: true}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpack unpacks layers in a folder that lies in another, of which nothing
// else may be touched, and returns the tree as lines.
func unpack(t testing.TB, l Limits, layers ...[]byte) (root string, r Result) {
	t.Helper()
	outer := t.TempDir()
	root = filepath.Join(outer, "in", "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(filepath.Join(outer, "in")) })
	d, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r = Unpack(d, bytes.NewReader(streamOf(t, l, layers...)))
	if r.Error == nil {
		if _, err := settle(int(d.Fd()), l); err != nil {
			t.Error(err)
		}
	}
	for _, d := range []string{outer, filepath.Dir(root)} {
		if es, _ := os.ReadDir(d); len(es) != 1 {
			t.Errorf("%s holds %v", d, es)
		}
	}
	return root, r
}

// tree is what lies beneath root: "path" of folders with a "/", "path=content"
// of files, with "*" where they may be run, and "path->target" of links. It
// fails on what no tree may hold.
func tree(t testing.TB, root string) (lines []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p, root), "/")
		switch m := fi.Mode(); {
		case m == fs.ModeDir|0o555:
			if rel != "" {
				lines = append(lines, rel+"/")
			}
		case m == 0o444 || m == 0o555:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if m == 0o555 {
				rel += "*"
			}
			lines = append(lines, rel+"="+string(b[:min(len(b), 20)]))
		case m.Type() == fs.ModeSymlink:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			lines = append(lines, rel+"->"+to)
		default:
			t.Errorf("%s has mode %v", rel, m)
		}
		if st := fi.Sys().(*syscall.Stat_t); int(st.Uid) != os.Geteuid() {
			t.Errorf("%s belongs to %d", rel, st.Uid)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	slices.Sort(lines)
	return lines
}

// A built is an image in a layout folder.
type built struct {
	dir    string
	digest casemate.Digest // by which it is pinned
	layers []casemate.Digest

	manifest, config casemate.Digest
}

// A shape is what is written of an image, before it is written.
type shape struct {
	arch     string
	layers   [][]byte // as they are unpacked
	compress string
	typ      string // of every layer, if it is not what compress says
	change   func(m, c map[string]any)
	index    []map[string]any // more manifests of the index
	platform map[string]any
	inner    bool // the index is a blob of its own
}

func (s shape) write(t testing.TB) built {
	t.Helper()
	b := built{dir: t.TempDir()}
	blobs := filepath.Join(b.dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(x []byte, typ string) map[string]any {
		d := digestOf(x)
		if err := os.WriteFile(filepath.Join(blobs, strings.TrimPrefix(string(d), "sha256:")), x, 0o644); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"mediaType": typ, "digest": d, "size": len(x)}
	}
	js := func(v any) []byte {
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	var diffs, layers []any
	for _, l := range s.layers {
		diffs = append(diffs, digestOf(l))
		typ := "application/vnd.oci.image.layer.v1.tar"
		switch s.compress {
		case "gzip":
			l, typ = gzipped(l), typ+"+gzip"
		case "zstd":
			l, typ = zstandard(l), typ+"+zstd"
		}
		if s.typ != "" {
			typ = s.typ
		}
		layers = append(layers, put(l, typ))
		b.layers = append(b.layers, digestOf(l))
	}
	if s.arch == "" {
		s.arch = runtime.GOARCH
	}
	c := map[string]any{"architecture": s.arch, "os": "linux", "config": map[string]any{"User": "0", "Env": []string{"EVIL=1"}}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs}}
	m := map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "layers": layers}
	if s.change != nil {
		s.change(m, c)
	}
	m["config"] = put(js(c), "application/vnd.oci.image.config.v1+json")
	desc := put(js(m), typeManifest)
	b.digest = desc["digest"].(casemate.Digest)
	b.manifest, b.config = b.digest, m["config"].(map[string]any)["digest"].(casemate.Digest)
	if s.platform != nil {
		desc["platform"] = s.platform
	}
	index := map[string]any{"schemaVersion": 2, "manifests": append(s.index, desc)}
	if s.inner {
		index = map[string]any{"schemaVersion": 2, "manifests": []any{put(js(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": append(s.index, desc)}), typeIndex)}}
		b.digest = index["manifests"].([]any)[0].(map[string]any)["digest"].(casemate.Digest)
	}
	for name, x := range map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": js(index)} {
		if err := os.WriteFile(filepath.Join(b.dir, name), x, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b built) reference() Reference {
	return Reference{Scheme: layout, Name: b.dir, Digest: b.digest}
}

// blob is the file of a digest.
func (b built) blob(d casemate.Digest) string {
	return filepath.Join(b.dir, "blobs", "sha256", strings.TrimPrefix(string(d), "sha256:"))
}

// store opens a fresh one, whose trees are removed at the end.
func store(t testing.TB) *Store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "images")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(dir) })
	return s
}

// within unpacks in this process, by the code that the confined one runs.
func within(_ context.Context, root, stream *os.File) (Result, error) {
	return Unpack(root, stream), nil
}

// left is what a store holds, locks aside.
func left(t testing.TB, s *Store) (names []string) {
	t.Helper()
	es, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if !strings.HasSuffix(e.Name(), ".lock") {
			names = append(names, e.Name())
		}
	}
	return names
}

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func wantKind(t *testing.T, err error, kind casemate.Kind, says string) {
	t.Helper()
	e, ok := errors.AsType[*casemate.Error](err)
	if !ok || e.Kind != kind || !strings.Contains(e.Error(), says) || e.Fix == "" {
		t.Errorf("%v (%v); want %s, %q, and a fix", err, casemate.KindOf(err), kind, says)
	}
}
