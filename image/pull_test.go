package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	ocireg "github.com/google/go-containerregistry/pkg/registry"

	"github.com/casemate/casemate"
)

// two is an image of two layers.
func two(t testing.TB) shape {
	return shape{layers: [][]byte{pack(t, file("a", "1"), file("b", "1")), pack(t, file("a", "2"), file(".wh.b", ""))}}
}

func TestPull(t *testing.T) {
	other := map[string]any{"mediaType": typeManifest, "digest": "sha256:" + strings.Repeat("0", 64), "size": 1, "platform": map[string]any{"os": "linux", "architecture": "s390x"}}
	for name, change := range map[string]func(*shape){
		"plain": func(*shape) {},
		"gzip":  func(s *shape) { s.compress = "gzip" },
		"zstd":  func(s *shape) { s.compress = "zstd" },
		"an index of many": func(s *shape) {
			s.inner, s.index, s.platform = true, []map[string]any{other}, map[string]any{"os": "linux", "architecture": runtime.GOARCH}
		},
		"docker's own types": func(s *shape) { s.compress, s.typ = "gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip" },
	} {
		t.Run(name, func(t *testing.T) {
			sh := two(t)
			change(&sh)
			b, s := sh.write(t), store(t)
			var last, total int64
			i, err := s.Pull(timeout(t), b.reference(), Options{Unpack: within, Progress: func(d, of int64) { last, total = d, of }})
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(t, i.Layers[0]); !slices.Equal(got, []string{"a=2"}) {
				t.Errorf("%q", got)
			}
			if last == 0 || last != total {
				t.Errorf("%d of %d bytes", last, total)
			}
			// The index and its image are one in the store, and nothing is got twice.
			again, err := s.Pull(timeout(t), b.reference(), Options{})
			if err != nil || again.Layers[0] != i.Layers[0] {
				t.Errorf("%v %v", again, err)
			}
			all, err := s.List()
			if err != nil || len(all) != 1 || all[0].Digest != i.Digest {
				t.Errorf("%v %v", all, err)
			}
			unpinned := b.reference()
			unpinned.Digest = ""
			if d, err := Resolve(timeout(t), unpinned); err != nil || d != i.Digest {
				t.Errorf("%s %v", d, err)
			}
			if err := s.Remove(timeout(t), i.Digest); err != nil {
				t.Error(err)
			}
			if _, ok := s.Find(b.digest); ok {
				t.Error("it is found after it was removed")
			}
		})
	}
}

// Images that lie, or are not for this machine: nothing of them stays.
func TestRefusedImages(t *testing.T) {
	put := func(t *testing.T, file string, change func([]byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, change(b), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	for name, c := range map[string]struct {
		shape func(*shape)
		then  func(*testing.T, *built)
		kind  casemate.Kind
		says  string
	}{
		"another digest": {nil, func(_ *testing.T, b *built) { b.digest = casemate.Digest("sha256:" + strings.Repeat("0", 64)) }, casemate.Invalid, "digest"},
		"a changed manifest": {nil, func(t *testing.T, b *built) {
			put(t, b.blob(b.digest), func(x []byte) []byte { return append(x, ' ') })
		}, casemate.Invalid, "digest"},
		"a changed configuration": {nil, func(t *testing.T, b *built) {
			put(t, b.blob(b.config), func(x []byte) []byte { return bytes.Replace(x, []byte("EVIL=1"), []byte("EVIL=2"), 1) })
		}, casemate.Invalid, "digest"},
		"a changed manifest of an index": {func(s *shape) {
			s.inner, s.platform = true, map[string]any{"os": "linux", "architecture": runtime.GOARCH}
		}, func(t *testing.T, b *built) {
			put(t, b.blob(b.manifest), func(x []byte) []byte { return bytes.Replace(x, []byte(`{"config"`), []byte(`{"Config"`), 1) })
		}, casemate.Invalid, "digest"},
		"a changed layer":         {nil, func(t *testing.T, b *built) { put(t, b.blob(b.layers[1]), flip) }, casemate.Invalid, "digest"},
		"a changed layer of gzip": {func(s *shape) { s.compress = "gzip" }, func(t *testing.T, b *built) { put(t, b.blob(b.layers[0]), flip) }, casemate.Invalid, "digest"},
		"a layer that is cut short": {nil, func(t *testing.T, b *built) {
			put(t, b.blob(b.layers[1]), func(x []byte) []byte { return x[:len(x)-512] })
		}, casemate.Invalid, "cut short"},
		"a layer that goes on": {nil, func(t *testing.T, b *built) {
			put(t, b.blob(b.layers[1]), func(x []byte) []byte { return append(x, 0) })
		}, casemate.Invalid, "longer"},
		"a layer that is not there": {nil, func(t *testing.T, b *built) { os.Remove(b.blob(b.layers[1])) }, casemate.Invalid, "holds nothing"},
		"a layer that is a link": {nil, func(t *testing.T, b *built) {
			os.Remove(b.blob(b.layers[1]))
			if err := os.Symlink("/etc/passwd", b.blob(b.layers[1])); err != nil {
				t.Fatal(err)
			}
		}, casemate.Invalid, "escapes"},
		"layers that unpack to others": {func(s *shape) {
			s.compress = "gzip"
			s.change = func(_, c map[string]any) {
				d := c["rootfs"].(map[string]any)["diff_ids"].([]any)
				d[0], d[1] = d[1], d[0]
			}
		}, nil, casemate.Invalid, "unpacked layer"},
		"plain layers that are called others": {func(s *shape) {
			s.change = func(_, c map[string]any) {
				d := c["rootfs"].(map[string]any)["diff_ids"].([]any)
				d[0], d[1] = d[1], d[0]
			}
		}, nil, casemate.Invalid, "configuration says"},
		"a layer too few": {func(s *shape) {
			s.change = func(m, _ map[string]any) { m["layers"] = m["layers"].([]any)[:1] }
		}, nil, casemate.Invalid, "1 layers"},
		"another processor": {func(s *shape) { s.arch = "s390x" }, nil, casemate.Unsupported, "s390x"},
		"an unknown type":   {func(s *shape) { s.typ = "application/vnd.wasm.content.layer.v1+wasm" }, nil, casemate.Unsupported, "media type"},
		"a foreign layer":   {func(s *shape) { s.typ = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" }, nil, casemate.Unsupported, "media type"},
		"gzip that is none": {func(s *shape) { s.typ = "application/vnd.oci.image.layer.v1.tar+gzip" }, nil, casemate.Invalid, "gzip"},
		"zstd that is none": {func(s *shape) { s.typ = "application/vnd.oci.image.layer.v1.tar+zstd" }, nil, casemate.Invalid, "zstd"},
		"no image and an index": {func(s *shape) {
			s.change = func(m, _ map[string]any) { m["manifests"] = []any{} }
		}, nil, casemate.Invalid, "in one"},
		"schema 1": {func(s *shape) { s.change = func(m, _ map[string]any) { m["schemaVersion"] = 1 } }, nil, casemate.Unsupported, "schema version 1"},
		"a digest that is a path": {func(s *shape) {
			s.change = func(m, _ map[string]any) {
				m["layers"].([]any)[0].(map[string]any)["digest"] = "sha256:../../../../etc/passwd"
			}
		}, nil, casemate.Invalid, "no digest"},
		"a negative size": {func(s *shape) {
			s.change = func(m, _ map[string]any) { m["layers"].([]any)[0].(map[string]any)["size"] = -1 }
		}, nil, casemate.Invalid, "no digest"},
		"an index for others": {func(s *shape) { s.inner, s.platform = true, map[string]any{"os": "linux", "architecture": "s390x"} }, nil, casemate.Unsupported, "s390x"},
		"a newer processor": {func(s *shape) {
			s.inner, s.platform = true, map[string]any{"os": "linux", "architecture": runtime.GOARCH, "variant": "v99"}
		}, nil, casemate.Unsupported, "v99"},
		"an entry that is refused": {func(s *shape) { s.layers = append(s.layers, pack(t, file("../x", "1"))) }, nil, casemate.Invalid, "climbs"},
	} {
		t.Run(name, func(t *testing.T) {
			sh := two(t)
			if c.shape != nil {
				c.shape(&sh)
			}
			b, s := sh.write(t), store(t)
			if c.then != nil {
				c.then(t, &b)
			}
			_, err := s.Pull(timeout(t), b.reference(), Options{Unpack: within})
			wantKind(t, err, c.kind, c.says)
			if l := left(t, s); len(l) != 0 {
				t.Errorf("left: %q", l)
			}
		})
	}
}

// Two pulls of one image, and of an index that names it, unpack it once.
func TestPullsAtOnce(t *testing.T) {
	sh := two(t)
	sh.inner, sh.platform = true, map[string]any{"os": "linux", "architecture": runtime.GOARCH}
	b, s := sh.write(t), store(t)
	inner, err := Resolve(timeout(t), b.reference())
	if err != nil {
		t.Fatal(err)
	}
	var unpacked atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			mine, err := Open(s.dir) // as another process has it
			if err != nil {
				t.Error(err)
				return
			}
			r := b.reference()
			if i%2 == 0 {
				r.Digest = inner
			}
			im, err := mine.Pull(timeout(t), r, Options{Unpack: func(ctx context.Context, root, stream *os.File) (Result, error) {
				unpacked.Add(1)
				return within(ctx, root, stream)
			}})
			if err != nil || im.Digest != inner {
				t.Errorf("%v %v", im, err)
			}
		})
	}
	all.Wait()
	if n := unpacked.Load(); n != 1 {
		t.Errorf("unpacked %d times", n)
	}
}

// What a killed pull left is in nobody's way, and goes.
func TestKilledPull(t *testing.T) {
	b, s := two(t).write(t), store(t)
	stage := s.path(b.digest, ".new")
	if err := os.MkdirAll(filepath.Join(stage, "root", "half", "made"), 0o755); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(stage, "image.json"), []byte(`{"digest":"`+string(b.digest)+`"}`), 0o600)
	os.Chmod(filepath.Join(stage, "root", "half"), 0o555)
	if _, ok := s.Find(b.digest); ok {
		t.Fatal("half an image is found")
	}
	if gone, err := s.Prune(timeout(t), nil); err != nil || len(gone) != 0 || len(left(t, s)) != 0 {
		t.Errorf("pruned %v, %v; left %v", gone, err, left(t, s))
	}
	if err := os.MkdirAll(filepath.Join(stage, "root", "half", "made"), 0o755); err != nil {
		t.Fatal(err)
	}
	i, err := s.Pull(timeout(t), b.reference(), Options{Unpack: within})
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, i.Layers[0]); !slices.Equal(got, []string{"a=2"}) {
		t.Errorf("%q", got)
	}
	keep, err := s.Prune(timeout(t), map[casemate.Digest]bool{b.digest: true})
	if _, ok := s.Find(b.digest); err != nil || len(keep) != 0 || !ok {
		t.Errorf("removed %v, %v", keep, err)
	}
	if gone, err := s.Prune(timeout(t), nil); err != nil || len(gone) != 1 || len(left(t, s)) != 0 {
		t.Errorf("removed %v, %v; left %v", gone, err, left(t, s))
	}
}

// An image under the name of another is not found.
func TestMovedImage(t *testing.T) {
	b, s := two(t).write(t), store(t)
	if _, err := s.Pull(timeout(t), b.reference(), Options{Unpack: within}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.path(b.digest, ""), s.path(someDigest, "")); err != nil {
		t.Fatal(err)
	}
	if i, ok := s.Find(someDigest); ok {
		t.Errorf("found %v", i)
	}
}

// A pull that is given up ends, and leaves nothing.
func TestCancelledPull(t *testing.T) {
	b, s := two(t).write(t), store(t)
	ctx, cancel := context.WithCancel(timeout(t))
	_, err := s.Pull(ctx, b.reference(), Options{Unpack: func(ctx context.Context, _, _ *os.File) (Result, error) {
		cancel() // while the process reads nothing
		<-ctx.Done()
		return Result{}, ctx.Err()
	}})
	if casemate.KindOf(err) != casemate.Cancelled || len(left(t, s)) != 0 {
		t.Errorf("%v, left %v", err, left(t, s))
	}
	unlock, err := s.lock(timeout(t), b.digest)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	soon, cancel := context.WithCancel(timeout(t))
	cancel()
	if _, err := s.Pull(soon, b.reference(), Options{Unpack: within}); casemate.KindOf(err) != casemate.Busy {
		t.Errorf("%v; want that another process has it", err)
	}
}

// The process that unpacks dies, or says what it did not do.
func TestUnpackingBreaksOff(t *testing.T) {
	b, s := two(t).write(t), store(t)
	for name, say := range map[string]func() (Result, error){
		"it dies":          func() (Result, error) { return Result{}, errors.New("killed") },
		"it reads nothing": func() (Result, error) { return Result{Entries: 1}, nil },
	} {
		big := shape{layers: [][]byte{bytes.Repeat([]byte{0}, 1<<20)}}.write(t) // more than a pipe holds
		_ = b
		if _, err := s.Pull(timeout(t), big.reference(), Options{Unpack: func(context.Context, *os.File, *os.File) (Result, error) { return say() }}); err == nil || len(left(t, s)) != 0 {
			t.Errorf("%s: %v, left %v", name, err, left(t, s))
		}
	}
}

// archiveOf writes what docker save does.
func archiveOf(t *testing.T, b built, change func(map[string][]byte)) string {
	t.Helper()
	read := func(d casemate.Digest) []byte {
		x, err := os.ReadFile(b.blob(d))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	var m manifest
	if err := json.Unmarshal(read(b.digest), &m); err != nil {
		t.Fatal(err)
	}
	config := strings.TrimPrefix(string(m.Config.Digest), "sha256:") + ".json"
	files := map[string][]byte{config: read(m.Config.Digest)}
	entry := map[string]any{"Config": config, "RepoTags": []string{"x:y"}}
	var layers []string
	for i, l := range m.Layers {
		name := fmt.Sprintf("%d/layer.tar", i)
		files[name] = read(l.Digest)
		layers = append(layers, name)
	}
	entry["Layers"] = layers
	files["manifest.json"], _ = json.Marshal([]any{entry})
	if change != nil {
		change(files)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, x := range files {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(x))})
		w.Write(x)
	}
	w.Close()
	p := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(p, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDockerArchive(t *testing.T) {
	b := two(t).write(t)
	r := Reference{Scheme: dockerArchive, Name: archiveOf(t, b, nil)}
	d, err := Resolve(timeout(t), r)
	if err != nil {
		t.Fatal(err)
	}
	r.Digest = d
	s := store(t)
	i, err := s.Pull(timeout(t), r, Options{Unpack: within})
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, i.Layers[0]); !slices.Equal(got, []string{"a=2"}) || i.Digest != d {
		t.Errorf("%q %s", got, i.Digest)
	}
	for name, c := range map[string]struct {
		change func(map[string][]byte)
		says   string
	}{
		"a changed layer": {func(f map[string][]byte) { f["0/layer.tar"][600] ^= 1 }, "digest"},
		"another image": {func(f map[string][]byte) {
			f["manifest.json"] = bytes.Replace(f["manifest.json"], []byte("1/"), []byte("0/"), 1)
		}, "digest"},
		"a missing layer": {func(f map[string][]byte) { delete(f, "1/layer.tar") }, "no layer"},
		"no manifest":     {func(f map[string][]byte) { delete(f, "manifest.json") }, "manifest.json"},
		"several images":  {func(f map[string][]byte) { f["manifest.json"] = []byte(`[{},{}]`) }, "2 images"},
		"a changed config": {func(f map[string][]byte) {
			for n := range f {
				if strings.HasSuffix(n, ".json") && n != "manifest.json" {
					f[n] = append(f[n], ' ')
				}
			}
		}, "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t)
			_, err := s.Pull(timeout(t), Reference{Scheme: dockerArchive, Name: archiveOf(t, b, c.change), Digest: d}, Options{Unpack: within})
			wantKind(t, err, casemate.Invalid, c.says)
			if l := left(t, s); len(l) != 0 {
				t.Errorf("left: %q", l)
			}
		})
	}
}

// serve is a registry that has an image under the tag v1, and counts requests.
func serve(t *testing.T, b built, fails func(*http.Request) int) (host string, requests *atomic.Int32) {
	t.Helper()
	requests = &atomic.Int32{}
	h := ocireg.New(ocireg.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if fails != nil {
			if code := fails(r); code != 0 {
				w.WriteHeader(code)
				return
			}
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	put := func(path, typ string, d casemate.Digest) {
		x, err := os.ReadFile(b.blob(d))
		if err != nil {
			t.Fatal(err)
		}
		method := http.MethodPut
		if !strings.Contains(path, "manifests") {
			method = http.MethodPost
		}
		q, err := http.NewRequest(method, "http://registry"+path, bytes.NewReader(x))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", typ)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, q)
		if w.Code >= 300 {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	raw, err := os.ReadFile(b.blob(b.digest))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	for _, d := range append(b.layers, m.Config.Digest) {
		put("/v2/x/y/blobs/uploads/?digest="+string(d), "application/octet-stream", d)
	}
	put("/v2/x/y/manifests/v1", typeManifest, b.digest)
	return strings.TrimPrefix(srv.URL, "http://"), requests
}

func TestRegistry(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	sh := two(t)
	sh.compress = "gzip"
	b := sh.write(t)
	host, requests := serve(t, b, nil)
	r, err := Parse(host + "/x/y:v1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := Resolve(timeout(t), r)
	if err != nil || d != b.digest {
		t.Fatalf("%s %v", d, err)
	}
	r.Tag, r.Digest = "", d
	s := store(t)
	i, err := s.Pull(timeout(t), r, Options{Unpack: within})
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, i.Layers[0]); !slices.Equal(got, []string{"a=2"}) {
		t.Errorf("%q", got)
	}
	before := requests.Load()
	if _, err := s.Pull(timeout(t), r, Options{}); err != nil || requests.Load() != before {
		t.Errorf("asked again for what is there: %v", err)
	}
	r.Digest = casemate.Digest("sha256:" + strings.Repeat("0", 64))
	_, err = s.Pull(timeout(t), r, Options{Unpack: within})
	wantKind(t, err, casemate.Invalid, "MANIFEST_UNKNOWN")
}

// A registry that fails is asked a few times, and no more; one that asks who
// is there, once.
func TestRegistryFails(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	for code, c := range map[int]struct {
		kind casemate.Kind
		most int32
	}{
		http.StatusUnauthorized: {casemate.Denied, 4},
		http.StatusTeapot:       {casemate.Internal, 4},
	} {
		b, s := two(t).write(t), store(t)
		host, requests := serve(t, b, func(*http.Request) int { return code })
		r, err := Parse(host + "/x/y@" + string(b.digest))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Pull(timeout(t), r, Options{Unpack: within})
		wantKind(t, err, c.kind, host)
		if n := requests.Load(); n > c.most {
			t.Errorf("%d: asked %d times", code, n)
		}
		if l := left(t, s); len(l) != 0 {
			t.Errorf("left: %q", l)
		}
	}
}

// A registry whose bytes are others than their digest says.
func TestRegistryLies(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	b := two(t).write(t)
	host, _ := serve(t, b, nil)
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasSuffix(q.URL.Path, string(b.layers[1])) {
			x, _ := os.ReadFile(b.blob(b.layers[1]))
			x[700] ^= 1
			w.Write(x)
			return
		}
		res, err := http.Get("http://" + host + q.URL.Path)
		if err != nil {
			w.WriteHeader(500)
			return
		}
		defer res.Body.Close()
		for k, v := range res.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(res.StatusCode)
		io.Copy(w, res.Body)
	}))
	defer liar.Close()
	r, err := Parse(strings.TrimPrefix(liar.URL, "http://") + "/x/y@" + string(b.digest))
	if err != nil {
		t.Fatal(err)
	}
	s := store(t)
	_, err = s.Pull(timeout(t), r, Options{Unpack: within})
	wantKind(t, err, casemate.Invalid, string(b.layers[1]))
	if l := left(t, s); len(l) != 0 {
		t.Errorf("left: %q", l)
	}
}
