package store

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// archive makes a tar archive of headers; a regular file's content is in Uname.
func archive(t testing.TB, hs ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		content := h.Uname
		h.Uname = ""
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func dir(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }

func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: content}
}

func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func TestUnpack(t *testing.T) {
	run := file("tree/bin/x", "#!/bin/sh\n")
	run.Mode = 0o4755 // the bit is not kept
	for name, c := range map[string]struct {
		hs  []tar.Header
		err string // "" is none
	}{
		"a package":                   {[]tar.Header{dir("tree/"), dir("tree/bin"), run, link("tree/y", "bin/x"), link("tree/bin/z", "../y"), file("tree/a", "1")}, ""},
		"an absolute path":            {[]tar.Header{file("/a", "1")}, "no path beneath it"},
		"a path that climbs":          {[]tar.Header{file("../a", "1")}, "no path beneath it"},
		"a path that climbs later":    {[]tar.Header{dir("d"), file("d/../../a", "1")}, "no path beneath it"},
		"a link out":                  {[]tar.Header{link("a", "../../etc/passwd")}, "a link out of it"},
		"an absolute link":            {[]tar.Header{link("a", "/etc/passwd")}, "a link out of it"},
		"a link through a link":       {[]tar.Header{dir("d"), dir("d/e"), link("d/e/up", "../.."), link("a", "d/e/up/../../etc")}, "a link out of it"},
		"a file through a link":       {[]tar.Header{dir("d"), link("l", "d"), file("l/a", "1")}, "lies in no folder"},
		"a file in place of a link":   {[]tar.Header{dir("d"), link("l", "d/a"), file("l", "1")}, "stands twice"},
		"a file twice":                {[]tar.Header{file("a", "1"), file("a", "2")}, "stands twice"},
		"a file in a file":            {[]tar.Header{file("a", "1"), file("a/b", "2")}, "lies in no folder"},
		"a hard link":                 {[]tar.Header{file("a", "1"), {Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}}, "neither a file"},
		"a hard link of the host's":   {[]tar.Header{{Typeflag: tar.TypeLink, Name: "b", Linkname: "/etc/passwd"}}, "neither a file"},
		"a device":                    {[]tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}, "neither a file"},
		"a pipe":                      {[]tar.Header{{Typeflag: tar.TypeFifo, Name: "p"}}, "neither a file"},
		"a path that is too deep":     {[]tar.Header{file(strings.Repeat("d/", MaxDepth+1)+"a", "1")}, "no path beneath it"},
		"nothing that is an archive":  {nil, ""},
		"a folder that is not a path": {[]tar.Header{dir("d/./e")}, "no path beneath it"},
	} {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			to := filepath.Join(outer, "in", "to")
			if err := os.MkdirAll(to, 0o700); err != nil {
				t.Fatal(err)
			}
			err := Unpack(to, bytes.NewReader(archive(t, c.hs...)))
			if c.err != "" {
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v; want %q", err, c.err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			// Nothing is beside the folder, whatever the archive was.
			for _, d := range []string{outer, filepath.Dir(to)} {
				if es, _ := os.ReadDir(d); len(es) != 1 {
					t.Errorf("%s holds %v", d, es)
				}
			}
			if fi, err := os.Stat(to + "/tree/bin/x"); err == nil && fi.Mode() != 0o755 {
				t.Errorf("mode %v", fi.Mode())
			}
		})
	}
	if err := Unpack(t.TempDir(), strings.NewReader(strings.Repeat("no archive ", 100))); !errors.Is(err, ErrRefused) {
		t.Errorf("no archive: %v", err)
	}
	whole := archive(t, file("a", strings.Repeat("1", 4096)))
	if err := Unpack(t.TempDir(), bytes.NewReader(whole[:2000])); !errors.Is(err, ErrRefused) {
		t.Errorf("cut short: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, dir("tree"), file("tree/a", "1"), link("tree/b", "a")))
	f.Add(archive(f, link("a", ".."), file("a/b", "1")))
	f.Fuzz(func(t *testing.T, b []byte) {
		outer := t.TempDir()
		to := filepath.Join(outer, "to")
		if err := os.Mkdir(to, 0o700); err != nil {
			t.Fatal(err)
		}
		if Unpack(to, bytes.NewReader(b)) == nil {
			if _, err := Digest(to); err != nil {
				t.Errorf("what was unpacked is refused: %v", err)
			}
		}
		if es, _ := os.ReadDir(outer); len(es) != 1 {
			t.Errorf("beside the folder: %v", es)
		}
	})
}

// staged makes a tree in a staging folder of s.
func staged(t *testing.T, s *Store, files map[string]string) string {
	t.Helper()
	d, err := s.Staging()
	if err != nil {
		t.Fatal(err)
	}
	d = filepath.Join(d, "tree")
	for name, content := range files {
		p := filepath.Join(d, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(to, p)
		} else {
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func opened(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "packages"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Remove(s.dir) })
	return s
}

var some = map[string]string{"d/e/a": "1", "d/b": "2", "l": "-> d/b"}

// TestDigest: what differs in anything that counts has another digest.
func TestDigest(t *testing.T) {
	s := opened(t)
	want, err := Digest(staged(t, s, some))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Digest(staged(t, s, some)); got != want || err != nil {
		t.Fatalf("the same tree: %s, %v; want %s", got, err, want)
	}
	seen := map[string]string{want: "the tree"}
	for name, change := range map[string]func(d string) error{
		"a byte":         func(d string) error { return os.WriteFile(d+"/d/b", []byte("3"), 0o644) },
		"a name":         func(d string) error { return os.Rename(d+"/d/b", d+"/d/c") },
		"a place":        func(d string) error { return os.Rename(d+"/d/b", d+"/b") },
		"may be run":     func(d string) error { return os.Chmod(d+"/d/b", 0o755) },
		"a link":         func(d string) error { os.Remove(d + "/l"); return os.Symlink("d/e", d+"/l") },
		"a file as link": func(d string) error { os.Remove(d + "/l"); return os.WriteFile(d+"/l", []byte("d/b"), 0o644) },
		"one more":       func(d string) error { return os.WriteFile(d+"/new", nil, 0o644) },
		"a folder more":  func(d string) error { return os.Mkdir(d+"/new", 0o755) },
	} {
		d := staged(t, s, some)
		if err := change(d); err != nil {
			t.Fatal(err)
		}
		got, err := Digest(d)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%s: the digest is that of %s", name, other)
		}
		seen[got] = name
	}
}

// TestRefusedTrees: what no package has to hold is not admitted.
func TestRefusedTrees(t *testing.T) {
	for name, plant := range map[string]func(d string) error{
		"an absolute link": func(d string) error { return os.Symlink("/etc/passwd", d+"/x") },
		"a link out":       func(d string) error { return os.Symlink("../x", d+"/x") },
		"a pipe":           func(d string) error { return syscall.Mkfifo(d+"/x", 0o644) },
		"setuid": func(d string) error {
			return errors.Join(os.WriteFile(d+"/x", nil, 0o755), os.Chmod(d+"/x", 0o755|fs.ModeSetuid))
		},
		"setgid": func(d string) error {
			return errors.Join(os.WriteFile(d+"/x", nil, 0o755), os.Chmod(d+"/x", 0o755|fs.ModeSetgid))
		},
	} {
		s := opened(t)
		d := staged(t, s, some)
		if err := plant(d); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Admit(d); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestAdmitAndVerify(t *testing.T) {
	s := opened(t)
	digest, err := s.Admit(staged(t, s, some))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(digest); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Admit(staged(t, s, some)); again != digest || err != nil {
		t.Fatalf("the same again: %s, %v", again, err)
	}
	p := s.Path(digest)
	filepath.WalkDir(p, func(at string, d fs.DirEntry, err error) error {
		if fi, _ := d.Info(); d.Type()&fs.ModeSymlink == 0 && fi.Mode().Perm()&0o222 != 0 {
			t.Errorf("%s may be written: %v", at, fi.Mode())
		}
		return err
	})
	// One byte, with time and size as they were.
	f := p + "/d/b"
	fi, err := os.Stat(f)
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(f, 0o644)
	if err := errors.Join(os.WriteFile(f, []byte("9"), 0o644), os.Chmod(f, 0o444), os.Chtimes(f, fi.ModTime(), fi.ModTime())); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(digest); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Fatalf("a changed tree: %v", err)
	}
	if again, err := s.Admit(staged(t, s, some)); again != digest || err != nil || s.Verify(digest) != nil {
		t.Fatalf("a changed tree is not replaced: %s, %v", again, err)
	}
	if err := Remove(p); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(digest); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a tree that is gone: %v", err)
	}
	for _, bad := range []string{"", "sha256:", "sha256:../../x", "sha256:" + strings.Repeat("g", 64), strings.Repeat("a", 64)} {
		if p := s.Path(bad); p != "" {
			t.Errorf("Path(%q) = %q", bad, p)
		}
	}
}

// TestTogether: those who prepare the same at a time all have it in the end.
func TestTogether(t *testing.T) {
	s := opened(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			unlock, err := s.Lock(t.Context().Done())
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			d := staged(t, s, some)
			digest, err := s.Admit(d)
			if err != nil || s.Verify(digest) != nil {
				t.Errorf("%s: %v", digest, err)
			}
			Remove(filepath.Dir(d))
		})
	}
	wg.Wait()
	left, _ := filepath.Glob(s.dir + "/.staging-*")
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	unlock, err := s.Lock(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	done := make(chan struct{})
	close(done)
	if _, err := s.Lock(done); err == nil {
		t.Error("the lock was had twice")
	}
}

func TestInside(t *testing.T) {
	for _, c := range []struct {
		at, target string
		want       bool
	}{
		{"a", "b", true}, {"a", "./b/c", true}, {"d/a", "../b", true}, {"d/e/a", "../../b", true}, {"d/a", "..", true},
		{"a", "..", false}, {"a", "../b", false}, {"d/a", "../../b", false}, {"d/a", "x/../b", false}, {"a", "/b", false}, {"a", "", false}, {"a", "b\x00", false},
	} {
		if got := inside(c.at, c.target); got != c.want {
			t.Errorf("inside(%q, %q) = %v", c.at, c.target, got)
		}
	}
}
