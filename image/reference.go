package image

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/casemate/casemate"
)

// The schemes of references.
const (
	registry      = "registry"
	layout        = "oci"
	dockerArchive = "docker-archive"
)

// maxReference bounds a reference, in bytes.
const maxReference = 1024

// A Reference says where an image is.
type Reference struct {
	Scheme string          // "registry", "oci" or "docker-archive"
	Name   string          // registry and repository, or a path as it was written
	Tag    string          // of a registry, where there is no digest
	Digest casemate.Digest // "" where the reference does not pin it
}

var (
	digest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

	// repository is a registry with an optional port, and path elements of the
	// distribution specification.
	repository = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+$`)
)

// Parse reads `registry/name@sha256:…`, `registry/name:tag`,
// `oci:FOLDER[@sha256:…]` or `docker-archive:FILE[@sha256:…]`. It touches
// nothing. A name without a registry is refused: which one is meant would
// depend on who reads it.
func Parse(s string) (Reference, error) {
	bad := func(err error) (Reference, error) {
		return Reference{}, &casemate.Error{Op: "image", Kind: casemate.Invalid, Err: err,
			Fix: "write registry/name@sha256:…, registry/name:tag, oci:FOLDER or docker-archive:FILE"}
	}
	if s == "" || len(s) > maxReference || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
		return bad(errors.New("the reference is empty, too long or not text"))
	}
	r := Reference{Scheme: registry, Name: s}
	for _, scheme := range []string{layout, dockerArchive} {
		if rest, ok := strings.CutPrefix(s, scheme+":"); ok {
			r = Reference{Scheme: scheme, Name: rest}
		}
	}
	if i := strings.LastIndex(r.Name, "@"); i >= 0 && (r.Scheme == registry || strings.HasPrefix(r.Name[i:], "@sha256:")) {
		r.Name, r.Digest = r.Name[:i], casemate.Digest(r.Name[i+1:])
		if !digest.MatchString(string(r.Digest)) {
			return bad(fmt.Errorf("%.100q is no digest: sha256: and 64 hexadecimal digits", string(r.Digest)))
		}
	}
	if r.Name == "" {
		return bad(fmt.Errorf("%q names nothing", s))
	}
	if r.Scheme != registry {
		return r, nil
	}
	if i := strings.LastIndex(r.Name, ":"); i > strings.LastIndex(r.Name, "/") {
		r.Name, r.Tag = r.Name[:i], r.Name[i+1:]
	}
	host, _, ok := strings.Cut(r.Name, "/")
	switch {
	case !ok || !strings.ContainsAny(host, ".:") && host != "localhost":
		return bad(fmt.Errorf("%q names no registry", s))
	case !repository.MatchString(r.Name):
		return bad(fmt.Errorf("%q is no name of a registry and a repository", r.Name))
	case r.Digest == "" && r.Tag == "":
		return bad(fmt.Errorf("%q has neither a tag nor a digest", s))
	case r.Digest != "" && r.Tag != "":
		r.Tag = "" // the digest says it all
	}
	if _, err := r.remote(); err != nil {
		return bad(err)
	}
	return r, nil
}

// remote is the reference as the registry's client has it.
func (r Reference) remote() (name.Reference, error) {
	if r.Digest != "" {
		return name.NewDigest(r.Name+"@"+string(r.Digest), name.StrictValidation)
	}
	return name.NewTag(r.Name+":"+r.Tag, name.StrictValidation)
}

// In returns the reference with a relative path joined to dir.
func (r Reference) In(dir string) Reference {
	if r.Scheme != registry && !filepath.IsAbs(r.Name) {
		r.Name = filepath.Join(dir, r.Name)
	}
	return r
}

// String is the reference as it is written.
func (r Reference) String() string {
	s := r.Name
	if r.Scheme != registry {
		s = r.Scheme + ":" + s
	}
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}
