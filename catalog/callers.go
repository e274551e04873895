package catalog

import "go.yaml.in/yaml/v3"

// callers reads who may call over HTTP. A token that two callers show would
// make one of them the other.
func (b *builder) callers(n *yaml.Node) {
	if n == nil {
		return
	}
	const key = "host.callers"
	first := map[string]int{} // token: line
	b.config.Host.Callers = map[string]Caller{}
	for i := 0; i < len(n.Content); i += 2 {
		name, c := n.Content[i].Value, n.Content[i+1]
		at := join(key, name)
		if name == "default" {
			b.add(n.Content[i], at, "is the name of the caller with the token of casemate serve, and of the unix socket; name it otherwise")
		}
		out := Caller{SHA256: str(c, "token_sha256"), Tools: stated(get(c, "tools"))}
		token := get(c, "token_sha256")
		if f := get(c, "token_file"); f != nil {
			token, out.TokenFile = f, b.path(f, at+".token_file")
		}
		if line, ok := first[out.SHA256+"\n"+out.TokenFile]; ok {
			b.add(token, at, "has the token of line %d: two callers cannot be told apart by one", line)
		}
		first[out.SHA256+"\n"+out.TokenFile] = token.Line
		if cs := get(c, "contexts"); cs != nil {
			out.Contexts = map[string][]string{}
			for j := 0; j < len(cs.Content); j += 2 {
				out.Contexts[cs.Content[j].Value] = stated(get(cs.Content[j+1], "tools"))
			}
		}
		b.config.Host.Callers[name] = out
	}
}

// stated is a list of text that is not nil where there is one: an empty list
// is not the same as none.
func stated(n *yaml.Node) []string {
	if n == nil {
		return nil
	}
	return append([]string{}, texts(n)...)
}
