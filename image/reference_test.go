package image

import (
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

var someDigest = casemate.Digest("sha256:" + strings.Repeat("0a", 32))

func TestParse(t *testing.T) {
	d := string(someDigest)
	for in, want := range map[string]Reference{
		"ghcr.io/x/y@" + d:          {registry, "ghcr.io/x/y", "", someDigest},
		"ghcr.io/x/y:v1":            {registry, "ghcr.io/x/y", "v1", ""},
		"ghcr.io/x/y:v1@" + d:       {registry, "ghcr.io/x/y", "", someDigest},
		"localhost:5000/x:v1":       {registry, "localhost:5000/x", "v1", ""},
		"127.0.0.1:5000/x@" + d:     {registry, "127.0.0.1:5000/x", "", someDigest},
		"oci:/a/b":                  {layout, "/a/b", "", ""},
		"oci:./a@b":                 {layout, "./a@b", "", ""},
		"oci:./a:b@" + d:            {layout, "./a:b", "", someDigest},
		"docker-archive:x.tar@" + d: {dockerArchive, "x.tar", "", someDigest},
		"docker-archive:x.tar":      {dockerArchive, "x.tar", "", ""},
	} {
		if got, err := Parse(in); err != nil || got != want {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "ubuntu", "ubuntu:22.04", "x/y:v1", "ghcr.io/x/y", "ghcr.io/x/y@sha256:abc", "ghcr.io/x/y@sha512:" + strings.Repeat("0", 128), "ghcr.io/x/y@" + strings.ToUpper(d), "ghcr.io/X/y:v1",
		"ghcr.io/x/../y:v1", "ghcr.io//y:v1", "ghcr.io/x:v1\n", "ghcr.io/x:v 1", "oci:", "oci:@" + d, "docker-archive:", "oci:a@sha256:1", "oci:\x00", "http://ghcr.io/x:v1", strings.Repeat("x", 2000), "oci:\xff"} {
		if got, err := Parse(in); casemate.KindOf(err) != casemate.Invalid {
			t.Errorf("%q: %+v %v", in, got, err)
		}
	}
	if r, err := Parse("oci:x"); err != nil || r.In("/d").String() != "oci:/d/x" {
		t.Errorf("%v %v", r, err)
	}
}

// FuzzParse: what is accepted is written as it was read.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"ghcr.io/x/y:v1@" + string(someDigest), "oci:a@" + string(someDigest), "docker-archive:@", "localhost/x:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Errorf("%q: %+v, and then %+v %v", s, r, again, err)
		}
	})
}

// FuzzManifest: documents of any bytes are read or refused, and what is
// accepted names digests alone.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"`+string(someDigest)+`"},"layers":[]}`), "")
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"`+string(someDigest)+`","platform":{"os":"linux"}}]}`), typeIndex)
	f.Add([]byte(`{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":["`+string(someDigest)+`"]}}`), "config")
	f.Fuzz(func(t *testing.T, b []byte, mediaType string) {
		if c, err := parseConfig(b, 1); err == nil && !digest.MatchString(string(c.RootFS.DiffIDs[0])) {
			t.Errorf("%q", c.RootFS.DiffIDs)
		}
		m, isIndex, err := parseManifest(b, mediaType)
		if err != nil {
			return
		}
		if isIndex {
			if d, err := m.choose(); err == nil && !digest.MatchString(string(d.Digest)) {
				t.Errorf("%q", d.Digest)
			}
			return
		}
		for _, l := range append(m.Layers, m.Config) {
			if !digest.MatchString(string(l.Digest)) || l.Size < 0 {
				t.Errorf("%q %d", l.Digest, l.Size)
			}
		}
	})
}
