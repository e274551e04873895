package casemate

import "testing"

func TestElement(t *testing.T) {
	for _, c := range []struct{ in, argument, literal string }{
		{"{text}", "text", ""},
		{"{a b}", "a b", ""},
		{`\{text}`, "", "{text}"},
		{`\\{text}`, "", `\{text}`},
		{`\\\{text}`, "", `\\{text}`},
		{`\\x`, "", `\\x`},
		{"x{text}", "", "x{text}"},
		{"{text}x", "", "{text}x"},
		{"{a}{b}", "", "{a}{b}"},
		{"{{.Name}}", "", "{{.Name}}"},
		{"{}", "", "{}"},
		{"{", "", "{"},
		{"", "", ""},
	} {
		if a, l := Element(c.in); a != c.argument || l != c.literal {
			t.Errorf("Element(%q) = %q, %q; want %q, %q", c.in, a, l, c.argument, c.literal)
		}
	}
}
