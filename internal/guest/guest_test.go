package guest

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func TestFrameRoundTrip(t *testing.T) {
	ps := []Pair{{"code", "print(1)"}, {"", ""}, {"x", string(make([]byte, 70000))}}
	want := Frame{Call, 7, AppendPairs(nil, ps)}
	var b bytes.Buffer
	if err := Write(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b, MaxCall)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("read %v %v", got.Type, err)
	}
	back, err := ParsePairs(got.Body)
	if err != nil || !reflect.DeepEqual(back, ps) {
		t.Fatalf("pairs %v", err)
	}
}

func TestBreaches(t *testing.T) {
	long := Append(nil, Frame{Stdout, 1, make([]byte, 100)})
	if _, err := Read(bytes.NewReader(long), 99); !errors.Is(err, ErrProtocol) {
		t.Errorf("a frame over the bound: %v", err)
	}
	for name, b := range map[string][]byte{
		"empty":     {},
		"trailing":  append(AppendPairs(nil, []Pair{{"a", "b"}}), 0),
		"duplicate": AppendPairs(nil, []Pair{{"a", "b"}, {"a", "c"}}),
		"cut":       AppendPairs(nil, []Pair{{"a", "b"}})[:6],
		"count":     {255, 255},
	} {
		if _, err := ParsePairs(b); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(Append(nil, Frame{Ready, 0, AppendPairs(nil, []Pair{{"version", "1"}})}))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := Read(bytes.NewReader(b), 1<<16)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, Append(nil, fr)) {
			t.Fatal("a frame does not encode to what it was read from")
		}
		if ps, err := ParsePairs(fr.Body); err == nil && !bytes.Equal(AppendPairs(nil, ps), fr.Body) {
			t.Fatal("pairs do not encode to what they were read from")
		}
	})
}
