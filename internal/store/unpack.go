package store

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Unpack makes the files of a tar archive beneath dir, an empty folder. The
// archive is hostile: an entry that a tree may not hold, or that stands twice,
// and an archive beyond the bounds, is an error that is ErrRefused.
func Unpack(dir string, archive io.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	r := tar.NewReader(archive)
	left, room := MaxEntries, int64(MaxBytes)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: its archive cannot be read: %.200s", ErrRefused, err)
		}
		if left--; left < 0 {
			return refused(h.Name, fmt.Sprintf("is part of more than %d entries", MaxEntries))
		}
		if room -= h.Size; h.Size < 0 || room < 0 {
			return refused(h.Name, fmt.Sprintf("is part of more than %d bytes", int64(MaxBytes)))
		}
		if err := unpack(root, h, r); err != nil {
			return err
		}
	}
}

// unpack makes one entry.
func unpack(root *os.Root, h *tar.Header, content io.Reader) error {
	name := strings.TrimSuffix(h.Name, "/")
	if !filepath.IsLocal(name) || path.Clean(name) != name || len(name) > MaxPath || strings.Count(name, "/") > MaxDepth {
		return refused(h.Name, "is no path beneath it")
	}
	// What is above the entry is a folder that was made here: a link that was
	// made before is not gone through, even to where it may lead.
	for i, c := range name {
		if c != '/' {
			continue
		}
		if fi, err := root.Lstat(name[:i]); err != nil || !fi.IsDir() {
			return refused(h.Name, "lies in no folder")
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return again(h, root.Mkdir(name, 0o755))
	case tar.TypeSymlink:
		if !inside(name, h.Linkname) {
			return refused(h.Name, fmt.Sprintf("is a link out of it, to %.200q", h.Linkname))
		}
		return again(h, root.Symlink(h.Linkname, name))
	case tar.TypeReg:
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return refused(h.Name, "is a file with holes: a short archive could fill the disk")
			}
		}
	default:
		return refused(h.Name, fmt.Sprintf("is neither a file, a folder nor a link (type %q)", h.Typeflag))
	}
	mode := fs.FileMode(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return again(h, err)
	}
	_, err = io.Copy(f, content)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = refused(h.Name, "is cut short")
	}
	return errors.Join(err, f.Close())
}

// again says of an error whether the archive is its cause.
func again(h *tar.Header, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return refused(h.Name, "stands twice")
	}
	return err
}
