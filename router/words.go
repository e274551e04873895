package router

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// quote shows hostile text in a message: escaped, and never long.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(cut(s, most)) + "…"
	}
	return strconv.Quote(s)
}

// cut returns at most n bytes of s, without half a rune at the end.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// pathOf shows an instance path: "items/0/name". Steps are keys that a
// planner chose.
func pathOf(steps []string) string {
	var b strings.Builder
	for i, s := range steps {
		if i > 0 {
			b.WriteByte('/')
		}
		if i >= 8 {
			b.WriteString("…")
			break
		}
		if q := strconv.Quote(s); len(s) > 64 || q != `"`+s+`"` || strings.Contains(s, "/") {
			s = quote(s)
		}
		b.WriteString(s)
	}
	return b.String()
}

// size shows a number of bytes as a manifest writes it: 256MiB.
func size(n int64) string {
	for _, u := range []struct {
		shift uint
		name  string
	}{{30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if n>>u.shift > 0 && n&(1<<u.shift-1) == 0 {
			return strconv.FormatInt(n>>u.shift, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
