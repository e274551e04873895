package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

var typed = &casemate.Tool{Parameters: json.RawMessage(`{"type":"object","properties":{
	"s":{"type":"string"},"n":{"type":"number"},"b":{"type":"boolean"},"a":{"type":"array"},
	"m":{"type":["string","null"]},"e":{"enum":[1]},"t":true}}`)}

func TestParsePairs(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string // "" is an error that holds err
		err  string
	}{
		{nil, `{}`, ""},
		{[]string{"s=5", "n=5"}, `{"s":"5","n":5}`, ""},
		{[]string{`s={"a":1}`}, `{"s":"{\"a\":1}"}`, ""},
		{[]string{"s=a=b"}, `{"s":"a=b"}`, ""},
		{[]string{"s="}, `{"s":""}`, ""},
		{[]string{"s=<&>\n\x01"}, "{\"s\":\"<&>\\n\\u0001\"}", ""},
		{[]string{"b=true", "a=[1, 2]", "n=-1e3"}, `{"b":true,"a":[1, 2],"n":-1e3}`, ""},
		{[]string{"n=five"}, `{"n":"five"}`, ""},
		{[]string{"m=null"}, `{"m":null}`, ""},
		{[]string{"m=nul"}, `{"m":"nul"}`, ""},
		{[]string{`m="q"`}, `{"m":"\"q\""}`, ""},
		{[]string{"e=1", "t=[]", "unknown=x"}, `{"e":1,"t":[],"unknown":"x"}`, ""},
		{[]string{`n=1,"s":"injected"`}, `{"n":"1,\"s\":\"injected\""}`, ""},
		{[]string{`n=1}`}, `{"n":"1}"}`, ""},
		{[]string{`x"y=1`}, `{"x\"y":1}`, ""},
		{[]string{"s"}, "", "is not an argument"},
		{[]string{"=1"}, "", "is not an argument"},
		{[]string{"s=1", "s=2"}, "", "stands twice"},
		{[]string{"s=\xff"}, "", "UTF-8"},
		{[]string{"s=" + strings.Repeat("x", maxArguments)}, "", "longer than"},
	} {
		got, err := parsePairs(typed, c.in)
		if c.want == "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || casemate.KindOf(err) != casemate.Invalid {
				t.Errorf("%.40q: %v; want an error with %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || string(got) != c.want || !json.Valid(got) {
			t.Errorf("%q = %s, %v; want %s", c.in, got, err, c.want)
		}
	}
}

func TestArgumentsFile(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, make([]byte, maxArguments+1), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := arguments(typed, nil, "-", strings.NewReader(`{"s":"x"} trailing`))
	if err != nil || string(got) != `{"s":"x"} trailing` {
		t.Errorf("standard input: %q %v", got, err)
	}
	for name, c := range map[string]struct {
		pairs []string
		file  string
	}{"both": {[]string{"s=1"}, "-"}, "absent": {nil, filepath.Join(dir, "none")}, "folder": {nil, dir}, "long": {nil, long}} {
		if _, err := arguments(typed, c.pairs, c.file, strings.NewReader("")); casemate.KindOf(err) != casemate.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
