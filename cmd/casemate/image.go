package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/image"
)

// images opens the store of images in the folder of state.
func images(state string) (*image.Store, error) {
	return image.Open(filepath.Join(state, "images"))
}

// pullImage returns a pinned image, which is in the store when this returns.
func (a *app) pullImage(ctx context.Context, state string, r image.Reference) (image.Image, error) {
	s, err := images(state)
	if err != nil {
		return image.Image{}, err
	}
	if i, ok := s.Find(r.Digest); ok {
		return i, nil
	}
	a.note("getting the image %s: verified, and unpacked once", r)
	stop := a.progress("unpacking " + r.String())
	defer stop()
	return s.Pull(ctx, r, image.Options{Unpack: unpackApart})
}

// A lockedImage is what the lock has of a reference that pins nothing.
type lockedImage struct {
	Digest casemate.Digest `json:"digest"`
}

// imageKey is what an image is called in the lock's packages.
func imageKey(reference string) string {
	return fmt.Sprintf("image %s %s/%s", reference, runtime.GOOS, runtime.GOARCH)
}

// pinnedImage returns the digest that a reference or the lock pins; "" where
// neither does.
func pinnedImage(l *loaded, reference string) (casemate.Digest, error) {
	r, err := image.Parse(reference)
	if err != nil || r.Digest != "" {
		return r.Digest, err
	}
	key := imageKey(reference)
	b, ok := l.Lock().Packages[key]
	if !ok {
		return "", nil
	}
	var pinned lockedImage
	if err := json.Unmarshal(b, &pinned); err != nil || pinned.Digest == "" {
		return "", &casemate.Error{Op: "lock", Kind: casemate.Denied, Err: fmt.Errorf("packages: %s pins no digest", key), Fix: "remove the entry from " + l.LockFile() + ": the image is resolved again"}
	}
	return pinned.Digest, nil
}

// imageFor returns the image that a tool of l names, unpacked. A reference
// without a digest is resolved once, and is what the lock has ever after.
func (a *app) imageFor(ctx context.Context, l *loaded, reference string) (image.Image, error) {
	r, err := image.Parse(reference)
	if err != nil {
		return image.Image{}, err
	}
	r = r.In(l.Dir)
	pinned, err := pinnedImage(l, reference)
	if err != nil {
		return image.Image{}, err
	}
	if r.Digest = pinned; pinned != "" {
		return a.pullImage(ctx, l.state, r)
	}
	if r.Digest, err = image.Resolve(ctx, r); err != nil {
		return image.Image{}, err
	}
	i, err := a.pullImage(ctx, l.state, r)
	if err != nil {
		return image.Image{}, err
	}
	b, err := json.Marshal(lockedImage{i.Digest})
	if err != nil {
		bug("a digest does not marshal")
	}
	a.note("%s is %s from now on, as %s says", reference, i.Digest, l.LockFile())
	return i, l.UpdateLock(func(lock *catalog.Lock) error {
		if lock.Packages == nil {
			lock.Packages = map[string]json.RawMessage{}
		}
		lock.Packages[imageKey(reference)] = b
		return nil
	})
}
