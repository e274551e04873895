package catalog

import (
	"cmp"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// parking is how many sandboxes of t wait, as n says.
func (b *builder) parking(n *yaml.Node, key string, t *casemate.Tool) {
	if n == nil {
		return
	}
	min, max := get(n, "min"), get(n, "max")
	t.Pool = casemate.Parking{Min: integerOf(min), Max: integerOf(max)}
	if max != nil && t.Pool.Max < t.Pool.Min {
		b.add(max, key+".max", "is %d, below pool.min %d: raise max, or lower min", t.Pool.Max, t.Pool.Min)
	}
	most := b.config.Host.Pool.Max
	if most > 0 && t.Pool.Min > most {
		b.add(min, key+".min", "is %d, above host.pool.max %d: lower min, or raise host.pool.max", t.Pool.Min, most)
	}
}

// kept warns of what the tools would keep together and the host does not: the
// host's bound comes first.
func (b *builder) kept() {
	most, sum := cmp.Or(b.config.Host.Pool.Max, casemate.ParkedByDefault), 0
	for _, t := range b.config.own {
		sum += t.Pool.Min
	}
	for _, s := range b.config.servers {
		sum += s.base.Pool.Min
	}
	if sum > most {
		b.warn("pool.min of the tools is %d in all, and host.pool.max %d: the tools that were used last come first", sum, most)
	}
}

// fork takes what a manifest says of forking. The guests of Python are forked
// from a template that has its imports done. V8 has threads of its own (its
// compiler, its collector), which a fork does not copy: it cannot be forked
// once it runs.
func (b *builder) fork(n *yaml.Node, key, kind string, scope casemate.Scope, s *casemate.Script) {
	switch {
	case n == nil:
	case kind == "python":
		s.NoFork = !yes(n)
		if yes(n) && scope == casemate.ScopeSession {
			b.warn("%s has no effect: a sandbox of scope session starts an interpreter of its own", key)
		}
	case yes(n):
		b.add(n, key, "Node cannot be forked: V8 has threads, which a fork leaves behind; take it away, its guests wait with their modules loaded all the same")
	}
}
