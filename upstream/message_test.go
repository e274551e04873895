package upstream

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

func TestCanonical(t *testing.T) {
	same := [][2]string{
		{`{"b":1,"a":[true,null]}`, " { \"a\" : [ true , null ] , \"b\" : 1 } "},
		{`{"a":"\u0041\/"}`, `{"a":"A/"}`},
		{`{"x":{"d":1e2,"c":"<"}}`, `{"x":{"c":"\u003c","d":1e2}}`},
	}
	for _, c := range same {
		a, err1 := canonical([]byte(c[0]))
		b, err2 := canonical([]byte(c[1]))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s and %s: %s %v, %s %v", c[0], c[1], a, err1, b, err2)
		}
	}
	for _, c := range [][2]string{{`{"a":1}`, `{"a":1.0}`}, {`{"a":1}`, `{"A":1}`}, {`{"a":null}`, `{}`}, {`[1,2]`, `[2,1]`}, {`"a"`, `"a "`}} {
		a, _ := canonical([]byte(c[0]))
		b, _ := canonical([]byte(c[1]))
		if bytes.Equal(a, b) {
			t.Errorf("%s is taken for %s", c[0], c[1])
		}
	}
	for _, bad := range []string{``, `{`, `{"a":1,"a":1}`, `{"a":{"b":1,"\u0062":2}}`, strings.Repeat("[", 100) + strings.Repeat("]", 100)} {
		if b, err := canonical([]byte(bad)); err == nil {
			t.Errorf("%s has the form %s", bad, b)
		}
	}
}

func TestWith(t *testing.T) {
	for _, c := range [][4]string{
		{`{"a":1,"b":2}`, "a", `3`, `{"b":2,"a":3}`},
		{`{"a":1,"b":2}`, "a", ``, `{"b":2}`},
		{`null`, "a", `1`, `{"a":1}`},
		{``, "a", `1`, `{"a":1}`},
		{`{"a":1,"a":2}`, "b", `1`, `{"b":1}`},
	} {
		var v json.RawMessage
		if c[2] != "" {
			v = json.RawMessage(c[2])
		}
		if got := with(json.RawMessage(c[0]), c[1], v); string(got) != c[3] {
			t.Errorf("%s with %s=%s is %s", c[0], c[1], c[2], got)
		}
	}
}

func TestSeen(t *testing.T) {
	mounts := []casemate.Mount{{Path: "/a", At: "/x"}, {Path: "/a/b", At: "/y"}}
	for uri, want := range map[string]string{
		"file:///a": "file:///x", "file:///a/": "file:///x", "file:///a/c": "file:///x/c", "file:///a/b/c%20d": "file:///y/c%20d",
		"file:///ab": "", "file:///": "", "file:///a/../b": "", "file://h/a": "", "file:a": "", "http:///a": "", "%": "", "file:///a/%2e%2e/etc": "",
	} {
		if got, _ := seen(uri, mounts); got != want {
			t.Errorf("%s is seen as %q, want %q", uri, got, want)
		}
	}
	if got, ok := seen("file:///any/where", []casemate.Mount{{Path: "/", At: "/host"}}); !ok || got != "file:///host/any/where" {
		t.Errorf("%q", got)
	}
}

func TestSecretFields(t *testing.T) {
	for s, want := range map[string]bool{
		"password": true, "PassWord1": true, "your p-a-s-s-w-o-r-d": true, "user_pwd": true, "API key": true, "apiKey": true, "PIN": true, "userPIN": true, "otp": true, "Token": true, "passphrase": true, "cvv": true,
		"name": false, "pint": false, "spinning": false, "colour": false, "shipping": false, "compass": false, "broken": false, "secretary": false,
	} {
		if got := secretField(s); got != want {
			t.Errorf("%q: %t", s, got)
		}
	}
}

// Lines come out whole, whatever the pieces that they came in.
func TestSplitter(t *testing.T) {
	type line struct {
		text string
		long bool
		id   string
	}
	long := `{"jsonrpc":"2.0","result":{"id":7,"x":"\",{` + strings.Repeat("y", 500) + `"},"id":42}`
	in := "a\r\n\nbb\n" + long + "\nlast\nnever ended"
	for _, step := range []int{1, 3, 7, 100, 10_000} {
		var got []line
		l := splitter{most: 100}
		for b := []byte(in); len(b) > 0; {
			n := min(step, len(b))
			l.feed(b[:n], func(b []byte, long bool, id string) {
				text := string(b)
				if long {
					text = text[:10]
				}
				got = append(got, line{text, long, id})
			})
			b = b[n:]
		}
		want := []line{{"a", false, ""}, {"bb", false, ""}, {long[:10], true, "42"}, {"last", false, ""}}
		if len(got) != len(want) {
			t.Fatalf("in steps of %d: %+v", step, got)
		}
		for i := range want {
			if got[i].text != want[i].text || got[i].long != want[i].long || want[i].long && got[i].id != want[i].id {
				t.Errorf("in steps of %d: %+v, want %+v", step, got[i], want[i])
			}
		}
	}
}

// FuzzMessage: whatever json.Valid lets through is split as encoding/json
// splits it, and nothing panics.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{`{"jsonrpc":"2.0","id":1,"result":{"a":[1,{"b":"\\\""}]}}`, `{"a" : "x" , "b":null}`, `[1, 2 ,[3]]`, `{"a":1,"a":2}`, ` {} `, `"x"`, `-1e5`, "{\"a\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := parse(b); err == nil && e.id == nil && e.name == "" && e.method == nil {
			t.Errorf("%q is neither a request nor an answer", b)
		}
		if !json.Valid(b) {
			return
		}
		ms, err := members(b)
		var want map[string]json.RawMessage
		if json.Unmarshal(b, &want) != nil || want == nil {
			want = nil
		}
		if err == nil {
			if len(ms) != len(want) {
				t.Fatalf("%q has %d keys, not %d", b, len(want), len(ms))
			}
			for _, m := range ms {
				if !bytes.Equal(bytes.TrimSpace(want[m.key]), bytes.TrimSpace(m.value)) {
					t.Errorf("%q: %s is %s, want %s", b, m.key, m.value, want[m.key])
				}
			}
			if got := object(ms); !json.Valid(got) {
				t.Errorf("%q became %q", b, got)
			}
		}
		if c, err := canonical(b); err == nil {
			again, err := canonical(c)
			if err != nil || !bytes.Equal(c, again) {
				t.Errorf("%q has the forms %q and %q", b, c, again)
			}
			var x, y any
			if json.Unmarshal(b, &x) == nil && (json.Unmarshal(c, &y) != nil) {
				t.Errorf("%q became %q", b, c)
			}
		}
	})
}

// FuzzFrames: a guest that sends anything costs no panic and no more memory
// than a message.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("O\x00\x00\x00\x01\x00\x00\x00\x03{}\n"))
	f.Add([]byte("T\x00\x00\x00\x01\x00\x00\x00\x04\xff\xff\xff\xff"))
	f.Add([]byte("O\x00\x00\x00\x01\x00\x00\x00\x2a{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\n"))
	f.Add([]byte("E\x00\x00\x00\x01\x00\x00\x00\x02x\nD\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := unopened(options(), nil)
		s.number = 1
		err := s.frames(bytes.NewReader(b))
		if err == nil {
			t.Error("it did not end")
		}
		s.cancel()
		s.owned.Wait()
	})
}

// FuzzSplitter: the pieces in which lines come change nothing.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("a\nbb\n\r\n{\"id\":1}\n"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var whole, pieces []string
		one, many := splitter{most: 16}, splitter{most: 16}
		one.feed(bytes.Clone(b), func(b []byte, long bool, id string) { whole = append(whole, string(b)+id) })
		for len(b) > 0 {
			n := min(int(step)+1, len(b))
			many.feed(b[:n], func(b []byte, long bool, id string) { pieces = append(pieces, string(b)+id) })
			b = b[n:]
		}
		if strings.Join(whole, "\n") != strings.Join(pieces, "\n") {
			t.Errorf("%q, in pieces %q", whole, pieces)
		}
	})
}

// FuzzResult: no result makes reading it panic, and what is read of it can be
// written.
func FuzzResult(f *testing.F) {
	for _, s := range []string{`{"content":[{"type":"text","text":"a"},{"type":"image","data":"AA==","mimeType":"image/png"},{"type":"resource","resource":{"uri":"x","blob":"%"}},5,{"type":5}],"isError":true}`,
		`{"content":{}}`, `{"structuredContent":null}`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !json.Valid(b) {
			return
		}
		r, err := ReadResult(b)
		if err != nil {
			return
		}
		if _, err := json.Marshal(r.Content); err != nil {
			t.Errorf("%q: %v", b, err)
		}
		again, err := ReadResult(r.Noted("n"))
		if err != nil || len(again.Content) != len(r.Content)+1 || again.Content[len(r.Content)].Text != "n" {
			t.Errorf("%q, noted: %+v %v", b, again, err)
		}
	})
}
