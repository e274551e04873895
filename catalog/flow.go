package catalog

import (
	"slices"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// flow checks what the manifest says of data and returns the roles of the
// arguments; p is nil where the tool's arguments are not the manifest's.
func (b *builder) flow(n *yaml.Node, key string, p *parameters) map[string]casemate.Role {
	if n == nil {
		return nil
	}
	if e := str(n, "effect"); e != "" && e != "none" || get(n, "result") != nil {
		b.warn("flow.effect and flow.result are not enforced by this version")
	}
	args := get(n, "args")
	if args == nil || p == nil || len(args.Content) == 0 {
		return nil
	}
	roles := map[string]casemate.Role{}
	for i := 0; i < len(args.Content); i += 2 {
		k := args.Content[i]
		if !slices.Contains(p.names, k.Value) {
			b.add(k, join(key+".args", k.Value), "there is no argument %s among parameters.properties%s", shown(k.Value), maybe(k.Value, p.names))
		}
		roles[k.Value] = casemate.Role(args.Content[i+1].Value)
	}
	return roles
}
