package mcp

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestMembers(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{}`, "[]"},
		{` { } `, "[]"},
		{`{"a":1}`, "[a=1]"},
		{`{ "a" : [1, {"b":"}"}] , "c\n":"\"]" }`, `[a=[1, {"b":"}"}] c` + "\n" + `="\"]"]`},
		{`{"a":{"a":{}},"b":-1.0e5,"c":null,"d":true}`, `[a={"a":{}} b=-1.0e5 c=null d=true]`},
		{``, "no"}, {`[]`, "no"}, {`{`, "no"}, {`{"a"`, "no"}, {`{"a":`, "no"}, {`{"a":1`, "no"}, {`{"a":"`, "no"}, {`{"a":"\`, "no"}, {`{"a" 1}`, "no"}, {`{"a":1 "b":2}`, "no"}, {`{1:2}`, "no"}, {`{"a":]}`, "no"}, {`{"a":[}`, "no"},
	} {
		got := []string{}
		ms, err := members([]byte(c.in))
		for _, m := range ms {
			got = append(got, m.key+"="+string(m.value))
		}
		if said := fmt.Sprint(got); said != c.want && (err == nil || c.want != "no") {
			t.Errorf("%s: %s, %v; want %s", c.in, said, err, c.want)
		}
	}
}

// FuzzMembers: of valid JSON it reads what the standard decoder reads, and
// writes it back; of anything else it does not panic.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":[{"c":"\\\""}]}`, `{"a":`, `{"\u0000":{}}`, "{\"a\" :\t1}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ms, err := members(in)
		if !json.Valid(in) {
			return
		}
		var want map[string]json.RawMessage
		if json.Unmarshal(in, &want) != nil || want == nil {
			if err == nil {
				t.Fatalf("%q is no object and has %v", in, ms)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		got := map[string]json.RawMessage{}
		for _, m := range ms {
			got[m.key] = m.value
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %s, want %s", in, got, want)
		}
		var back map[string]json.RawMessage
		if err := json.Unmarshal(compose(ms), &back); err != nil || !reflect.DeepEqual(back, want) {
			t.Fatalf("%q became %s: %v", in, compose(ms), err)
		}
	})
}

// TestRawResult: what a server wrote stays, but for what is Casemate's to say.
func TestRawResult(t *testing.T) {
	for _, c := range []struct {
		raw, want string
		modern    bool
	}{
		{`{"a":1.0}`, `{"a":1.0,"_meta":{"casemate/call":"c"}}`, false},
		{`{"_meta":{"x":1.0,"casemate/call":"forged","casemate/else":1},"a":"<"}`, `{"_meta":{"x":1.0,"casemate/call":"c"},"a":"<"}`, false},
		{`{"_meta":7}`, `{"_meta":{"casemate/call":"c"}}`, false},
		{`{}`, `{"_meta":{"casemate/call":"c"},"resultType":"complete"}`, true},
		{`{"resultType":"later"}`, `{"resultType":"later","_meta":{"casemate/call":"c"}}`, true},
	} {
		r := &rawResult{raw: json.RawMessage(c.raw), modern: c.modern}
		r.Meta = sdk.Meta{callKey: "c"}
		if got := string(encode(r)); got != c.want {
			t.Errorf("%s: %s, want %s", c.raw, got, c.want)
		}
	}
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		template, uri string
		want          bool
	}{
		{"a://b", "a://b", true}, {"a://b", "a://bc", false},
		{"a://{x}", "a://anything", true}, {"a://{x}", "b://", false},
		{"a://{x}/c", "a://b/c", true}, {"a://{x}/c", "a://b/d", false},
		{"a://{x}/m/{y}", "a://1/m/2", true}, {"a://{x}/m/{y}", "a://1/2", false},
		{"{+any}", "x", true}, {"a{", "a{", true}, {"ab{x}ba", "aba", false},
	} {
		if fits(c.template, c.uri) != c.want {
			t.Errorf("%s of %s: %v", c.uri, c.template, !c.want)
		}
	}
}

// TestPages: a list of many tools comes in pages, each tool once.
func TestPages(t *testing.T) {
	l := &listing{}
	for i := range 2*toolsPage + 1 {
		l.names = append(l.names, fmt.Sprintf("t%05d", i))
		l.tools = append(l.tools, encode(i))
	}
	cursor, n := "", 0
	for pages := 1; ; pages++ {
		raw, err := l.page(cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range elements(field(raw, "tools")) {
			if string(e) != fmt.Sprint(n) {
				t.Fatalf("tool %s, want %d", e, n)
			}
			n++
		}
		if cursor = text(field(raw, "nextCursor")); cursor == "" {
			if pages != 3 || n != len(l.tools) {
				t.Errorf("%d pages with %d tools", pages, n)
			}
			return
		}
	}
}
