package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/casemate/casemate"
)

// Options say how an image is pulled.
type Options struct {
	// Unpack has a process run [Unpack] beneath root, with stream; what comes
	// back of it is not trusted. It returns when the process is gone.
	Unpack func(ctx context.Context, root *os.File, stream *os.File) (Result, error)

	Limits   Limits
	Progress func(done, total int64) // bytes of layers; called often. Nil: nobody watches
}

// Resolve returns the digest of what a reference names now, for this machine.
// It asks the registry, or reads the folder or the archive.
func Resolve(ctx context.Context, r Reference) (casemate.Digest, error) {
	src, err := open(r)
	if err != nil {
		return "", err
	}
	defer src.Close()
	d, _, err := resolve(ctx, src, r)
	return d, err
}

// Pull returns the image that r pins, from the store or from where r says. A
// reference that does not pin its image has to be resolved before. It blocks;
// while another process pulls the same image it waits for that. After a
// failure nothing of the image is there, and nothing is tried again.
func (s *Store) Pull(ctx context.Context, r Reference, o Options) (Image, error) {
	if !digest.MatchString(string(r.Digest)) {
		return Image{}, &casemate.Error{Op: "image", Kind: casemate.Invalid, Err: fmt.Errorf("%s is not pinned", r), Fix: "casemate image pull resolves it once"}
	}
	if i, ok := s.Find(r.Digest); ok {
		return i, nil
	}
	unlock, err := s.lock(ctx, r.Digest)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	if i, ok := s.Find(r.Digest); ok {
		return i, nil // another process had it meanwhile
	}
	src, err := open(r)
	if err != nil {
		return Image{}, err
	}
	defer src.Close()
	d, m, err := resolve(ctx, src, r)
	if err != nil {
		return Image{}, err
	}
	if d != r.Digest { // r pins an index
		inner, err := s.lock(ctx, d)
		if err != nil {
			return Image{}, err
		}
		defer inner()
	}
	i, ok := s.Find(d)
	if !ok {
		if i, err = s.make(ctx, src, r, d, m, o); err != nil {
			return Image{}, explain(ctx, err)
		}
	}
	if d != r.Digest {
		if err := write(s.path(r.Digest, ".index"), []byte(d)); err != nil {
			return Image{}, explain(ctx, err)
		}
	}
	return i, nil
}

// explain gives an error a kind.
func explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &casemate.Error{Op: "image", Kind: casemate.Cancelled, Err: ctx.Err()}
	}
	err = full(err)
	if _, ok := errors.AsType[*casemate.Error](err); ok {
		return err
	}
	return &casemate.Error{Op: "image", Kind: casemate.Internal, Err: err, Fix: "make room and rights in the state folder, and try again"}
}

// resolve reads the manifest for this machine, and compares its digest with
// what is pinned.
func resolve(ctx context.Context, src source, r Reference) (casemate.Digest, manifest, error) {
	b, mediaType, err := src.root(ctx, r.Digest)
	if err != nil {
		return "", manifest{}, err
	}
	d := digestOf(b)
	// A docker-archive's manifest is our own, of what is pinned by its
	// configuration; it has compared that.
	if r.Digest != "" && d != r.Digest && r.Scheme != dockerArchive {
		return "", manifest{}, lies("the digest of what stands for %s is %s", r.Digest, d)
	}
	m, isIndex, err := parseManifest(b, mediaType)
	if err != nil {
		return "", manifest{}, err
	}
	if isIndex {
		chosen, err := m.choose()
		if err != nil {
			return "", manifest{}, err
		}
		if b, err = read(ctx, src, chosen, true); err != nil {
			return "", manifest{}, err
		}
		if m, isIndex, err = parseManifest(b, chosen.MediaType); err != nil {
			return "", manifest{}, err
		}
		if isIndex {
			return "", manifest{}, unsupported("its index names an index")
		}
		d = chosen.Digest
	}
	if r.Scheme == dockerArchive {
		d = m.Config.Digest
	}
	return d, m, nil
}

func read(ctx context.Context, src source, d descriptor, isManifest bool) ([]byte, error) {
	r, err := src.blob(ctx, d, isManifest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return verified(r, d)
}

// make unpacks an image and moves it to its place. The caller holds its lock.
func (s *Store) make(ctx context.Context, src source, r Reference, d casemate.Digest, m manifest, o Options) (Image, error) {
	b, err := read(ctx, src, m.Config, false)
	if err != nil {
		return Image{}, err
	}
	c, err := parseConfig(b, len(m.Layers))
	if err != nil {
		return Image{}, err
	}
	if err := s.clear(d); err != nil {
		return Image{}, err
	}
	stage := s.path(d, ".new")
	if err := os.Mkdir(stage, 0o700); err != nil {
		return Image{}, err
	}
	defer remove(stage)
	tree := filepath.Join(stage, "root")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return Image{}, err
	}
	res, err := unpackBy(ctx, o, tree, func(w io.Writer) error { return feed(ctx, w, src, m, c, o) })
	if err != nil {
		return Image{}, err
	}
	i := Image{Digest: d, Reference: r.String(), Entries: res.Entries, Bytes: res.Bytes, Skipped: max(res.Skipped, 0), Made: time.Now().UTC().Truncate(time.Second)}
	record, err := json.Marshal(i)
	if err != nil {
		return Image{}, err
	}
	if err := write(filepath.Join(stage, "image.json"), record); err != nil {
		return Image{}, err
	}
	if err := os.Rename(stage, s.path(d, "")); err != nil {
		return Image{}, err
	}
	i.Layers = []string{filepath.Join(s.path(d, ""), "root")}
	return i, nil
}

// unpackBy has a process unpack what feeds it. What the feeder says comes
// first: it compares the digests.
func unpackBy(ctx context.Context, o Options, tree string, feeds func(io.Writer) error) (Result, error) {
	root, err := os.Open(tree)
	if err != nil {
		return Result{}, err
	}
	defer root.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fed := make(chan error, 1)
	go func() {
		err := feeds(w)
		if err != nil && !errors.Is(err, os.ErrClosed) && !isPipe(err) {
			cancel(err) // the process would wait for the rest
		}
		w.Close()
		fed <- err
	}()
	res, err := o.Unpack(ctx, root, r)
	r.Close() // so that the feeder ends
	switch ferr := <-fed; {
	case ferr != nil && !isPipe(ferr):
		return res, ferr
	case res.Error != nil:
		return res, &casemate.Error{Op: "image", Kind: res.Error.Kind, Err: errors.New(strings.TrimPrefix(res.Error.Message, "image: ")), Fix: res.Error.Fix}
	case err == nil && ferr != nil:
		return res, lies("its layers were not read to their end")
	case err != nil:
		return res, err
	}
	made, err := settle(int(root.Fd()), o.Limits)
	made.Skipped = res.Skipped
	return made, err
}

// feed writes the layers to the process that unpacks them, the lowest first,
// and compares the digest of each.
func feed(ctx context.Context, w io.Writer, src source, m manifest, c config, o Options) error {
	var total, done int64
	for _, l := range m.Layers {
		total += l.Size
	}
	for n, l := range m.Layers {
		how, _ := compression(l.MediaType)
		s := step{Compression: how, Diff: c.RootFS.DiffIDs[n], Size: l.Size}
		if n == 0 {
			s.Limits = o.Limits
		}
		if how == "" { // what it unpacks to is what layer compares
			if s.Diff = ""; l.Digest != c.RootFS.DiffIDs[n] {
				return lies("the digest of a layer is %s, and its configuration says %s", l.Digest, c.RootFS.DiffIDs[n])
			}
		}
		if err := writeStep(w, s); err != nil {
			return err
		}
		if err := layer(ctx, w, src, l, func(n int64) {
			if done += n; o.Progress != nil {
				o.Progress(done, total)
			}
		}); err != nil {
			return err
		}
	}
	return writeStep(w, step{Last: true, Limits: o.Limits})
}

func writeStep(w io.Writer, s step) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// layer copies one layer.
func layer(ctx context.Context, w io.Writer, src source, l descriptor, progress func(int64)) error {
	r, err := src.blob(ctx, l, false)
	if err != nil {
		return err
	}
	defer r.Close()
	sum, left, buf := sha256.New(), l.Size, make([]byte, 256<<10)
	for left > 0 && ctx.Err() == nil {
		n, err := io.ReadFull(r, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return lies("the layer %s cannot be read, or is cut short: %.200s", l.Digest, err.Error())
		}
		sum.Write(buf[:n])
		if left -= int64(n); left == 0 {
			// The last bytes of a layer that is another are not handed on.
			if got := casemate.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil))); got != l.Digest {
				return lies("the digest of what stands for the layer %s is %s", l.Digest, got)
			}
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		progress(int64(n))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if n, _ := io.ReadFull(r, buf[:1]); n > 0 {
		return lies("the layer %s is longer than its manifest says", l.Digest)
	}
	return nil
}

// write makes a file, whole or not at all.
func write(file string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// isPipe says whether who reads has gone: then it says why.
func isPipe(err error) bool { return errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) }
