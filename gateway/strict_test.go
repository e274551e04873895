package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, ok := range []string{
		`{}`, `[]`, `1`, `"x"`, ` {"a":1,"b":{"a":1}} `, `[{"a":1},{"a":2}]`, `{"a":"a","b":["a",{"a":"a"}]}`,
		`{"":1}`, `{"a":"😀 é \\ud800 \""}`, `"\ud83d\ude00"`,
		strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth),
		`"` + strings.Repeat("[", 10_000) + `"`,
	} {
		if err := Check([]byte(ok)); err != nil {
			t.Errorf("%.80s: %v", ok, err)
		}
	}
	for _, c := range []struct{ data, want string }{
		{`{"a":1,"a":2}`, "twice"},
		{`{"method":1,"Method":2}`, "case alone"},
		{`{"params":1,"paramſ":2}`, "case alone"}, // U+017F folds to s
		{`{"key":1,"\u212aey":2}`, "case alone"},  // U+212A, the Kelvin sign
		{`{"a":1,"\u0061":2}`, "twice"},
		{`[[{"x":{"y":1,"y":1}}]]`, "twice"},
		{`{"a":{"b":1},"A":{}}`, "case alone"},
	} {
		err := Check([]byte(c.data))
		if err == nil || errors.Is(err, ErrNotJSON) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.data, err, c.want)
		}
	}
	for _, bad := range []string{
		``, ` `, `{`, `{"a"}`, `{"a":1,}`, `[1 2]`, `{} {}`, `nul`, `'a'`, `{"a":01}`, "\"\x00\"", "\"\xff\"", "\ufeff{}", `{a:1}`,
		`"\ud800"`, `"\udc00"`, `"\ud800\u0041"`, `"\ud800\ud800"`, `"\ud83d\u"`, `"\ud83d`,
		strings.Repeat("[", 200_000), strings.Repeat(`{"a":`, 200_000),
		strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
	} {
		if err := Check([]byte(bad)); !errors.Is(err, ErrNotJSON) {
			t.Errorf("%.80q: %v, want ErrNotJSON", bad, err)
		}
	}
}

// FuzzCheck: what passes is one value that decodes the same way whether a
// reader is strict, lenient about case, or takes the first or last of keys.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"a":1,"A":2}`, `{"jsonrpc":"2.0","id":1,"method":"x","params":{}}`, `"\ud800"`, "[[[[", "1E1000", `{"a":{"a":[{},{}]}}`, `{"k":1,"\u212a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if Check(data) != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatal("passed, and is not valid")
		}
		var v any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber() // 1E1000 is JSON, and no float64
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		// Encoding what was decoded keeps every key: none hid behind another.
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := bytes.Count(again, []byte(`":`)), countKeys(v); got < want {
			t.Fatalf("%d keys of %d", got, want)
		}
		if err := Check(again); err != nil {
			t.Fatalf("the same value again: %v", err)
		}
		walk(t, v)
	})
}

func countKeys(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			n += 1 + countKeys(x)
		}
	case []any:
		for _, x := range v {
			n += countKeys(x)
		}
	}
	return n
}

func walk(t *testing.T, v any) {
	switch v := v.(type) {
	case map[string]any:
		for a := range v {
			for b := range v {
				if a != b && strings.EqualFold(a, b) {
					t.Fatalf("%q and %q passed", a, b)
				}
			}
			walk(t, v[a])
		}
	case []any:
		for _, x := range v {
			walk(t, x)
		}
	}
}
