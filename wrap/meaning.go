package wrap

import (
	"strconv"
	"strings"
)

// meaning writes what the document says, without its layout: the same before
// and after Wrap, for which a server is the command line that it runs, with or
// without casemate in front. It is how an edit is checked before it is kept.
func (d *Document) meaning(root *node) string {
	owners := map[*node]*Server{}
	for _, s := range d.Servers {
		if s.State == Plain || s.State == Wrapped {
			owners[s.owner] = s
		}
	}
	var b strings.Builder
	var write func(n *node)
	write = func(n *node) {
		s := owners[n]
		b.WriteString("(")
		if s != nil {
			for _, w := range s.Argv {
				b.WriteString(strconv.Quote(w))
			}
		}
		if n.form == text {
			b.WriteString(strconv.Quote(n.text))
		} else if n.form == other {
			b.WriteString("?" + strconv.Quote(n.text))
		}
		for _, i := range n.items {
			write(i)
		}
		for i := range n.members {
			m := &n.members[i]
			if s != nil && (m.key == s.key || m.key == s.argsKey && !s.command.isList()) {
				continue
			}
			b.WriteString(strconv.Quote(m.key))
			write(m.value)
		}
		b.WriteString(")")
	}
	write(root)
	return b.String()
}
