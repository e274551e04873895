package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

// A source gives the bytes of one image. It verifies nothing: whoever reads
// compares digests.
type source interface {
	// root returns what the reference names: a manifest or an index.
	root(ctx context.Context, d casemate.Digest) (b []byte, mediaType string, err error)
	// blob opens what a descriptor names: a manifest of an index where
	// isManifest, and else a configuration or a layer.
	blob(ctx context.Context, d descriptor, isManifest bool) (io.ReadCloser, error)
	io.Closer
}

func open(r Reference) (source, error) {
	switch r.Scheme {
	case layout:
		return openLayout(r.Name)
	case dockerArchive:
		return openArchive(r.Name)
	case registry:
		return openRegistry(r)
	}
	return nil, &casemate.Error{Op: "image", Kind: casemate.Invalid, Err: fmt.Errorf("%q is no reference", r)}
}

// missing is an error of a source that is not there, or has not what it says.
func missing(err error, fix string) error {
	return &casemate.Error{Op: "image", Kind: casemate.Invalid, Err: err, Fix: fix}
}

// A layoutFolder is an OCI image layout. No link of it is followed out of it.
type layoutFolder struct {
	dir string
	*os.Root
}

func openLayout(dir string) (source, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, missing(err, "name a folder that holds oci-layout, index.json and blobs")
	}
	return layoutFolder{dir, r}, nil
}

// regular opens a regular file beneath the folder.
func (l layoutFolder) regular(p string) (*os.File, error) {
	f, err := l.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is not a regular file", path.Join(l.dir, p))
	}
	return f, nil
}

// root is the manifest of the pinned digest, or the only one that index.json
// names; where it names several, the index itself is one.
func (l layoutFolder) root(ctx context.Context, d casemate.Digest) ([]byte, string, error) {
	if d != "" {
		b, err := l.bytes(ctx, d)
		return b, "", err
	}
	f, err := l.regular("index.json")
	if err != nil {
		return nil, "", missing(err, "name a folder that holds oci-layout, index.json and blobs")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil || len(b) > maxManifest {
		return nil, "", errors.Join(err, lies("its index.json has more than %d bytes", maxManifest))
	}
	m, isIndex, err := parseManifest(b, typeIndex)
	if err != nil || !isIndex {
		return nil, "", errors.Join(err, lies("its index.json is no index"))
	}
	if len(m.Manifests) != 1 {
		return b, typeIndex, nil
	}
	only := m.Manifests[0]
	b, err = l.bytes(ctx, only.Digest)
	return b, only.MediaType, err
}

func (l layoutFolder) bytes(ctx context.Context, d casemate.Digest) ([]byte, error) {
	r, err := l.blob(ctx, descriptor{Digest: d}, true)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return verified(r, descriptor{Digest: d})
}

func (l layoutFolder) blob(_ context.Context, d descriptor, _ bool) (io.ReadCloser, error) {
	f, err := l.regular("blobs/sha256/" + strings.TrimPrefix(string(d.Digest), "sha256:"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(fmt.Errorf("%s holds nothing of the digest %s", l.dir, d.Digest), "pin a digest that its index.json names, or get the image again")
	}
	if err != nil {
		return nil, missing(err, "get the image again")
	}
	return f, nil
}
