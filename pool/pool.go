// Package pool keeps parked, unused sandboxes.
package pool

import (
	"context"

	"github.com/casemate/casemate"
)

// Limits bounds a pool. The zero value is the defaults.
type Limits struct {
	Max    int // parked sandboxes in all; 0 is 32, negative parks none
	Starts int // background starts at once; 0 is 2
}

// A Start makes one parked sandbox of a tool, and has checked that it waits.
type Start func(context.Context, *casemate.Tool) (casemate.Sandbox, error)
