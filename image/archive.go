package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

// An archive is what docker save writes: a tar archive with manifest.json, a
// configuration and layers, of one image. It has no manifest by which others
// know it, so its digest is that of its configuration, which docker calls the
// image's id: it holds the digests of the unpacked layers, and pins all.
type archive struct {
	file    *os.File
	entries map[string]section // by the name in the archive
	config  []byte
	layers  []string
}

// A section is where an entry's content lies in the file.
type section struct{ at, size int64 }

// maxArchived bounds the entries of an archive.
const maxArchived = 4096

func openArchive(file string) (source, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, missing(err, "name a file that docker save wrote")
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, missing(fmt.Errorf("%s is not a regular file", file), "name a file that docker save wrote; a compressed one has to be decompressed")
	}
	a := &archive{file: f, entries: map[string]section{}}
	if err := a.read(); err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

// read notes where the entries are, and reads manifest.json.
func (a *archive) read() error {
	t := tar.NewReader(a.file)
	links := map[string]string{}
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return lies("it is no archive of docker save: %.200s", err)
		}
		if n > maxArchived {
			return lies("its archive has more than %d entries", maxArchived)
		}
		at, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if _, twice := a.entries[name]; twice || links[name] != "" {
			return lies("%.100q stands twice in its archive", name)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			a.entries[name] = section{at, h.Size}
		case tar.TypeSymlink: // older versions name equal layers once
			links[name] = path.Join(path.Dir(name), h.Linkname)
		}
	}
	for name, to := range links {
		if s, ok := a.entries[to]; ok {
			a.entries[name] = s
		}
	}
	var images []struct {
		Config string
		Layers []string
	}
	b, err := a.bytes("manifest.json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &images); err != nil {
		return lies("its manifest.json cannot be read: %.200s", err)
	}
	if len(images) != 1 || len(images[0].Layers) > maxLayers {
		return lies("its archive holds %d images, and not one of at most %d layers", len(images), maxLayers)
	}
	a.layers = images[0].Layers
	a.config, err = a.bytes(images[0].Config)
	return err
}

func (a *archive) bytes(name string) ([]byte, error) {
	s, ok := a.entries[path.Clean(name)]
	if !ok || s.size > maxManifest {
		return nil, lies("its archive holds no %.100q, or one that is too large", name)
	}
	b := make([]byte, s.size)
	_, err := io.ReadFull(io.NewSectionReader(a.file, s.at, s.size), b)
	return b, err
}

// root writes the manifest that the archive does not have.
func (a *archive) root(_ context.Context, d casemate.Digest) ([]byte, string, error) {
	id := digestOf(a.config)
	if d != "" && d != id {
		return nil, "", lies("the digest of the configuration (the image's id) in %s is %s, and not %s", a.file.Name(), id, d)
	}
	var c config
	if err := strict(a.config, &c, "configuration"); err != nil {
		return nil, "", err
	}
	if len(c.RootFS.DiffIDs) != len(a.layers) {
		return nil, "", lies("it has %d layers, and its configuration says %d", len(a.layers), len(c.RootFS.DiffIDs))
	}
	m := manifest{SchemaVersion: 2, MediaType: typeManifest, Config: descriptor{Digest: id}}
	for i, name := range a.layers {
		s, ok := a.entries[path.Clean(name)]
		if !ok {
			return nil, "", lies("its archive holds no layer %.100q", name)
		}
		head := make([]byte, 2)
		if a.file.ReadAt(head, s.at); s.size > 2 && string(head) == "\x1f\x8b" {
			return nil, "", &casemate.Error{Op: "image", Kind: casemate.Unsupported, Err: errors.New("its archive holds compressed layers"),
				Fix: "unpack it into a folder, and name that as oci:FOLDER: it is an OCI layout too"}
		}
		m.Layers = append(m.Layers, descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: c.RootFS.DiffIDs[i], Size: s.size})
	}
	b, err := json.Marshal(m)
	return b, typeManifest, err
}

func (a *archive) blob(_ context.Context, d descriptor, _ bool) (io.ReadCloser, error) {
	if d.Digest == digestOf(a.config) {
		return io.NopCloser(bytes.NewReader(a.config)), nil
	}
	var c config
	if err := strict(a.config, &c, "configuration"); err != nil {
		return nil, err
	}
	for i, id := range c.RootFS.DiffIDs {
		if id == d.Digest && i < len(a.layers) {
			s := a.entries[path.Clean(a.layers[i])]
			return io.NopCloser(io.NewSectionReader(a.file, s.at, s.size)), nil
		}
	}
	return nil, lies("its archive holds nothing of the digest %s", d.Digest)
}

func (a *archive) Close() error { return a.file.Close() }
