package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/casemate/casemate"
)

// A registryImage is what a registry has under one reference. The credentials
// are those that docker login keeps for the registry. A failed request is
// made three times in all, after one and three seconds, and no more.
type registryImage struct {
	ref name.Reference
}

func openRegistry(r Reference) (source, error) {
	ref, err := r.remote()
	if err != nil {
		return nil, missing(err, "write registry/name@sha256:…")
	}
	return registryImage{ref}, nil
}

func options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("casemate"),
		remote.WithRetryBackoff(remote.Backoff{Duration: time.Second, Factor: 3, Jitter: 0.1, Steps: 3})}
}

func (r registryImage) root(ctx context.Context, _ casemate.Digest) ([]byte, string, error) {
	return r.manifest(ctx, r.ref)
}

func (r registryImage) manifest(ctx context.Context, ref name.Reference) ([]byte, string, error) {
	d, err := remote.Get(ref, options(ctx)...)
	if err != nil {
		return nil, "", r.explain(err)
	}
	if len(d.Manifest) > maxManifest {
		return nil, "", lies("its manifest has more than %d bytes", maxManifest)
	}
	return d.Manifest, string(d.MediaType), nil
}

func (r registryImage) blob(ctx context.Context, d descriptor, isManifest bool) (io.ReadCloser, error) {
	at := r.ref.Context().Digest(string(d.Digest))
	if isManifest {
		b, _, err := r.manifest(ctx, at)
		return io.NopCloser(bytes.NewReader(b)), err
	}
	l, err := remote.Layer(at, options(ctx)...)
	if err != nil {
		return nil, r.explain(err)
	}
	b, err := l.Compressed()
	if err != nil {
		return nil, r.explain(err)
	}
	return b, nil
}

func (registryImage) Close() error { return nil }

// explain says what to do about an error of the registry's.
func (r registryImage) explain(err error) error {
	host := r.ref.Context().RegistryStr()
	e := &casemate.Error{Op: "image", Kind: casemate.Internal, Err: fmt.Errorf("%s: %w", r.ref, err),
		Fix: "see whether " + host + " can be reached from here, and try again; or use an OCI layout: oci:FOLDER"}
	if t, ok := errors.AsType[*transport.Error](err); ok {
		switch t.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			e.Kind, e.Fix = casemate.Denied, "docker login "+host+", or name an image that is public"
		case http.StatusNotFound:
			e.Kind, e.Fix = casemate.Invalid, "name an image that "+host+" has"
		}
	}
	return e
}
