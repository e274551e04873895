package bench

import _ "embed"

// The subjects that show what the kernel alone needs.
const (
	FloorAll    = "floor/namespaces"
	FloorShared = "floor/namespaces, shared network"
	FloorSwitch = "floor/switch"
	FloorFork   = "floor/fork"
	FloorWarm   = "floor/warm"
)

//go:embed floor/floor.c
var floorSource string

// FloorSource is the program of the first three, in C.
func FloorSource() string { return floorSource }
