package catalog

import _ "embed"

//go:embed starter.yaml
var starter string

// Starter is what casemate init writes: a configuration that works at once.
func Starter() []byte { return []byte(starter) }
