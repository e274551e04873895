package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/casemate/casemate"
)

// Bounds of what an image says of itself, in bytes and in number.
const (
	maxManifest = 4 << 20
	maxLayers   = 256
	maxListed   = 1024 // manifests of an index
)

// The media types that are understood. A layer's is only how it is compressed.
const (
	typeIndex      = "application/vnd.oci.image.index.v1+json"
	typeList       = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeManifest   = "application/vnd.oci.image.manifest.v1+json"
	typeManifestV2 = "application/vnd.docker.distribution.manifest.v2+json"
)

// compression is how a layer of a media type is compressed: "", gzip or zstd.
func compression(mediaType string) (string, bool) {
	switch mediaType {
	case "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar":
		return "", true
	case "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip":
		return "gzip", true
	case "application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd":
		return "zstd", true
	}
	return "", false
}

// A descriptor names a blob.
type descriptor struct {
	MediaType string          `json:"mediaType"`
	Digest    casemate.Digest `json:"digest"`
	Size      int64           `json:"size"`
	Platform  *platform       `json:"platform"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
}

func (p platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// runs says whether this machine runs what is made for p. A variant of amd64
// asks for instructions that not every such processor has; the default of
// arm64 is v8.
func (p platform) runs() bool {
	return p.OS == "linux" && p.Architecture == runtime.GOARCH && (p.Variant == "" || p.Variant == "v8" && p.Architecture == "arm64" || p.Variant == "v1" && p.Architecture == "amd64")
}

// here is the platform of this machine.
func here() platform { return platform{OS: "linux", Architecture: runtime.GOARCH} }

// A manifest is an index or the manifest of one image.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"` // of an index
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

// A config is what is read of an image's configuration: nothing that could
// widen anything.
type config struct {
	platform
	RootFS struct {
		DiffIDs []casemate.Digest `json:"diff_ids"`
	} `json:"rootfs"`
}

// lies is an error that the image itself is the cause of.
func lies(format string, args ...any) error {
	return &casemate.Error{Op: "image", Kind: casemate.Invalid, Err: fmt.Errorf(format, args...), Fix: "get the image again from where it was built, and pin the digest that it has there"}
}

// digestOf is the digest of b.
func digestOf(b []byte) casemate.Digest {
	sum := sha256.Sum256(b)
	return casemate.Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// verified reads what a descriptor names, which is JSON, and compares its
// digest and, where it is known, its size.
func verified(r io.Reader, d descriptor) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxManifest:
		return nil, lies("%s has more than %d bytes", d.Digest, maxManifest)
	case digestOf(b) != d.Digest:
		return nil, lies("the digest of what stands for %s is %s", d.Digest, digestOf(b))
	case d.Size > 0 && int64(len(b)) != d.Size:
		return nil, lies("%s has %d bytes and not %d", d.Digest, len(b), d.Size)
	}
	return b, nil
}

// strict reads one JSON value; fields that are not known are left alone.
func strict(b []byte, v any, what string) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(v); err != nil {
		return lies("its %s cannot be read: %.200w", what, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return lies("its %s holds more than one value", what)
	}
	return nil
}

// parseManifest reads an index or a manifest. mediaType is what named it as.
func parseManifest(b []byte, mediaType string) (m manifest, isIndex bool, err error) {
	if err := strict(b, &m, "manifest"); err != nil {
		return m, false, err
	}
	if m.SchemaVersion != 2 {
		return m, false, unsupported("its manifest has schema version %d, and not 2", m.SchemaVersion)
	}
	// What the document says of itself and what named it agree, where both
	// speak: else a manifest could be read as an index by one and not by another.
	if m.MediaType != "" && mediaType != "" && m.MediaType != mediaType {
		return m, false, lies("its manifest calls itself %.100q and is named as %.100q", m.MediaType, mediaType)
	}
	if m.MediaType == "" {
		m.MediaType = mediaType
	}
	switch m.MediaType {
	case typeIndex, typeList:
		isIndex = true
	case typeManifest, typeManifestV2:
	case "":
		isIndex = m.Manifests != nil
	default:
		return m, false, unsupported("its manifest is of the unknown media type %.100q", m.MediaType)
	}
	if m.Manifests != nil && (m.Layers != nil || m.Config.Digest != "") {
		return m, false, lies("its manifest is an index and an image in one")
	}
	if len(m.Manifests) > maxListed || len(m.Layers) > maxLayers {
		return m, false, unsupported("it has more than %d layers, or its index more than %d images", maxLayers, maxListed)
	}
	for _, d := range slices.Concat(m.Manifests, m.Layers) {
		if !digest.MatchString(string(d.Digest)) || d.Size < 0 {
			return m, false, lies("its manifest names %.100q, which is no digest", string(d.Digest))
		}
	}
	if isIndex {
		return m, true, nil
	}
	if !digest.MatchString(string(m.Config.Digest)) {
		return m, false, lies("its manifest names no configuration")
	}
	for _, l := range m.Layers {
		if _, ok := compression(l.MediaType); !ok {
			return m, false, unsupported("one of its layers is of the unknown media type %.100q", l.MediaType)
		}
	}
	return m, false, nil
}

// choose returns the manifest of an index that is for this machine. Those of
// attestations have an unknown platform.
func (m manifest) choose() (descriptor, error) {
	var others []string
	for _, d := range m.Manifests {
		switch {
		case d.Platform == nil && len(m.Manifests) == 1: // its configuration says what it is for
			return d, nil
		case d.Platform != nil && d.Platform.runs():
			return d, nil
		case d.Platform != nil && d.Platform.OS != "unknown" && len(others) < 8:
			others = append(others, d.Platform.String())
		}
	}
	return descriptor{}, unsupported("it is for %.200q, and not for %s", others, here())
}

func parseConfig(b []byte, layers int) (c config, err error) {
	if err := strict(b, &c, "configuration"); err != nil {
		return c, err
	}
	switch {
	case !c.runs():
		return c, unsupported("it is for %.100s, and not for %s", c.platform.String(), here())
	case len(c.RootFS.DiffIDs) != layers:
		return c, lies("it has %d layers, and its configuration says %d", layers, len(c.RootFS.DiffIDs))
	}
	for _, d := range c.RootFS.DiffIDs {
		if !digest.MatchString(string(d)) {
			return c, lies("its configuration names %.100q, which is no digest", string(d))
		}
	}
	return c, nil
}

func unsupported(format string, args ...any) error {
	return &casemate.Error{Op: "image", Kind: casemate.Unsupported, Err: fmt.Errorf(format, args...),
		Fix: "build or pull the image for " + here().String() + ", with layers of tar, gzip or zstd"}
}
