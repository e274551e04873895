package jsontext

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// A copier writes the object anew.
type copier struct {
	Members
	out  bytes.Buffer
	n    int
	sent bool
	key  string
}

func newCopier() *copier {
	c := &copier{}
	c.Key = func(key string) error {
		c.key, c.sent = key, false
		return nil
	}
	c.Value = func(b []byte, end bool) error {
		if len(b) == 0 && !end {
			return nil
		}
		if !c.sent {
			if c.n++; c.n > 1 {
				c.out.WriteByte(',')
			}
			k, _ := json.Marshal(c.key)
			c.out.Write(append(k, ':'))
			c.sent = true
		}
		c.out.Write(b)
		return nil
	}
	return c
}

// whole is what was read, as one object.
func (c *copier) whole() string {
	rest := ""
	if c.sent {
		rest = string(c.Finish(1))
	}
	return "{" + c.out.String() + rest + "}"
}

const sample = ` {"a\u0062":[1, -0.5e+10,0,{"":null,"k":[[],{}]}] , "s":"é\ud83d\ude00 😀ࠀ𐀀 \"\\\n", "t" : true,"f":false,"n":12 ,"e":{"x":"y"}}` + "\n "

// Whatever is split in whatever way is read alike.
func TestParts(t *testing.T) {
	for size := 1; size < len(sample); size++ {
		c := newCopier()
		for part := range slices.Chunk([]byte(sample), size) {
			if err := c.Feed(part); err != nil {
				t.Fatal(size, err)
			}
		}
		if !c.Done() {
			t.Fatal(size, "it is not done")
		}
		var got, want any
		json.Unmarshal([]byte(sample), &want)
		if err := json.Unmarshal([]byte(c.whole()), &got); err != nil {
			t.Fatalf("%d: %v\n%s", size, err, c.whole())
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if !bytes.Equal(a, b) {
			t.Errorf("%d: %s", size, a)
		}
	}
}

// Wherever it stops, what was passed on can be made whole.
func TestFinish(t *testing.T) {
	for n := range len(sample) {
		for _, size := range []int{1, 7, len(sample)} {
			c := newCopier()
			for part := range slices.Chunk([]byte(sample[:n]), size) {
				c.Feed(part)
			}
			if got := c.whole(); !json.Valid([]byte(got)) || !utf8.ValidString(got) {
				t.Errorf("%q: %q", sample[:n], got)
			}
			if c.Finish(1); c.Feed([]byte(" ")) == nil {
				t.Fatal("it goes on")
			}
		}
	}
}

func TestFinishDepth(t *testing.T) {
	c := newCopier()
	c.Feed([]byte(`{"content":[{"type":"text","text":"abc`))
	if got := string(c.Finish(2)); got != `"}` {
		t.Errorf("%q", got)
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]error{
		`[]`: ErrSyntax, `"x"`: ErrSyntax, `{"a":1}x`: ErrSyntax, `{"a":01}`: ErrSyntax, `{"a":1.}`: ErrSyntax, `{"a":-}`: ErrSyntax,
		`{"a":1e}`: ErrSyntax, `{"a":tru }`: ErrSyntax, `{"a":[}`: ErrSyntax, `{"a":{]`: ErrSyntax, `{"a" 1}`: ErrSyntax, `{"a":1,}`: ErrSyntax,
		`{"a":[1,]}`: ErrSyntax, `{,`: ErrSyntax, `{"a":"\x"}`: ErrSyntax, `{"a":"\u00g0"}`: ErrSyntax, "{\"a\":\"\n\"}": ErrSyntax,
		"{\"a\":\"\xff\"}": ErrSyntax, "{\"a\":\"\xc0\x80\"}": ErrSyntax, "{\"a\":\"\xed\xa0\x80\"}": ErrSyntax, "{\"a\":\"\xf4\x90\x80\x80\"}": ErrSyntax,
		"{\"a\":\"\xe0\x80\x80\"}": ErrSyntax, `{"a":1,"\u0061":2}`: ErrTwice, `{"a":` + strings.Repeat("[", 1000): ErrDepth,
	} {
		c := newCopier()
		if err := c.Feed([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%.40q: %v", text, err)
		}
		if got := c.whole(); !json.Valid([]byte(got)) {
			t.Errorf("%.40q: %.80q", text, got)
		}
	}
	c := newCopier()
	if err := c.Feed([]byte(`{"` + strings.Repeat("k", maxKey))); err == nil {
		t.Error("a long key is taken")
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(sample), 3)
	f.Add([]byte(`{"a":[1,{"b":"\u12`), 1)
	f.Add([]byte(`{"a":1,"a":2}`), 5)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		c := newCopier()
		for part := range slices.Chunk(b, max(size, 1)) {
			c.Feed(part)
		}
		err := c.Err()
		is := len(bytes.TrimLeft(b, " \t\r\n")) > 0 && bytes.TrimLeft(b, " \t\r\n")[0] == '{' && json.Valid(b) && utf8.Valid(b)
		switch {
		case err == nil && c.Done() != is:
			t.Errorf("done %v, valid %v: %q", c.Done(), is, b)
		case is && (errors.Is(err, ErrSyntax)):
			t.Errorf("refused: %q", b)
		}
		if got := c.whole(); !json.Valid([]byte(got)) {
			t.Errorf("%q: %q", b, got)
		}
	})
}
