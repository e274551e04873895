package merge

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestProtectedNamesAreSorted(t *testing.T) {
	if !slices.IsSorted(protectedNames) {
		t.Error("names.go is not sorted")
	}
	seen := map[string]string{}
	for _, n := range protectedNames {
		key := strings.Join(components(n), "/")
		if old, ok := seen[key]; ok {
			t.Errorf("%s and %s are one name", old, n)
		}
		seen[key] = n
	}
}

func TestProtected(t *testing.T) {
	for path, want := range map[string]string{
		"/h/.bashrc": ".bashrc", "/h/a/b/.BASHRC": ".bashrc", "/h/.ba\u017fhrc": ".bashrc", "/h/.\u212aube/x": ".kube",
		"/h/.bashrc.": ".bashrc", "/h/.bashrc . ": ".bashrc", "/h/.bash\u200crc": ".bashrc", "/h/.ba\u00adshrc": ".bashrc", "/h/\ufeff.bashrc": ".bashrc",
		"/h/.bashrc::$DATA": ".bashrc", "/h/BASHRC~1": ".bashrc", "/h/MCP~1.JSO": ".mcp.json", "/h/CLAUDE~1.MD": "CLAUDE.local.md",
		"/h/CONFIG~1/fish/x": ".config/fish", "/h/.\u00dfh/id": "", "/h/.s\u017fh/id": ".ssh", "/h/.con\ufb01g/fish": ".config/fish",
		"/h/.config": "", "/h/.config/other": "", "/h/x.bashrc": "", "/h/.bashrc2": "", "/h/.bashrc-evil/x": "", "/h/Makefile": "",
		"/h/.git": ".git", "/h/.git/hooks": ".git/hooks", "/h/.git/hooks/x": ".git/hooks", "/h/.GIT/Config": ".git/config",
		"/h/git~1/config": ".git/config", "/h/.git/index": "", "/h/.git/objects/ab/cd": "", "/h/.git/objects/info/alternates": ".git", "/h/.git/modules/x/config": ".git",
		"/h/.git\\hooks\\x": ".git/hooks", "/h/a\\.git\\config": ".git/config", "/h/.git/commondir": ".git", "/h/.gitignore": "", "/h/.gitattributes": "",
		"/h/.github/x": "", "/h/.github/workflows/ci.yml": ".github/workflows", "/h/x/casemate.yaml": "casemate.yaml", "/h/casemate.yaml.bak": "",
		"": "", "/": "", "/h/\\": "", "/h/\xff\xfe": "",
	} {
		if path == "/h/.\u00dfh/id" {
			want = ".ssh"
		}
		if got, yes := Protected(path, nil); got != want || yes != (want != "") {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
	if n, yes := Protected("/h/.git/hooks/.bashrc", []string{".GIT/hooks"}); n != ".bashrc" || !yes {
		t.Error("granting one name lifted another: ", n)
	}
	if n, yes := Protected("/h/.git/config", []string{".git", ".git/hooks"}); n != ".git/config" || !yes {
		t.Error("granting .git lifted its configuration: ", n)
	}
	if n, yes := Protected("/h/CLAUDE.md", []string{"claude.MD", "CLAUDE"}); yes {
		t.Error("not lifted: ", n)
	}
}

func FuzzProtected(f *testing.F) {
	for _, n := range append([]string{".git/hooks", "git~1/config", "CLAUDE~1.MD", ".\u017fsh", "a\\b", "~1", "ab~"}, protectedNames[:20]...) {
		f.Add(n, "x")
	}
	f.Fuzz(func(t *testing.T, name, more string) {
		got, yes := Protected("/"+name, nil)
		if yes != (got != "") {
			t.Fatal(got, yes)
		}
		if !yes {
			return
		}
		// Case, ignored runes and depth change nothing.
		for _, same := range []string{"/" + strings.ToUpper(name), "/deep/er/" + name, "/\u200d" + name} {
			if _, still := Protected(same, nil); !still && asciiOnly(name) {
				t.Fatalf("%q is protected (%s), %q is not", name, got, same)
			}
		}
		if got != gitName && !strings.HasPrefix(got, ".git/") && asciiOnly(more) {
			if _, still := Protected("/"+name+"/"+more, nil); !still {
				t.Fatalf("%q is protected (%s), what is in it is not", name, got)
			}
		}
		if next, _ := Protected("/"+name, []string{got}); next == got {
			t.Fatalf("granting %s does not lift it", got)
		}
	})
}

func asciiOnly(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

func FuzzDecodeChanges(f *testing.F) {
	f.Add(EncodeChanges([]Change{{"/work/a", Created, "", ""}, {"/work/b", Conflict, "why", "conflicts/b"}}))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if cs, err := DecodeChanges(b); err == nil && !bytes.Equal(EncodeChanges(cs), b) {
			t.Fatal("two encodings of one list")
		}
	})
}

func FuzzDecodeKnown(f *testing.F) {
	f.Add(EncodeKnown(map[string]Stamp{"a": {1, 2, 3, 4}, "b/c": {}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := DecodeKnown(b); err == nil && !bytes.Equal(EncodeKnown(k), b) {
			t.Fatal("two encodings of one map")
		}
	})
}

func someJournal() (b []byte) {
	for _, r := range []record{{kind: recGrant, path: "/work"}, {kind: recIntent, n: 1, path: "a", do: doChange, temp: "t", now: entry{mode: 1, ino: 2}}, {kind: recDone, n: 1, ino: 2, ctime: 3}} {
		e := r.encode()
		b = append(append(b, byte(len(e))), e...)
	}
	return b
}

func FuzzJournal(f *testing.F) {
	f.Add(someJournal())
	f.Fuzz(func(t *testing.T, b []byte) { decodeJournal(b) })
}

// A merge killed while it writes a record leaves the records before it.
func TestCutJournal(t *testing.T) {
	b := someJournal()
	for n := range b {
		if recs, err := decodeJournal(b[:n]); err != nil || len(recs) > 2 {
			t.Errorf("cut at %d: %d records, %v", n, len(recs), err)
		}
	}
	if recs, err := decodeJournal(b); err != nil || len(recs) != 3 || recs[2].ctime != 3 {
		t.Error(recs, err)
	}
}

func TestWireBounds(t *testing.T) {
	for name, b := range map[string][]byte{
		"unknown word": EncodeChanges([]Change{{"a", "gone", "", ""}}), "count": {0xff, 0xff, 0xff, 0x7f, 1},
		"long": EncodeChanges([]Change{{strings.Repeat("a", maxText+1), Held, "", ""}}), "cut": EncodeChanges([]Change{{"abc", Held, "", ""}})[:4],
	} {
		if _, err := DecodeChanges(b); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	many := make([]Change, MaxEntries)
	for i := range many {
		many[i] = Change{Path: "/work/x", Did: Created}
	}
	if cs, err := DecodeChanges(EncodeChanges(many)); err != nil || len(cs) != len(many) {
		t.Error(err)
	}
}
