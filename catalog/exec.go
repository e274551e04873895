package catalog

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// exec checks an argv template against the parameters that fill it.
func (b *builder) exec(n *yaml.Node, key string, p *parameters, tool string) *casemate.Exec {
	x := &casemate.Exec{Stdin: str(n, "stdin"), Result: str(n, "result")}
	x.Command = b.template(n, "command", key, p, tool)
	return x
}

// template checks the list of elements at the key list of n, and stdin beside it,
// against the parameters that fill them. The first element of a command is a
// program; of the arguments of a module it is not.
func (b *builder) template(n *yaml.Node, list, key string, p *parameters, tool string) (elements []string) {
	props := get(p.node, "properties")
	used := map[string]bool{}
	use := func(n *yaml.Node, key, name string, must bool) {
		used[name] = true
		switch t := get(get(props, name), "type"); {
		case !slices.Contains(p.names, name):
			why := maybe(name, p.names)
			if why == "" {
				why = fmt.Sprintf(`; write \{%s} if the braces are text`, visible(name))
			}
			b.add(n, key, "there is no argument %s among parameters.properties%s", shown(name), why)
		case t == nil || t.Kind != yaml.ScalarNode || !slices.Contains([]string{"string", "integer", "number", "boolean"}, t.Value):
			b.add(get(props, name), join(tool+".parameters.properties", name), "fills one element of the command, so its type must be string, integer, number or boolean")
		case must && !slices.Contains(p.required, name):
			b.add(getKey(props, name), join(tool+".parameters.properties", name), "fills an element of the command, so it must be under required")
		}
	}
	var written []*yaml.Node
	if l := get(n, list); l != nil {
		written = l.Content
	}
	for i, e := range written {
		at := fmt.Sprintf("%s.%s[%d]", key, list, i)
		elements = append(elements, e.Value)
		arg, literal := casemate.Element(e.Value)
		switch {
		case list == "command" && i == 0 && (arg != "" || !path.IsAbs(literal) || path.Clean(literal) != literal):
			b.add(e, at, "%s is not a clean absolute path in the sandbox, which the program must be", shown(e.Value))
			used[arg] = true // one mistake, said once
		case arg != "":
			use(e, at, arg, true)
		default:
			for _, name := range p.names {
				if part := "{" + name + "}"; strings.Contains(literal, part) && literal != part {
					b.add(e, at, "%s holds %s and other text: one argument fills one whole element, never a part of one", shown(e.Value), visible(part))
				}
			}
		}
	}
	if stdin := str(n, "stdin"); stdin != "" {
		name, _ := casemate.Element(stdin)
		use(get(n, "stdin"), key+".stdin", name, false)
	}
	for _, name := range p.names {
		if !used[name] {
			b.add(getKey(props, name), join(tool+".parameters.properties", name), "nothing uses the argument %s: put \"{%s}\" into %s.%s or stdin, or take it away", shown(name), visible(name), key[strings.Index(key, "run."):], list)
		}
	}
	return elements
}
