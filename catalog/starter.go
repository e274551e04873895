package catalog

import _ "embed"

//go:embed starter.yaml
var starter string

// Starter is what casemate init writes: a configuration that works at once,
// beside the folder work, which it grants for reading.
func Starter() []byte { return []byte(starter) }
