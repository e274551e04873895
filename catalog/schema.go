package catalog

import (
	"encoding/json"
	"strings"
)

// Schema is the JSON Schema (2020-12) of a configuration, for editors; it is
// made from the table that the decoder checks by. What one value alone can
// be wrong about is in it; what several say together (a name taken twice, an
// argument that nothing uses, a path that does not exist) only Parse sees.
func Schema() []byte {
	s := configuration().schema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "casemate.yaml"
	j, err := json.MarshalIndent(s, "", "  ")
	if err != nil { // maps of plain values always marshal
		panic("catalog: bug: " + err.Error())
	}
	return append(j, '\n')
}

func (s *shape) schema() map[string]any {
	m := map[string]any{}
	if s.doc != "" {
		m["description"] = s.doc
	}
	switch s.kind {
	case text:
		m["type"] = "string"
		if len(s.enum) > 0 {
			m["enum"] = s.enum
		}
		if s.form != nil {
			m["pattern"] = s.form.String()
		}
		if s.most > 0 && len(s.enum) == 0 {
			m["maxLength"] = s.most
		}
		if s.least > 0 {
			m["minLength"] = s.least
		}
	case integer, number:
		m["type"] = map[kind]string{integer: "integer", number: "number"}[s.kind]
		m["minimum"], m["maximum"] = s.min, s.max
		if s.above {
			delete(m, "minimum")
			m["exclusiveMinimum"] = s.min
		}
	case boolean:
		m["type"] = "boolean"
	case list:
		m["type"], m["items"] = "array", s.of.schema()
		bounds(m, "Items", s)
		if s.distinct {
			m["uniqueItems"] = true
		}
	case mapping:
		m["type"], m["additionalProperties"] = "object", s.of.schema()
		if s.keys != "" {
			m["propertyNames"] = map[string]any{"pattern": s.keys}
		}
		bounds(m, "Properties", s)
	case object:
		s.objectSchema(m)
	case either:
		var alts []any
		for _, a := range s.alts {
			alts = append(alts, a.schema())
		}
		m["anyOf"] = alts
	}
	return m
}

func bounds(m map[string]any, what string, s *shape) {
	if s.least > 0 {
		m["min"+what] = s.least
	}
	if s.most > 0 {
		m["max"+what] = s.most
	}
}

func (s *shape) objectSchema(m map[string]any) {
	props, required := map[string]any{}, []string{}
	for _, f := range s.fields {
		props[f.name] = f.shape.schema()
		if f.must {
			required = append(required, f.name)
		}
	}
	m["type"], m["properties"], m["additionalProperties"] = "object", props, false
	if len(required) > 0 {
		m["required"] = required
	}
	var one []any
	for _, name := range s.one {
		one = append(one, map[string]any{"required": []string{name}})
	}
	if len(one) > 0 {
		m["oneOf"] = one
	}
	if d, ok := m["description"].(string); ok {
		m["description"] = strings.TrimSpace(d)
	}
}
