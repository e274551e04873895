package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain\n\ttab":            "plain\n\ttab",
		"größe 日本 🙂":              "größe 日本 🙂",
		"\x1b]0;pwned\x07\x1b[2J": `\x1b]0;pwned\x07\x1b[2J`,
		"a\rb\x00\x08\x7f":        `a\x0db\x00\x08\x7f`,
		"\u009b31m":               `\x9b31m`,
		"\x9b31m\xff":             `\x9b31m\xff`,
		"user\u202etxt.exe":       `user\u{202e}txt.exe`,
		"a\u200bb\u2060\ufeff":    `a\u{200b}b\u{2060}\u{feff}`,
		"\U000e0041\U000e0100":    `\u{e0041}\u{e0100}`,
		"\u2028\u2029":            `\u{2028}\u{2029}`,
		"\u3164\u00ad":            `\u{3164}\u{ad}`,
		"\ue000":                  `\u{e000}`,
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q) = %q, want %q", in, got, want)
		}
	}
	if got := escapeLine("a\nb\tc"); got != `a\nb\tc` {
		t.Errorf("escapeLine = %q", got)
	}
}

// FuzzEscape: nothing that drives a terminal comes through, whatever goes in.
func FuzzEscape(f *testing.F) {
	f.Add("\x1b[2J\u202e\x9b")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range escape(s) {
			if r != '\n' && r != '\t' && (r < 0x20 || r >= 0x7f && r < 0xa0 || hidden(r)) {
				t.Fatalf("escape(%q) lets %U through", s, r)
			}
		}
	})
}

func TestObjectOnATerminal(t *testing.T) {
	in := map[string]string{"x": "\u009b31m\x1b\u202e\x7f🙂"}
	var b bytes.Buffer
	if err := (&console{out: &b, outTTY: true}).object(in); err != nil {
		t.Fatal(err)
	}
	for _, c := range b.Bytes() {
		if c != '\n' && (c < 0x20 || c >= 0x7f) {
			t.Fatalf("byte %#x reaches the terminal in %q", c, b.String())
		}
	}
	var out map[string]string
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || out["x"] != in["x"] {
		t.Fatalf("the value is changed: %q, %v", out, err)
	}
}

func TestReport(t *testing.T) {
	for kind, want := range map[casemate.Kind]int{casemate.Invalid: 2, casemate.Denied: 3, casemate.Unsupported: 4, casemate.Timeout: 1, casemate.Internal: 1} {
		var out, errs bytes.Buffer
		c := &console{out: &out, err: &errs, json: true}
		got := c.report(&casemate.Error{Kind: kind, Err: status(9), Fix: "do \x1b[2J"})
		_ = got
		got = c.report(&casemate.Error{Kind: kind, Err: errString("bad \x1b[2J"), Fix: "do \x1b[2J"})
		if got != want {
			t.Errorf("%s: exit %d, want %d", kind, got, want)
		}
		if strings.Contains(errs.String(), "\x1b") || !strings.Contains(errs.String(), "fix: do ") || !strings.HasPrefix(errs.String(), "casemate: ") {
			t.Errorf("%s: standard error %q", kind, errs.String())
		}
		var j struct {
			Error casemate.ErrorJSON `json:"error"`
		}
		if err := json.Unmarshal(out.Bytes(), &j); err != nil || j.Error.Kind != kind || j.Error.Fix == "" {
			t.Errorf("%s: standard output %q, %v", kind, out.String(), err)
		}
	}
}

type errString string

func (e errString) Error() string { return string(e) }
