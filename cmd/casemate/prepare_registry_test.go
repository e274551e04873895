package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A registry server stands on the loopback of the test and speaks what npm
// and pip ask: packages that no public registry has, hostile ones above all.
type registryServer struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte   // by path
	npm   map[string][]byte   // documents
	pypi  map[string][]string // files of a package
	asked int
}

func newRegistry(t *testing.T) *registryServer {
	r := &registryServer{files: map[string][]byte{}, npm: map[string][]byte{}, pypi: map[string][]string{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *registryServer) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	p, _ := url.PathUnescape(q.URL.EscapedPath())
	if b, ok := r.files[p]; ok {
		w.Write(b)
		return
	}
	if b, ok := r.npm[strings.TrimPrefix(p, "/npm/")]; ok {
		w.Header().Set("Content-Type", "application/json")
		w.Write(b)
		return
	}
	if name, ok := strings.CutPrefix(strings.TrimSuffix(p, "/"), "/pypi/"); ok && r.pypi[name] != nil {
		w.Header().Set("Content-Type", "text/html")
		for _, f := range r.pypi[name] {
			sum := sha256.Sum256(r.files["/f/"+f])
			fmt.Fprintf(w, "<a href=\"/f/%s#sha256=%s\">%s</a>\n", f, hex.EncodeToString(sum[:]), f)
		}
		return
	}
	http.NotFound(w, q)
}

func (r *registryServer) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func targz(top string, files map[string]string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: top + "/" + name, Mode: 0o644, Size: int64(len(text))}
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			h.Typeflag, h.Linkname, h.Size, text = tar.TypeSymlink, to, 0, ""
		}
		if name == "setuid" { // no sandbox makes such a file: npm leaves it out
			h.Mode = 0o4755
		}
		w.WriteHeader(h)
		w.Write([]byte(text))
	}
	w.Close()
	z.Close()
	return b.Bytes()
}

// publishNPM puts version 1.0.0 of a package into the registry, whose
// package.json is manifest without name and version.
func (r *registryServer) publishNPM(t *testing.T, name, manifest string, files map[string]string) {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(manifest), &m); err != nil {
		t.Fatal(err)
	}
	m["name"], m["version"] = name, "1.0.0"
	text, _ := json.Marshal(m)
	files = maps.Clone(files)
	if files == nil {
		files = map[string]string{}
	}
	files["package.json"] = string(text)
	b := targz("package", files)
	sum := sha512.Sum512(b)
	at := "/f/" + strings.ReplaceAll(strings.Trim(name, "@"), "/", "-") + "-1.0.0.tgz"
	m["dist"] = map[string]string{"tarball": r.URL + at, "integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:])}
	if _, ok := m["scripts"]; ok {
		m["hasInstallScript"] = true
	}
	doc, _ := json.Marshal(map[string]any{"name": name, "dist-tags": map[string]string{"latest": "1.0.0"}, "versions": map[string]any{"1.0.0": m},
		"time": map[string]string{"1.0.0": time.Unix(1e9, 0).UTC().Format(time.RFC3339)}})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[at], r.npm[name] = b, doc
}

// publishWheel puts a wheel with one module and one program into the registry.
func (r *registryServer) publishWheel(name, program string) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	module := strings.ReplaceAll(name, "-", "_")
	info := module + "-1.0.0.dist-info/"
	files := map[string]string{
		module + ".py":            program,
		info + "METADATA":         "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1.0.0\n",
		info + "WHEEL":            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		info + "entry_points.txt": "[console_scripts]\n" + name + " = " + module + ":main\n",
	}
	record := info + "RECORD,,\n"
	for _, f := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256([]byte(files[f]))
		record += fmt.Sprintf("%s,sha256=%s,%d\n", f, base64.RawURLEncoding.EncodeToString(sum[:]), len(files[f]))
	}
	files[info+"RECORD"] = record
	for _, f := range slices.Sorted(maps.Keys(files)) {
		w, _ := z.Create(f)
		w.Write([]byte(files[f]))
	}
	z.Close()
	r.publishFile(name, module+"-1.0.0-py3-none-any.whl", b.Bytes())
}

func (r *registryServer) publishFile(name, file string, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files["/f/"+file] = b
	r.pypi[name] = append(r.pypi[name], file)
}
