package casemate

import "strings"

// Element reads one element of Exec.Command, or Exec.Stdin: the name of the
// argument that fills it, or its literal text. "{name}", with nothing beside
// it and no brace inside, is an argument; a backslash before it, or before
// backslashes before it, is taken away and makes the rest literal. Everything else is literal as it stands: an argument never fills a
// part of an element.
func Element(s string) (argument, literal string) {
	if inner, ok := braced(s); ok {
		return inner, ""
	}
	if escaped, ok := strings.CutPrefix(s, `\`); ok {
		if _, ok := braced(strings.TrimLeft(escaped, `\`)); ok {
			return "", escaped
		}
	}
	return "", s
}

func braced(s string) (string, bool) {
	if len(s) < 3 || s[0] != '{' || s[len(s)-1] != '}' || strings.ContainsAny(s[1:len(s)-1], "{}") {
		return "", false
	}
	return s[1 : len(s)-1], true
}
