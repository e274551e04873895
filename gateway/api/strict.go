package api

import (
	"encoding/json"
	"slices"
)

// maxStrictDepth is how deep OpenAI lets the objects of a strict schema nest.
const maxStrictDepth = 10

// strictKeys are the keywords of a schema that OpenAI's strict mode knows.
var strictKeys = []string{
	"type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "$defs", "$ref",
	"title", "description", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems",
}

// Strict says whether parameters already is a schema that OpenAI's strict mode
// takes: every object lists all its properties as required and allows no
// other. A schema is never changed to become one, for then the planner would
// see another contract than the one that is enforced.
//
// Source: https://platform.openai.com/docs/guides/structured-outputs
func Strict(parameters json.RawMessage) bool {
	var root map[string]any
	if json.Unmarshal(parameters, &root) != nil || root["type"] != "object" || root["anyOf"] != nil {
		return false
	}
	return strict(root, 0)
}

func strict(schema any, deep int) bool {
	s, ok := schema.(map[string]any)
	if !ok || deep > maxStrictDepth {
		return false
	}
	for key := range s {
		if !slices.Contains(strictKeys, key) {
			return false
		}
	}
	if _, is := s["properties"]; is || mentions(s["type"], "object") {
		if !strictObject(s, deep) {
			return false
		}
	}
	if items, ok := s["items"]; ok && !strict(items, deep+1) {
		return false
	}
	if choices, ok := s["anyOf"]; ok {
		list, ok := choices.([]any)
		if !ok || slices.ContainsFunc(list, func(x any) bool { return !strict(x, deep+1) }) {
			return false
		}
	}
	if defs, ok := s["$defs"]; ok {
		m, ok := defs.(map[string]any)
		if !ok {
			return false
		}
		for _, d := range m {
			if !strict(d, deep+1) {
				return false
			}
		}
	}
	return true
}

func strictObject(s map[string]any, deep int) bool {
	properties, ok := s["properties"].(map[string]any)
	if !ok || s["additionalProperties"] != false {
		return false
	}
	required, _ := s["required"].([]any)
	for name, p := range properties {
		if !slices.Contains(required, any(name)) || !strict(p, deep+1) {
			return false
		}
	}
	return true
}

// mentions says whether a type, or a list of types, has the name.
func mentions(t any, name string) bool {
	list, ok := t.([]any)
	return t == name || ok && slices.Contains(list, any(name))
}
