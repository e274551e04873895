package guest

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func TestEntries(t *testing.T) {
	want := []Entry{{"a b\xff", "file", 7, 1_700_000_000_000_000_001, 0o644}, {"d", "folder", 0, -1, 0o755}, {"l", "link", 0, 0, 0o777}, {"/", "other", 0, 0, 0}}
	got, err := ParseEntries(AppendEntries(nil, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v %v", got, err)
	}
	for _, p := range []Pair{{"", "file 0 0 0"}, {"..", "file 0 0 0"}, {"a/b", "file 0 0 0"}, {"a\x00", "file 0 0 0"}, {"a", "file 0 0"}, {"a", "file -1 0 0"},
		{"a", "dir 0 0 0"}, {"a", "file 0 0 0 0"}, {"a", "file 99999999999999999999 0 0"}, {"a", "file 0 0 4096"}} {
		if es, err := ParseEntries(AppendPairs(nil, []Pair{p})); !errors.Is(err, ErrProtocol) {
			t.Errorf("%q: %v %v", p, es, err)
		}
	}
}

func FuzzEntries(f *testing.F) {
	f.Add(AppendEntries(nil, []Entry{{"a", "file", 1, 2, 3}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		es, err := ParseEntries(b)
		if err != nil {
			return
		}
		again, err := ParseEntries(AppendEntries(nil, es))
		if err != nil || len(es) > MaxPairs || !reflect.DeepEqual(again, es) && !bytes.Equal(b, []byte{0, 0}) {
			t.Fatalf("%v %v", again, err)
		}
	})
}
