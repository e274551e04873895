package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

func char(name string, major, minor int64) entry {
	return entry{tar.Header{Typeflag: tar.TypeChar, Name: name, Devmajor: major, Devminor: minor, Mode: 0o666}, ""}
}

func TestUnpack(t *testing.T) {
	type layers [][]entry
	for name, c := range map[string]struct {
		layers layers
		want   []string // nil: refused
		err    string
	}{
		"an image": {layers{{dir("./"), dir("bin/"), mode(file("bin/sh", "x"), 0o755), link("bin/ls", "sh"), hard("bin/cat", "bin/sh"), file("etc/a", "1")}},
			[]string{"bin/", "bin/cat*=x", "bin/ls->sh", "bin/sh*=x", "etc/", "etc/a=1"}, ""},
		"set-user-ID and sticky bits": {layers{{mode(dir("tmp"), 0o1777), mode(file("su", "x"), 0o6755), mode(file("s", "x"), 0o4644)}},
			[]string{"s=x", "su*=x", "tmp/"}, ""},
		"a file that nobody may read": {layers{{mode(file("shadow", "x"), 0), mode(dir("root"), 0o700)}}, []string{"root/", "shadow=x"}, ""},
		"devices": {layers{{dir("dev"), char("dev/null", 1, 3), char("dev/sda", 8, 0), {tar.Header{Typeflag: tar.TypeFifo, Name: "p"}, ""},
			{tar.Header{Typeflag: tar.TypeBlock, Name: "dev/b", Devmajor: 8}, ""}, file("a", "1")}}, []string{"a=1", "dev/"}, ""},
		"the device that is a whiteout of overlays": {layers{{file("a", "1")}, {char("a", 0, 0)}}, []string{"a=1"}, ""},

		"an absolute name":          {layers{{file("/etc/passwd", "x"), dir("/"), dir("//var//")}}, []string{"etc/", "etc/passwd=x", "var/"}, ""},
		"a name that climbs":        {layers{{file("../x", "1")}}, nil, "climbs"},
		"a name that climbs later":  {layers{{dir("d"), file("d/../../x", "1")}}, nil, "climbs"},
		"a name that climbs inside": {layers{{dir("d"), file("d/../x", "1")}}, nil, "climbs"},
		"a folder that climbs":      {layers{{dir("..")}}, nil, "climbs"},
		"a root that is a link":     {layers{{link(".", "/etc")}}, nil, "is the root"},
		"a name that is too long":   {layers{{file(strings.Repeat("x", 256), "1")}}, nil, "file name too long"},
		"a path that is too long":   {layers{{file(strings.Repeat("x/", maxPath/2)+"x", "1")}}, nil, "too long"},
		"a path that is too deep":   {layers{{file(strings.Repeat("x/", maxDepth+1)+"x", "1")}}, nil, "too deep"},

		"an absolute link":          {layers{{link("l", "/etc/passwd"), link("m", "../../../etc")}}, []string{"l->/etc/passwd", "m->../../../etc"}, ""},
		"a file through a link out": {layers{{dir("etc"), link("l", "/etc"), file("l/passwd", "own")}}, []string{"etc/", "etc/passwd=own", "l->/etc"}, ""},
		"a file through a link that climbs": {layers{{dir("a"), link("a/l", "../../../../.."), file("a/l/x", "own")}},
			[]string{"a/", "a/l->../../../../..", "x=own"}, ""},
		"a file through a link of a layer below": {layers{{dir("usr/lib"), link("lib", "usr/lib")}, {file("lib/x", "1")}},
			[]string{"lib->usr/lib", "usr/", "usr/lib/", "usr/lib/x=1"}, ""},
		"a file through a link to nowhere":     {layers{{link("l", "/nowhere"), file("l/x", "1")}}, nil, "lies in no folder"},
		"a file through a link to itself":      {layers{{link("l", "l"), file("l/x", "1")}}, nil, "lies in no folder"},
		"a file through a file":                {layers{{file("a", "1"), file("a/b", "1")}}, nil, "lies in no folder"},
		"a file over a link is not through it": {layers{{file("a", "old"), link("l", "a")}, {file("l", "new")}}, []string{"a=old", "l=new"}, ""},
		"a folder over a link":                 {layers{{dir("a"), link("l", "a")}, {dir("l"), file("l/x", "1")}}, []string{"a/", "l/", "l/x=1"}, ""},
		"a link over a folder":                 {layers{{dir("a"), file("a/x", "1"), dir("b")}, {link("a", "b"), file("a/y", "1")}}, []string{"a->b", "b/", "b/y=1"}, ""},
		"a link that is replaced while in use": {layers{{dir("a"), dir("b"), link("l", "a")}, {file("l/x", "1"), link("l", "b"), file("l/y", "2")}},
			[]string{"a/", "a/x=1", "b/", "b/y=2", "l->b"}, ""},

		"a link that is replaced through itself": {layers{{dir("a"), link("l", ".")}, {file("l/x", "1"), link("l/l", "a"), file("l/y", "2")}},
			[]string{"a/", "a/y=2", "l->a", "x=1"}, ""},

		"a file twice":              {layers{{file("a", "1"), file("a", "2")}}, nil, "stands twice"},
		"a file and a link":         {layers{{file("a", "1"), link("a", "b")}}, nil, "stands twice"},
		"a file and a folder":       {layers{{file("a", "1"), dir("a")}}, nil, "stands twice"},
		"a folder and a file":       {layers{{dir("a"), file("a", "1")}}, nil, "stands twice"},
		"a file by two ways":        {layers{{dir("a"), link("l", "a"), file("a/x", "1"), file("l/x", "2")}}, nil, "stands twice"},
		"a folder twice":            {layers{{dir("a"), dir("a"), file("a/x", "1"), dir("a")}}, []string{"a/", "a/x=1"}, ""},
		"a file over what is in it": {layers{{file("a/b", "1"), file("a", "2")}}, nil, "its layer has entries"},

		"a hard link to a layer below":       {layers{{file("a", "1")}, {hard("b", "a")}}, []string{"a=1", "b=1"}, ""},
		"a hard link to a link":              {layers{{link("a", "/etc/passwd"), hard("b", "a")}}, []string{"a->/etc/passwd", "b->/etc/passwd"}, ""},
		"a hard link out":                    {layers{{hard("b", "/etc/passwd")}}, nil, "is not there"},
		"a hard link that climbs":            {layers{{hard("b", "../../../../../../etc/passwd")}}, nil, "no path beneath"},
		"a hard link through a link out":     {layers{{link("l", "/etc"), hard("b", "l/passwd")}}, nil, "is not there"},
		"a hard link to a folder":            {layers{{dir("a"), hard("b", "a")}}, nil, "to a folder"},
		"a hard link to the root":            {layers{{hard("b", "/")}}, nil, "no path beneath"},
		"a hard link to itself":              {layers{{file("a", "1")}, {hard("a", "a")}}, []string{"a=1"}, ""},
		"a file over one that has two names": {layers{{file("a", "1"), hard("b", "a")}, {file("a", "2")}}, []string{"a=2", "b=1"}, ""},

		"a whiteout":                      {layers{{file("a", "1"), file("b", "1")}, {file(".wh.a", "")}}, []string{"b=1"}, ""},
		"a whiteout of a folder":          {layers{{file("a/b/c", "1"), file("b", "1")}, {file(".wh.a", "")}}, []string{"b=1"}, ""},
		"a whiteout of nothing":           {layers{{file("b", "1")}, {file(".wh.a", ""), file("no/.wh.x", "")}}, []string{"b=1"}, ""},
		"a whiteout of its own layer":     {layers{{file("a", "1")}, {file("a", "2"), file(".wh.a", "")}}, []string{"a=2"}, ""},
		"a whiteout before what replaces": {layers{{file("a/x", "1")}, {file(".wh.a", ""), dir("a"), file("a/y", "2")}}, []string{"a/", "a/y=2"}, ""},
		"a whiteout after what replaces":  {layers{{file("a/x", "1")}, {dir("a"), file("a/y", "2"), file(".wh.a", "")}}, []string{"a/", "a/y=2"}, ""},
		"a whiteout through a link":       {layers{{file("a/x", "1"), link("l", "a")}, {file("l/.wh.x", "")}}, []string{"a/", "l->a"}, ""},
		"a whiteout of a link":            {layers{{file("a", "1"), link("l", "a")}, {file(".wh.l", "")}}, []string{"a=1"}, ""},
		"an opaque folder":                {layers{{file("a/x", "1"), file("a/b/y", "1")}, {dir("a"), file("a/z", "2"), file("a/.wh..wh..opq", "")}}, []string{"a/", "a/z=2"}, ""},
		"an opaque folder, said first":    {layers{{file("a/x", "1"), file("a/b/y", "1")}, {file("a/.wh..wh..opq", ""), file("a/b/z", "2")}}, []string{"a/", "a/b/", "a/b/z=2"}, ""},
		"an opaque root":                  {layers{{file("a/x", "1")}, {file(".wh..wh..opq", ""), file("b", "2")}}, []string{"b=2"}, ""},
		"a whiteout of the folder above":  {layers{{file("a/x", "1")}, {file("a/.wh...", "")}}, nil, "has a name"},
		"a whiteout of the folder itself": {layers{{file("a/x", "1")}, {file("a/.wh..", "")}}, nil, "has a name"},
		"a whiteout of no name":           {layers{{file("a/x", "1")}, {file("a/.wh.", "")}}, nil, "has a name"},
		"a whiteout that climbs":          {layers{{file("a/x", "1")}, {file("../.wh.in", "")}}, nil, "climbs"},
		"a whiteout through a link out":   {layers{{link("l", "../../../..")}, {file("l/.wh.tmp", "")}}, []string{"l->../../../.."}, ""},
		"names of a file system of old":   {layers{{file("a", "1"), file(".wh..wh.plnk", ""), file(".wh..wh.aufs", "")}}, []string{"a=1"}, ""},
		"a file with holes, in our own words": {layers{{{tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o644, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"CASEMATE.sparse.x": "1"}}, "1"}}}, []string{"a=1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var bs [][]byte
			for _, l := range c.layers {
				bs = append(bs, pack(t, l...))
			}
			root, r := unpack(t, Limits{}, bs...)
			if c.want == nil {
				if r.Error == nil || r.Error.Kind != casemate.Invalid || !strings.Contains(r.Error.Message, c.err) || r.Error.Fix == "" {
					t.Fatalf("%+v; want %q", r.Error, c.err)
				}
				return
			}
			if r.Error != nil {
				t.Fatal(r.Error.Message)
			}
			if got := tree(t, root); !slices.Equal(got, c.want) {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}

// What a header can say and archive/tar does not write.
func TestUnpackBytes(t *testing.T) {
	whole := pack(t, file("a", strings.Repeat("1", 4096)))
	sparse := pack(t, file("a", strings.Repeat("1", 512)))
	sparse[156] = 'S'
	resum(sparse)
	contiguous := pack(t, file("a", "1"))
	contiguous[156] = '7'
	resum(contiguous)
	huge := pack(t, file("a", ""))
	copy(huge[124:136], "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff") // a size by base 256
	resum(huge)
	for name, c := range map[string]struct {
		layer []byte
		err   string
	}{
		"text":                     {[]byte(strings.Repeat("no archive ", 100)), "no tar archive"},
		"a file that is cut short": {whole[:1024], "cut short"},
		"a head that is cut short": {whole[:300], "no tar archive"},
		"a file with holes":        {sparse, ""},
		"an unknown type":          {contiguous, "unknown type"},
		"a file of 2^63 bytes":     {huge, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			root, r := unpack(t, Limits{}, c.layer)
			if r.Error == nil || r.Error.Kind != casemate.Invalid || !strings.Contains(r.Error.Message, c.err) {
				t.Errorf("%+v; want %q", r.Error, c.err)
			}
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(root, "a"), &st); err == nil && st.Size > 4096 {
				t.Errorf("a file of %d bytes was made", st.Size)
			}
		})
	}
	if _, r := unpack(t, Limits{}, nil); r.Error != nil { // of no bytes at all
		t.Errorf("an empty layer: %+v", r.Error)
	}
}

// resum writes the checksum of the first header.
func resum(b []byte) {
	copy(b[148:156], "        ")
	sum := 0
	for _, x := range b[:512] {
		sum += int(x)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func TestLimits(t *testing.T) {
	var many []entry
	for i := range 200 {
		many = append(many, file(fmt.Sprint(i), "x"))
	}
	big := pack(t, file("a", strings.Repeat("\x00", 8<<20)))
	deep := dir(strings.Repeat("d/", maxDepth-1))
	for name, c := range map[string]struct {
		limits Limits
		layers [][]byte
		err    string
	}{
		"entries":                  {Limits{Entries: 199}, [][]byte{pack(t, many...)}, "more than 199 entries"},
		"entries of two layers":    {Limits{Entries: 399}, [][]byte{pack(t, many...), pack(t, many...)}, "more than 399 entries"},
		"folders of no entry":      {Limits{Entries: 60}, [][]byte{pack(t, file(strings.Repeat("d/", 100)+"x", "1"))}, "more than 60 entries"},
		"bytes":                    {Limits{Bytes: 4 << 20}, [][]byte{big}, "more than"},
		"bytes that are removed":   {Limits{Bytes: 20 << 20}, [][]byte{big, big, big}, "more than"},
		"depth, by way of a link":  {Limits{}, [][]byte{pack(t, deep, link("l", strings.TrimSuffix(deep.Name, "/")), dir("l/x/y"))}, "too deep"},
		"room on the disk":         {Limits{Reserve: 1 << 60}, [][]byte{pack(t, file("a", strings.Repeat("x", 33<<20)))}, "no space left"},
		"what follows the archive": {Limits{Bytes: 1 << 20}, [][]byte{append(pack(t, file("a", "1")), make([]byte, 2<<20)...)}, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := unpack(t, c.limits, c.layers...)
			if r.Error == nil || !strings.Contains(r.Error.Message, c.err) {
				t.Errorf("%+v; want %q", r.Error, c.err)
			}
		})
	}
	if _, r := unpack(t, Limits{Entries: 200, Bytes: 9 << 20}, pack(t, many...)); r.Error != nil {
		t.Errorf("at its limits: %s", r.Error.Message)
	}
}

// Times of files are kept, since programs compare them; those that no file
// system has are not.
func TestTimes(t *testing.T) {
	at, never := file("a", "1"), file("b", "1")
	at.ModTime, never.ModTime = time.Unix(1_234_567_890, 0), time.Unix(1<<42, 0)
	at.Format, never.Format = tar.FormatPAX, tar.FormatPAX
	root, r := unpack(t, Limits{}, pack(t, at, never))
	if r.Error != nil {
		t.Fatal(r.Error.Message)
	}
	for name, want := range map[string]int64{"a": 1_234_567_890, "b": 0} {
		if fi, err := os.Lstat(filepath.Join(root, name)); err != nil || fi.ModTime().Unix() != want {
			t.Errorf("%s: %v %v", name, fi.ModTime(), err)
		}
	}
}

// File capabilities and other extended attributes are not kept.
func TestAttributes(t *testing.T) {
	e := mode(file("a", "1"), 0o755)
	e.Format, e.PAXRecords = tar.FormatPAX, map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "SCHILY.xattr.user.overlay.opaque": "y"}
	root, r := unpack(t, Limits{}, pack(t, e))
	if r.Error != nil {
		t.Fatal(r.Error.Message)
	}
	if n, err := unix.Llistxattr(filepath.Join(root, "a"), make([]byte, 1024)); err != nil || n != 0 {
		t.Errorf("%d bytes of names, %v", n, err)
	}
}

// FuzzUnpack unpacks what is no archive, or a hostile one, as two layers over
// each other: nothing beside the folder is touched, and nothing is in it that
// no tree may hold.
func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, dir("a"), link("a/l", "../../.."), file("a/l/x", "1"), hard("b", "a/l/x"), file(".wh.b", "")), pack(f, file("a/.wh..wh..opq", ""), file("a", "2")), "")
	f.Add(pack(f, mode(file("/x", "1"), 0o6777), char("n", 1, 3)), []byte{}, "")
	f.Add(gzipped(pack(f, file("x", "1"))), gzipped(pack(f, file(".wh.x", ""))), "gzip")
	f.Add(zstandard(pack(f, file("x", "1"))), zstandard(nil), "zstd")
	f.Fuzz(func(t *testing.T, first, second []byte, compression string) {
		outer := t.TempDir()
		root := filepath.Join(outer, "in", "root")
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		defer remove(filepath.Join(outer, "in"))
		if err := os.WriteFile(filepath.Join(outer, "canary"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		for _, layer := range [][]byte{first, second} {
			plain := layer
			if compression != "" { // the digest that it has, if it has one
				if p, err := decompress(bytes.NewReader(layer), compression, &counter{1 << 20}, true); err == nil {
					b := make([]byte, 4096)
					for err == nil {
						_, err = p.Read(b)
					}
					writeStepTo(&plain, p)
					p.Close()
				}
			}
			s := step{Compression: compression, Diff: digestOf(plain), Size: int64(len(layer)), Limits: Limits{Bytes: 1 << 20, Entries: 1000}}
			if compression != "" {
				s.Diff = casemate.Digest(plain)
			}
			writeStep(&b, s)
			b.Write(layer)
		}
		writeStep(&b, step{Last: true})
		d, err := os.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		r := Unpack(d, &b)
		if es, _ := os.ReadDir(outer); len(es) != 2 {
			t.Errorf("beside it: %v", es)
		}
		if es, _ := os.ReadDir(filepath.Dir(root)); len(es) != 1 {
			t.Errorf("beside it: %v", es)
		}
		if r.Error == nil {
			if _, err := settle(int(d.Fd()), Limits{Entries: 1000}); err != nil {
				t.Error(err)
			}
			tree(t, root)
		}
		filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
			if err != nil {
				t.Error(err)
				return err
			}
			fi, err := e.Info()
			if err != nil {
				t.Error(err)
				return err
			}
			if m := fi.Mode(); m&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
				t.Errorf("%s: %v", p, m)
			}
			return nil
		})
	})
}

// writeStepTo keeps the digest of what was read in place of the layer.
func writeStepTo(b *[]byte, p *plain) { *b = []byte(p.sum()) }

// A tree as deep as it may be can be removed.
func TestRemoveDeep(t *testing.T) {
	var es []entry
	for i, at := 0, ""; i < maxDepth; i += 8 {
		at += strings.Repeat(strings.Repeat("n", 255)+"/", 8)
		l := fmt.Sprintf("l%d", i)
		es = append(es, dir(at), link(l, "/"+at))
		at = l + "/"
	}
	root, r := unpack(t, Limits{}, pack(t, es...))
	if r.Error != nil {
		t.Fatal(r.Error.Message)
	}
	if err := remove(root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(root); err == nil {
		t.Error("it is there")
	}
}

// What a process that unpacks may not make is seen, whatever it says.
func TestSettle(t *testing.T) {
	for name, plant := range map[string]func(string) error{
		"a set-user-ID file": func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o555), os.Chmod(p, 0o555|fs.ModeSetuid))
		},
		"a FIFO":                func(p string) error { return unix.Mkfifo(p, 0o444) },
		"a socket":              func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o444, 0) },
		"a whiteout":            func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o444, 0) },
		"a file to write":       func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o666), os.Chmod(p, 0o666)) },
		"a set-group-ID folder": func(p string) error { return errors.Join(os.Mkdir(p, 0o755), os.Chmod(p, 0o755|fs.ModeSetgid)) },
		"a folder too deep":     func(p string) error { return os.MkdirAll(p+strings.Repeat("/d", maxDepth+1), 0o755) },
	} {
		b, s := two(t).write(t), store(t)
		_, err := s.Pull(timeout(t), b.reference(), Options{Unpack: func(_ context.Context, root, stream *os.File) (Result, error) {
			r := Unpack(root, stream)
			if err := plant(filepath.Join(root.Name(), "planted")); err != nil {
				t.Fatal(err)
			}
			return r, nil
		}})
		if err == nil || !strings.Contains(err.Error(), "a tree that was unpacked") || len(left(t, s)) != 0 {
			t.Errorf("%s: %v, left %v", name, err, left(t, s))
		}
	}
}
