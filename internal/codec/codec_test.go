package codec

import (
	"bytes"
	"reflect"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	var w Writer
	w.Uint(1 << 63)
	w.Int(300)
	w.Bool(true)
	w.Strings([]string{"a", "", "ü"})
	r := Reader{B: w.B}
	if u, i, b, ss := r.Uint(), r.Int(), r.Bool(), r.Strings(); u != 1<<63 || i != 300 || !b || !reflect.DeepEqual(ss, []string{"a", "", "ü"}) || r.End() != nil {
		t.Fatal(u, i, b, ss, r.End())
	}
}

func TestMalformed(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": {}, "cut": {5, 'a'}, "trailing": {1, 'a', 0}, "overlong": {0x81, 0x00}, "overflow": bytes.Repeat([]byte{0xff}, 11),
	} {
		r := Reader{B: b}
		_ = r.String()
		if r.End() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	r := Reader{B: []byte{0xff, 0xff, 0x7f, 0}}
	if r.Strings(); r.End() == nil {
		t.Error("a list longer than its bytes was accepted")
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{1, 2, 1, 'a', 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := Reader{B: b}
		u, ss, ok := r.Uint(), r.Strings(), r.Bool()
		if r.End() != nil {
			return
		}
		var w Writer
		w.Uint(u)
		w.Strings(ss)
		w.Bool(ok)
		if !bytes.Equal(w.B, b) {
			t.Fatalf("two encodings of one value: %x and %x", b, w.B)
		}
	})
}
