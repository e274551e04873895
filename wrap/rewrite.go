package wrap

import (
	"regexp"
	"strings"
)

// program is what a wrapped entry starts, by its last name.
const program = "casemate"

// shim is what stands before a server's own command line.
func shim(name string) []string { return []string{"run", "--name", name, "--"} }

// Wrap returns the document with casemate in front of every server that names
// has a name for, by its ID; casemate is how the client is to start it. Only
// the command and the arguments of these servers change.
func (d *Document) Wrap(casemate string, names map[string]string) []byte {
	var edits []edit
	for _, s := range d.Servers {
		name, ok := names[s.ID()]
		if s.State != Plain || !ok {
			continue
		}
		words := make([]string, 0, 6)
		for _, w := range shim(name) {
			words = append(words, quote(w))
		}
		if s.command.isList() {
			edits = append(edits, d.before(s.command, append([]string{quote(casemate)}, words...)))
			continue
		}
		words = append(words, d.raw(s.command))
		edits = append(edits, edit{s.command.span, quote(casemate)})
		if s.args != nil {
			edits = append(edits, d.before(s.args, words))
		} else {
			edits = append(edits, d.add(s, words))
		}
	}
	return apply(d.src, edits)
}

// checked is src, if it says what the document says: the same servers with
// the same commands, casemate aside, and everything else as it was.
func (d *Document) checked(path string, src []byte) (*Document, error) {
	next, err := Read(path, src)
	if err != nil || next.meaning(next.root) != d.meaning(d.root) {
		return nil, invalid(path, "is written in a way that casemate cannot change without doubt; nothing was changed", "write the command of each server as \"command\": \"…\", \"args\": […], with the client closed")
	}
	return next, nil
}

// plainWord is a bare word of YAML that stands in brackets as well.
var plainWord = regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./@+-]*$`)

// raw is a string as it is written, where it can stand in a list as well.
func (d *Document) raw(n *node) string {
	s := string(d.src[n.start:n.end])
	if s[0] == '"' || s[0] == '\'' || plainWord.MatchString(s) {
		return s
	}
	return quote(n.text)
}

// before puts words before the first element of a list, in its own layout.
func (d *Document) before(l *node, words []string) edit {
	if l.form == lines {
		dash := l.start
		gap := "\n"
		if b := blank(d.src, dash); strings.HasPrefix(b, "\r") || strings.HasPrefix(b, "\n") {
			gap = b
		} else { // the first dash stands after something else: a list in a list
			gap += strings.Repeat(" ", dash-d.lineStart(dash))
		}
		return edit{span{dash, dash}, "- " + strings.Join(words, gap+"- ") + gap}
	}
	if len(l.items) == 0 {
		return edit{span{l.start + 1, l.start + 1}, strings.Join(words, ", ")}
	}
	first := l.items[0].start
	gap := blank(d.src, first)
	if !strings.Contains(gap, "\n") {
		gap = " "
		if len(l.items) > 1 {
			if gap = blank(d.src, l.items[1].start); strings.Contains(gap, "\n") {
				gap = " "
			}
		}
	}
	return edit{span{first, first}, strings.Join(words, ","+gap) + "," + gap}
}

func (d *Document) lineStart(i int) int {
	for i > 0 && d.src[i-1] != '\n' {
		i--
	}
	return i
}

// add makes a list of arguments where there is none: in braces after the
// command, else on the line before it, where no comment can be in the way.
func (d *Document) add(s *Server, words []string) edit {
	m := s.owner.member(s.key)
	key, is := s.argsKey, ": "
	switch d.language {
	case inJSON:
		key = quote(key)
	case inTOML:
		is = " = "
	}
	value := "[" + strings.Join(words, ", ") + "]"
	gap := blank(d.src, m.whole)
	if s.owner.form == table {
		return edit{span{m.value.end, m.value.end}, "," + gap + key + is + value}
	}
	prefix := string(d.src[m.whole:m.name.start]) // a dotted name of TOML
	if !strings.Contains(gap, "\n") {             // it begins the file
		gap = "\n" + gap
	}
	return edit{span{m.whole, m.whole}, prefix + key + is + value + gap}
}

// Unwrap returns the document with casemate taken from every wrapped server
// that is among ids, all where it is nil. added says of a server, by its ID,
// that its list of arguments was made by wrap.
func (d *Document) Unwrap(ids, added map[string]bool) []byte {
	var edits []edit
	for _, s := range d.Servers {
		if s.State != Wrapped || ids != nil && !ids[s.ID()] {
			continue
		}
		if s.command.isList() {
			edits = append(edits, d.cut(s.command, 5))
			continue
		}
		edits = append(edits, edit{s.command.span, d.raw(s.args.items[4])})
		if added[s.ID()] && len(s.args.items) == 5 {
			edits = append(edits, d.remove(s))
		} else {
			edits = append(edits, d.cut(s.args, 5))
		}
	}
	return apply(d.src, edits)
}

// cut takes the first n elements from a list.
func (d *Document) cut(l *node, n int) edit {
	from := l.items[0].start
	if l.form == lines {
		from = l.start
	}
	if len(l.items) > n {
		to := l.items[n].start
		if l.form == lines { // back to its dash, which stands beneath the first one
			column := l.start - d.lineStart(l.start)
			for to > from && !(d.src[to] == '-' && to-d.lineStart(to) == column) {
				to--
			}
		}
		return edit{span{from, to}, ""}
	}
	to := l.items[n-1].end
	if l.form == lines {
		return edit{span{from, to}, "[]"}
	}
	after := strings.TrimLeft(string(d.src[to:]), " \t\r\n")
	if strings.HasPrefix(after, ",") {
		to = len(d.src) - len(after) + 1
	}
	return edit{span{from, to}, ""}
}

// remove takes away the list of arguments that add made, with its name; where
// it does not stand as add left it, its elements alone.
func (d *Document) remove(s *Server) edit {
	m := s.owner.member(s.argsKey)
	end := d.listEnd(m.value)
	if s.owner.form == table { // the comma before it goes with it
		before := strings.TrimRight(string(d.src[:m.whole]), " \t\r\n")
		if strings.HasSuffix(before, ",") {
			return edit{span{len(before) - 1, end}, ""}
		}
		return d.cut(m.value, len(m.value.items))
	}
	rest := strings.TrimLeft(string(d.src[end:]), " \t")
	line := strings.TrimPrefix(strings.TrimPrefix(rest, "\r"), "\n")
	if strings.TrimSpace(string(d.src[d.lineStart(m.whole):m.whole])) != "" || len(line) == len(rest) {
		return d.cut(m.value, len(m.value.items))
	}
	// The indentation of the next line stands for that of this one.
	return edit{span{m.whole, len(d.src) - len(strings.TrimLeft(line, " \t"))}, ""}
}

// listEnd is where a list in brackets ends.
func (d *Document) listEnd(l *node) int {
	if l.end > l.start {
		return l.end
	}
	at := l.items[len(l.items)-1].end // YAML: after the last element and what may follow it
	for at < len(d.src) && d.src[at] != ']' {
		at++
	}
	return min(at+1, len(d.src))
}
