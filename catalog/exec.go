package catalog

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

var (
	wholeArgument = regexp.MustCompile(`^\{([A-Za-z0-9_.-]+)\}$`)
	partArgument  = regexp.MustCompile(`\{+[A-Za-z0-9_.-]+\}+`)
)

// Element reads one element of casemate.Exec.Command: the argument that fills
// it, or its literal text. "{name}" is an argument; in anything else a name
// in two or more pairs of braces loses one pair, so that "{{name}}" is the
// text {name}; all other braces are text.
func Element(s string) (argument, literal string) {
	if m := wholeArgument.FindStringSubmatch(s); m != nil {
		return m[1], ""
	}
	return "", partArgument.ReplaceAllStringFunc(s, func(m string) string {
		if strings.HasPrefix(m, "{{") && strings.HasSuffix(m, "}}") {
			return m[1 : len(m)-1]
		}
		return m
	})
}

// exec checks an argv template against the parameters that fill it.
func (b *builder) exec(n *yaml.Node, key string, p *parameters, tool string) *casemate.Exec {
	x := &casemate.Exec{Stdin: str(n, "stdin"), Result: str(n, "result")}
	props := get(p.node, "properties")
	used := map[string]bool{}
	use := func(n *yaml.Node, key, name string, must bool) {
		used[name] = true
		switch t := get(get(props, name), "type"); {
		case !slices.Contains(p.names, name):
			b.add(n, key, "there is no argument %s among parameters.properties%s", shown(name), maybe(name, p.names))
		case t == nil || t.Kind != yaml.ScalarNode || !slices.Contains([]string{"string", "integer", "number", "boolean"}, t.Value):
			b.add(get(props, name), join(tool+".parameters.properties", name), "fills one element of the command, so its type must be string, integer, number or boolean")
		case must && !slices.Contains(p.required, name):
			b.add(getKey(props, name), join(tool+".parameters.properties", name), "fills an element of the command, so it must be under required")
		}
	}
	for i, e := range get(n, "command").Content {
		at := fmt.Sprintf("%s.command[%d]", key, i)
		x.Command = append(x.Command, e.Value)
		arg, literal := Element(e.Value)
		switch {
		case i == 0 && (arg != "" || !path.IsAbs(literal) || path.Clean(literal) != literal):
			b.add(e, at, "%s is not a clean absolute path in the sandbox, which the program must be", shown(e.Value))
		case arg != "":
			use(e, at, arg, true)
		default:
			for _, m := range partArgument.FindAllString(e.Value, -1) {
				if name := m[1 : len(m)-1]; slices.Contains(p.names, name) {
					b.add(e, at, "%s holds %s and other text: one argument fills one whole element; write {{%s}} if the braces are text", shown(e.Value), m, name)
				}
			}
		}
	}
	if x.Stdin != "" {
		name, _ := Element(x.Stdin)
		use(get(n, "stdin"), key+".stdin", name, false)
	}
	for _, name := range p.names {
		if !used[name] {
			b.add(getKey(props, name), join(tool+".parameters.properties", name), "nothing uses the argument %s: put \"{%s}\" into run.exec.command or stdin, or take it away", shown(name), visible(name))
		}
	}
	return x
}
