package router

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

func TestDecode(t *testing.T) {
	for in, want := range map[string]any{
		` {"a" : [1, -2.50e+3 , true,null] } `: map[string]any{"a": []any{json.Number("1"), json.Number("-2.50e+3"), true, nil}},
		`"\u0041\n\ud83d\ude00é"`:              "A\n😀é",
		`""`:                                   "",
		`{"":{}}`:                              map[string]any{"": map[string]any{}},
		`[]`:                                   []any{},
		`-0.0`:                                 json.Number("-0.0"),
	} {
		if got, _, err := decode([]byte(in), true); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v %v", in, got, err)
		}
	}
	for in, word := range map[string]string{
		`{"a":{"b":1,"B":2}}`: "a: byte 15: the keys", `{"ß":1,"ẞ":2}`: "case", "{\"K\":1,\"\u212a\":2}": "case", `{"σ":1,"ς":2}`: "case",
		`[1,]`: "value", `[,1]`: "value", `{,}`: "key", `{"a":1,}`: "key", `{"a"}`: "':'", `[1 2]`: "','", `1.`: "digit", `.5`: "value", `1e`: "digit", `+1`: "value",
		`tru`: "value", `nullx`: "follows", "\ufeff{}": "value", `"\x"`: "escape", `"\u12"`: "hexadecimal", "\"\n\"": "control", `"a`: "end of a string", `"\`: "escape",
		`[[1,"\ud800"]]`: "0/1: byte",
	} {
		if v, _, err := decode([]byte(in), true); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %#v, error %v does not say %q", in, v, err, word)
		}
	}
	if _, _, err := decode([]byte(`{"a":1,"A":2}`), false); err != nil {
		t.Errorf("without folding: %v", err)
	}
}

// What decode takes has one reading: the standard library, and any decoder
// that ignores case, reads the same.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e3,true,null,"\u0041\ud83d\ude00"]}`, `{"a":1,"A":2}`, `[[[[]]]]`, `1e400`, `"\ud800"`, "\xff", `{"k":"é\u2028<"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, n, err := decode(b, true)
		if err != nil {
			if !utf8.ValidString(err.Error()) || len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Fatalf("error %q", err)
			}
			return
		}
		if !utf8.Valid(b) || n < 1 {
			t.Fatal("took what is not UTF-8")
		}
		var std any
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&std); err != nil || !reflect.DeepEqual(v, std) {
			t.Fatalf("%q: we read %#v, the standard library %#v %v", b, v, std, err)
		}
		if _, err := d.Token(); err != io.EOF {
			t.Fatal("something follows")
		}
		again, err := encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if v2, _, err := decode(again, true); err != nil || !reflect.DeepEqual(v, v2) {
			t.Fatalf("%q does not survive: %q %v", b, again, err)
		}
		if m, ok := v.(map[string]any); ok {
			if ps, err := pairsOf(m); err == nil {
				if back, err := guest.ParsePairs(guest.AppendPairs(nil, ps)); err != nil || len(back) != len(m) {
					t.Fatalf("pairs: %v", err)
				}
			}
		}
	})
}

func FuzzValidate(f *testing.F) {
	f.Add([]byte(`{"type":"object","properties":{"a":{"type":"number","maximum":1e400,"multipleOf":1e-400}}}`), []byte(`{"a":1e-400}`))
	f.Add([]byte(`{"not":{"$ref":"#"},"format":"regex","uniqueItems":true}`), []byte(`{"a":[1,1.0]}`))
	f.Add([]byte(`{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"file:///etc/passwd"}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, s, b []byte) {
		c, err := compile(s)
		if err != nil {
			return
		}
		if v, _, err := decode(b, true); err == nil {
			if m, ok := v.(map[string]any); ok {
				if err := c.validate(m); err != nil && !utf8.ValidString(err.Error()) {
					t.Fatalf("error %q", err)
				}
			}
		}
	})
}

// Whatever a guest sends, what is kept is within the limit.
func FuzzCollect(f *testing.F) {
	done := guest.Append(nil, guest.Frame{Type: guest.Done, Call: 7, Body: []byte{0, 0, 0, 1}})
	out := guest.Append(nil, guest.Frame{Type: guest.Stdout, Call: 7, Body: []byte("hello")})
	file := guest.Append(nil, guest.Frame{Type: guest.File, Call: 7, Body: guest.AppendPairs(nil, []guest.Pair{{Key: "name", Value: "n"}, {Key: "mime", Value: "image/png"}, {Key: "data", Value: "x"}})})
	f.Add(append(out, done...))
	f.Add(append(append(file, out...), done...))
	f.Add(bytes.Repeat(out, 30))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 100
		var rp reply
		err := collect(bytes.NewReader(b), 7, dispatch{limit: limit}, nil, &rp)
		n := len(rp.stdout) + len(rp.stderr) + len(rp.value) + len(rp.failure)
		for _, fl := range rp.files {
			n += len(fl.data)
		}
		if n > limit || rp.done != (err == nil) {
			t.Fatalf("kept %d bytes, done %v, error %v", n, rp.done, err)
		}
		k := &call{tool: &tool{Tool: a("good")}, out: &casemate.Outcome{}}
		res, _ := k.result(&rp)
		if j, err := json.Marshal(res); err != nil || !utf8.Valid(j) {
			t.Fatalf("result: %v", err)
		}
	})
}
