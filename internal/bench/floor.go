package bench

import _ "embed"

// The subjects that show what the kernel alone needs.
const (
	FloorAll    = "floor/namespaces"
	FloorShared = "floor/namespaces, shared network"
	FloorFork   = "floor/fork"
)

//go:embed floor/floor.c
var floorSource string

// FloorSource is the program of the first two, in C.
func FloorSource() string { return floorSource }
